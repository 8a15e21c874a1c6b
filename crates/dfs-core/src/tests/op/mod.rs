//! Operations, by table and under random schedules: what each must do, and what all of them keep.

mod fan_out;
mod fetch;
mod read;
mod read_random;
mod store;
mod write;

use std::time::Duration;

use super::random::Random;
use crate::replica::op::{Action, Actions, Fails, Fault, Op};

impl Fails for Fault {
    fn fault(&self) -> Fault {
        *self
    }
}

type Task<W> = <<W as World>::Op as Op>::Task;
type Event<W> = <<W as World>::Op as Op>::Event;

/// Carries out what an operation wants done.
trait World {
    type Op: Op;

    fn random(&mut self) -> &mut Random;

    /// How long a task takes that begins now; `None` when it has no reply.
    fn begin(&mut self, now: Duration, task: &Task<Self>) -> Option<Duration>;

    /// What comes of it.
    fn end(&mut self, now: Duration, task: Task<Self>) -> Event<Self>;

    /// The operation is over; what ends now ends in the background.
    fn over(&mut self) {}

    /// Whether detached tasks go on, as they should.
    fn keeps_detached(&self) -> bool {
        true
    }
}

/// How an operation ended.
struct Ended<O: Op> {
    outcome: O::Outcome,
    at: Duration,
    /// In the order in which they came to be owed, before and after the end.
    owed: Vec<O::Node>,
    /// Tasks that went on in the background.
    detached: usize,
}

/// Runs an operation to its end and its background tasks to theirs. Fails if it finishes twice,
/// goes on after that, or waits for nothing.
fn run<W: World>(world: &mut W, mut op: W::Op) -> Ended<W::Op> {
    let (mut now, mut outcome, mut owed) = (Duration::ZERO, None, Vec::new());
    let (mut running, mut detached) = (Vec::new(), Vec::new());
    let mut out = Vec::new();
    op.start(now, &mut out);
    for _ in 0..STEPS_MAX {
        for action in out.drain(..) {
            assert!(outcome.is_none(), "it goes on after its end");
            match action {
                Action::Do(task) => {
                    let takes = world.begin(now, &task);
                    running.extend(takes.map(|takes| (now + takes, task)));
                }
                Action::Owe(node) => owed.push(node),
                Action::Detach => detached.append(&mut running),
                Action::Finish(ended) => outcome = Some(ended),
            }
        }
        if let Some(outcome) = outcome {
            world.over();
            let count = detached.len();
            for (at, task) in detached {
                if world.keeps_detached() {
                    owed.extend(W::Op::owed(&world.end(at, task)));
                }
            }
            assert_silent(world, &mut op, now, running);
            return Ended { outcome, at: now, owed, detached: count };
        }
        let next = (0..running.len()).min_by_key(|nth| running[*nth].0);
        let deadline = op.deadline();
        match (next, deadline) {
            (Some(nth), _) if deadline.is_none_or(|at| running[nth].0 <= at) => {
                let (at, task) = running.remove(nth);
                now = now.max(at);
                let event = world.end(now, task);
                op.on(now, event, &mut out);
            }
            (_, Some(at)) => {
                now = now.max(at);
                op.on_deadline(now, &mut out);
            }
            (_, None) => panic!("it waits for nothing"),
        }
    }
    panic!("it does not end");
}

/// Whatever comes after the end, the operation has nothing to say.
fn assert_silent<W: World>(
    world: &mut W,
    op: &mut W::Op,
    now: Duration,
    dropped: Vec<(Duration, Task<W>)>,
) {
    let mut out: Actions<W::Op> = Vec::new();
    for (at, task) in dropped {
        // It may have been done all the same.
        if world.random().chance(50) {
            let event = world.end(at, task);
            op.on(at, event, &mut out);
        }
    }
    op.on_deadline(now + DAY, &mut out);
    assert!(out.is_empty() && op.deadline().is_none(), "it goes on after its end");
}

/// An operation that a test feeds by hand.
struct Bench<O: Op> {
    op: O,
    now: Duration,
    begun: Vec<O::Task>,
    owed: Vec<O::Node>,
    is_detached: bool,
    outcome: Option<O::Outcome>,
}

impl<O: Op> Bench<O> {
    fn start(mut op: O) -> Self {
        let mut out = Vec::new();
        op.start(Duration::ZERO, &mut out);
        let (now, begun, owed) = (Duration::ZERO, Vec::new(), Vec::new());
        let mut bench = Self { op, now, begun, owed, is_detached: false, outcome: None };
        bench.note(out);
        bench
    }

    fn feed(&mut self, event: O::Event) {
        let mut out = Vec::new();
        self.op.on(self.now, event, &mut out);
        self.note(out);
    }

    /// Lets so much time pass, with every deadline in it.
    fn wait(&mut self, time: Duration) {
        let until = self.now + time;
        while let Some(at) = self.op.deadline().filter(|at| *at <= until) {
            self.now = at;
            let mut out = Vec::new();
            self.op.on_deadline(at, &mut out);
            self.note(out);
        }
        self.now = until;
    }

    /// Tasks that were begun since this was asked last.
    fn begun(&mut self) -> Vec<O::Task> {
        std::mem::take(&mut self.begun)
    }

    fn note(&mut self, out: Actions<O>) {
        for action in out {
            assert!(self.outcome.is_none(), "it goes on after its end");
            match action {
                Action::Do(task) => self.begun.push(task),
                Action::Owe(node) => self.owed.push(node),
                Action::Detach => self.is_detached = true,
                Action::Finish(outcome) => self.outcome = Some(outcome),
            }
        }
    }
}

/// A random time up to this many milliseconds.
fn up_to(random: &mut Random, ms: u64) -> Duration {
    Duration::from_millis(random.below(ms + 1))
}

/// A random failure that does not end an operation at once.
fn any_fault(random: &mut Random) -> Fault {
    random.pick(&[Fault::NoSpace, Fault::ClockSkew, Fault::Silent, Fault::Missing, Fault::Other])
}

/// Far above what any operation takes.
const STEPS_MAX: usize = 1000;
const DAY: Duration = Duration::from_secs(24 * 60 * 60);
