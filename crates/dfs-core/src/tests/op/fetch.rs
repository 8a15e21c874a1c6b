//! Fetching a blob: who is asked when, and what may be said when nobody has it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::{Bench, World, run, up_to};
use crate::replica::op::Fault;
use crate::replica::op::fetch::{Fetch, FetchSpec, Fetched};
use crate::tests::random::Random;

type Fetching = Fetch<u8, &'static str, Fault>;

const HEDGE_AFTER: Duration = Duration::from_millis(250);

/// Nodes 0 and 1 are replicas, 2 is a stranger.
fn start() -> Bench<Fetching> {
    let (candidates, replicas) = (vec![0, 1, 2], BTreeSet::from([0, 1]));
    Bench::start(Fetching::new(FetchSpec { candidates, replicas, hedge_after: HEDGE_AFTER }))
}

#[track_caller]
fn check(answers: &[Result<&'static str, Fault>], expected: Fetched<u8, &'static str, Fault>) {
    let mut fetch = start();
    for (node, answer) in (0..).zip(answers) {
        assert_eq!(fetch.begun(), [node]);
        fetch.feed((node, *answer));
    }
    assert_eq!(fetch.outcome, Some(expected));
}

#[test]
fn one_after_another_is_asked_until_one_has_it() {
    check(&[Ok("blob")], Fetched::Found("blob"));
    check(&[Err(Fault::Silent), Err(Fault::Missing), Ok("blob")], Fetched::Found("blob"));
}

#[test]
fn a_blob_is_lost_only_when_every_replica_says_no() {
    let (no, silent) = (Err(Fault::Missing), Err(Fault::Silent));
    check(&[no, no, no], Fetched::Lost);
    check(&[no, no, silent], Fetched::Lost);
    check(&[no, silent, no], Fetched::Unavailable(vec![(1, Fault::Silent)]));
}

#[test]
fn nobody_to_ask_means_lost() {
    let spec =
        FetchSpec { candidates: vec![], replicas: BTreeSet::new(), hedge_after: HEDGE_AFTER };
    assert_eq!(Bench::start(Fetching::new(spec)).outcome, Some(Fetched::Lost));
}

#[test]
fn silence_and_nothing_else_brings_in_another() {
    let mut fetch = start();
    assert_eq!(fetch.begun(), [0]);
    fetch.wait(HEDGE_AFTER - Duration::from_millis(1));
    assert_eq!(fetch.begun(), []);
    fetch.wait(Duration::from_millis(1));
    assert_eq!(fetch.begun(), [1]);
    // One that says no is a sign of life: the other one gets its time.
    fetch.wait(HEDGE_AFTER / 2);
    fetch.feed((0, Err(Fault::Missing)));
    fetch.wait(HEDGE_AFTER / 2);
    assert_eq!(fetch.begun(), []);
    fetch.wait(HEDGE_AFTER / 2);
    assert_eq!(fetch.begun(), [2]);
    fetch.wait(HEDGE_AFTER * 9);
    fetch.feed((1, Ok("blob")));
    assert_eq!(fetch.outcome, Some(Fetched::Found("blob")));
}

struct Nodes {
    random: Random,
    plans: BTreeMap<u8, (Duration, Result<&'static str, Fault>)>,
    asked: Vec<u8>,
    running: usize,
    last: Duration,
    no: BTreeSet<u8>,
    /// One was asked beside another that had not been silent for long.
    is_hasty: bool,
}

impl World for Nodes {
    type Op = Fetching;

    fn random(&mut self) -> &mut Random {
        &mut self.random
    }

    fn begin(&mut self, now: Duration, node: &u8) -> Option<Duration> {
        self.is_hasty |= self.running > 0 && now != self.last + HEDGE_AFTER;
        self.asked.push(*node);
        self.running += 1;
        self.last = now;
        Some(self.plans[node].0)
    }

    fn end(&mut self, now: Duration, node: u8) -> (u8, Result<&'static str, Fault>) {
        self.running -= 1;
        self.last = now;
        let result = self.plans[&node].1;
        if result == Err(Fault::Missing) {
            self.no.insert(node);
        }
        (node, result)
    }
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Rule {
    AsBuilt,
    /// Only the likeliest is asked.
    OneAsked,
    /// Another is asked at once.
    NoSilence,
}

/// Whether a random fetch asks as it should and tells the truth.
fn is_right(seed: u64, rule: Rule) -> bool {
    let mut random = Random::new(seed);
    let nodes: Vec<u8> = (0..8).collect();
    let count = 1 + random.index(6);
    let candidates = random.sample(&nodes, count);
    let replicas: BTreeSet<u8> =
        candidates[..random.index(candidates.len() + 1)].iter().copied().collect();
    let plan = |random: &mut Random| {
        let result = match random.below(100) {
            0..20 => Ok("blob"),
            20..75 => Err(Fault::Missing),
            _ => Err(random.pick(&[Fault::Silent, Fault::Other, Fault::Stale])),
        };
        let longest = random.pick(&[10, 400, 2000]);
        (up_to(random, longest), result)
    };
    let plans = nodes.iter().map(|node| (*node, plan(&mut random))).collect();
    let (asked, no, last) = (Vec::new(), BTreeSet::new(), Duration::ZERO);
    let mut world = Nodes { random, plans, asked, running: 0, last, no, is_hasty: false };
    let mut spec = FetchSpec {
        candidates: candidates.clone(),
        replicas: replicas.clone(),
        hedge_after: HEDGE_AFTER,
    };
    match rule {
        Rule::AsBuilt => {}
        Rule::OneAsked => spec.candidates.truncate(1),
        Rule::NoSilence => spec.hedge_after = Duration::from_millis(1),
    }
    let ended = run(&mut world, Fetching::new(spec));
    let is_truth = match ended.outcome {
        Fetched::Found(_) => true,
        Fetched::Lost => replicas.is_subset(&world.no) && world.asked == candidates,
        Fetched::Unavailable(away) => {
            let away: BTreeSet<u8> = away.into_iter().map(|(node, _)| node).collect();
            let no = world.no.intersection(&replicas).copied().collect();
            world.asked == candidates && away == &replicas - &no && !away.is_empty()
        }
    };
    let in_order = candidates.starts_with(&world.asked);
    is_truth && in_order && !world.is_hasty && ended.owed.is_empty() && ended.detached == 0
}

#[test]
fn nodes_are_asked_in_order_after_silence_and_the_verdict_is_true() {
    assert_eq!((0..5000).find(|seed| !is_right(*seed, Rule::AsBuilt)), None);
}

#[test]
fn a_hasty_or_an_idle_fetch_would_be_noticed() {
    for rule in [Rule::OneAsked, Rule::NoSilence] {
        assert!((0..200).any(|seed| !is_right(seed, rule)), "{rule:?}");
    }
}
