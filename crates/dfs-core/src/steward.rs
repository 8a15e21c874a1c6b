//! What to propose next, from the decided layout and what nodes report.
//!
//! This is the policy of a growing cluster: admit who asks, bring every partition to its number of
//! copies, finish or give up moves. It never takes a member out.

use std::time::Duration;

use crate::epoch::{EpochOp, EpochState, MEMBERS_MAX, Member, MemberIdx, MemberState, Row, Stage};
use crate::id::{NodeId, Partition};

/// What the steward knows about nodes, beyond the layout.
pub trait Facts {
    /// How long the node has been unreachable from here; `None` while it is reachable.
    fn down_for(&self, node: &NodeId) -> Option<Duration>;
    /// The newest epoch the node has on disk.
    fn durable_epoch(&self, node: &NodeId) -> u64;
    /// Whether the node pulled all rows of a partition for the move prepared by this epoch.
    fn synced(&self, node: &NodeId, partition: Partition, prepare_epoch: u64) -> bool;
    /// Whether the node has every chunk that those rows reference.
    fn bodies(&self, node: &NodeId, partition: Partition, prepare_epoch: u64) -> bool;
}

/// A node that asks to become a member.
#[derive(Debug, Clone)]
pub struct Joiner {
    /// The node.
    pub node_id: NodeId,
    /// Its failure domain.
    pub zone: String,
    /// Bytes it offers.
    pub capacity: u64,
}

/// The changes to propose now; none when the layout is as it should be, or waits for facts.
///
/// `waited` is how long the newest epoch has been decided. `O(partitions)`.
pub fn plan(
    state: &EpochState,
    joiners: &[Joiner],
    waited: Duration,
    facts: &impl Facts,
) -> Vec<EpochOp> {
    let mut ops = admit(state, joiners);
    let moving = state.rows.iter().any(|row| row.stage != Stage::Stable);
    for (partition, row) in (0..=Partition::MAX).zip(&state.rows) {
        ops.extend(match row.stage {
            Stage::Stable if moving => None,
            Stage::Stable => grow(state, partition, row, facts),
            Stage::Prepare => after_prepare(state, partition, row, waited, facts),
            Stage::Switch => after_switch(state, partition, row, facts),
        });
    }
    ops
}

fn admit(state: &EpochState, joiners: &[Joiner]) -> Vec<EpochOp> {
    let unknown = joiners.iter().filter(|joiner| state.member(&joiner.node_id).is_none());
    let indexes = state.members.len()..MEMBERS_MAX;
    let member = |(joiner, at): (&Joiner, usize)| {
        let idx = MemberIdx::try_from(at).ok()?;
        Some(EpochOp::AddMember(Member {
            node_id: joiner.node_id,
            idx,
            zone: joiner.zone.clone(),
            capacity: joiner.capacity,
            state: MemberState::Active,
        }))
    };
    unknown.zip(indexes).filter_map(member).collect()
}

/// Adds members to a partition that has too few: the oldest active ones that are reachable. Those
/// it has are kept in any case.
fn grow(
    state: &EpochState,
    partition: Partition,
    row: &Row,
    facts: &impl Facts,
) -> Option<EpochOp> {
    let room = usize::from(state.target_copies).saturating_sub(row.current.len());
    if room == 0 {
        return None;
    }
    let fresh = state.active().filter(|member| {
        !row.current.contains(&member.idx) && facts.down_for(&member.node_id).is_none()
    });
    let mut next = row.current.clone();
    next.extend(fresh.take(room).map(|member| member.idx));
    (next.len() > row.current.len()).then_some(EpochOp::Prepare { partition, next })
}

fn after_prepare(
    state: &EpochState,
    partition: Partition,
    row: &Row,
    waited: Duration,
    facts: &impl Facts,
) -> Option<EpochOp> {
    let node = |idx: &MemberIdx| state.node(*idx);
    let mut arriving = row.next.iter().filter(|idx| !row.current.contains(idx)).filter_map(node);
    let dead = |node: NodeId| facts.down_for(&node).is_some_and(|down| down >= ABORT_AFTER);
    if arriving.any(dead) {
        return Some(EpochOp::Abort(partition));
    }
    let synced = |node: &NodeId| facts.synced(node, partition, row.prepare_epoch);
    let enough = row.may_switch(|idx| node(&idx).is_some_and(|node| synced(&node)));
    if !enough && waited >= LAGGARD_MAX {
        // Reachable, and yet it does not manage: a full or failing disk. Writes need it until then.
        return Some(EpochOp::Abort(partition));
    }
    let mut next = row.next.iter().filter_map(node);
    let all_live = next.all(|node| facts.down_for(&node).is_some() || synced(&node));
    (enough && (all_live || waited >= LAGGARD_MAX)).then_some(EpochOp::Switch(partition))
}

fn after_switch(
    state: &EpochState,
    partition: Partition,
    row: &Row,
    facts: &impl Facts,
) -> Option<EpochOp> {
    let is_fenced = |node: NodeId| facts.durable_epoch(&node) >= row.changed;
    let is_filled = |node: NodeId| facts.bodies(&node, partition, row.prepare_epoch);
    row.may_finish(
        |idx| state.node(idx).is_some_and(is_fenced),
        |idx| state.node(idx).is_some_and(is_filled),
    )
    .then_some(EpochOp::Done(partition))
}

/// A newcomer that is gone this long before it holds anything is not waited for: until then
/// writes need it.
pub const ABORT_AFTER: Duration = Duration::from_secs(10);
/// A reachable node that has not pulled its rows by then does not hold up the others.
pub const LAGGARD_MAX: Duration = Duration::from_secs(600);
