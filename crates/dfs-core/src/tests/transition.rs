//! Moves of a partition under random schedules: replicas and coordinators that lag behind the
//! layout by any number of epochs, lost requests, moves of any shape, moves given up. No quorum
//! read misses an acknowledged write, nor what an earlier read answered. The weakened rules at
//! the end must miss some, or the schedules would prove nothing.

use std::collections::{BTreeMap, BTreeSet};

use super::random::Random;
use crate::id::{AdminId, ClusterId, NodeId, PartitionBits};
use crate::layout::epoch::Stage::{Prepare, Stable, Switch};
use crate::layout::epoch::{
    EpochOp, EpochState, Member, MemberIdx, MemberState, NO_CAP, Role, Row,
};
use crate::quorum::{Tally, Verdict};

#[derive(Debug, Clone, Copy, PartialEq)]
enum Rule {
    AsBuilt,
    /// A member counts as synced with one source fewer.
    OneSourceFewer,
    /// Sources answer without having the prepared layout.
    UnfencedSources,
    /// What was pulled for a move that was given up counts for the next one.
    FactsCarryOver,
    /// A switch needs one synced member fewer.
    OneSyncedFewer,
    /// A move is done with one fenced member fewer.
    OneFencedFewer,
    /// After the switch writes go to the next set alone.
    WriteNextOnly,
    /// Reads write back to the set they read.
    WriteBackToReadSet,
}

/// What a read does before it answers, and what it promises then.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Reads {
    /// Nothing: it shows every acknowledged write.
    AtOnce,
    /// Unless a majority for writes agrees and the partition is at rest, it writes back to every
    /// write set: it also shows what any read has answered before.
    WriteBack,
    /// Nothing, and yet it is held to the stronger promise.
    Unkept,
}

/// A set of writes, one bit for each.
type Writes = u128;

enum Step {
    Write(Writes),
    Read { got: Writes, common: Writes },
    WriteBack { read: Writes },
}

/// One request to a set of replicas.
struct Operation {
    step: Step,
    layout: usize,
    tally: Tally<NodeId>,
    /// What an answer must contain.
    must: Writes,
    is_over: bool,
}

#[derive(Default)]
struct Replica {
    /// The newest layout it has on disk.
    layout: usize,
    data: Writes,
    /// For each move by its prepare epoch, the sources it pulled from.
    pulled: BTreeMap<u64, BTreeSet<MemberIdx>>,
}

struct World {
    random: Random,
    rule: Rule,
    reads: Reads,
    layouts: Vec<EpochState>,
    replicas: Vec<Replica>,
    /// The layout each coordinator knows.
    coordinators: [usize; 4],
    operations: Vec<Operation>,
    /// Requests on their way: the operation, and the replica.
    net: Vec<(usize, usize)>,
    writes: u32,
    /// What later reads must show.
    settled: Writes,
    moves: usize,
    answered: usize,
    is_stale: bool,
}

pub(super) fn id(of: usize) -> NodeId {
    NodeId::new([u8::try_from(of).unwrap(); 32])
}

fn place(node: &NodeId) -> usize {
    node.as_bytes()[0].into()
}

pub(super) fn first_layout(current: Vec<MemberIdx>) -> EpochState {
    let member = |idx: usize| Member {
        node_id: id(idx),
        idx: MemberIdx::try_from(idx).unwrap(),
        zone: String::new(),
        capacity: 1,
        state: MemberState::Active,
        role: Role::Gateway,
        cap: NO_CAP,
    };
    let row = Row {
        changed: 1,
        current,
        next: Vec::new(),
        stage: Stable,
        prepare_epoch: 0,
        former: Vec::new(),
    };
    let bits = PartitionBits::new(1).unwrap();
    EpochState {
        generation: 0,
        epoch: 1,
        cluster_id: ClusterId::new([0; 32]),
        bits,
        target_copies: 5,
        members: (0..NODES).map(member).collect(),
        voters: vec![id(0)],
        admins: vec![AdminId::new([9; 32])],
        vaults: Vec::new(),
        burnt: Vec::new(),
        rows: vec![row; bits.count()],
    }
}

impl World {
    fn new(seed: u64, rule: Rule, reads: Reads) -> Self {
        let mut random = Random::new(seed);
        let size = random.pick(&SIZES);
        let everyone: Vec<MemberIdx> = (0..7).collect();
        Self {
            layouts: vec![first_layout(random.sample(&everyone, size))],
            random,
            rule,
            reads,
            replicas: (0..NODES).map(|_| Replica::default()).collect(),
            coordinators: [0; 4],
            operations: Vec::new(),
            net: Vec::new(),
            writes: 0,
            settled: 0,
            moves: 0,
            answered: 0,
            is_stale: false,
        }
    }

    fn step(&mut self) {
        let newest = self.layouts.len() - 1;
        match self.random.below(100) {
            0..8 => self.decide(),
            8..16 => {
                let at = self.random.index(NODES);
                let known = self.replicas[at].layout;
                self.replicas[at].layout = self.later(known, newest);
            }
            16..22 => {
                let at = self.random.index(4);
                self.coordinators[at] = self.later(self.coordinators[at], newest);
            }
            22..38 => self.pull(),
            38..40 => {
                let (a, b) = (self.random.index(NODES), self.random.index(NODES));
                self.replicas[a].data |= self.replicas[b].data;
            }
            40..52 => self.write(),
            52..66 => self.read(),
            _ => (0..4).for_each(|_| self.deliver()),
        }
    }

    /// Some layout after the one that is known, if there is any.
    fn later(&mut self, known: usize, newest: usize) -> usize {
        if newest == known { known } else { known + 1 + self.random.index(newest - known) }
    }

    /// The next epoch, as far as the conditions allow one.
    fn decide(&mut self) {
        let newest = &self.layouts[self.layouts.len() - 1];
        let row = newest.row(0);
        let op = match row.stage {
            _ if self.random.chance(15) => match newest.row(1).stage {
                // Another partition moves: that fences nothing here.
                Stable => EpochOp::Prepare { partition: 1, next: vec![0, 1, 2] },
                _ => EpochOp::Abort(1),
            },
            Stable => EpochOp::Prepare { partition: 0, next: next_set(&mut self.random, row) },
            Prepare if self.random.chance(10) => EpochOp::Abort(0),
            Prepare if self.may_switch(row) => EpochOp::Switch(0),
            Switch if self.may_finish(row) => EpochOp::Done(0),
            Prepare | Switch => return,
        };
        self.moves += usize::from(op == EpochOp::Done(0));
        let (next, _) = newest.propose([0; 32], vec![op], id(0)).unwrap();
        self.layouts.push(next);
    }

    fn may_switch(&self, row: &Row) -> bool {
        let synced = |idx| self.is_synced(row, idx);
        let gift = row.next.iter().find(|idx| !synced(**idx));
        let gift = gift.filter(|_| self.rule == Rule::OneSyncedFewer);
        row.may_switch(|idx| synced(idx) || gift == Some(&idx))
    }

    fn is_synced(&self, row: &Row, idx: MemberIdx) -> bool {
        let replica = &self.replicas[usize::from(idx)];
        let is_prepared = self.layouts[replica.layout].epoch >= row.prepare_epoch;
        let counts =
            |prepare: u64| prepare == row.prepare_epoch || self.rule == Rule::FactsCarryOver;
        let moves = replica.pulled.iter().filter(|(prepare, _)| counts(**prepare));
        let pulled = |source: MemberIdx| {
            (source == idx && is_prepared)
                || moves.clone().any(|(_, sources)| sources.contains(&source))
        };
        let gift = row.current.iter().find(|source| !pulled(**source));
        let gift = gift.filter(|_| self.rule == Rule::OneSourceFewer);
        row.has_sources(|source| pulled(source) || gift == Some(&source))
    }

    fn may_finish(&self, row: &Row) -> bool {
        let fenced = |idx: MemberIdx| {
            let known = self.replicas[usize::from(idx)].layout;
            self.layouts[known].epoch >= row.changed
        };
        let gift = row.current.iter().find(|idx| !fenced(**idx));
        let gift = gift.filter(|_| self.rule == Rule::OneFencedFewer);
        row.may_finish(|idx| fenced(idx) || gift == Some(&idx), |_| true)
    }

    /// A member of the next set pulls from one of the current set, which has the layout on disk
    /// before it answers.
    fn pull(&mut self) {
        let newest = self.layouts[self.layouts.len() - 1].row(0);
        let receivers = if newest.next.is_empty() { &newest.current } else { &newest.next };
        let idx = self.random.pick(receivers);
        let at = usize::from(idx);
        let layout = self.replicas[at].layout;
        let row = self.layouts[layout].row(0);
        if row.stage == Stable || !row.next.contains(&idx) {
            return;
        }
        let (source, prepare) = (self.random.pick(&row.current), row.prepare_epoch);
        let from = &mut self.replicas[usize::from(source)];
        if self.rule != Rule::UnfencedSources {
            from.layout = from.layout.max(layout);
        }
        let data = from.data;
        self.replicas[at].data |= data;
        self.replicas[at].pulled.entry(prepare).or_default().insert(source);
    }

    fn write(&mut self) {
        let layout = self.coordinators[self.random.index(4)];
        let sets = self.write_sets(layout);
        let write = 1 << self.writes;
        self.writes += 1;
        self.begin(Step::Write(write), layout, sets, Tally::<NodeId>::write_majority, 0);
    }

    fn write_sets(&self, layout: usize) -> Vec<Vec<NodeId>> {
        let state = &self.layouts[layout];
        let mut sets = state.write_sets(0);
        if self.rule == Rule::WriteNextOnly && state.row(0).stage == Switch {
            sets.remove(0);
        }
        sets
    }

    fn read(&mut self) {
        let layout = self.coordinators[self.random.index(4)];
        let sets = vec![self.layouts[layout].read_set(0)];
        let (step, must) = (Step::Read { got: 0, common: Writes::MAX }, self.settled);
        self.begin(step, layout, sets, Tally::<NodeId>::read_majority, must);
    }

    fn begin(
        &mut self,
        step: Step,
        layout: usize,
        sets: Vec<Vec<NodeId>>,
        needed: fn(usize) -> usize,
        must: Writes,
    ) {
        let tally = Tally::new(sets, needed);
        let operation = self.operations.len();
        self.net.extend(tally.nodes().iter().map(|node| (operation, place(node))));
        self.operations.push(Operation { step, layout, tally, must, is_over: false });
    }

    fn deliver(&mut self) {
        if self.net.is_empty() {
            return;
        }
        let at = self.random.index(self.net.len());
        let (number, to) = self.net.swap_remove(at);
        if self.random.chance(15) {
            return;
        }
        let operation = &mut self.operations[number];
        let replica = &mut self.replicas[to];
        // It fetches a newer layout before it serves, and refuses what an older one asks.
        replica.layout = replica.layout.max(operation.layout);
        let epoch = self.layouts[operation.layout].epoch;
        if self.layouts[replica.layout].row(0).is_newer_than(epoch) {
            return;
        }
        match &mut operation.step {
            Step::Write(writes) | Step::WriteBack { read: writes } => replica.data |= *writes,
            Step::Read { got, common } if !operation.is_over => {
                *got |= replica.data;
                *common &= replica.data;
            }
            Step::Read { .. } => {}
        }
        if operation.tally.ack(&id(to)) == Verdict::Reached && !operation.is_over {
            operation.is_over = true;
            self.finish(number);
        }
    }

    fn finish(&mut self, number: usize) {
        let Operation { step, layout, tally, must, .. } = &self.operations[number];
        let (layout, must) = (*layout, *must);
        let is_settled = tally.acked().len() >= Tally::<NodeId>::write_majority(tally.wanted());
        match *step {
            Step::Write(write) => self.settled |= write,
            Step::WriteBack { read } => self.answer(read, must),
            Step::Read { got, common } => {
                let is_moving = self.layouts[layout].row(0).stage != Stable;
                if self.reads != Reads::WriteBack || (got == common && is_settled && !is_moving) {
                    return self.answer(got, must);
                }
                let sets = match self.rule {
                    Rule::WriteBackToReadSet => vec![self.layouts[layout].read_set(0)],
                    _ => self.write_sets(layout),
                };
                let step = Step::WriteBack { read: got };
                self.begin(step, layout, sets, Tally::<NodeId>::write_majority, must);
            }
        }
    }

    fn answer(&mut self, read: Writes, must: Writes) {
        self.answered += 1;
        if self.reads != Reads::AtOnce {
            self.settled |= read;
        }
        self.is_stale |= must & !read != 0;
    }
}

/// A set of any size that keeps any part of the current one.
fn next_set(random: &mut Random, row: &Row) -> Vec<MemberIdx> {
    let size = random.pick(&SIZES);
    let kept = random.index(row.current.len().min(size) + 1);
    let mut next = random.sample(&row.current, kept);
    let others: Vec<MemberIdx> = (0..7).filter(|idx| !row.current.contains(idx)).collect();
    next.extend(random.sample(&others, size - kept));
    if next.is_empty() { row.current.clone() } else { next }
}

/// How many schedules had a stale read, until one had; and how many moves were done and reads
/// answered in all.
fn stale_reads(rule: Rule, reads: Reads, seeds: u64) -> (usize, usize, usize) {
    let (mut stale, mut moves, mut answered) = (0, 0, 0);
    for seed in 0..seeds {
        let mut world = World::new(seed, rule, reads);
        for _ in 0..STEPS {
            world.step();
        }
        stale += usize::from(world.is_stale);
        moves += world.moves;
        answered += world.answered;
        if stale > 0 {
            break;
        }
    }
    (stale, moves, answered)
}

#[track_caller]
fn holds(reads: Reads) {
    let (stale, moves, answered) = stale_reads(Rule::AsBuilt, reads, 5000);
    assert_eq!(stale, 0);
    assert!(moves > 3000 && answered > 30_000, "{moves} moves, {answered} reads");
}

#[track_caller]
fn fails(rule: Rule, reads: Reads) {
    assert_eq!(stale_reads(rule, reads, 5000).0, 1);
}

#[test]
fn no_read_misses_a_write_while_a_partition_moves() {
    holds(Reads::AtOnce);
}

#[test]
fn no_read_goes_back_while_a_partition_moves() {
    holds(Reads::WriteBack);
}

#[test]
fn pulling_from_fewer_or_from_sources_of_an_older_layout_would_miss_writes() {
    fails(Rule::OneSourceFewer, Reads::AtOnce);
    fails(Rule::UnfencedSources, Reads::AtOnce);
    fails(Rule::FactsCarryOver, Reads::AtOnce);
}

#[test]
fn going_on_with_one_member_fewer_would_miss_writes() {
    fails(Rule::OneSyncedFewer, Reads::AtOnce);
    fails(Rule::OneFencedFewer, Reads::AtOnce);
}

#[test]
fn writing_to_the_next_set_alone_would_miss_writes() {
    fails(Rule::WriteNextOnly, Reads::AtOnce);
}

#[test]
fn writing_back_less_would_let_reads_go_back() {
    fails(Rule::WriteBackToReadSet, Reads::WriteBack);
    fails(Rule::AsBuilt, Reads::Unkept);
}

const NODES: usize = 7;
const STEPS: usize = 200;
const SIZES: [usize; 6] = [1, 2, 3, 3, 3, 5];
