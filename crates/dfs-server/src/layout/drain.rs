//! Taking a member out: draining one that is well, removing one that will not come back.

use std::sync::Arc;

use dfs_core::id::{NodeId, Partition, hex};
use dfs_core::layout::epoch::{EpochOp, EpochState, Member, MemberState};
use dfs_core::layout::voters::voters_without;
use dfs_core::quorum::Tally;
use dfs_env::{Bug, bug};
use tracing::info;

use super::Proposals;
use crate::chain::Chain;
use crate::error::MemberError;
use crate::replica::Replica;

/// Changes that an operator makes to who is a member.
pub(crate) struct Members {
    pub(super) replica: Arc<Replica>,
    pub(super) chain: Arc<Chain>,
    pub(super) proposals: Arc<Proposals>,
}

/// What becomes of a member that is to be removed and runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Running {
    /// It is not removed: draining takes it out without a gap.
    Stays,
    /// It is evicted: nothing that it holds is waited for or asked of it, and the others make what
    /// it held anew.
    Evicted,
}

/// A member that is taken out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Departure {
    /// Its id.
    pub id: String,
    /// How many copies of everything there will be without it.
    pub copies: usize,
    /// How many there should be.
    pub copies_wanted: usize,
}

impl Members {
    pub(crate) fn new(proposals: Arc<Proposals>) -> Self {
        let (replica, chain) = (proposals.replica.clone(), proposals.chain.clone());
        Self { replica, chain, proposals }
    }

    /// Has a member give its partitions to the others; it leaves once it holds nothing.
    pub(crate) async fn drain(&self, name: &str) -> Result<Departure, MemberError> {
        let state = self.replica.joined()?;
        let member = self.find(&state, name)?;
        if member.state == MemberState::Out {
            return Err(MemberError::IsAway);
        }
        self.set_state(member.node_id, MemberState::Draining).await?;
        info!(member = ?member.node_id, "a member is drained");
        Ok(departure(&state, &member.node_id))
    }

    /// Takes out a member that will not come back, or shall not though it runs. Its id never takes
    /// part again.
    pub(crate) async fn remove(
        &self,
        name: &str,
        running: Running,
    ) -> Result<Departure, MemberError> {
        let state = self.replica.joined()?;
        let member = self.find(&state, name)?;
        let stays = running == Running::Stays || bug(Bug::RunningIsNotEvicted);
        if stays && self.replica.is_reachable(&member.node_id) {
            return Err(MemberError::IsRunning(name.to_owned()));
        }
        let partitions = self.partitions_without(&state, member.idx);
        if partitions > 0 {
            return Err(MemberError::TooFewReplicas { partitions });
        }
        self.set_state(member.node_id, MemberState::Left).await?;
        info!(member = ?member.node_id, "a member is removed");
        Ok(departure(&state, &member.node_id))
    }

    /// The member that did not leave and has this address, or an id that begins so.
    pub(super) fn find(&self, state: &EpochState, name: &str) -> Result<Member, MemberError> {
        let is_called = |member: &&Member| {
            let info = self.replica.net().info(&member.node_id);
            let addrs = info.map(|info| info.addrs).unwrap_or_default();
            is_called(&member.node_id, &addrs, name)
        };
        let mut found = state.present().filter(is_called);
        match (found.next(), found.next()) {
            (Some(one), None) => Ok(one.clone()),
            (None, _) => Err(MemberError::NoSuchMember(name.to_owned())),
            (Some(_), Some(_)) => Err(MemberError::Ambiguous(name.to_owned())),
        }
    }

    /// Partitions of which so few replicas beside one answer that they may lack a write.
    fn partitions_without(&self, state: &EpochState, idx: u16) -> usize {
        let answers =
            |other: &u16| state.node(*other).is_some_and(|node| self.replica.is_reachable(&node));
        let is_at_risk = |partition: &Partition| {
            let row = state.row(*partition);
            let up = row.current.iter().filter(|other| **other != idx && answers(other)).count();
            row.current.contains(&idx) && up < Tally::<NodeId>::read_majority(row.current.len())
        };
        (0..=Partition::MAX).take(state.rows.len()).filter(is_at_risk).count()
    }

    /// Has a member's state decided, this node proposing it.
    async fn set_state(&self, member: NodeId, to: MemberState) -> Result<(), MemberError> {
        let ops = |state: &EpochState| {
            let now = state.member(&member).map(|member| member.state);
            if now == Some(to) || now == Some(MemberState::Left) {
                return Ok(Vec::new());
            }
            if state.active().all(|active| active.node_id == member) {
                return Err(MemberError::LastMember);
            }
            if state.is_gateway(&member) && state.electable().all(|one| one.node_id == member) {
                return Err(MemberError::LastGateway);
            }
            let voters = voters_without(state, &member).filter(|_| to == MemberState::Left);
            let voters = voters.map(EpochOp::SetVoters);
            Ok(voters.into_iter().chain([EpochOp::SetState(member, to)]).collect())
        };
        self.proposals.decide_all(ops).await.map(|_| ())
    }
}

fn departure(state: &EpochState, member: &NodeId) -> Departure {
    let copies_wanted = usize::from(state.target_copies);
    let left = state.active().filter(|active| active.node_id != *member).count();
    Departure { id: member.to_string(), copies: copies_wanted.min(left), copies_wanted }
}

/// Whether a node has this address, or an id that begins so.
pub(super) fn is_called(node: &NodeId, addrs: &[String], name: &str) -> bool {
    let has_id = || node.to_string().starts_with(name) || hex(node.as_bytes()).starts_with(name);
    addrs.iter().any(|addr| addr == name) || (name.len() >= ID_PREFIX_MIN && has_id())
}

/// The shortest beginning of an id that names a member.
const ID_PREFIX_MIN: usize = 4;
