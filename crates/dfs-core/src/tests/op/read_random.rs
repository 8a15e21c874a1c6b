//! Reading under random schedules of writes, failures, lies and rot: what was acknowledged or once
//! shown is shown by every later read. The weakened rules must hide some of it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::read::{Reading, key, spec};
use super::{World, run, up_to};
use crate::hlc::Hlc;
use crate::id::RecordKey;
use crate::quorum::Tally;
use crate::record::version::{Kind, Record, Version, merge, place_after};
use crate::replica::op::read::{ReadAnswer, ReadEvent, ReadSpec, ReadTask};
use crate::replica::op::write::Keyed;
use crate::replica::op::{Failure, Fault};
use crate::tests::random::Random;
use crate::tests::versions::version;

#[derive(Debug, Clone, Copy, PartialEq)]
enum Rule {
    AsBuilt,
    /// One answer is taken for a quorum.
    AskOne,
    /// Replicas that differ are left so.
    NoWriteBack,
    /// Nothing is verified.
    BelieveAll,
}

/// How a replica behaves during one read.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Behaviour {
    Honest,
    Down,
    /// Answers the first time, and not again.
    GoesAway,
    /// Holds a version that nobody signed.
    Forged,
    /// Tells hashes of nothing it holds.
    OtherHash,
    /// Sends records of other names.
    OtherKey,
}

struct Cluster {
    random: Random,
    rule: Rule,
    set: Vec<u8>,
    me: u8,
    held: BTreeMap<u8, Vec<Record>>,
    /// What this node keeps for replicas that were away.
    kept: Vec<Record>,
    acked: Vec<(usize, Version)>,
    shown: Vec<Record>,
    vids: u8,
    // One read:
    behaviour: BTreeMap<u8, Behaviour>,
    /// Who was asked, and who answered, in this round.
    asked: BTreeSet<u8>,
    answered: BTreeSet<u8>,
    /// Who was found to lie, or to be away.
    gone: BTreeSet<u8>,
    given_back: Option<BTreeSet<RecordKey>>,
    /// Names of which those that answered hold different records, when the read knew enough.
    apart: BTreeSet<RecordKey>,
    write_back_fails: bool,
    is_over: bool,
}

impl Cluster {
    fn new(seed: u64, rule: Rule) -> Self {
        let mut random = Random::new(seed);
        let set: Vec<u8> = (0..=u8::try_from(random.index(5)).unwrap()).collect();
        let me = if random.chance(70) { random.pick(&set) } else { 99 };
        let nothing = vec![Record::default(); KEYS];
        let held = set.iter().map(|node| (*node, nothing.clone())).collect();
        Self {
            random,
            rule,
            set,
            me,
            held,
            kept: nothing.clone(),
            acked: Vec::new(),
            shown: nothing,
            vids: 0,
            behaviour: BTreeMap::new(),
            asked: BTreeSet::new(),
            answered: BTreeSet::new(),
            gone: BTreeSet::new(),
            given_back: None,
            apart: BTreeSet::new(),
            write_back_fails: false,
            is_over: false,
        }
    }

    fn give(&mut self, at: usize, record: &Record, count: usize) {
        for node in self.random.sample(&self.set, count) {
            let held = self.held.get_mut(&node).unwrap();
            held[at] = merge(&held[at], record);
        }
    }

    /// A version that supersedes what one replica holds reaches some, and counts if a majority.
    fn write(&mut self) {
        self.vids += 1;
        let (vid, at) = (self.vids, self.random.index(KEYS));
        let node = self.random.pick(&self.set);
        let read = self.held[&node][at].clone();
        let place = place_after(&read, Hlc(vid.into()), vid.into(), vid.into(), true);
        let written = version(vid, place, Kind::Live);
        let count = self.random.index(self.set.len() + 1);
        self.give(at, &Record::of(written.clone()), count);
        if count >= Tally::<u8>::write_majority(self.set.len()) {
            self.acked.push((at, written));
        } else if self.random.chance(30) {
            self.kept[at] = merge(&self.kept[at], &Record::of(written));
        }
    }

    fn plan(&mut self, needs_quorum: bool) {
        for node in self.set.clone() {
            let any = [
                Behaviour::Down,
                Behaviour::GoesAway,
                Behaviour::Forged,
                Behaviour::OtherHash,
                Behaviour::OtherKey,
            ];
            // What others cannot contradict is believed to the own disk.
            let can_rot = needs_quorum && self.set.len() > 2;
            let behaviour = match self.random.pick(&any) {
                _ if self.random.chance(70) => Behaviour::Honest,
                Behaviour::Forged if node == self.me && can_rot => Behaviour::Forged,
                Behaviour::Down => Behaviour::Down,
                _ if node == self.me => Behaviour::Honest,
                other => other,
            };
            self.behaviour.insert(node, behaviour);
        }
        self.asked.clear();
        self.answered.clear();
        self.gone.clear();
        self.apart.clear();
        self.given_back = None;
        self.write_back_fails = self.random.chance(5);
        self.is_over = false;
    }

    /// What a node sends for these keys, the first of them at least.
    fn told(&mut self, node: u8, keys: &[RecordKey]) -> ReadAnswer {
        let count = if self.random.chance(80) { keys.len() } else { 1 };
        let tell = |key: &RecordKey| {
            let at = usize::from(key.tag.as_bytes()[0]);
            let mut record = self.held[&node][at].clone();
            let mut key = *key;
            match self.behaviour[&node] {
                Behaviour::Forged => record = merge(&record, &forged(node, &record)),
                Behaviour::OtherKey => key.tag = crate::id::Tag::new([77; 16]),
                _ => {}
            }
            (key, record)
        };
        ReadAnswer::Records(keys.iter().take(count).map(tell).collect())
    }

    fn hashes(&self, node: u8) -> ReadAnswer {
        let hash = |record: &Record| match self.behaviour[&node] {
            Behaviour::OtherHash => [9; 32],
            Behaviour::Forged => merge(record, &forged(node, record)).state_hash(),
            _ => record.state_hash(),
        };
        ReadAnswer::Hashes(self.held[&node].iter().map(hash).collect())
    }

    fn is_fan_out(&self, node: u8, keys: &[RecordKey], digest_only: bool) -> bool {
        keys.len() == KEYS && (digest_only || node == self.me || !self.set.contains(&self.me))
    }

    fn answer(&mut self, node: u8, keys: &[RecordKey], digest_only: bool) -> ReadEvent<u8, Fault> {
        let is_fan_out = self.is_fan_out(node, keys, digest_only);
        match self.behaviour[&node] {
            Behaviour::Down => {
                let fault = self.random.pick(&[Fault::Silent, Fault::Other]);
                return ReadEvent::Answered(node, Err(fault));
            }
            Behaviour::GoesAway if !is_fan_out => {
                self.gone.insert(node);
                return ReadEvent::Answered(node, Err(Fault::Silent));
            }
            _ => {}
        }
        if is_fan_out && !self.is_over {
            self.answered.insert(node);
        }
        if self.behaviour[&node] == Behaviour::OtherKey && !digest_only {
            self.gone.insert(node);
        }
        let answer = if digest_only { self.hashes(node) } else { self.told(node, keys) };
        ReadEvent::Answered(node, Ok(answer))
    }

    /// What those that answered hold of one name.
    fn of_answered(&self, at: usize) -> impl Iterator<Item = &Record> {
        self.answered.iter().map(move |node| &self.held[node][at])
    }

    fn note_apart(&mut self) {
        let differs = |at: &usize| {
            let all: Vec<&Record> = self.of_answered(*at).collect();
            all.windows(2).any(|pair| pair[0] != pair[1])
        };
        self.apart = (0..KEYS).filter(differs).map(key_at).collect();
    }

    fn give_back(&mut self, records: Keyed) -> Result<(), Failure<u8, Fault>> {
        if self.rule == Rule::NoWriteBack || self.is_over {
            return Ok(());
        }
        let majority = Tally::<u8>::write_majority(self.set.len());
        let count = if self.write_back_fails { 0 } else { majority };
        for (key, record) in records {
            self.give(key.tag.as_bytes()[0].into(), &record, count);
        }
        if self.write_back_fails { Err(Failure::TooFew(Vec::new())) } else { Ok(()) }
    }

    /// One more read, under a random behaviour of all; what is wrong with it.
    fn read(&mut self) -> Result<(), &'static str> {
        let needs_quorum = self.random.chance(80);
        self.plan(needs_quorum);
        let all_in_reach = self.random.chance(50);
        let keys = (0..KEYS).map(key_at).collect();
        let mut spec = ReadSpec { keys, all_in_reach, ..spec(&self.set, self.me, needs_quorum) };
        if self.rule == Rule::AskOne {
            spec.counting.needed = Tally::<u8>::any;
        }
        let before = self.held.clone();
        let enough = Tally::<u8>::read_majority(self.set.len());
        let Ok(result) = run(self, Reading::new(spec)).outcome else {
            let honest = self.behaviour.values().filter(|of| **of == Behaviour::Honest).count();
            let may_fail = self.write_back_fails || (needs_quorum && honest < enough);
            return may_fail.then_some(()).ok_or("it fails without need");
        };
        for (at, read) in result.records.iter().enumerate() {
            let all = self.answered.difference(&self.gone).map(|node| &before[node][at]);
            let mut expected = all.fold(Record::default(), |sum, one| merge(&sum, one));
            if !needs_quorum && !self.set.contains(&self.me) {
                expected = merge(&expected, &self.kept[at]);
            }
            if expected != *read {
                return Err("it is not the merge of the answers");
            }
        }
        let given_back = self.given_back.take().unwrap_or_default();
        if !self.apart.is_subset(&given_back) {
            return Err("replicas that differ are not brought together");
        }
        if needs_quorum && !self.shows_all(&result.records) {
            return Err("something is hidden");
        }
        if needs_quorum && !(result.quorum && self.answered.len() >= enough) {
            return Err("it met no quorum");
        }
        Ok(())
    }

    /// Whether a read by quorum shows all that was acknowledged, or shown by one before it.
    fn shows_all(&mut self, records: &[Record]) -> bool {
        let shows = |(at, version): &(usize, Version)| records[*at].reflects(version);
        let stays = (0..KEYS).all(|at| merge(&records[at], &self.shown[at]) == records[at]);
        self.shown = records.to_vec();
        stays && self.acked.iter().all(shows)
    }
}

impl World for Cluster {
    type Op = Reading;

    fn random(&mut self) -> &mut Random {
        &mut self.random
    }

    fn begin(&mut self, _: Duration, task: &ReadTask<u8>) -> Option<Duration> {
        match task {
            ReadTask::Ask { node, keys, digest_only } => {
                if self.is_fan_out(*node, keys, *digest_only) && !self.asked.insert(*node) {
                    // Another round.
                    self.asked = BTreeSet::from([*node]);
                    self.answered.clear();
                }
            }
            ReadTask::WriteBack(records) => {
                self.note_apart();
                assert!(self.given_back.is_none(), "it gives back twice");
                self.given_back = Some(records.iter().map(|(key, _)| *key).collect());
            }
            ReadTask::Verify { .. } | ReadTask::LookHere => {}
        }
        let longest = self.random.pick(&[5, 50, 5000]);
        Some(up_to(&mut self.random, longest))
    }

    fn end(&mut self, _: Duration, task: ReadTask<u8>) -> ReadEvent<u8, Fault> {
        match task {
            ReadTask::Ask { node, keys, digest_only } => self.answer(node, &keys, digest_only),
            ReadTask::Verify { node, records } => {
                let is_genuine = records.iter().all(|(_, record)| !is_forged(record));
                let is_believed = is_genuine || self.rule == Rule::BelieveAll;
                if !is_believed {
                    self.gone.insert(node);
                }
                ReadEvent::Verified(node, is_believed)
            }
            ReadTask::LookHere => ReadEvent::Here(self.kept.clone()),
            ReadTask::WriteBack(records) => {
                ReadEvent::WrittenBack(self.give_back(records).map(|()| true))
            }
        }
    }

    fn over(&mut self) {
        self.is_over = true;
        if self.given_back.is_none() {
            self.note_apart();
        }
    }
}

fn key_at(at: usize) -> RecordKey {
    key(u8::try_from(at).unwrap())
}

/// A version of this node after all that is there, which nobody signed.
fn forged(node: u8, record: &Record) -> Record {
    let vid = 200 + node;
    let place = place_after(record, Hlc(vid.into()), vid.into(), vid.into(), true);
    let mut forged = version(vid, place, Kind::Dead);
    forged.signature = [9; 64];
    Record::of(forged)
}

fn is_forged(record: &Record) -> bool {
    record.heads().any(|head| head.signature == [9; 64])
}

/// What is wrong with the first bad read of a random history.
fn fault(seed: u64, rule: Rule) -> Option<&'static str> {
    let mut cluster = Cluster::new(seed, rule);
    (0..STEPS).find_map(|_| {
        if cluster.random.chance(50) {
            cluster.write();
            return None;
        }
        cluster.read().err()
    })
}

#[test]
fn what_was_acknowledged_or_shown_is_shown_by_every_later_read() {
    for seed in 0..2000 {
        assert_eq!(fault(seed, Rule::AsBuilt), None, "seed {seed}");
    }
}

#[test]
fn reading_under_a_weaker_rule_would_hide_it() {
    for (rule, expected) in [
        (Rule::AskOne, "something is hidden"),
        (Rule::NoWriteBack, "something is hidden"),
        (Rule::BelieveAll, "it is not the merge of the answers"),
    ] {
        assert!((0..500).any(|seed| fault(seed, rule) == Some(expected)), "{rule:?}");
    }
}

const KEYS: usize = 2;
const STEPS: usize = 12;
