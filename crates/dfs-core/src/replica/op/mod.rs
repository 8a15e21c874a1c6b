//! Operations over several replicas, each as a state machine.
//!
//! An [`Op`] decides whom to ask, what to do with an answer and when it is done; it sends nothing,
//! reads no clock and draws no randomness. Its caller carries out what it pushes, feeds it what
//! came of that, and wakes it at its deadline. So one loop runs all of them, and tests run them in
//! any order of answers. Source of the shape: quinn-proto's connections.
//!
//! | machine | is |
//! | --- | --- |
//! | [`fan_out::FanOut`] | one request to every replica, counted by quorum; part of most others |
//! | [`write::Write`] | records given to their replicas, or kept here when none is in reach |
//! | [`read::Read`] | records read from their replicas, brought together where they differ |
//! | [`store::Store`] | a blob given to its replicas, with slow ones left behind |
//! | [`fetch::Fetch`] | a blob fetched from whichever node has it |
//!
//! ```
//! use std::time::Duration;
//!
//! use dfs_core::replica::op::fan_out::{FanOut, FanOutSpec, Patience};
//! use dfs_core::replica::op::{Action, Counting, Fails, Fault, Op};
//!
//! struct Refused;
//! impl Fails for Refused {
//!     fn fault(&self) -> Fault {
//!         Fault::Other
//!     }
//! }
//!
//! let spec = FanOutSpec::new(vec![vec!["a", "b", "c"]], Counting::write(true), Patience::None);
//! let (mut write, mut out) = (FanOut::<&str, (), Refused>::new(spec), Vec::new());
//! write.start(Duration::ZERO, &mut out);
//! assert_eq!(out.len(), 3); // Ask each of them.
//! out.clear();
//! write.on(Duration::from_millis(7), ("b", Ok(())), &mut out);
//! assert!(out.is_empty());
//! write.on(Duration::from_millis(8), ("c", Ok(())), &mut out);
//! // The first goes on in the background.
//! assert!(matches!(&out[..], [Action::Detach, Action::Finish(Ok(_))]));
//! ```

use std::time::Duration;

use crate::quorum::{Tally, Verdict};

pub mod fan_out;
pub mod fetch;
mod gather;
pub mod read;
pub mod store;
pub mod write;

/// What an operation wants its caller to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action<N, T, O> {
    /// Begin this task, and feed what comes of it to [`Op::on`]; tasks that have no reply say so.
    Do(T),
    /// Compare rows with this node soon: it may lack something.
    Owe(N),
    /// Let the tasks that run now end in the background: what comes of them is no longer fed to
    /// the operation, but whoever [`Op::owed`] names is owed a comparison.
    Detach,
    /// The operation is over; it pushes nothing after this. Tasks that still run are dropped.
    Finish(O),
}

/// The actions of an operation.
pub type Actions<O> = Vec<Action<<O as Op>::Node, <O as Op>::Task, <O as Op>::Outcome>>;

/// An operation over several nodes: events and time in, actions out.
///
/// Times are by any clock that does not go back.
pub trait Op {
    /// Names a node.
    type Node;
    /// Something to be done for it, here or by another node.
    type Task;
    /// What came of a task.
    type Event;
    /// How it ended.
    type Outcome;

    /// Begins. Called once, before anything else.
    fn start(&mut self, now: Duration, out: &mut Actions<Self>);

    /// Takes in what came of a task. An event that nothing waits for changes nothing.
    fn on(&mut self, now: Duration, event: Self::Event, out: &mut Actions<Self>);

    /// When to call [`Op::on_deadline`], unless an event comes before; asked anew after each call.
    fn deadline(&self) -> Option<Duration>;

    /// Notes that a deadline has passed. Events that came by then are fed first.
    fn on_deadline(&mut self, now: Duration, out: &mut Actions<Self>);

    /// Who may lack something when a task ends like this after [`Action::Detach`].
    fn owed(event: &Self::Event) -> Option<Self::Node>;
}

/// Why one node did not do what it was asked, as far as operations care.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It knows a newer layout, which is here by now: begin again with that.
    Stale,
    /// Its disk is full.
    NoSpace,
    /// Its clock and ours are too far apart.
    ClockSkew,
    /// It did not answer in time. It may have done it, or may still do it.
    Silent,
    /// It has no good copy of what it was asked for.
    Missing,
    /// Anything else.
    Other,
}

/// The error of one node.
pub trait Fails {
    /// What it means to an operation.
    fn fault(&self) -> Fault;
}

/// Why an operation did not succeed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure<N, E> {
    /// A replica knows a newer layout: begin again with that.
    Stale,
    /// The disk of a replica is full.
    NoSpace,
    /// All find our clock wrong, and none has done it; what the first of them said.
    ClockSkew(E),
    /// Too few replicas could do it; those that failed, in the order in which they did.
    TooFew(Vec<(N, E)>),
}

impl<N, E: Fails> Failure<N, E> {
    /// What failures of single nodes add up to; `none_did` says that no node has done it nor still
    /// may.
    pub(crate) fn of(failures: Vec<(N, E)>, none_did: bool) -> Self {
        if failures.iter().any(|(_, error)| error.fault() == Fault::NoSpace) {
            return Self::NoSpace;
        }
        if !none_did || failures.iter().any(|(_, error)| error.fault() != Fault::ClockSkew) {
            return Self::TooFew(failures);
        }
        match failures.into_iter().next() {
            Some((_, error)) => Self::ClockSkew(error),
            None => Self::TooFew(Vec::new()),
        }
    }
}

/// How answers are counted. Fields are public so that a simulator can seed a bug.
#[derive(Debug, Clone, Copy)]
pub struct Counting<N> {
    /// Maps the size of a set to the answers it needs.
    pub needed: fn(usize) -> usize,
    /// Notes a failure: [`Tally::fail`].
    pub failure: fn(&mut Tally<N>, &N) -> Verdict,
}

impl<N: Ord + Clone> Counting<N> {
    /// For a read: enough to see every write that a majority has, or any answer.
    pub fn read(needs_quorum: bool) -> Self {
        Self::with(if needs_quorum { Tally::<N>::read_majority } else { Tally::<N>::any })
    }

    /// For a write: a majority, or any replica.
    pub fn write(needs_quorum: bool) -> Self {
        Self::with(if needs_quorum { Tally::<N>::write_majority } else { Tally::<N>::any })
    }

    fn with(needed: fn(usize) -> usize) -> Self {
        Self { needed, failure: Tally::fail }
    }
}

/// Passes on what an operation inside another wants done, each task as `wrap` has it. Returns how
/// it ended, once it has.
fn pass_on<N, T, O, U, P>(
    inner: Vec<Action<N, T, O>>,
    out: &mut Vec<Action<N, U, P>>,
    mut wrap: impl FnMut(T) -> U,
) -> Option<O> {
    let mut ended = None;
    for action in inner {
        match action {
            Action::Do(task) => out.push(Action::Do(wrap(task))),
            Action::Owe(node) => out.push(Action::Owe(node)),
            Action::Detach => out.push(Action::Detach),
            Action::Finish(outcome) => ended = Some(outcome),
        }
    }
    ended
}
