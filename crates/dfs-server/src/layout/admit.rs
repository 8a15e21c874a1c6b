//! Vouching for a machine that only stores for others.

use dfs_core::layout::epoch::{EpochOp, EpochState, NO_CAP, Role};
use serde::{Deserialize, Serialize};
use tracing::info;

use super::Members;
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
    /// Lets a member hold data that counts, at most `cap` bytes of it.
    pub(crate) async fn admit(&self, name: &str, cap: u64) -> Result<Admission, MemberError> {
        let state = self.replica.joined()?;
        let node = self.find(&state, name)?.node_id;
        if state.is_gateway(&node) {
            return Ok(Admission { id: node.to_string(), cap: NO_CAP });
        }
        let ops = |state: &EpochState| {
            let now = state.member(&node).map(|member| (member.role, member.cap));
            let done = now.is_none_or(|now| now == (Role::Storage, cap)) || state.is_gateway(&node);
            let op = EpochOp::SetRole { node, role: Role::Storage, cap };
            Ok::<_, MemberError>(if done { Vec::new() } else { vec![op] })
        };
        self.proposals.decide_all(ops).await?;
        info!(member = ?node, cap, "a member is vouched for");
        Ok(Admission { id: node.to_string(), cap })
    }
}

/// What counts of a machine's space unless more is said: an invented size draws no more than this
/// share of the data to it.
pub const CAP: u64 = 1_000_000_000_000;
