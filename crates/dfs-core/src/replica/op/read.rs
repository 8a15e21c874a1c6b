//! Records read from their replicas, and brought together where these differ.

use std::collections::BTreeSet;
use std::time::Duration;

use super::fan_out::{FanOut, FanOutSpec, Patience, Reached};
use super::gather::{Gather, GatherActions, Gathered};
use super::write::Keyed;
use super::{Action, Actions, Counting, Fails, Failure, Op, pass_on};
use crate::id::RecordKey;
use crate::quorum::Tally;
use crate::record::version::{Record, merge};

/// What is read, and from whom.
#[derive(Debug, Clone)]
pub struct ReadSpec<N> {
    /// The names, all on the same replicas.
    pub keys: Vec<RecordKey>,
    /// Their read set.
    pub set: Vec<N>,
    /// Who of it should be among those that answer.
    pub guards: Vec<Vec<N>>,
    /// This node, in the set or not.
    pub me: N,
    /// How many of the set must answer.
    pub counting: Counting<N>,
    /// Whether a read is only good with a quorum. If not, what is here is better than nothing.
    pub needs_quorum: bool,
    /// Whether every node of the set is in reach.
    pub all_in_reach: bool,
    /// Whether the partition of any key moves.
    pub is_moving: bool,
}

/// What a read wants done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReadTask<N> {
    /// Ask a node, which may be this one; ends in [`ReadEvent::Answered`].
    Ask {
        /// Whom.
        node: N,
        /// For these records, in this order; an answer may hold the first of them only.
        keys: Vec<RecordKey>,
        /// Or for their hashes alone.
        digest_only: bool,
    },
    /// Check every version of these; ends in [`ReadEvent::Verified`].
    Verify {
        /// Who holds them, and may be asked for certificates.
        node: N,
        /// What it holds.
        records: Keyed,
    },
    /// Look what is kept here, of all keys, for replicas that were away; ends in
    /// [`ReadEvent::Here`].
    LookHere,
    /// Give these to their replicas; ends in [`ReadEvent::WrittenBack`].
    WriteBack(Keyed),
}

/// What a node answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReadAnswer {
    /// For each key, the hash of its state.
    Hashes(Vec<[u8; 32]>),
    /// The records of the first keys, or of all.
    Records(Keyed),
    /// Something that is no answer to this.
    Other,
}

/// What came of a task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReadEvent<N, E> {
    /// Of asking a node.
    Answered(N, Result<ReadAnswer, E>),
    /// Whether everything that was to be checked is genuine.
    Verified(N, bool),
    /// What is kept here, in the order of the keys.
    Here(Vec<Record>),
    /// Of writing back: whether to the guards as well.
    WrittenBack(Result<bool, Failure<N, E>>),
}

/// What was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadResult {
    /// The records, in the order of the keys; empty ones where nothing was ever written.
    pub records: Vec<Record>,
    /// Whether so many answered that every acknowledged write is seen.
    pub quorum: bool,
    /// Whether so many of the guards did that no other replica can have hidden one.
    pub guarded: bool,
}

#[derive(Debug)]
enum Phase<N, E> {
    Asking(Box<FanOut<N, ReadAnswer, E>>),
    Gathering(Gather<N>),
    LookingHere(Gathered),
    WritingBack(Vec<Record>),
    Over,
}

/// One read of records on the same replicas.
///
/// This node's copy is read in full and compared with hashes of the others; a node that is no
/// replica asks all for records. Replicas that differ are brought together before the read ends, so
/// that no later one sees less. A replica that answers and then lies or goes away is one less: the
/// read begins again without it, at most as often as there are replicas.
#[derive(Debug)]
pub struct Read<N, E> {
    spec: ReadSpec<N>,
    without: BTreeSet<N>,
    /// Answers of this round.
    answered: usize,
    guarded: bool,
    phase: Phase<N, E>,
}

impl<N: Ord + Copy, E: Fails> Read<N, E> {
    /// A read that has yet to begin.
    pub fn new(spec: ReadSpec<N>) -> Self {
        Self { spec, without: BTreeSet::new(), answered: 0, guarded: false, phase: Phase::Over }
    }

    fn ask(&mut self, now: Duration, out: &mut Actions<Self>) {
        let spec = &self.spec;
        // One of two suffices to see every acknowledged write; both, so that no later read at the
        // other one sees less than this.
        let both = spec.set.len() == 2 && spec.all_in_reach;
        let patience = Patience::for_quorum(spec.needs_quorum && !both);
        let mut asked = FanOutSpec::new(vec![spec.set.clone()], spec.counting, patience);
        asked.without.clone_from(&self.without);
        asked.guards.clone_from(&spec.guards);
        let (mut fan_out, mut inner) = (FanOut::new(asked), Vec::new());
        fan_out.start(now, &mut inner);
        self.phase = Phase::Asking(Box::new(fan_out));
        self.after_asking(now, inner, out);
    }

    fn after_asking(
        &mut self,
        now: Duration,
        inner: Actions<FanOut<N, ReadAnswer, E>>,
        out: &mut Actions<Self>,
    ) {
        let (me, keys) = (self.spec.me, &self.spec.keys);
        // A replica compares hashes with the others; who holds nothing must see the records.
        let is_replica = self.spec.set.contains(&me);
        let ask = |node| {
            let digest_only = is_replica && node != me;
            ReadTask::Ask { node, keys: keys.clone(), digest_only }
        };
        match pass_on(inner, out, ask) {
            None => {}
            Some(Ok(reached)) => self.gather(now, reached, out),
            // Nobody is in reach: what is kept here for them is all there is to see.
            Some(Err(Failure::TooFew(_))) if !self.spec.needs_quorum => {
                self.gather(now, Reached::default(), out);
            }
            Some(Err(failure)) => self.finish(Err(failure), out),
        }
    }

    fn gather(&mut self, now: Duration, reached: Reached<N, ReadAnswer>, out: &mut Actions<Self>) {
        (self.answered, self.guarded) = (reached.answers.len(), reached.guarded);
        // What the guards say is known when the others are looked at.
        let mut answers = reached.answers;
        answers.sort_by_key(|(node, _)| !self.spec.guards.iter().flatten().any(|of| of == node));
        let mut gather = Gather::new(self.spec.me, self.spec.keys.clone(), answers);
        let mut inner = Vec::new();
        gather.go_on(&mut inner);
        self.phase = Phase::Gathering(gather);
        self.after_gathering(now, inner, out);
    }

    fn after_gathering(&mut self, now: Duration, inner: GatherActions<N>, out: &mut Actions<Self>) {
        match pass_on(inner, out, |task| task) {
            None => {}
            Some(Ok(gathered)) if !self.spec.needs_quorum && !self.is_replica() => {
                self.phase = Phase::LookingHere(gathered);
                out.push(Action::Do(ReadTask::LookHere));
            }
            Some(Ok(gathered)) => self.write_back(gathered, out),
            Some(Err(node)) => {
                self.without.insert(node);
                self.ask(now, out);
            }
        }
    }

    /// Gives back what replicas do not all have, as far as is known.
    fn write_back(&mut self, gathered: Gathered, out: &mut Actions<Self>) {
        let Gathered { records, mut differ } = gathered;
        // One of two may hold what was never acknowledged: a read of the other would not see it.
        let are_few = self.answered < Tally::<N>::write_majority(self.spec.set.len());
        if (self.spec.is_moving || are_few) && self.spec.needs_quorum {
            // That these replicas agree says nothing of the others, or of the set that is read
            // after the switch.
            differ = records.iter().map(|record| !record.is_empty()).collect();
        }
        let apart = self.spec.keys.iter().zip(&records).zip(differ).filter(|(_, differs)| *differs);
        let apart: Keyed = apart.map(|((key, record), _)| (*key, record.clone())).collect();
        if apart.is_empty() {
            return self.succeed(records, out);
        }
        self.phase = Phase::WritingBack(records);
        out.push(Action::Do(ReadTask::WriteBack(apart)));
    }

    fn succeed(&mut self, records: Vec<Record>, out: &mut Actions<Self>) {
        let quorum = self.answered >= Tally::<N>::read_majority(self.spec.set.len());
        let guarded = quorum && self.guarded;
        self.finish(Ok(ReadResult { records, quorum, guarded }), out);
    }

    fn finish(&mut self, outcome: Result<ReadResult, Failure<N, E>>, out: &mut Actions<Self>) {
        self.phase = Phase::Over;
        out.push(Action::Finish(outcome));
    }

    fn is_replica(&self) -> bool {
        self.spec.set.contains(&self.spec.me)
    }
}

impl<N: Ord + Copy, E: Fails> Op for Read<N, E> {
    type Node = N;
    type Task = ReadTask<N>;
    type Event = ReadEvent<N, E>;
    type Outcome = Result<ReadResult, Failure<N, E>>;

    fn start(&mut self, now: Duration, out: &mut Actions<Self>) {
        self.ask(now, out);
    }

    fn on(&mut self, now: Duration, event: Self::Event, out: &mut Actions<Self>) {
        match (event, &mut self.phase) {
            (ReadEvent::Answered(node, result), Phase::Asking(fan_out)) => {
                let mut inner = Vec::new();
                fan_out.on(now, (node, result), &mut inner);
                self.after_asking(now, inner, out);
            }
            (ReadEvent::Answered(node, result), Phase::Gathering(gather)) => {
                let mut inner = Vec::new();
                gather.on_answer(node, result.ok(), &mut inner);
                self.after_gathering(now, inner, out);
            }
            (ReadEvent::Verified(node, is_genuine), Phase::Gathering(gather)) => {
                let mut inner = Vec::new();
                gather.on_verified(node, is_genuine, &mut inner);
                self.after_gathering(now, inner, out);
            }
            (ReadEvent::Here(here), Phase::LookingHere(gathered)) => {
                let mut gathered = std::mem::take(gathered);
                for (record, kept) in gathered.records.iter_mut().zip(&here) {
                    *record = merge(record, kept);
                }
                self.write_back(gathered, out);
            }
            (ReadEvent::WrittenBack(result), Phase::WritingBack(records)) => {
                let records = std::mem::take(records);
                match result {
                    Ok(guarded) => {
                        self.guarded &= guarded;
                        self.succeed(records, out);
                    }
                    Err(failure) => self.finish(Err(failure), out),
                }
            }
            _ => {}
        }
    }

    fn deadline(&self) -> Option<Duration> {
        match &self.phase {
            Phase::Asking(fan_out) => fan_out.deadline(),
            _ => None,
        }
    }

    fn on_deadline(&mut self, now: Duration, out: &mut Actions<Self>) {
        if let Phase::Asking(fan_out) = &mut self.phase {
            let mut inner = Vec::new();
            fan_out.on_deadline(now, &mut inner);
            self.after_asking(now, inner, out);
        }
    }

    fn owed(event: &Self::Event) -> Option<N> {
        match event {
            ReadEvent::Answered(node, Err(_)) => Some(*node),
            _ => None,
        }
    }
}
