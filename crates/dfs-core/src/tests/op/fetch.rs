//! Fetching a blob: who is asked when, and what may be said when nobody has it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::{Bench, World, run, up_to};
use crate::replica::op::Fault;
use crate::replica::op::fetch::{
    Fetch, FetchEvent, FetchSpec, FetchTask, Fetched, Movement, SLOW_AFTER,
};
use crate::tests::random::Random;

type Fetching = Fetch<u8, &'static str, Fault>;

const HEDGE_AFTER: Duration = Duration::from_millis(250);

/// Nodes 0 and 1 are replicas, 2 is a stranger.
fn start() -> Bench<Fetching> {
    let (candidates, replicas) = (vec![0, 1, 2], BTreeSet::from([0, 1]));
    Bench::start(Fetching::new(FetchSpec { candidates, replicas, hedge_after: HEDGE_AFTER }))
}

/// Answers as one node.
fn answer(fetch: &mut Bench<Fetching>, node: u8, result: Result<&'static str, Fault>) {
    fetch.feed(FetchEvent::Answered(node, result));
}

/// Waits, and looks as often as the fetch wants to; gives whom it asked.
fn wait(fetch: &mut Bench<Fetching>, time: Duration, movement: Movement) -> Vec<u8> {
    let until = fetch.now + time;
    let mut asked = Vec::new();
    while fetch.now < until {
        fetch.wait(MS);
        for task in fetch.begun() {
            match task {
                FetchTask::Ask(node) => asked.push(node),
                FetchTask::Look => fetch.feed(FetchEvent::Looked(movement)),
            }
        }
        asked.extend(fetch.begun().into_iter().filter_map(|task| match task {
            FetchTask::Ask(node) => Some(node),
            FetchTask::Look => None,
        }));
    }
    asked
}

#[track_caller]
fn check(answers: &[Result<&'static str, Fault>], expected: Fetched<u8, &'static str, Fault>) {
    let mut fetch = start();
    for (node, answer) in (0..).zip(answers) {
        assert_eq!(fetch.begun(), [FetchTask::Ask(node)]);
        self::answer(&mut fetch, node, *answer);
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

const MS: Duration = Duration::from_millis(1);
const SILENCE: Movement = Movement { moves: false, is_full: false };

#[test]
fn silence_and_nothing_else_brings_in_another() {
    let mut fetch = start();
    assert_eq!(fetch.begun(), [FetchTask::Ask(0)]);
    assert_eq!(wait(&mut fetch, HEDGE_AFTER - MS, SILENCE), []);
    assert_eq!(wait(&mut fetch, MS, SILENCE), [1]);
    // One that says no is a sign of life: the other one gets its time.
    assert_eq!(wait(&mut fetch, HEDGE_AFTER / 2, SILENCE), []);
    answer(&mut fetch, 0, Err(Fault::Missing));
    assert_eq!(wait(&mut fetch, HEDGE_AFTER / 2, SILENCE), []);
    assert_eq!(wait(&mut fetch, HEDGE_AFTER / 2, SILENCE), [2]);
    assert_eq!(wait(&mut fetch, HEDGE_AFTER * 9, SILENCE), []);
    answer(&mut fetch, 1, Ok("blob"));
    assert_eq!(fetch.outcome, Some(Fetched::Found("blob")));
}

#[test]
fn a_full_line_brings_in_nobody_while_the_blob_moves() {
    for (moves, is_full, after) in [
        (false, false, Some(HEDGE_AFTER)),
        (true, false, Some(SLOW_AFTER)),
        (false, true, Some(SLOW_AFTER)),
        (true, true, None),
    ] {
        let (mut fetch, movement) = (start(), Movement { moves, is_full });
        fetch.begun();
        let most = after.unwrap_or(SLOW_AFTER * 100);
        assert_eq!(wait(&mut fetch, most - MS, movement), [], "{movement:?}");
        let asked = wait(&mut fetch, HEDGE_AFTER, movement);
        assert_eq!(asked, if after.is_some() { vec![1] } else { vec![] }, "{movement:?}");
    }
}

#[test]
fn a_look_that_comes_after_an_answer_brings_in_nobody() {
    let mut fetch = start();
    fetch.begun();
    fetch.wait(HEDGE_AFTER);
    assert_eq!(fetch.begun(), [FetchTask::Look]);
    answer(&mut fetch, 0, Err(Fault::Missing));
    assert_eq!(fetch.begun(), [FetchTask::Ask(1)]);
    fetch.feed(FetchEvent::Looked(SILENCE));
    assert_eq!(fetch.begun(), []);
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

    fn begin(&mut self, now: Duration, task: &FetchTask<u8>) -> Option<Duration> {
        let FetchTask::Ask(node) = task else { return Some(Duration::ZERO) };
        self.is_hasty |= self.running > 0 && now != self.last + HEDGE_AFTER;
        self.asked.push(*node);
        self.running += 1;
        self.last = now;
        Some(self.plans[node].0)
    }

    fn end(&mut self, now: Duration, task: FetchTask<u8>) -> FetchEvent<u8, &'static str, Fault> {
        let FetchTask::Ask(node) = task else { return FetchEvent::Looked(SILENCE) };
        self.running -= 1;
        self.last = now;
        let result = self.plans[&node].1;
        if result == Err(Fault::Missing) {
            self.no.insert(node);
        }
        FetchEvent::Answered(node, result)
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
