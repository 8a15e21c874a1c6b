//! Vouching for a machine that only stores for others.

use dfs_core::id::NodeId;
use dfs_core::layout::epoch::{
    EpochError, EpochOp, EpochState, MemberIdx, MemberState, NO_CAP, Role,
};
use serde::{Deserialize, Serialize};
use tracing::info;

use super::Members;
use super::drain::is_called;
use crate::chain::ZONE_BYTES_MAX;
use crate::error::MemberError;

/// What a member may do, as it is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PeerRole {
    /// Has the key of a vault: votes, and asks for changes.
    Gateway,
    /// Holds sealed data for others.
    Storage,
    /// Nobody vouched for it yet: it holds nothing that counts.
    Unvouched,
}

impl From<Role> for PeerRole {
    fn from(role: Role) -> Self {
        match role {
            Role::Gateway => Self::Gateway,
            Role::Storage => Self::Storage,
            Role::Unvouched => Self::Unvouched,
        }
    }
}

/// A member that was vouched for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admission {
    /// Its id.
    pub id: String,
    /// Bytes that count of what it offers.
    pub cap: u64,
}

impl Members {
    /// Lets a node hold data, at most `cap` bytes of it: one that waits to be let in, a member that
    /// had another cap, or one that is drained. What this node has seen of how it behaves is
    /// forgotten.
    pub(crate) async fn admit(&self, name: &str, cap: u64) -> Result<Admission, MemberError> {
        let state = self.replica.joined()?;
        let node = match self.find(&state, name) {
            Err(MemberError::NoSuchMember(_)) => self.find_waiting(&state, name)?,
            found => found?.node_id,
        };
        if state.is_gateway(&node) {
            return Ok(Admission { id: node.to_string(), cap: NO_CAP });
        }
        self.proposals.decide_all(|state| self.admission(state, node, cap)).await?;
        self.replica.conduct.forgive(&node);
        info!(member = ?node, cap, "a node is vouched for");
        Ok(Admission { id: node.to_string(), cap })
    }

    /// What of an admission a layout still lacks.
    fn admission(
        &self,
        state: &EpochState,
        node: NodeId,
        cap: u64,
    ) -> Result<Vec<EpochOp>, MemberError> {
        let role = Role::Storage;
        if let Some(member) = state.member(&node) {
            if state.is_gateway(&node) {
                return Ok(Vec::new());
            }
            let grants = (member.role, member.cap) != (role, cap);
            let grants = grants.then_some(EpochOp::SetRole { node, role, cap });
            // One that was on its way out stays.
            let stays = member.state == MemberState::Draining;
            let stays = stays.then_some(EpochOp::SetState(node, MemberState::Active));
            return Ok(grants.into_iter().chain(stays).collect());
        }
        let info = self.replica.net().info(&node);
        let info = info.filter(|info| info.zone.len() <= ZONE_BYTES_MAX);
        let info = info.ok_or_else(|| MemberError::NoSuchMember(node.to_string()))?;
        let idx = MemberIdx::try_from(state.members.len());
        let idx = idx.map_err(|_| EpochError::BadOp("there are too many members"))?;
        Ok(EpochOp::add(node, idx, info.zone, info.capacity, role, cap).into())
    }

    /// The node in reach that is no member and is called so.
    fn find_waiting(&self, state: &EpochState, name: &str) -> Result<NodeId, MemberError> {
        let peers = self.replica.net().peers();
        let waits = peers.iter().filter(|peer| {
            let node = &peer.info.node_id;
            peer.down_for.is_none()
                && state.member(node).is_none()
                // What a stranger says of its address is nothing to admit it by.
                && is_called(node, &[], name)
        });
        let mut found = waits.map(|peer| peer.info.node_id);
        match (found.next(), found.next()) {
            (Some(one), None) => Ok(one),
            (None, _) => Err(MemberError::NoSuchMember(name.to_owned())),
            (Some(_), Some(_)) => Err(MemberError::Ambiguous(name.to_owned())),
        }
    }
}

/// What counts of a machine's space unless more is said: an invented size draws no more than this
/// share of the data to it.
pub const CAP: u64 = 1_000_000_000_000;
