//! A blob given to its replicas: first the reference that protects it, then the bytes.
//!
//! A replica that is much slower than the rest is left behind: the upload that the blob belongs to
//! neither waits for it nor sends to it from then on, and comparing rows brings it up to date.

use std::collections::BTreeSet;
use std::time::Duration;

use super::fan_out::{FanOut, FanOutSpec, Patience, Reached};
use super::{Action, Actions, Counting, Fails, Failure, Fault, Op, pass_on};
use crate::quorum::Tally;

/// Which replicas a blob must reach.
#[derive(Debug, Clone)]
pub struct StoreSpec<N> {
    /// The write sets of the blob's partition.
    pub sets: Vec<Vec<N>>,
    /// How many of each set must note the reference, and then hold the blob.
    pub counting: Counting<N>,
    /// Whether it is only good with a quorum. If not, a copy here is better than none.
    pub needs_quorum: bool,
}

/// What storing a blob wants done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoreTask<N> {
    /// Have this replica note the reference; ends in [`StoreEvent::Noted`].
    Note(N),
    /// Say whom the upload has left behind so far; ends in [`StoreEvent::Behind`].
    LookBehind,
    /// Send the bytes to this replica; ends in [`StoreEvent::Sent`].
    Send(N),
    /// Get leave for one more blob that slow replicas still owe the upload; ends in
    /// [`StoreEvent::MayLag`]. Held until what is sent has ended or was dropped.
    AskToLag,
    /// Wait for these no longer, and send them nothing, in this upload. Has no reply.
    LeaveBehind(Vec<N>),
    /// Note the reference and keep the bytes here, until the replicas are back; ends in
    /// [`StoreEvent::Kept`].
    KeepHere,
}

/// What came of a task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoreEvent<N, E> {
    /// The replica has noted the reference and holds the blob already, or does not hold it yet.
    Noted(N, Result<bool, E>),
    /// Who was left behind.
    Behind(BTreeSet<N>),
    /// The replica holds the blob durably, or not.
    Sent(N, Result<(), E>),
    /// Slow replicas may go on in the background.
    MayLag,
    /// The blob is durable here.
    Kept,
}

/// Where a stored blob is durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Copies {
    /// Copies when it was acknowledged.
    pub durable: usize,
    /// Copies there should be.
    pub wanted: usize,
}

/// Replicas to which a blob need not be sent for now: all but enough of each set, of which those
/// are taken that `last` puts first. Over a slow line each blob then goes once where it would go
/// twice, and the spared ones fetch it from the others.
pub fn spared<N: Ord + Copy, K: Ord>(
    sets: &[Vec<N>],
    counting: &Counting<N>,
    last: impl Fn(&N) -> K,
) -> BTreeSet<N> {
    let mut sent = BTreeSet::new();
    for set in sets {
        let mut nodes = set.clone();
        nodes.sort_by_key(|node| (!sent.contains(node), last(node)));
        sent.extend(nodes.into_iter().take((counting.needed)(set.len())));
    }
    sets.iter().flatten().filter(|node| !sent.contains(*node)).copied().collect()
}

#[derive(Debug)]
enum Phase<N, E> {
    Noting(FanOut<N, bool, E>),
    LookingBehind {
        holders: BTreeSet<N>,
    },
    Sending {
        holders: BTreeSet<N>,
        sends: FanOut<N, (), E>,
    },
    /// Enough hold it. Others are still being sent to.
    Lagging {
        copies: Copies,
        slow: Vec<N>,
        running: BTreeSet<N>,
        until: Duration,
    },
    KeepingHere,
    Over,
}

/// One blob on its way to its replicas. Ends with how many hold it durably.
///
/// The bytes follow once enough have noted the reference, to each replica that does not hold them,
/// whether it noted the reference in time or not. A replica that fails is owed a comparison.
#[derive(Debug)]
pub struct Store<N, E> {
    spec: StoreSpec<N>,
    phase: Phase<N, E>,
}

impl<N: Ord + Copy, E: Fails> Store<N, E> {
    /// A blob that has yet to be sent.
    pub fn new(spec: StoreSpec<N>) -> Self {
        let patience = Patience::for_quorum(spec.needs_quorum);
        let notes = FanOutSpec::new(spec.sets.clone(), spec.counting, patience);
        Self { spec, phase: Phase::Noting(FanOut::new(notes)) }
    }

    fn after_notes(&mut self, inner: Actions<FanOut<N, bool, E>>, out: &mut Actions<Self>) {
        match pass_on(inner, out, StoreTask::Note) {
            None => {}
            Some(Ok(reached)) => {
                let holds = |(node, held): (N, bool)| held.then_some(node);
                let holders = reached.answers.into_iter().filter_map(holds).collect();
                self.phase = Phase::LookingBehind { holders };
                out.push(Action::Do(StoreTask::LookBehind));
            }
            Some(Err(failure)) => self.fail(failure, out),
        }
    }

    fn send(
        &mut self,
        now: Duration,
        holders: BTreeSet<N>,
        behind: BTreeSet<N>,
        out: &mut Actions<Self>,
    ) {
        // Each send has its own end, so there is no need to give up waiting for all.
        let patience = if self.spec.needs_quorum { Patience::None } else { Patience::ForAll };
        let counting = Counting { failure: Tally::fail, ..self.spec.counting };
        let sends = FanOutSpec::new(self.spec.sets.clone(), counting, patience);
        let sends = FanOutSpec { done: holders.clone(), held_back: behind, ..sends };
        let (mut sends, mut inner) = (FanOut::new(sends), Vec::new());
        sends.start(now, &mut inner);
        self.phase = Phase::Sending { holders, sends };
        self.after_sends(now, inner, out);
    }

    fn on_sent(&mut self, now: Duration, node: N, result: Result<(), E>, out: &mut Actions<Self>) {
        match &mut self.phase {
            Phase::Sending { sends, .. } => {
                match result.as_ref().map_err(Fails::fault) {
                    Ok(()) | Err(Fault::Stale) => {}
                    Err(fault) => {
                        if fault == Fault::Silent {
                            out.push(Action::Do(StoreTask::LeaveBehind(vec![node])));
                        }
                        out.push(Action::Owe(node));
                    }
                }
                let mut inner = Vec::new();
                sends.on(now, (node, result), &mut inner);
                self.after_sends(now, inner, out);
            }
            Phase::Lagging { copies, running, .. } => {
                if running.remove(&node) && result.is_err() {
                    out.push(Action::Owe(node));
                }
                if running.is_empty() {
                    let copies = *copies;
                    self.finish(Ok(copies), out);
                }
            }
            _ => {}
        }
    }

    fn after_sends(
        &mut self,
        now: Duration,
        mut inner: Actions<FanOut<N, (), E>>,
        out: &mut Actions<Self>,
    ) {
        // Those that failed are owed already, and for those that still run there is a limit.
        inner.retain(|action| matches!(action, Action::Do(_) | Action::Finish(_)));
        match pass_on(inner, out, StoreTask::Send) {
            None => {}
            Some(Ok(reached)) => self.enough(now, reached, out),
            Some(Err(failure)) => self.fail(failure, out),
        }
    }

    fn enough(&mut self, now: Duration, reached: Reached<N, ()>, out: &mut Actions<Self>) {
        let phase = std::mem::replace(&mut self.phase, Phase::Over);
        let Phase::Sending { holders, sends } = phase else { return };
        let durable: BTreeSet<N> = holders.union(&reached.nodes()).copied().collect();
        let copies = Copies { durable: durable.len(), wanted: self.wanted() };
        let running = sends.into_running();
        if running.is_empty() {
            return self.finish(Ok(copies), out);
        }
        let replicas: BTreeSet<N> = self.spec.sets.iter().flatten().copied().collect();
        let slow = replicas.difference(&durable).copied().collect();
        self.phase = Phase::Lagging { copies, slow, running, until: now.saturating_add(LAG_WAIT) };
        out.push(Action::Do(StoreTask::AskToLag));
    }

    fn wanted(&self) -> usize {
        self.spec.sets.iter().map(Vec::len).max().unwrap_or(0)
    }

    fn fail(&mut self, failure: Failure<N, E>, out: &mut Actions<Self>) {
        match failure {
            Failure::TooFew(_) if !self.spec.needs_quorum => {
                self.phase = Phase::KeepingHere;
                out.push(Action::Do(StoreTask::KeepHere));
            }
            failure => self.finish(Err(failure), out),
        }
    }

    fn finish(&mut self, outcome: Result<Copies, Failure<N, E>>, out: &mut Actions<Self>) {
        self.phase = Phase::Over;
        out.push(Action::Finish(outcome));
    }
}

impl<N: Ord + Copy, E: Fails> Op for Store<N, E> {
    type Node = N;
    type Task = StoreTask<N>;
    type Event = StoreEvent<N, E>;
    type Outcome = Result<Copies, Failure<N, E>>;

    fn start(&mut self, now: Duration, out: &mut Actions<Self>) {
        if let Phase::Noting(notes) = &mut self.phase {
            let mut inner = Vec::new();
            notes.start(now, &mut inner);
            self.after_notes(inner, out);
        }
    }

    fn on(&mut self, now: Duration, event: Self::Event, out: &mut Actions<Self>) {
        match (event, &mut self.phase) {
            (StoreEvent::Noted(node, result), Phase::Noting(notes)) => {
                let mut inner = Vec::new();
                notes.on(now, (node, result), &mut inner);
                self.after_notes(inner, out);
            }
            (StoreEvent::Behind(behind), Phase::LookingBehind { holders }) => {
                let holders = std::mem::take(holders);
                self.send(now, holders, behind, out);
            }
            (StoreEvent::Sent(node, result), _) => self.on_sent(now, node, result, out),
            (StoreEvent::MayLag, Phase::Lagging { copies, .. }) => {
                let copies = *copies;
                out.push(Action::Detach);
                self.finish(Ok(copies), out);
            }
            (StoreEvent::Kept, Phase::KeepingHere) => {
                let copies = Copies { durable: 1, wanted: self.wanted() };
                self.finish(Ok(copies), out);
            }
            _ => {}
        }
    }

    fn deadline(&self) -> Option<Duration> {
        match &self.phase {
            Phase::Noting(notes) => notes.deadline(),
            Phase::Lagging { until, .. } => Some(*until),
            Phase::LookingBehind { .. } | Phase::Sending { .. } => None,
            Phase::KeepingHere | Phase::Over => None,
        }
    }

    fn on_deadline(&mut self, now: Duration, out: &mut Actions<Self>) {
        match &mut self.phase {
            Phase::Noting(notes) => {
                let mut inner = Vec::new();
                notes.on_deadline(now, &mut inner);
                self.after_notes(inner, out);
            }
            Phase::Lagging { copies, slow, until, .. } if *until <= now => {
                let (copies, slow) = (*copies, std::mem::take(slow));
                out.extend(slow.iter().copied().map(Action::Owe));
                out.push(Action::Do(StoreTask::LeaveBehind(slow)));
                self.finish(Ok(copies), out);
            }
            _ => {}
        }
    }

    fn owed(event: &Self::Event) -> Option<N> {
        match event {
            StoreEvent::Noted(node, Err(_)) | StoreEvent::Sent(node, Err(_)) => Some(*node),
            _ => None,
        }
    }
}

/// How long an upload waits for a slow replica before it goes on without it.
pub const LAG_WAIT: Duration = Duration::from_secs(2);
