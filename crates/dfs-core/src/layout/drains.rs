//! How far each drain is, and what it waits for.
//!
//! A member that is drained leaves once no partition names it, it is no voter, and it has said that
//! it keeps nothing for others ([`super::departure`]). Here the first of these that is not so yet
//! is told, and who would have to do something about it.

use crate::id::NodeId;
use crate::layout::epoch::{EpochState, Member, MemberState, Row, Stage};
use crate::quorum::Tally;

/// One drain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Drain {
    /// Who is drained.
    pub node: NodeId,
    /// Partitions that it still holds.
    pub holds: usize,
    /// What the drain waits for.
    pub waits_for: DrainWait,
}

/// What a drain waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DrainWait {
    /// A majority of those who decide: these do not answer.
    Voters(Vec<NodeId>),
    /// Members that take its partitions over and do not answer.
    Heirs(Vec<NodeId>),
    /// The copies of partitions that are on their way.
    Copies,
    /// Other moves, or members with room: none of its partitions is on its way.
    Room,
    /// The member itself, which does not answer: it alone can say that it holds nothing that the
    /// others lack.
    Itself,
    /// What it keeps for others to be handed over; it is at it.
    Handover,
    /// An operator: it was proved to lie about what it holds, so its word ends nothing.
    Operator,
}

/// The drains there are, in order of the members. `O(members * partitions)`.
pub fn drains(
    state: &EpochState,
    is_up: impl Fn(&NodeId) -> bool,
    is_convicted: impl Fn(&NodeId) -> bool,
) -> Vec<Drain> {
    let is_drained = |member: &&Member| member.state == MemberState::Draining;
    let drain = |member: &Member| Drain {
        node: member.node_id,
        holds: holds(state, member).count(),
        waits_for: waits_for(state, member, &is_up, is_convicted(&member.node_id)),
    };
    state.members.iter().filter(is_drained).map(drain).collect()
}

fn holds<'a>(state: &'a EpochState, member: &'a Member) -> impl Iterator<Item = &'a Row> {
    let idx = member.idx;
    state.rows.iter().filter(move |row| row.current.contains(&idx) || row.next.contains(&idx))
}

fn waits_for(
    state: &EpochState,
    member: &Member,
    is_up: impl Fn(&NodeId) -> bool,
    is_convicted: bool,
) -> DrainWait {
    let away = |nodes: &[NodeId]| -> Vec<NodeId> {
        nodes.iter().copied().filter(|node| !is_up(node)).collect()
    };
    let silent = away(&state.voters);
    let voters = state.voters.len();
    if voters - silent.len() < Tally::<NodeId>::write_majority(voters) {
        return DrainWait::Voters(silent);
    }
    if holds(state, member).next().is_some() {
        let moving = || holds(state, member).filter(|row| row.stage != Stage::Stable);
        let heirs: Vec<NodeId> = moving()
            .flat_map(|row| &row.next)
            .filter(|idx| **idx != member.idx)
            .filter_map(|idx| state.node(*idx))
            .collect();
        let mut heirs = away(&heirs);
        heirs.sort_unstable();
        heirs.dedup();
        return match moving().next() {
            Some(_) if !heirs.is_empty() => DrainWait::Heirs(heirs),
            Some(_) => DrainWait::Copies,
            None => DrainWait::Room,
        };
    }
    match (is_convicted, is_up(&member.node_id)) {
        (true, _) => DrainWait::Operator,
        (false, false) => DrainWait::Itself,
        (false, true) => DrainWait::Handover,
    }
}
