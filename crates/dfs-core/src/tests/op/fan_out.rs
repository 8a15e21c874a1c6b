//! One request to every replica: when it ends, with what, and who is owed a comparison.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::{Bench, World, any_fault, run, up_to};
use crate::quorum::Tally;
use crate::replica::op::fan_out::{FanOut, FanOutSpec, GUARD_PATIENCE, PATIENCE, Patience};
use crate::replica::op::{Counting, Failure, Fault};
use crate::tests::random::Random;

type Asking = FanOut<u8, (), Fault>;

const OK: Result<(), Fault> = Ok(());

/// Ended with these answers, these owed, and whether others go on in the background; or as told.
type Expected<'a> = Option<Result<(&'a [u8], &'a [u8], bool), Failure<u8, Fault>>>;

#[track_caller]
fn check(spec: FanOutSpec<u8>, replies: &[(u8, Result<(), Fault>)], expected: Expected) {
    let mut asking = Bench::start(Asking::new(spec));
    for (node, reply) in replies {
        asking.feed((*node, *reply));
    }
    let reached = asking.outcome.map(|outcome| outcome.map(|reached| reached.nodes()));
    let expected = expected.map(|ended| {
        ended.map(|(nodes, owed, in_background)| {
            assert_eq!((&asking.owed[..], asking.is_detached), (owed, in_background));
            nodes.iter().copied().collect::<BTreeSet<u8>>()
        })
    });
    assert_eq!(reached, expected);
}

fn of(sets: &[&[u8]]) -> FanOutSpec<u8> {
    let sets = sets.iter().map(|set| set.to_vec()).collect();
    FanOutSpec::new(sets, Counting::write(true), Patience::None)
}

#[test]
fn two_acks_of_three_are_enough_and_the_third_goes_on() {
    let spec = of(&[&[0, 1, 2]]);
    check(spec.clone(), &[(0, OK)], None);
    check(spec.clone(), &[(0, OK), (0, OK)], None);
    check(spec.clone(), &[(0, OK), (2, OK)], Some(Ok((&[0, 2], &[], true))));
    let failed = [(1, Err(Fault::Silent)), (0, OK), (2, OK)];
    check(spec.clone(), &failed, Some(Ok((&[0, 2], &[1], false))));
    let late = [(0, OK), (2, OK), (1, Err(Fault::Other))];
    check(spec, &late, Some(Ok((&[0, 2], &[], true))));
}

#[test]
fn each_set_needs_its_own() {
    let spec = of(&[&[0, 1, 2], &[2, 3]]);
    check(spec.clone(), &[(0, OK), (2, OK)], None);
    check(spec, &[(0, OK), (2, OK), (3, OK)], Some(Ok((&[0, 2, 3], &[], true))));
}

#[test]
fn failures_add_up_to_what_the_client_can_act_on() {
    let spec = of(&[&[0, 1, 2]]);
    for (first, second, expected) in [
        (Fault::Silent, Fault::Other, Failure::TooFew(vec![(0, Fault::Silent), (1, Fault::Other)])),
        (Fault::Silent, Fault::NoSpace, Failure::NoSpace),
        (
            Fault::ClockSkew,
            Fault::ClockSkew,
            // The third may do it.
            Failure::TooFew(vec![(0, Fault::ClockSkew), (1, Fault::ClockSkew)]),
        ),
        (
            Fault::ClockSkew,
            Fault::Silent,
            Failure::TooFew(vec![(0, Fault::ClockSkew), (1, Fault::Silent)]),
        ),
    ] {
        check(spec.clone(), &[(0, Err(first)), (1, Err(second))], Some(Err(expected)));
    }
    check(spec.clone(), &[(0, OK), (1, Err(Fault::Stale))], Some(Err(Failure::Stale)));
    let skewed = |node| (node, Err(Fault::ClockSkew));
    let alone = of(&[&[0]]);
    check(alone, &[skewed(0)], Some(Err(Failure::ClockSkew(Fault::ClockSkew))));
    // Nobody hears that a write was refused which one replica has taken.
    let did = Failure::TooFew(vec![(1, Fault::ClockSkew), (2, Fault::ClockSkew)]);
    check(spec.clone(), &[(0, OK), skewed(1), skewed(2)], Some(Err(did)));
    let without = FanOutSpec { without: BTreeSet::from([0, 1]), ..spec };
    check(without, &[], Some(Err(Failure::TooFew(Vec::new()))));
}

#[test]
fn patience_waits_for_all_or_for_its_time() {
    let patience = Patience::for_quorum(false);
    let spec = FanOutSpec { patience, counting: Counting::write(false), ..of(&[&[0, 1, 2]]) };
    let all = [(0, OK), (1, Err(Fault::Silent)), (2, OK)];
    check(spec.clone(), &all[..2], None);
    check(spec.clone(), &all, Some(Ok((&[0, 2], &[1], false))));
    let mut asking = Bench::start(Asking::new(spec.clone()));
    asking.feed((0, OK));
    asking.wait(PATIENCE - Duration::from_millis(1));
    assert!(asking.outcome.is_none());
    asking.wait(Duration::from_millis(1));
    assert!(asking.outcome.is_some_and(|outcome| outcome.is_ok()) && asking.is_detached);
    let mut asking = Bench::start(Asking::new(spec));
    asking.wait(PATIENCE * 2);
    assert!(asking.outcome.is_none(), "nobody has answered yet");
    asking.feed((1, OK));
    assert!(asking.outcome.is_some());
}

#[test]
fn those_held_back_are_asked_when_the_others_are_not_enough() {
    let spec = FanOutSpec { held_back: BTreeSet::from([2]), ..of(&[&[0, 1, 2]]) };
    let mut asking = Bench::start(Asking::new(spec));
    assert_eq!(asking.begun(), [0, 1]);
    asking.feed((0, OK));
    assert_eq!(asking.begun(), []);
    asking.feed((1, Err(Fault::Other)));
    assert_eq!(asking.begun(), [2]);
    asking.feed((2, OK));
    assert!(asking.outcome.is_some_and(|outcome| outcome.is_ok()));
    assert_eq!(asking.owed, [1]);
}

#[test]
fn those_that_have_done_it_count_without_being_asked() {
    let spec = FanOutSpec { done: BTreeSet::from([0]), ..of(&[&[0, 1, 2]]) };
    check(spec, &[(0, OK), (1, OK)], Some(Ok((&[1], &[], true))));
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Rule {
    AsBuilt,
    /// One answer of each set is taken for a quorum.
    AnyAnswer,
    /// A failure is taken for an answer.
    FailuresCount,
}

/// Replicas that answer as planned.
struct Replicas {
    random: Random,
    plans: BTreeMap<u8, (Duration, Result<(), Fault>)>,
    asked: Vec<u8>,
}

impl World for Replicas {
    type Op = Asking;

    fn random(&mut self) -> &mut Random {
        &mut self.random
    }

    fn begin(&mut self, _: Duration, node: &u8) -> Option<Duration> {
        self.asked.push(*node);
        Some(self.plans[node].0)
    }

    fn end(&mut self, _: Duration, node: u8) -> (u8, Result<(), Fault>) {
        (node, self.plans[&node].1)
    }
}

/// When a fan-out ends and how: answers, who is owed, how many go on; or what failed.
type End = (Duration, Result<(BTreeSet<u8>, BTreeSet<u8>, usize), Failure<u8, Fault>>);

/// What must come of it, counted by hand.
fn foretell(spec: &FanOutSpec<u8>, needs_quorum: bool, world: &Replicas) -> End {
    let needed = |n: usize| if needs_quorum { n / 2 + 1 } else { n.min(1) };
    let count = |set: &[u8], of: &BTreeSet<u8>| set.iter().filter(|at| of.contains(at)).count();
    let (mut acked, mut failed) = (spec.done.clone(), spec.without.clone());
    let (mut answers, mut failures) = (BTreeSet::new(), Vec::new());
    let mut held_back = spec.held_back.clone();
    let all: BTreeSet<u8> = spec.sets.iter().flatten().copied().collect();
    let mut running: Vec<(Duration, u8)> = all
        .iter()
        .filter(|node| ![&acked, &failed, &held_back].iter().any(|set| set.contains(node)))
        .map(|node| (world.plans[node].0, *node))
        .collect();
    let mut now = Duration::ZERO;
    let patient_until = match spec.patience {
        Patience::None => Duration::ZERO,
        Patience::For(patience) => patience,
        Patience::ForAll => Duration::MAX,
    };
    loop {
        let enough = spec.sets.iter().all(|set| count(set, &acked) >= needed(set.len()));
        if spec.sets.iter().any(|set| set.len() - count(set, &failed) < needed(set.len())) {
            let none_did = answers.is_empty() && running.is_empty() && spec.done.is_empty();
            return (now, Err(Failure::of(failures, none_did)));
        }
        running.sort_unstable();
        // An answer that comes just in time still counts.
        let next = running.first().copied().filter(|(at, _)| !enough || *at <= patient_until);
        let is_impatient = spec.patience == Patience::None;
        match next {
            Some(_) if enough && is_impatient => break,
            Some((at, node)) => {
                running.remove(0);
                now = at;
                match world.plans[&node].1 {
                    Ok(()) => {
                        acked.insert(node);
                        answers.insert(node);
                    }
                    Err(Fault::Stale) => return (now, Err(Failure::Stale)),
                    Err(fault) => {
                        failed.insert(node);
                        failures.push((node, fault));
                    }
                }
            }
            None if enough && running.is_empty() => break,
            None if enough => {
                now = now.max(patient_until);
                break;
            }
            None => {
                let held_back = std::mem::take(&mut held_back).into_iter();
                running.extend(held_back.map(|node| (now + world.plans[&node].0, node)));
            }
        }
    }
    let late = running.iter().filter(|(_, node)| world.plans[node].1.is_err());
    let owed = failures.iter().map(|(node, _)| *node).chain(late.map(|(_, node)| *node));
    (now, Ok((answers, owed.collect(), running.len())))
}

/// What came of a random fan-out, and what must come of it.
fn outcome_of(seed: u64, rule: Rule) -> (End, End) {
    let mut random = Random::new(seed);
    let nodes: Vec<u8> = (0..7).collect();
    let sets: Vec<Vec<u8>> = (0..=random.below(2))
        .map(|_| {
            let size = 1 + random.index(5);
            random.sample(&nodes, size)
        })
        .collect();
    let needs_quorum = random.chance(70);
    let mut counting = Counting::write(needs_quorum);
    match rule {
        Rule::AsBuilt => {}
        Rule::AnyAnswer => counting.needed = Tally::<u8>::any,
        Rule::FailuresCount => counting.failure = Tally::ack,
    }
    let patience = random.pick(&[Patience::None, Patience::For(PATIENCE), Patience::ForAll]);
    let mut spec = FanOutSpec::new(sets, counting, patience);
    let mut plans = BTreeMap::new();
    for node in spec.sets.iter().flatten().copied().collect::<BTreeSet<u8>>() {
        match random.below(20) {
            0 => _ = spec.without.insert(node),
            1..=2 => _ = spec.done.insert(node),
            3..=5 => _ = spec.held_back.insert(node),
            _ => {}
        }
        let result = match random.below(40) {
            0 => Err(Fault::Stale),
            1..=14 => Err(any_fault(&mut random)),
            _ => Ok(()),
        };
        let longest = random.pick(&[10, 1500, 4000]);
        plans.insert(node, (up_to(&mut random, longest), result));
    }
    let mut world = Replicas { random, plans, asked: Vec::new() };
    let ended = run(&mut world, Asking::new(spec.clone()));
    let once: BTreeSet<u8> = world.asked.iter().copied().collect();
    assert_eq!(once.len(), world.asked.len(), "seed {seed} asks a node twice");
    assert!(once.is_disjoint(&spec.without) && once.is_disjoint(&spec.done), "seed {seed}");
    let owed: BTreeSet<u8> = ended.owed.into_iter().collect();
    let came = ended.outcome.map(|reached| (reached.nodes(), owed, ended.detached));
    ((ended.at, came), foretell(&spec, needs_quorum, &world))
}

#[test]
fn it_ends_exactly_when_the_count_says() {
    for seed in 0..5000 {
        let (came, must) = outcome_of(seed, Rule::AsBuilt);
        assert_eq!(came, must, "seed {seed}");
    }
}

#[test]
fn a_weaker_count_would_end_otherwise() {
    for rule in [Rule::AnyAnswer, Rule::FailuresCount] {
        let differs = |seed: u64| {
            let (came, must) = outcome_of(seed, rule);
            came != must
        };
        assert!((0..200).any(differs), "{rule:?}");
    }
}

/// Node 0 is a gateway, 1 and 2 store for it.
fn guarded() -> FanOutSpec<u8> {
    FanOutSpec { guards: vec![vec![0]], ..of(&[&[0, 1, 2]]) }
}

#[test]
fn guards_are_waited_for_and_no_longer_than_that() {
    let outcome = |asking: Bench<Asking>| {
        asking.outcome.map(|ended| ended.map(|reached| (reached.nodes(), reached.guarded)))
    };
    let ended = |nodes: &[u8], guarded| Some(Ok((nodes.iter().copied().collect(), guarded)));
    let with = |replies: &[(u8, Result<(), Fault>)]| {
        let mut asking = Bench::start(Asking::new(guarded()));
        replies.iter().for_each(|reply| asking.feed(*reply));
        asking
    };
    let two = [(1, OK), (2, OK)];
    assert_eq!(outcome(with(&two)), None, "the gateway may answer yet");
    assert_eq!(outcome(with(&[(1, OK), (0, OK)])), ended(&[0, 1], true));
    let mut late = with(&two);
    late.feed((0, OK));
    assert_eq!(outcome(late), ended(&[0, 1, 2], true));
    let failed = (0, Err(Fault::Silent));
    assert_eq!(outcome(with(&[(1, OK), failed, (2, OK)])), ended(&[1, 2], false));
    let mut silent = with(&two);
    silent.wait(GUARD_PATIENCE - Duration::from_millis(1));
    assert!(silent.outcome.is_none());
    silent.wait(Duration::from_millis(1));
    assert_eq!(outcome(silent), ended(&[1, 2], false));
    // One answer of the guards alone is no quorum.
    assert_eq!(outcome(with(&[(0, OK)])), None);
}
