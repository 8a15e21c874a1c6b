//! Records given to their replicas, or kept here when none is in reach.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::fan_out::{FanOut, FanOutSpec, Patience, Reached};
use super::{Action, Actions, Counting, Fails, Failure, Op, pass_on};
use crate::codec::Canonical;
use crate::id::{Partition, PartitionBits, RecordKey};
use crate::record::version::Record;

/// Which replicas a write must reach.
#[derive(Debug, Clone)]
pub struct WriteSpec<N> {
    /// The write sets of the records' partition.
    pub sets: Vec<Vec<N>>,
    /// Who should be among them.
    pub guards: Vec<Vec<N>>,
    /// How many of each set.
    pub counting: Counting<N>,
    /// Whether it is only good with a quorum. If not, a copy here is better than none.
    pub needs_quorum: bool,
    /// This node.
    pub me: N,
}

/// What a write wants done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WriteTask<N> {
    /// Give the records to this replica; ends in [`WriteEvent::Put`].
    Put(N),
    /// Keep them here until the replicas are back; ends in [`WriteEvent::Kept`].
    KeepHere,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WriteEvent<N, E> {
    /// The replica has them durably, or not.
    Put(N, Result<(), E>),
    /// They are durable here.
    Kept,
}

/// What a write came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Put<N> {
    /// Who has the records durably.
    pub nodes: BTreeSet<N>,
    /// Whether the guards are among them.
    pub guarded: bool,
}

impl<N: Ord + Copy> Put<N> {
    fn of(reached: &Reached<N, ()>) -> Self {
        Self { nodes: reached.nodes(), guarded: reached.guarded }
    }
}

/// One write of records of one partition. Ends with who has them durably.
///
/// A replica that fails, or is slower than the quorum and fails later, is owed a comparison.
#[derive(Debug)]
pub struct Write<N, E> {
    puts: FanOut<N, (), E>,
    needs_quorum: bool,
    me: N,
    is_over: bool,
}

impl<N: Ord + Copy, E: Fails> Write<N, E> {
    /// A write that has yet to begin.
    pub fn new(spec: WriteSpec<N>) -> Self {
        let WriteSpec { sets, guards, counting, needs_quorum, me } = spec;
        let mut puts = FanOutSpec::new(sets, counting, Patience::for_quorum(needs_quorum));
        puts.guards = guards;
        let puts = FanOut::new(puts);
        Self { puts, needs_quorum, me, is_over: false }
    }

    fn after(&mut self, inner: Actions<FanOut<N, (), E>>, out: &mut Actions<Self>) {
        match pass_on(inner, out, WriteTask::Put) {
            None => {}
            Some(Ok(reached)) => self.finish(Ok(Put::of(&reached)), out),
            Some(Err(Failure::TooFew(_))) if !self.needs_quorum => {
                out.push(Action::Do(WriteTask::KeepHere));
            }
            Some(Err(failure)) => self.finish(Err(failure), out),
        }
    }

    fn finish(&mut self, outcome: Result<Put<N>, Failure<N, E>>, out: &mut Actions<Self>) {
        if !std::mem::replace(&mut self.is_over, true) {
            out.push(Action::Finish(outcome));
        }
    }
}

impl<N: Ord + Copy, E: Fails> Op for Write<N, E> {
    type Node = N;
    type Task = WriteTask<N>;
    type Event = WriteEvent<N, E>;
    type Outcome = Result<Put<N>, Failure<N, E>>;

    fn start(&mut self, now: Duration, out: &mut Actions<Self>) {
        let mut inner = Vec::new();
        self.puts.start(now, &mut inner);
        self.after(inner, out);
    }

    fn on(&mut self, now: Duration, event: Self::Event, out: &mut Actions<Self>) {
        match event {
            WriteEvent::Put(node, result) => {
                let mut inner = Vec::new();
                self.puts.on(now, (node, result), &mut inner);
                self.after(inner, out);
            }
            WriteEvent::Kept => {
                let nodes = BTreeSet::from([self.me]);
                self.finish(Ok(Put { nodes, guarded: false }), out);
            }
        }
    }

    fn deadline(&self) -> Option<Duration> {
        self.puts.deadline()
    }

    fn on_deadline(&mut self, now: Duration, out: &mut Actions<Self>) {
        let mut inner = Vec::new();
        self.puts.on_deadline(now, &mut inner);
        self.after(inner, out);
    }

    fn owed(event: &Self::Event) -> Option<N> {
        match event {
            WriteEvent::Put(node, Err(_)) => Some(*node),
            WriteEvent::Put(_, Ok(())) | WriteEvent::Kept => None,
        }
    }
}

/// Records with their keys.
pub type Keyed = Vec<(RecordKey, Record)>;

/// Cuts records into writes: each of one partition, and of at most `records_max` records and
/// `bytes_max` encoded bytes, unless a single record is larger.
///
/// In the order of the partitions, and within one in the order given. `O(n)`, and encodes each
/// record once.
pub fn batches(
    records: Keyed,
    bits: PartitionBits,
    records_max: usize,
    bytes_max: usize,
) -> Vec<(Partition, Keyed)> {
    let mut by_partition: BTreeMap<Partition, Vec<(usize, Keyed)>> = BTreeMap::new();
    for (key, record) in records {
        let bytes = RecordKey::LEN + record.to_canonical().len();
        let cut = by_partition.entry(key.partition(bits)).or_default();
        match cut.last_mut() {
            Some((sum, batch)) if *sum + bytes <= bytes_max && batch.len() < records_max => {
                *sum += bytes;
                batch.push((key, record));
            }
            _ => cut.push((bytes, vec![(key, record)])),
        }
    }
    let of = |(partition, cut): (Partition, Vec<(usize, Keyed)>)| {
        cut.into_iter().map(move |(_, batch)| (partition, batch))
    };
    by_partition.into_iter().flat_map(of).collect()
}
