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
    /// How long there may be no answer before it is looked whether one more should be asked.
    pub hedge_after: Duration,
}

/// Something to be done for a fetch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FetchTask<N> {
    /// Ask this node; ends in [`FetchEvent::Answered`].
    Ask(N),
    /// Look whether anything moves; ends in [`FetchEvent::Looked`].
    Look,
}

/// What came of a task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FetchEvent<N, B, E> {
    /// A verified blob, or why not.
    Answered(N, Result<B, E>),
    /// How the line is.
    Looked(Movement),
}

/// What one that waits sees of the line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Movement {
    /// Whether something came lately from a node that was asked.
    pub moves: bool,
    /// Whether the line of this node carries as much as it can, whoever sends it.
    pub is_full: bool,
}

impl Movement {
    /// Whether one more should be asked after so long: a silent node is not waited for, and one
    /// that is slow not for long, unless it is the line that makes them so.
    fn asks_for_another(self, waited: Duration) -> bool {
        match self {
            Self { moves: true, is_full: true } => false,
            Self { moves: false, is_full: false } => true,
            _ => waited >= SLOW_AFTER,
        }
    }
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

/// One fetch.
///
/// One node after another is asked, and one more beside those that are silent or slow: the hedge of
/// Dean and Barroso, "The tail at scale" (2013), but not where the line itself is what is slow. The
/// first good copy ends it. `O(log n)` per answer.
#[derive(Debug)]
pub struct Fetch<N, B, E> {
    candidates: VecDeque<N>,
    replicas: BTreeSet<N>,
    hedge_after: Duration,
    asking: BTreeSet<N>,
    /// Since when nobody has answered, or it was looked last.
    silent_since: Duration,
    /// When the last one was asked.
    asked_at: Duration,
    is_looking: bool,
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
            asked_at: Duration::ZERO,
            is_looking: false,
            unanswered: Vec::new(),
            is_over: false,
            found: std::marker::PhantomData,
        }
    }

    fn ask_next(&mut self, now: Duration, out: &mut Actions<Self>) {
        if let Some(node) = self.candidates.pop_front() {
            self.asked_at = now;
            self.asking.insert(node);
            out.push(Action::Do(FetchTask::Ask(node)));
        }
    }

    /// Asks the next one if nobody is asked now, and ends if there is none.
    fn go_on(&mut self, now: Duration, out: &mut Actions<Self>) {
        self.silent_since = now;
        if self.asking.is_empty() {
            self.ask_next(now, out);
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
    type Task = FetchTask<N>;
    type Event = FetchEvent<N, B, E>;
    type Outcome = Fetched<N, B, E>;

    fn start(&mut self, now: Duration, out: &mut Actions<Self>) {
        self.go_on(now, out);
    }

    fn on(&mut self, now: Duration, event: Self::Event, out: &mut Actions<Self>) {
        if self.is_over {
            return;
        }
        let (node, result) = match event {
            FetchEvent::Answered(node, result) => (node, result),
            FetchEvent::Looked(movement) => {
                self.is_looking = false;
                // An answer that came meanwhile counts for more.
                let waited = now.saturating_sub(self.asked_at);
                let is_due = now.saturating_sub(self.silent_since) >= self.hedge_after;
                if is_due {
                    self.silent_since = now;
                    if movement.asks_for_another(waited) {
                        self.ask_next(now, out);
                    }
                }
                return;
            }
        };
        if !self.asking.remove(&node) {
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
        let may_hedge = !self.is_over && !self.is_looking && !self.candidates.is_empty();
        may_hedge.then(|| self.silent_since.saturating_add(self.hedge_after))
    }

    fn on_deadline(&mut self, now: Duration, out: &mut Actions<Self>) {
        if self.deadline().is_some_and(|at| at <= now) {
            self.is_looking = true;
            out.push(Action::Do(FetchTask::Look));
        }
    }

    fn owed(_: &Self::Event) -> Option<N> {
        None
    }
}

/// How long one that is slow, and not because of the line, is waited for before another is asked: a
/// blob of 1 MiB comes over a line of 4 Mbit/s in that time.
pub const SLOW_AFTER: Duration = Duration::from_secs(2);
