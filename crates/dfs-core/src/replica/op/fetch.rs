//! A blob fetched from whichever node has it.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use super::{Action, Actions, Fails, Fault, Op};

/// Where a blob may be.
#[derive(Debug, Clone)]
pub struct FetchSpec<N> {
    /// Whom to ask, likeliest first, each once.
    pub candidates: Vec<N>,
    /// Those of them that should hold the blob; the others only might.
    pub replicas: BTreeSet<N>,
    /// How long there may be silence before one more is asked.
    pub hedge_after: Duration,
}

/// How a fetch ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fetched<N, B, E> {
    /// Here it is.
    Found(B),
    /// Every replica said that it has no good copy.
    Lost,
    /// Nobody who was reached has it; these replicas, in the order in which they failed, may.
    Unavailable(Vec<(N, E)>),
}

/// One fetch. Its task is to ask a node for the blob, its event a verified blob or why not.
///
/// One node after another is asked, and one more beside those that are silent: the hedge of Dean
/// and Barroso, "The tail at scale" (2013). The first good copy ends it. `O(log n)` per answer.
#[derive(Debug)]
pub struct Fetch<N, B, E> {
    candidates: VecDeque<N>,
    replicas: BTreeSet<N>,
    hedge_after: Duration,
    asking: BTreeSet<N>,
    /// Since when there is silence.
    silent_since: Duration,
    unanswered: Vec<(N, E)>,
    is_over: bool,
    found: std::marker::PhantomData<fn() -> B>,
}

impl<N: Ord + Copy, B, E: Fails> Fetch<N, B, E> {
    /// A fetch that has yet to begin.
    pub fn new(spec: FetchSpec<N>) -> Self {
        Self {
            candidates: spec.candidates.into(),
            replicas: spec.replicas,
            hedge_after: spec.hedge_after,
            asking: BTreeSet::new(),
            silent_since: Duration::ZERO,
            unanswered: Vec::new(),
            is_over: false,
            found: std::marker::PhantomData,
        }
    }

    fn ask_next(&mut self, out: &mut Actions<Self>) {
        if let Some(node) = self.candidates.pop_front() {
            self.asking.insert(node);
            out.push(Action::Do(node));
        }
    }

    /// Asks the next one if nobody is asked now, and ends if there is none.
    fn go_on(&mut self, now: Duration, out: &mut Actions<Self>) {
        self.silent_since = now;
        if self.asking.is_empty() {
            self.ask_next(out);
        }
        if self.asking.is_empty() {
            let mut away = std::mem::take(&mut self.unanswered);
            away.retain(|(node, _)| self.replicas.contains(node));
            let lost = away.is_empty();
            self.finish(if lost { Fetched::Lost } else { Fetched::Unavailable(away) }, out);
        }
    }

    fn finish(&mut self, outcome: Fetched<N, B, E>, out: &mut Actions<Self>) {
        self.is_over = true;
        out.push(Action::Finish(outcome));
    }
}

impl<N: Ord + Copy, B, E: Fails> Op for Fetch<N, B, E> {
    type Node = N;
    type Task = N;
    type Event = (N, Result<B, E>);
    type Outcome = Fetched<N, B, E>;

    fn start(&mut self, now: Duration, out: &mut Actions<Self>) {
        self.go_on(now, out);
    }

    fn on(&mut self, now: Duration, (node, result): Self::Event, out: &mut Actions<Self>) {
        if self.is_over || !self.asking.remove(&node) {
            return;
        }
        match result {
            Ok(blob) => return self.finish(Fetched::Found(blob), out),
            Err(error) if error.fault() == Fault::Missing => {}
            Err(error) => self.unanswered.push((node, error)),
        }
        self.go_on(now, out);
    }

    fn deadline(&self) -> Option<Duration> {
        let may_hedge = !self.is_over && !self.candidates.is_empty();
        may_hedge.then(|| self.silent_since.saturating_add(self.hedge_after))
    }

    fn on_deadline(&mut self, now: Duration, out: &mut Actions<Self>) {
        if self.deadline().is_some_and(|at| at <= now) {
            self.silent_since = now;
            self.ask_next(out);
        }
    }

    fn owed(_: &Self::Event) -> Option<N> {
        None
    }
}
