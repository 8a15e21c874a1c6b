//! What an operator may decide by hand after a disaster: that members are gone for ever, though the
//! others cannot be sure to have all that those held, or though they were the majority of the
//! voters.
//!
//! Nothing here happens by itself, for from one side of a cut the other side looks the same. Where
//! a majority of the voters is left, they decide as always ([`Loss::ops`]). Where it is not, those
//! left decide alone under a higher generation, and each node follows them only once its own
//! operator has told it of the same loss.

use std::collections::BTreeSet;

use super::{
    EpochCert, EpochError, EpochOp, EpochProposal, EpochState, Member, MemberIdx, MemberState,
    NO_CAP, Role, Stage, VOTERS_MAX, moving::end_move, require,
};
use crate::id::{ClusterId, NodeId, Partition};
use crate::quorum::Tally;

/// Members that are gone for ever, as an operator says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loss {
    /// The generation that begins with it.
    pub generation: u64,
    /// The members.
    pub lost: BTreeSet<NodeId>,
    /// A machine with an admin's key that takes over where no gateway is left: it becomes one.
    pub heir: Option<Heir>,
}

/// Who takes over a cluster without gateways.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heir {
    /// The node.
    pub node: NodeId,
    /// Its failure domain.
    pub zone: String,
    /// Bytes it offers.
    pub capacity: u64,
}

impl Loss {
    /// A loss that a cluster goes on from.
    pub fn of(state: &EpochState, lost: BTreeSet<NodeId>) -> Self {
        Self { generation: state.generation.saturating_add(1), lost, heir: None }
    }

    /// The epoch that begins the generation: above all that the generation before can ever reach,
    /// so that its number alone says which of two layouts counts.
    pub fn epoch(&self) -> u64 {
        self.generation.saturating_mul(EPOCHS_IN_GENERATION)
    }

    /// The partitions of which so many replicas are among the lost, or left before, that the others
    /// may lack a write.
    pub fn at_risk(&self, state: &EpochState) -> Vec<Partition> {
        let is_gone = |idx: &MemberIdx| {
            let member = state.members.get(usize::from(*idx));
            member.is_some_and(|member| {
                member.state == MemberState::Left || self.lost.contains(&member.node_id)
            })
        };
        let lacks = |set: &[MemberIdx]| {
            let left = set.iter().filter(|idx| !is_gone(idx)).count();
            left < set.len() && left < Tally::<NodeId>::read_majority(set.len())
        };
        let rows = (0..=Partition::MAX).zip(&state.rows);
        rows.filter(|(_, row)| lacks(&row.current) || lacks(&row.next)).map(|(p, _)| p).collect()
    }

    /// Whether too few voters are left to decide anything.
    pub fn is_of_majority(&self, state: &EpochState) -> bool {
        let is_left = |voter: &&NodeId| !self.lost.contains(voter) && state.is_member(voter);
        state.voters.iter().filter(is_left).count() <= state.voters.len() / 2
    }

    /// What the loss makes of the layout: the members have left, and the partitions at risk go on
    /// with whoever is left of them.
    pub fn ops(&self, state: &EpochState) -> Vec<EpochOp> {
        let lost = state.present().filter(|member| self.lost.contains(&member.node_id));
        let left = lost.map(|member| EpochOp::SetState(member.node_id, MemberState::Left));
        left.chain(self.at_risk(state).into_iter().map(EpochOp::Force)).collect()
    }

    /// Who decides where the majority of the voters is lost: the voters that are left, an odd
    /// number, or without any the longest gateways, or without any the heir.
    pub fn electors(&self, state: &EpochState) -> Vec<NodeId> {
        let is_left = |node: &NodeId| !self.lost.contains(node) && state.is_member(node);
        let voters: Vec<NodeId> = state.voters.iter().copied().filter(is_left).collect();
        if !voters.is_empty() {
            return odd(voters);
        }
        let active = state.electable().map(|member| member.node_id).filter(is_left);
        let active: Vec<NodeId> = active.take(VOTERS_MAX).collect();
        match (&self.heir, active.is_empty()) {
            (Some(heir), true) => vec![heir.node],
            _ => odd(active),
        }
    }

    /// The proposal that begins the new generation, which an admin has yet to sign: the same for
    /// every node with this layout.
    ///
    /// # Errors
    /// [`EpochError::BadOp`] when nobody would be left, [`EpochError::NotNext`] when the generation
    /// has begun.
    pub fn propose(
        &self,
        state: &EpochState,
        previous: [u8; 32],
        proposer: NodeId,
    ) -> Result<(EpochState, EpochProposal), EpochError> {
        let mut ops = self.ops(state);
        let electors = self.electors(state);
        if let Some(heir) = &self.heir {
            require(electors == [heir.node], "a gateway is left, so there is no heir")?;
            ops.extend(heir.ops(state)?);
        }
        ops.push(EpochOp::SetVoters(electors));
        let (epoch, generation) = (self.epoch(), self.generation);
        if generation <= state.generation || epoch <= state.epoch {
            return Err(EpochError::NotNext);
        }
        let mut next = state.apply_as(epoch, &ops)?;
        next.generation = generation;
        let state_hash = next.hash();
        let authority = None;
        let proposal =
            EpochProposal { generation, epoch, previous, ops, state_hash, proposer, authority };
        Ok((next, proposal))
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
        if proposal.epoch != own.epoch || proposal.previous != previous {
            return Err(EpochError::NotNext);
        }
        proposal.verify_authority(state.cluster_id, &state.admins)?;
        let own = EpochProposal { authority: proposal.authority.clone(), ..own };
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
}

impl Heir {
    fn ops(&self, state: &EpochState) -> Result<[EpochOp; 2], EpochError> {
        let Self { node, zone, capacity } = self.clone();
        let idx = MemberIdx::try_from(state.members.len());
        let idx = idx.map_err(|_| EpochError::BadOp("there are too many members"))?;
        Ok(EpochOp::add(node, idx, zone, capacity, Role::Gateway, NO_CAP))
    }
}

impl EpochProposal {
    /// The loss it goes on from, if it begins a generation.
    pub fn loss(&self) -> Loss {
        Loss { generation: self.generation, lost: self.lost(), heir: self.heir() }
    }

    fn heir(&self) -> Option<Heir> {
        self.ops.iter().find_map(|op| match op {
            EpochOp::AddMember(Member { node_id, zone, capacity, .. }) => {
                Some(Heir { node: *node_id, zone: zone.clone(), capacity: *capacity })
            }
            _ => None,
        })
    }

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
    /// A partition goes on with those of its replicas that did not leave: of one set, if it is sure
    /// to have every write, else of both. Without any, with the longest active member, and empty.
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
        let mut all = [&row.current[..], &row.next].concat();
        all.sort_unstable();
        all.dedup();
        require(left(&all).len() < all.len(), "no replica of the partition has left")?;
        // A set that has every write, as long as so many of it are left that one of them has each.
        let whole: &[_] = match row.stage {
            Stage::Stable | Stage::Prepare => &[&row.current],
            Stage::Switch => &[&row.next, &row.current],
        };
        let is_sure =
            |set: &&&Vec<MemberIdx>| left(set).len() >= Tally::<NodeId>::read_majority(set.len());
        let kept = whole.iter().find(is_sure).map(|set| left(set));
        let kept = [kept.unwrap_or_default(), left(&all), heir.into_iter().collect()];
        let kept = kept.into_iter().find(|set| !set.is_empty());
        row.current = kept.ok_or(EpochError::BadOp("no active member is left"))?;
        row.next.clear();
        row.changed = epoch;
        end_move(row, &all)
    }
}

/// Whether a certificate begins a new generation as its electors decided. `voters` are those before
/// it; `knows` says whether a node is a member, for the case that all of them are lost.
pub(super) fn begins_generation(
    cluster: ClusterId,
    voters: &[NodeId],
    cert: &EpochCert,
    knows: impl Fn(&NodeId) -> bool,
) -> bool {
    let proposal = &cert.proposal;
    let (lost, loss) = (proposal.lost(), proposal.generation.checked_mul(EPOCHS_IN_GENERATION));
    let named = proposal.ops.iter().rev().find_map(|op| match op {
        EpochOp::SetVoters(named) => Some(named),
        _ => None,
    });
    let Some(named) = named.filter(|_| !voters.is_empty() && loss == Some(proposal.epoch)) else {
        return false;
    };
    let left = odd(voters.iter().copied().filter(|voter| !lost.contains(voter)).collect());
    let are_electors = if left.is_empty() {
        let heir = proposal.heir().map(|heir| heir.node);
        named.iter().all(|node| (knows(node) && !lost.contains(node)) || heir == Some(*node))
    } else {
        left == *named
    };
    are_electors && cert.verify_votes(cluster, named).is_ok()
}

/// Whether an epoch of this number begins a generation after the first.
pub fn begins_with(epoch: u64) -> bool {
    epoch > 0 && epoch.is_multiple_of(EPOCHS_IN_GENERATION)
}

/// An odd number of these: without the last, or all.
fn odd(mut nodes: Vec<NodeId>) -> Vec<NodeId> {
    if nodes.len().is_multiple_of(2) {
        nodes.pop();
    }
    nodes
}

/// Room for the epochs of one generation: more than there will ever be.
const EPOCHS_IN_GENERATION: u64 = 1 << 32;
