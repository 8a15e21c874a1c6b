//! Purging under random schedules of deletions, moves, moves given up, outages and held writes:
//! what was deleted never comes back. The weakened rules must bring it back.

use std::collections::BTreeMap;

use super::random::Random;
use super::transition::{first_layout, id};
use super::versions::version;
use crate::codec::Canonical;
use crate::hlc::Hlc;
use crate::id::{BlobId, NodeId, RecordKey, Vid};
use crate::layout::epoch::{EpochOp, EpochState, MemberIdx, MemberState};
use crate::node::member::Clean;
use crate::paxos::Ballot;
use crate::record::ballot::{Candidate, SignedBallot, Value};
use crate::record::refs::RefRow;
use crate::record::version::{Kind, Place, Record, Retained, merge};
use crate::replica::purge::{AGE_MIN, Grounds, Kept, may_drop, may_purge, without_purged};

#[derive(Debug, Clone, Copy, PartialEq)]
enum Rule {
    AsBuilt,
    /// A majority of replicas confirms.
    Majority,
    /// Former holders and held writes are not looked at.
    ReplicasOnly,
    /// Held writes are not looked at.
    NoHeldWrites,
    /// Targets of moves that were given up are not former holders.
    ForgetAborted,
    /// What was purged is not remembered.
    NoFloors,
    /// A newcomer does not take over what was purged before it came.
    FloorsNotMoved,
}

struct World {
    random: Random,
    rule: Rule,
    layout: EpochState,
    records: Vec<Record>,
    /// Up to which stamp each has every version that counts.
    floors: Vec<Hlc>,
    up: Vec<bool>,
    /// Members that hold nothing yet.
    spare: Vec<MemberIdx>,
    /// The write that member 6 holds for others.
    held: Record,
    /// What it published.
    clean: Clean,
    clock: u64,
    purges: usize,
}

/// What everyone knows in one state of the world.
struct Known<'a> {
    world: &'a World,
    hash: [u8; 32],
}

impl Grounds for Known<'_> {
    fn confirmed(&self, node: &NodeId) -> bool {
        let confirms =
            |at: usize| self.world.up[at] && self.world.records[at].state_hash() == self.hash;
        match self.world.rule {
            Rule::Majority => {
                self.world.replicas().into_iter().filter(|at| confirms(*at)).count() >= 2
            }
            _ => confirms(node.as_bytes()[0].into()),
        }
    }

    fn clean(&self, node: &NodeId) -> Clean {
        let looks =
            !matches!(self.world.rule, Rule::Majority | Rule::ReplicasOnly | Rule::NoHeldWrites);
        let is_holder = *node == id(HOLDER) && looks;
        let clean = Clean { at: Hlc(u64::MAX), epoch: u64::MAX };
        if is_holder { self.world.clean } else { clean }
    }

    fn at_rest(&self) -> bool {
        true
    }
}

fn written() -> Record {
    Record::of(version(1, Place { actor: 1, hlc: WRITTEN, context: BTreeMap::new() }, Kind::Live))
}

fn deleted() -> Record {
    let context = BTreeMap::from([(1, WRITTEN)]);
    Record::of(version(2, Place { actor: 2, hlc: DELETED, context }, Kind::Dead))
}

fn now() -> u64 {
    DELETED.unix_ms() + u64::try_from(AGE_MIN.as_millis()).unwrap()
}

impl World {
    fn new(seed: u64, rule: Rule) -> Self {
        let mut random = Random::new(seed);
        let mut records = vec![Record::default(); 6];
        random.sample(&[0, 1, 2], 2).into_iter().for_each(|at: usize| records[at] = written());
        let is_held = random.chance(50);
        Self {
            layout: first_layout(vec![0, 1, 2]),
            records,
            floors: vec![Hlc::default(); 6],
            up: [vec![true; 6], vec![!is_held || random.chance(50)]].concat(),
            spare: vec![3, 4, 5],
            held: if is_held { written() } else { Record::default() },
            clean: Clean::default(),
            clock: WRITTEN.0,
            purges: 0,
            random,
            rule,
        }
    }

    fn replicas(&self) -> Vec<usize> {
        self.layout.row(0).current.iter().map(|idx| usize::from(*idx)).collect()
    }

    fn reachable(&self) -> Vec<usize> {
        self.replicas().into_iter().filter(|at| self.up[*at]).collect()
    }

    fn give(&mut self, record: &Record, to: &[usize]) {
        for at in to {
            let ours = &self.records[*at];
            let counts = without_purged(record, ours, self.floors[*at]);
            self.records[*at] = merge(ours, counts.as_ref().unwrap_or(record));
        }
    }

    fn gathered(&self, from: &[usize]) -> Record {
        from.iter().fold(Record::default(), |all, at| merge(&all, &self.records[*at]))
    }

    fn decide(&mut self, ops: Vec<EpochOp>) {
        self.layout = self.layout.propose([0; 32], ops, id(0)).unwrap().0;
    }

    fn step(&mut self) {
        self.clock += 1;
        let is_deleted = self.clock > DELETED.0;
        match self.random.below(100) {
            0..20 => {
                let replicas = self.replicas();
                let pair = self.random.sample(&replicas, 2);
                if pair.iter().all(|at| self.up[*at]) {
                    self.give(&self.gathered(&pair), &pair);
                }
            }
            20..30 => {
                let former = self.layout.row(0).former.iter().map(|idx| usize::from(*idx));
                let all: Vec<usize> = self.replicas().into_iter().chain(former).collect();
                let at = self.random.pick(&[&all[..], &[HOLDER]].concat());
                self.up[at] = !self.up[at];
            }
            30..40 if !is_deleted => {
                let reachable = self.reachable();
                if reachable.len() >= 2 {
                    let to = self.random.sample(&reachable, 2);
                    self.give(&deleted(), &to);
                    self.clock = DELETED.0;
                }
            }
            40..47 => self.replace(),
            47..52 => self.give_up_a_move(),
            52..60 => self.clean_former(),
            60..66 if self.up[HOLDER] => self.hand_over(),
            66..80 if is_deleted => self.purge(),
            80..90 if self.brings_back() => {
                let at = self.random.pick(&self.replicas());
                self.give(&written(), &[at]);
            }
            _ => {}
        }
    }

    /// A finished move: the newcomer has what the other replicas have, and so have they.
    fn replace(&mut self) {
        let leaving = self.random.pick(&self.layout.row(0).current);
        let mut rest = self.reachable();
        rest.retain(|at| *at != usize::from(leaving));
        if rest.len() < 2 {
            return;
        }
        let Some(joins) = self.spare.pop() else { return };
        let mut next = self.layout.row(0).current.clone();
        next.iter_mut().filter(|idx| **idx == leaving).for_each(|idx| *idx = joins);
        let prepare = EpochOp::Prepare { partition: 0, next };
        self.decide(vec![prepare, EpochOp::Switch(0), EpochOp::Done(0)]);
        let all = self.gathered(&rest);
        if self.rule != Rule::FloorsNotMoved {
            let told = rest.iter().map(|at| self.floors[*at]).max();
            self.floors[usize::from(joins)] = told.unwrap_or_default();
        }
        rest.push(joins.into());
        self.give(&all, &rest);
    }

    /// The target of a move that is given up keeps what it copied.
    fn give_up_a_move(&mut self) {
        let Some(target) = self.spare.pop() else { return };
        let source = self.random.pick(&self.replicas());
        let copied = self.records[source].clone();
        self.give(&copied, &[target.into()]);
        let next = vec![target];
        self.decide(vec![EpochOp::Prepare { partition: 0, next }, EpochOp::Abort(0)]);
        if self.rule == Rule::ForgetAborted {
            self.layout.rows[0].former.retain(|idx| *idx != target);
        }
    }

    /// A former holder pushes what it has to all replicas, and forgets it.
    fn clean_former(&mut self) {
        let former = self.layout.row(0).former.clone();
        if former.is_empty() || self.reachable().len() < 3 {
            return;
        }
        let at = usize::from(self.random.pick(&former));
        if self.up[at] {
            self.give(&self.records[at].clone(), &self.replicas());
            self.records[at] = Record::default();
            self.layout.rows[0].former.retain(|idx| usize::from(*idx) != at);
        }
    }

    /// The member that holds a write delivers it if it can, and publishes what it holds then.
    fn hand_over(&mut self) {
        let reachable = self.reachable();
        if reachable.len() >= 2 {
            let to = self.random.sample(&reachable, 2);
            let held = std::mem::take(&mut self.held);
            self.give(&held, &to);
        }
        self.clean = match self.held.is_empty() {
            true => Clean { at: Hlc(self.clock), epoch: self.layout.epoch },
            false => Clean::default(),
        };
    }

    fn purge(&mut self) {
        let mut layout = self.layout.clone();
        if matches!(self.rule, Rule::Majority | Rule::ReplicasOnly) {
            layout.rows[0].former.clear();
        }
        let hash = deleted().state_hash();
        let known = Known { world: self, hash };
        if may_purge(&deleted(), 0, &layout, now(), AGE_MIN, &known).is_err() {
            return;
        }
        self.purges += 1;
        for at in self.reachable() {
            if self.records[at].state_hash() == hash {
                self.records[at] = Record::default();
                if self.rule != Rule::NoFloors {
                    self.floors[at] = DELETED;
                }
            }
        }
    }

    /// Whether someone who kept what was deleted brings it again now: once nobody else has it.
    fn brings_back(&self) -> bool {
        let rules = [Rule::AsBuilt, Rule::NoFloors, Rule::FloorsNotMoved];
        self.purges > 0 && rules.contains(&self.rule)
    }

    /// Whether the deleted file is there again once everything has been brought together.
    fn is_resurrected(&self) -> bool {
        let all = self.records.iter().fold(self.held.clone(), |all, one| merge(&all, one));
        self.clock >= DELETED.0 && all.winner().is_some_and(|head| head.kind == Kind::Live)
    }
}

/// How many schedules bring the file back, and how many purges there were.
fn resurrections(rule: Rule, seeds: u64) -> (usize, usize) {
    let (mut back, mut purges) = (0, 0);
    for seed in 0..seeds {
        let mut world = World::new(seed, rule);
        (0..70).for_each(|_| world.step());
        back += usize::from(world.is_resurrected());
        purges += world.purges;
    }
    (back, purges)
}

#[test]
fn what_was_deleted_never_comes_back() {
    let (back, purges) = resurrections(Rule::AsBuilt, 5000);
    assert_eq!(back, 0);
    assert!(purges > 300, "{purges} purges");
}

#[test]
fn purging_under_a_weaker_rule_would_bring_it_back() {
    for rule in [
        Rule::Majority,
        Rule::ReplicasOnly,
        Rule::NoHeldWrites,
        Rule::ForgetAborted,
        Rule::NoFloors,
        Rule::FloorsNotMoved,
    ] {
        assert!(resurrections(rule, 1000).0 > 0, "{rule:?}");
    }
}

#[test]
fn what_is_not_held_below_the_floor_was_deleted_and_nothing_else_was() {
    let none = Record::default();
    let later = |hlc| Place { actor: 3, hlc, context: BTreeMap::new() };
    let again = Record::of(version(3, later(DELETED.next()), Kind::Live));
    let both = merge(&written(), &again);
    for (told, ours, floor, expected) in [
        (&written(), &none, Hlc(WRITTEN.0 - 1), None),
        (&written(), &none, WRITTEN, Some(&none)),
        (&written(), &none, DELETED, Some(&none)),
        // It is here, or something that replaced it.
        (&written(), &written(), DELETED, None),
        (&written(), &deleted(), DELETED, None),
        // The name was made anew.
        (&written(), &again, DELETED, Some(&none)),
        (&both, &again, DELETED, Some(&again)),
        (&again, &none, DELETED, None),
        // A tombstone that someone kept is forgotten again.
        (&deleted(), &none, DELETED, None),
    ] {
        assert_eq!(without_purged(told, ours, floor).as_ref(), expected, "{told:?} {floor:?}");
    }
}

/// Everyone confirms and holds nothing, but for one.
struct Table {
    unconfirmed: Option<NodeId>,
    silent: Option<NodeId>,
    clean: Clean,
    at_rest: bool,
}

impl Grounds for Table {
    fn confirmed(&self, node: &NodeId) -> bool {
        self.unconfirmed != Some(*node)
    }

    fn clean(&self, node: &NodeId) -> Clean {
        if self.silent == Some(*node) { Clean::default() } else { self.clean }
    }

    fn at_rest(&self) -> bool {
        self.at_rest
    }
}

/// Everyone agrees, and kept nothing for others right after the deletion.
fn all() -> Table {
    let clean = Clean { at: DELETED.next(), epoch: 9 };
    Table { unconfirmed: None, silent: None, clean, at_rest: false }
}

#[test]
fn each_condition_keeps_a_tombstone() {
    let layout = first_layout(vec![0, 1, 2]);
    let check = |record: &Record, layout: &EpochState, now_ms: u64, facts: Table| {
        may_purge(record, 0, layout, now_ms, AGE_MIN, &facts)
    };
    assert_eq!(check(&deleted(), &layout, now(), all()), Ok(()));
    assert_eq!(check(&written(), &layout, now(), all()), Err(Kept::NotDeleted));
    assert_eq!(check(&Record::default(), &layout, now(), all()), Err(Kept::NotDeleted));
    assert_eq!(check(&deleted(), &layout, now() - 1, all()), Err(Kept::TooYoung));
    let op = EpochOp::Prepare { partition: 0, next: vec![0, 1, 3] };
    let (moving, _) = layout.propose([0; 32], vec![op], id(0)).unwrap();
    assert_eq!(check(&deleted(), &moving, now(), all()), Err(Kept::Moving));
    let (aborted, _) = moving.propose([0; 32], vec![EpochOp::Abort(0)], id(0)).unwrap();
    assert_eq!(check(&deleted(), &aborted, now(), all()), Err(Kept::FormerHolder(3)));
    let facts = Table { unconfirmed: Some(id(2)), ..all() };
    assert_eq!(check(&deleted(), &layout, now(), facts), Err(Kept::Unconfirmed(id(2))));
    let silent = || Table { silent: Some(id(6)), ..all() };
    assert_eq!(check(&deleted(), &layout, now(), silent()), Err(Kept::HeldBack(id(6))));
    let mut left = layout.clone();
    left.members[6].state = MemberState::Left;
    assert_eq!(check(&deleted(), &left, now(), silent()), Ok(()));
    let changed = layout.row(0).changed;
    let held = Err(Kept::HeldBack(id(0)));
    for (at, epoch, expected) in [
        (DELETED, changed, held),
        (DELETED.next(), changed - 1, held),
        (DELETED.next(), changed, Ok(())),
    ] {
        let facts = Table { clean: Clean { at, epoch }, ..all() };
        assert_eq!(check(&deleted(), &layout, now(), facts), expected);
    }
}

#[test]
fn what_was_promised_to_conditional_writes_is_forgotten_only_at_rest() {
    let layout = first_layout(vec![0, 1, 2]);
    let ballot = SignedBallot::Unsigned(Ballot { round: 1, node: id(1) });
    let accepted = |value| Candidate { value, proof: None };
    let check = |record: &Record, at_rest: bool| {
        may_purge(record, 0, &layout, now(), AGE_MIN, &Table { at_rest, ..all() })
    };
    let mut promised = deleted();
    promised.prepare(ballot);
    assert_eq!(check(&promised, false), Err(Kept::Undecided));
    assert_eq!(check(&promised, true), Ok(()));
    let mut settled = deleted();
    settled.accept(ballot, accepted(Value::Settled(None)));
    assert_eq!(check(&settled, false), Err(Kept::Undecided));
    assert_eq!(check(&settled, true), Ok(()));
    let mut open = deleted();
    let place = Place { actor: 7, hlc: DELETED.next(), context: open.seen() };
    let put_forward = Value::Open(Box::new(version(7, place, Kind::Live)));
    open.accept(ballot, accepted(put_forward));
    assert_eq!(check(&open, true), Err(Kept::Undecided));
}

/// A use by the version that was written first, held until `hold_until`.
fn use_of(vid: Vid, hold_until: Hlc) -> RefRow {
    let key = RecordKey::from_canonical(vec![0; RecordKey::LEN]).unwrap();
    RefRow { blob: BlobId::new([1; 32]), vid, key, hlc: WRITTEN, dropped: false, hold_until }
}

#[test]
fn each_condition_keeps_a_use() {
    let layout = first_layout(vec![0, 1, 2]);
    let vid = written().winner().unwrap().vid;
    let row = use_of(vid, WRITTEN);
    let check = |record: &Record, layout: &EpochState, facts: Table| {
        may_drop(&row, record, DELETED, layout, &facts)
    };
    assert_eq!(check(&deleted(), &layout, all()), Ok(()));
    assert_eq!(check(&Record::default(), &layout, all()), Ok(()));
    assert_eq!(check(&written(), &layout, all()), Err(Kept::Needed));
    let mut retains = deleted().winner().unwrap().clone();
    retains.retained = vec![Retained { vid, refs_root: None, chunks: 0, hlc: WRITTEN }];
    assert_eq!(check(&Record::of(retains.clone()), &layout, all()), Err(Kept::Needed));
    let mut open = Record::default();
    let ballot = SignedBallot::Unsigned(Ballot { round: 1, node: id(1) });
    open.accept(ballot, Candidate { value: Value::Open(Box::new(retains)), proof: None });
    assert_eq!(check(&open, &layout, all()), Err(Kept::Needed));
    for (hold_until, expected) in [(DELETED, Err(Kept::Held)), (Hlc(DELETED.0 - 1), Ok(()))] {
        let row = use_of(vid, hold_until);
        assert_eq!(may_drop(&row, &deleted(), DELETED, &layout, &all()), expected);
    }
    let partition = row.key.partition(layout.bits);
    let op = EpochOp::Prepare { partition, next: vec![0, 1, 3] };
    let (moving, _) = layout.propose([0; 32], vec![op], id(0)).unwrap();
    assert_eq!(check(&deleted(), &moving, all()), Err(Kept::Moving));
    let facts = Table { unconfirmed: Some(id(2)), ..all() };
    assert_eq!(check(&deleted(), &layout, facts), Err(Kept::Unconfirmed(id(2))));
    let silent = || Table { silent: Some(id(6)), ..all() };
    assert_eq!(check(&deleted(), &layout, silent()), Err(Kept::HeldBack(id(6))));
    let mut left = layout.clone();
    left.members[6].state = MemberState::Left;
    assert_eq!(check(&deleted(), &left, silent()), Ok(()));
    let early = Table { clean: Clean { at: DELETED, epoch: 9 }, ..all() };
    assert_eq!(check(&deleted(), &layout, early), Err(Kept::HeldBack(id(0))));
}

const HOLDER: usize = 6;
const WRITTEN: Hlc = Hlc(1 << 40);
const DELETED: Hlc = Hlc(2 << 40);
