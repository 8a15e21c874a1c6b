//! One request to every replica, counted by quorum.
//!
//! It ends as soon as the count is reached or cannot be; what the others still do goes on in the
//! background. A replica that knows a newer layout ends it at once.

use std::collections::BTreeSet;
use std::time::Duration;

use super::{Action, Actions, Counting, Fails, Failure, Fault, Op};
use crate::quorum::{Tally, Verdict};

/// How long a fan-out that has enough answers waits for the rest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Patience {
    /// Not at all.
    None,
    /// So long after it began.
    For(Duration),
    /// Until each has answered or failed.
    ForAll,
}

impl Patience {
    /// None where a quorum decides; where any answer counts, a while, to tell of more copies.
    pub fn for_quorum(needs_quorum: bool) -> Self {
        if needs_quorum { Self::None } else { Self::For(PATIENCE) }
    }
}

/// Whom a fan-out asks, and how many must do it.
#[derive(Debug, Clone)]
pub struct FanOutSpec<N> {
    /// The sets that must each reach their number.
    pub sets: Vec<Vec<N>>,
    /// Which number that is.
    pub counting: Counting<N>,
    /// How long to wait for more.
    pub patience: Patience,
    /// Not asked, and counted as failed.
    pub without: BTreeSet<N>,
    /// Not asked, because they have done it.
    pub done: BTreeSet<N>,
    /// Asked only when all others have answered and are not enough.
    pub held_back: BTreeSet<N>,
    /// Sets of which a majority is waited for, a while, when there is enough without it.
    pub guards: Vec<Vec<N>>,
}

impl<N: Ord + Clone> FanOutSpec<N> {
    /// Asks everyone in `sets`.
    pub fn new(sets: Vec<Vec<N>>, counting: Counting<N>, patience: Patience) -> Self {
        let (without, done, held_back) = Default::default();
        Self { sets, counting, patience, without, done, held_back, guards: Vec::new() }
    }
}

/// The answers of a fan-out that succeeded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reached<N, R> {
    /// Who did it in time and what they said, in the order in which they did.
    pub answers: Vec<(N, R)>,
    /// Whether they were enough of the guards as well.
    pub guarded: bool,
}

impl<N, R> Default for Reached<N, R> {
    fn default() -> Self {
        Self { answers: Vec::new(), guarded: false }
    }
}

impl<N: Ord + Copy, R> Reached<N, R> {
    /// Who did it in time.
    pub fn nodes(&self) -> BTreeSet<N> {
        self.answers.iter().map(|(node, _)| *node).collect()
    }
}

/// One request to every replica. Its task is to ask a node, its event what that node answered.
///
/// When it succeeds, those that failed are owed a comparison. When it does not, nobody is: the
/// caller tells its client, and what was done here and there is no news. `O(n)` per answer of `n`
/// nodes.
#[derive(Debug)]
pub struct FanOut<N, R, E> {
    tally: Tally<N>,
    guards: Tally<N>,
    spec: FanOutSpec<N>,
    /// Whether it would wait for more than enough.
    is_patient: bool,
    /// Until when, if not for all.
    patient_until: Option<Duration>,
    /// Until when it waits for guards.
    guards_until: Option<Duration>,
    running: BTreeSet<N>,
    answers: Vec<(N, R)>,
    failures: Vec<(N, E)>,
    is_over: bool,
}

impl<N: Ord + Copy, R, E: Fails> FanOut<N, R, E> {
    /// A fan-out that has yet to begin.
    pub fn new(spec: FanOutSpec<N>) -> Self {
        Self {
            tally: Tally::new(spec.sets.clone(), spec.counting.needed),
            guards: Tally::new(spec.guards.clone(), Tally::<N>::write_majority),
            is_patient: spec.patience != Patience::None,
            spec,
            patient_until: None,
            guards_until: None,
            running: BTreeSet::new(),
            answers: Vec::new(),
            failures: Vec::new(),
            is_over: false,
        }
    }

    /// Those that were asked and have not answered.
    pub(super) fn into_running(self) -> BTreeSet<N> {
        self.running
    }

    fn ask(&mut self, nodes: BTreeSet<N>, out: &mut Actions<Self>) {
        out.extend(nodes.iter().copied().map(Action::Do));
        self.running.extend(nodes);
    }

    fn conclude(&mut self, out: &mut Actions<Self>) {
        let all_answered = self.running.is_empty();
        match self.tally.verdict() {
            Verdict::Reached if all_answered || !self.waits() => self.succeed(out),
            Verdict::Pending if all_answered && !self.spec.held_back.is_empty() => {
                // A slow replica is better than none.
                let held_back = std::mem::take(&mut self.spec.held_back);
                self.ask(held_back, out);
            }
            Verdict::Pending if all_answered => self.fail(out),
            Verdict::Impossible => self.fail(out),
            Verdict::Reached | Verdict::Pending => {}
        }
    }

    /// Whether it would wait for more than enough: out of patience, or for guards that may come.
    fn waits(&self) -> bool {
        self.is_patient
            || (self.guards_until.is_some() && self.guards.verdict() == Verdict::Pending)
    }

    fn succeed(&mut self, out: &mut Actions<Self>) {
        out.extend(self.failures.iter().map(|(node, _)| Action::Owe(*node)));
        if !self.running.is_empty() {
            out.push(Action::Detach);
        }
        let answers = std::mem::take(&mut self.answers);
        let guarded = self.guards.verdict() == Verdict::Reached;
        self.finish(Ok(Reached { answers, guarded }), out);
    }

    fn fail(&mut self, out: &mut Actions<Self>) {
        let failures = std::mem::take(&mut self.failures);
        // Who has done it, or still may, makes that what the others refused takes effect later.
        let none_did =
            self.answers.is_empty() && self.running.is_empty() && self.spec.done.is_empty();
        self.finish(Err(Failure::of(failures, none_did)), out);
    }

    fn finish(&mut self, outcome: Result<Reached<N, R>, Failure<N, E>>, out: &mut Actions<Self>) {
        self.is_over = true;
        out.push(Action::Finish(outcome));
    }
}

impl<N: Ord + Copy, R, E: Fails> Op for FanOut<N, R, E> {
    type Node = N;
    type Task = N;
    type Event = (N, Result<R, E>);
    type Outcome = Result<Reached<N, R>, Failure<N, E>>;

    fn start(&mut self, now: Duration, out: &mut Actions<Self>) {
        if let Patience::For(patience) = self.spec.patience {
            self.patient_until = Some(now.saturating_add(patience));
        }
        self.guards_until = Some(now.saturating_add(GUARD_PATIENCE));
        for node in &self.spec.without {
            self.tally.fail(node);
            self.guards.fail(node);
        }
        for node in &self.spec.done {
            self.tally.ack(node);
            self.guards.ack(node);
        }
        // What cannot succeed is not begun.
        if self.tally.verdict() != Verdict::Impossible {
            let FanOutSpec { without, done, held_back, .. } = &mut self.spec;
            let mut nodes = self.tally.nodes();
            nodes.retain(|node| !without.contains(node) && !done.contains(node));
            held_back.retain(|node| nodes.contains(node));
            nodes.retain(|node| !held_back.contains(node));
            self.ask(nodes, out);
        }
        self.conclude(out);
    }

    fn on(&mut self, _: Duration, (node, result): Self::Event, out: &mut Actions<Self>) {
        if self.is_over || !self.running.remove(&node) {
            return;
        }
        match result {
            Ok(answer) => {
                self.answers.push((node, answer));
                self.tally.ack(&node);
                self.guards.ack(&node);
            }
            Err(error) if error.fault() == Fault::Stale => {
                return self.finish(Err(Failure::Stale), out);
            }
            Err(error) => {
                self.failures.push((node, error));
                (self.spec.counting.failure)(&mut self.tally, &node);
                self.guards.fail(&node);
            }
        }
        self.conclude(out);
    }

    fn deadline(&self) -> Option<Duration> {
        if self.is_over {
            return None;
        }
        let awaits_guards = self.guards.verdict() == Verdict::Pending;
        let guards_until = self.guards_until.filter(|_| awaits_guards);
        self.patient_until.into_iter().chain(guards_until).min()
    }

    fn on_deadline(&mut self, now: Duration, out: &mut Actions<Self>) {
        if self.deadline().is_none_or(|until| until > now) {
            return;
        }
        if self.patient_until.is_some_and(|until| until <= now) {
            (self.is_patient, self.patient_until) = (false, None);
        }
        if self.guards_until.is_some_and(|until| until <= now) {
            self.guards_until = None;
        }
        self.conclude(out);
    }

    fn owed((node, result): &Self::Event) -> Option<N> {
        result.is_err().then_some(*node)
    }
}

/// How long an answer that could be given waits for the remaining replicas, to tell of more copies.
pub const PATIENCE: Duration = Duration::from_secs(2);
/// How long an answer that could be given waits for guards, which as a rule are as near as the
/// others: far above a round trip, far below what a user takes for an outage.
pub const GUARD_PATIENCE: Duration = Duration::from_secs(1);
