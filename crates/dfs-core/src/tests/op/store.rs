//! Storing a blob: the reference first, enough copies, and nobody forgotten who is slow.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::{Bench, Ended, World, any_fault, run, up_to};
use crate::quorum::Tally;
use crate::replica::op::store::{
    Copies, LAG_WAIT, Store, StoreEvent, StoreSpec, StoreTask, spared,
};
use crate::replica::op::{Counting, Failure, Fault};
use crate::tests::random::Random;

type Storing = Store<u8, Fault>;

fn start(needs_quorum: bool) -> Bench<Storing> {
    let (sets, counting) = (vec![vec![0, 1, 2]], Counting::write(needs_quorum));
    Bench::start(Storing::new(StoreSpec { sets, counting, needs_quorum }))
}

/// A store whose reference is noted by all, of whom these hold the blob, and these are behind.
fn noted(holders: &[u8], behind: &[u8]) -> Bench<Storing> {
    let mut store = start(true);
    assert_eq!(store.begun(), [0, 1, 2].map(StoreTask::Note));
    for node in [0, 1] {
        assert_eq!(store.begun(), []);
        store.feed(StoreEvent::Noted(node, Ok(holders.contains(&node))));
    }
    assert_eq!(store.begun(), [StoreTask::LookBehind]);
    store.feed(StoreEvent::Behind(behind.iter().copied().collect()));
    store
}

#[test]
fn the_bytes_follow_the_reference_and_a_majority_is_enough() {
    let mut store = noted(&[], &[]);
    assert!(store.is_detached, "the third may still note it");
    assert_eq!(store.begun(), [0, 1, 2].map(StoreTask::Send));
    store.feed(StoreEvent::Sent(2, Ok(())));
    store.feed(StoreEvent::Sent(0, Ok(())));
    assert_eq!(store.begun(), [StoreTask::AskToLag]);
    store.feed(StoreEvent::MayLag);
    assert_eq!(store.outcome, Some(Ok(Copies { durable: 2, wanted: 3 })));
    assert_eq!(store.owed, []);
}

#[test]
fn those_that_hold_it_are_sent_nothing() {
    let mut store = noted(&[0, 1], &[]);
    assert_eq!(store.begun(), [StoreTask::Send(2), StoreTask::AskToLag]);
    store.feed(StoreEvent::Sent(2, Ok(())));
    assert_eq!(store.outcome, Some(Ok(Copies { durable: 2, wanted: 3 })));
}

#[test]
fn one_that_is_too_slow_for_too_long_is_left_behind() {
    let mut store = noted(&[], &[]);
    store.feed(StoreEvent::Sent(0, Ok(())));
    store.feed(StoreEvent::Sent(1, Ok(())));
    store.begun();
    store.is_detached = false;
    store.wait(LAG_WAIT);
    assert_eq!(store.begun(), [StoreTask::LeaveBehind(vec![2])]);
    assert_eq!(store.owed, [2]);
    assert!(!store.is_detached, "what it was being sent is dropped");
    assert_eq!(store.outcome, Some(Ok(Copies { durable: 2, wanted: 3 })));
}

#[test]
fn one_that_was_left_behind_is_sent_to_only_in_need() {
    let mut store = noted(&[], &[2]);
    assert_eq!(store.begun(), [0, 1].map(StoreTask::Send));
    store.feed(StoreEvent::Sent(0, Ok(())));
    store.feed(StoreEvent::Sent(1, Err(Fault::Silent)));
    assert_eq!(store.begun(), [StoreTask::LeaveBehind(vec![1]), StoreTask::Send(2)]);
    assert_eq!(store.owed, [1]);
    store.feed(StoreEvent::Sent(2, Ok(())));
    assert_eq!(store.outcome, Some(Ok(Copies { durable: 2, wanted: 3 })));
}

#[test]
fn a_copy_here_is_better_than_none_where_no_quorum_is_needed() {
    let mut store = start(false);
    for node in 0..3 {
        store.feed(StoreEvent::Noted(node, Err(Fault::Silent)));
    }
    assert_eq!(store.begun().last(), Some(&StoreTask::KeepHere));
    store.feed(StoreEvent::Kept);
    assert_eq!(store.outcome, Some(Ok(Copies { durable: 1, wanted: 3 })));
}

#[test]
fn where_no_quorum_is_needed_all_get_their_time() {
    let mut store = start(false);
    for node in 0..3 {
        store.feed(StoreEvent::Noted(node, Ok(false)));
    }
    store.feed(StoreEvent::Behind(BTreeSet::from([2])));
    store.feed(StoreEvent::Sent(1, Ok(())));
    store.wait(LAG_WAIT * 9);
    assert_eq!(store.outcome, None);
    store.feed(StoreEvent::Sent(0, Err(Fault::Other)));
    assert_eq!(store.outcome, Some(Ok(Copies { durable: 1, wanted: 3 })));
    assert!(!store.begun().contains(&StoreTask::Send(2)));
}

#[test]
fn over_a_slow_line_a_blob_goes_to_just_enough_of_each_set() {
    let counting = Counting::write(true);
    for (sets, here, expected) in [
        (vec![vec![0, 1, 2]], 0, vec![2]),
        (vec![vec![0, 1, 2]], 2, vec![1]),
        (vec![vec![0, 1, 2]], 9, vec![2]),
        (vec![vec![0]], 9, vec![]),
        (vec![vec![0, 1]], 0, vec![]),
        (vec![vec![0, 1, 2, 3, 4]], 4, vec![2, 3]),
        // Who counts in both sets is taken first.
        (vec![vec![0, 1, 2], vec![2, 1, 3]], 3, vec![2]),
        (vec![], 0, vec![]),
    ] {
        let found = spared(&sets, &counting, |node| *node != here);
        assert_eq!(found, expected.into_iter().collect(), "{sets:?} from {here}");
    }
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Rule {
    AsBuilt,
    /// Any copy is taken for a majority.
    AnyCopy,
    /// A failure is taken for a reference that is noted.
    FailuresCount,
    /// Replicas that may lag are dropped.
    LaggardsDropped,
    /// Who was left behind is not remembered.
    BehindForgotten,
}

struct Replicas {
    random: Random,
    rule: Rule,
    sets: Vec<Vec<u8>>,
    needs_quorum: bool,
    notes: BTreeMap<u8, (Duration, Result<bool, Fault>)>,
    sends: BTreeMap<u8, (Duration, Result<(), Fault>)>,
    behind: BTreeSet<u8>,
    leave_after: Option<Duration>,
    noted: BTreeSet<u8>,
    sent: BTreeSet<u8>,
    answered: BTreeSet<u8>,
    holds: BTreeSet<u8>,
    /// Copies when the operation ended, and the time when they first were enough.
    at_end: Option<usize>,
    enough_at: Option<Duration>,
    faults: Vec<&'static str>,
}

impl Replicas {
    fn are_enough(&self, nodes: &BTreeSet<u8>) -> bool {
        let needed = |n: usize| if self.needs_quorum { n / 2 + 1 } else { n.min(1) };
        let count = |set: &Vec<u8>| set.iter().filter(|node| nodes.contains(node)).count();
        self.sets.iter().all(|set| count(set) >= needed(set.len()))
    }

    fn all(&self) -> BTreeSet<u8> {
        self.sets.iter().flatten().copied().collect()
    }

    fn fault_unless(&mut self, holds: bool, fault: &'static str) {
        if !holds {
            self.faults.push(fault);
        }
    }

    fn on_send(&mut self, node: u8) -> Duration {
        self.fault_unless(self.are_enough(&self.noted), "bytes before the reference");
        let is_first = self.sent.insert(node);
        self.fault_unless(is_first, "sent twice");
        if self.behind.contains(&node) {
            let others = &(&self.all() - &self.behind) - &self.holds;
            let in_need = others.is_subset(&self.answered) && !self.are_enough(&self.holds);
            self.fault_unless(in_need, "sent to one that was left behind");
        }
        self.sends[&node].0
    }
}

impl World for Replicas {
    type Op = Storing;

    fn random(&mut self) -> &mut Random {
        &mut self.random
    }

    fn begin(&mut self, _: Duration, task: &StoreTask<u8>) -> Option<Duration> {
        match task {
            StoreTask::Note(node) => Some(self.notes[node].0),
            StoreTask::LookBehind | StoreTask::KeepHere => Some(Duration::ZERO),
            StoreTask::Send(node) => Some(self.on_send(*node)),
            StoreTask::AskToLag => Some(self.leave_after.unwrap_or(super::DAY)),
            StoreTask::LeaveBehind(_) => None,
        }
    }

    fn end(&mut self, now: Duration, task: StoreTask<u8>) -> StoreEvent<u8, Fault> {
        match task {
            StoreTask::Note(node) => {
                let result = self.notes[&node].1;
                if let Ok(holds) = result {
                    self.noted.insert(node);
                    if holds {
                        self.holds.insert(node);
                    }
                }
                StoreEvent::Noted(node, result)
            }
            StoreTask::Send(node) => {
                let result = self.sends[&node].1;
                self.answered.insert(node);
                if result.is_ok() {
                    self.holds.insert(node);
                }
                if self.are_enough(&self.holds) {
                    self.enough_at.get_or_insert(now);
                }
                StoreEvent::Sent(node, result)
            }
            StoreTask::LookBehind if self.rule == Rule::BehindForgotten => {
                StoreEvent::Behind(BTreeSet::new())
            }
            StoreTask::LookBehind => StoreEvent::Behind(self.behind.clone()),
            StoreTask::AskToLag => StoreEvent::MayLag,
            StoreTask::KeepHere => StoreEvent::Kept,
            StoreTask::LeaveBehind(_) => unreachable!("it has no reply"),
        }
    }

    fn over(&mut self) {
        self.at_end = Some(self.holds.len());
    }

    fn keeps_detached(&self) -> bool {
        self.rule != Rule::LaggardsDropped
    }
}

fn world(seed: u64, rule: Rule) -> Replicas {
    let mut random = Random::new(seed);
    let nodes: Vec<u8> = (0..6).collect();
    let sets = (0..=random.below(2)).map(|_| {
        let size = 1 + random.index(4);
        random.sample(&nodes, size)
    });
    let sets: Vec<Vec<u8>> = sets.collect();
    let fails = |random: &mut Random| {
        let stale = random.chance(3);
        random.chance(25).then(|| if stale { Fault::Stale } else { any_fault(random) })
    };
    let (mut notes, mut sends, mut behind) = (BTreeMap::new(), BTreeMap::new(), BTreeSet::new());
    for node in nodes {
        let holds = random.chance(20);
        let noted = fails(&mut random).map_or(Ok(holds), Err);
        notes.insert(node, (up_to(&mut random, 500), noted));
        let longest = random.pick(&[100, 1000, 6000]);
        let sent = fails(&mut random).map_or(Ok(()), Err);
        sends.insert(node, (up_to(&mut random, longest), sent));
        if random.chance(20) {
            behind.insert(node);
        }
    }
    let longest = random.pick(&[0, 1000, 9000]);
    Replicas {
        rule,
        sets,
        needs_quorum: random.chance(70),
        notes,
        sends,
        behind,
        leave_after: random.chance(70).then(|| up_to(&mut random, longest)),
        noted: BTreeSet::new(),
        sent: BTreeSet::new(),
        answered: BTreeSet::new(),
        holds: BTreeSet::new(),
        at_end: None,
        enough_at: None,
        faults: Vec::new(),
        random,
    }
}

/// What is wrong with a random store.
fn faults(seed: u64, rule: Rule) -> Vec<&'static str> {
    let mut world = world(seed, rule);
    let mut counting = Counting::write(world.needs_quorum);
    match rule {
        Rule::AnyCopy => counting.needed = Tally::<u8>::any,
        Rule::FailuresCount => counting.failure = Tally::ack,
        _ => {}
    }
    let (sets, needs_quorum) = (world.sets.clone(), world.needs_quorum);
    let spec = StoreSpec { sets, counting, needs_quorum };
    let ended: Ended<Storing> = run(&mut world, Storing::new(spec));
    match &ended.outcome {
        Ok(copies) => on_stored(&mut world, *copies, &ended),
        Err(Failure::TooFew(_)) => world.fault_unless(needs_quorum, "no copy was kept here"),
        Err(Failure::Stale | Failure::NoSpace | Failure::ClockSkew(_)) => {}
    }
    world.faults
}

fn on_stored(world: &mut Replicas, copies: Copies, ended: &Ended<Storing>) {
    let at_end = world.at_end.unwrap_or(0);
    let is_here = copies.durable == 1 && !world.needs_quorum;
    world.fault_unless(copies.durable <= at_end || is_here, "it names copies that are not there");
    // Some may have come at the very end, or afterwards.
    let is_enough = world.are_enough(&world.holds) || is_here;
    world.fault_unless(is_enough, "too few copies");
    let in_time = world.enough_at.is_none_or(|at| ended.at <= at + LAG_WAIT);
    world.fault_unless(in_time || !world.needs_quorum, "it waits for laggards");
    let forgotten = |node: &u8| {
        let is_known = ended.owed.contains(node) || world.behind.contains(node);
        !world.holds.contains(node) && !is_known
    };
    let is_forgotten = world.all().iter().any(forgotten);
    world.fault_unless(!is_forgotten || is_here, "a replica is forgotten");
}

#[test]
fn the_reference_comes_first_and_no_replica_is_forgotten() {
    for seed in 0..5000 {
        assert_eq!(faults(seed, Rule::AsBuilt), [""; 0], "seed {seed}");
    }
}

#[test]
fn a_weaker_rule_would_lose_copies_or_time() {
    for (rule, fault) in [
        (Rule::AnyCopy, "too few copies"),
        (Rule::FailuresCount, "bytes before the reference"),
        (Rule::LaggardsDropped, "a replica is forgotten"),
        (Rule::BehindForgotten, "sent to one that was left behind"),
    ] {
        assert!((0..2000).any(|seed| faults(seed, rule).contains(&fault)), "{rule:?}");
    }
}
