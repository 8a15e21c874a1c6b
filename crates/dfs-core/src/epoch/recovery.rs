//! What an operator may decide by hand after a disaster: that members are gone for ever, though the
//! others cannot be sure to have all that those held, or though they were the majority of the voters.
//!
//! Nothing here happens by itself, for from one side of a cut the other side looks the same. Where a
//! majority of the voters is left, they decide as always ([`Loss::ops`]). Where it is not, those left
//! decide alone under a higher generation, and each node follows them only once its own operator has
//! told it of the same loss.

use std::collections::BTreeSet;

use super::{
    EpochCert, EpochError, EpochOp, EpochProposal, EpochState, MemberIdx, MemberState, Stage,
    VOTERS_MAX, end_move, require,
};
use crate::codec::{Canonical, DecodeError, Reader, Writer};
use crate::id::{ClusterId, NodeId, Partition};
use crate::quorum::Tally;

/// Members that are gone for ever, as an operator says. Nodes keep what theirs said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loss {
    /// The generation that begins with it.
    pub generation: u64,
    /// The members.
    pub lost: BTreeSet<NodeId>,
}

impl Loss {
    /// A loss that a cluster goes on from.
    pub fn of(state: &EpochState, lost: BTreeSet<NodeId>) -> Self {
        Self { generation: state.generation.saturating_add(1), lost }
    }

    /// The partitions of which so many replicas are among the lost that the others may lack a write.
    pub fn at_risk(&self, state: &EpochState) -> Vec<Partition> {
        let is_lost = |idx: &MemberIdx| state.node(*idx).is_some_and(|n| self.lost.contains(&n));
        let lacks = |set: &[MemberIdx]| {
            let left = set.iter().filter(|idx| !is_lost(idx)).count();
            left < set.len() && left < Tally::<NodeId>::read_majority(set.len())
        };
        let rows = (0..=Partition::MAX).zip(&state.rows);
        rows.filter(|(_, row)| lacks(&row.current) || lacks(&row.next)).map(|(p, _)| p).collect()
    }

    /// Whether too few voters are left to decide anything.
    pub fn is_of_majority(&self, state: &EpochState) -> bool {
        let left = state.voters.iter().filter(|voter| !self.lost.contains(voter)).count();
        left <= state.voters.len() / 2
    }

    /// What the loss makes of the layout: the members have left, and the partitions at risk go on
    /// with whoever is left of them.
    pub fn ops(&self, state: &EpochState) -> Vec<EpochOp> {
        let lost = state.present().filter(|member| self.lost.contains(&member.node_id));
        let left = lost.map(|member| EpochOp::SetState(member.node_id, MemberState::Left));
        left.chain(self.at_risk(state).into_iter().map(EpochOp::Force)).collect()
    }

    /// Who decides where the majority of the voters is lost: the voters that are left, an odd
    /// number, or without any the longest members.
    pub fn electors(&self, state: &EpochState) -> Vec<NodeId> {
        let is_left = |node: &NodeId| !self.lost.contains(node);
        let voters = state.voters.iter().copied().filter(is_left);
        let mut electors: Vec<NodeId> = voters.collect();
        if electors.is_empty() {
            let active = state.active().map(|member| member.node_id).filter(is_left);
            electors = active.take(VOTERS_MAX).collect();
        }
        if electors.len().is_multiple_of(2) {
            electors.pop();
        }
        electors
    }

    /// The proposal that begins the new generation, the same for every node with this layout.
    ///
    /// # Errors
    /// [`EpochError::BadOp`] when nobody would be left.
    pub fn propose(
        &self,
        state: &EpochState,
        previous: [u8; 32],
        proposer: NodeId,
    ) -> Result<(EpochState, EpochProposal), EpochError> {
        let mut ops = self.ops(state);
        ops.push(EpochOp::SetVoters(self.electors(state)));
        let mut next = state.apply(&ops)?;
        next.generation = self.generation;
        let (epoch, generation) = (next.epoch, next.generation);
        let state_hash = next.hash();
        Ok((next, EpochProposal { generation, epoch, previous, ops, state_hash, proposer }))
    }

    /// The state after a proposal that begins the new generation, if it is the one that this loss
    /// leads to.
    ///
    /// # Errors
    /// [`EpochError`] says why it is not.
    pub fn check(
        &self,
        state: &EpochState,
        previous: [u8; 32],
        proposal: &EpochProposal,
    ) -> Result<EpochState, EpochError> {
        let (next, own) = self.propose(state, previous, proposal.proposer)?;
        let begins = proposal.generation > state.generation;
        if !begins || proposal.epoch != own.epoch || proposal.previous != previous {
            return Err(EpochError::NotNext);
        }
        if own == *proposal { Ok(next) } else { Err(EpochError::OtherState) }
    }

    /// The same of a decided epoch.
    ///
    /// # Errors
    /// As [`Loss::check`], and [`EpochError::NotDecided`] without the votes of a majority of the
    /// electors.
    pub fn follow(
        &self,
        state: &EpochState,
        previous: [u8; 32],
        cert: &EpochCert,
    ) -> Result<EpochState, EpochError> {
        let next = self.check(state, previous, &cert.proposal)?;
        cert.verify_votes(state.cluster_id, &self.electors(state))?;
        Ok(next)
    }

    /// Whether a proposal begins the generation of this loss, with the same members lost.
    pub fn is_meant_by(&self, proposal: &EpochProposal) -> bool {
        proposal.generation == self.generation && proposal.lost() == self.lost
    }
}

impl EpochProposal {
    /// The members it says are gone.
    pub fn lost(&self) -> BTreeSet<NodeId> {
        let lost = self.ops.iter().filter_map(|op| match op {
            EpochOp::SetState(node, MemberState::Left) => Some(*node),
            _ => None,
        });
        lost.collect()
    }
}

impl EpochState {
    /// A partition goes on with those of its replicas that did not leave; without any, with the
    /// longest active member, and empty.
    pub(super) fn force(&mut self, partition: Partition) -> Result<(), EpochError> {
        let (epoch, heir) = (self.epoch, self.active().next().map(|member| member.idx));
        let members = &self.members;
        let left = |set: &[MemberIdx]| -> Vec<MemberIdx> {
            let has_left = |idx: &MemberIdx| {
                let member = members.get(usize::from(*idx));
                member.is_none_or(|member| member.state == MemberState::Left)
            };
            set.iter().copied().filter(|idx| !has_left(idx)).collect()
        };
        let row = self.rows.get_mut(usize::from(partition));
        let row = row.ok_or(EpochError::BadOp("no such partition"))?;
        let all = [&row.current[..], &row.next].concat();
        require(left(&all).len() < all.len(), "no replica of the partition has left")?;
        // Whoever is read from has all rows there are.
        let (read, other) = match row.stage {
            Stage::Stable | Stage::Prepare => (&row.current, &row.next),
            Stage::Switch => (&row.next, &row.current),
        };
        let kept = [left(read), left(other), heir.into_iter().collect()];
        let kept = kept.into_iter().find(|set| !set.is_empty());
        row.current = kept.ok_or(EpochError::BadOp("no active member is left"))?;
        row.next.clear();
        row.changed = epoch;
        end_move(row, &all)
    }
}

impl Canonical for Loss {
    fn encode(&self, out: &mut Writer) {
        out.u64(self.generation);
        out.list(&self.lost.iter().copied().collect::<Vec<_>>());
    }

    fn decode(input: &mut Reader) -> Result<Self, DecodeError> {
        let generation = input.u64()?;
        let lost = input.list::<NodeId>("lost", super::MEMBERS_MAX)?;
        Ok(Self { generation, lost: lost.into_iter().collect() })
    }
}

/// Whether a certificate begins a new generation as its own electors decided; `voters` are those
/// of the generation before. For nodes that were told of the loss, and for those that know no layout.
pub(super) fn begins_generation(cluster: ClusterId, voters: &[NodeId], cert: &EpochCert) -> bool {
    let lost = cert.proposal.lost();
    let named = cert.proposal.ops.iter().rev().find_map(|op| match op {
        EpochOp::SetVoters(named) => Some(named),
        _ => None,
    });
    let Some(named) = named else { return false };
    let left: Vec<_> = voters.iter().filter(|voter| !lost.contains(voter)).collect();
    let are_those_left = left.is_empty() || named.iter().all(|voter| left.contains(&voter));
    are_those_left && cert.verify_votes(cluster, named).is_ok()
}
