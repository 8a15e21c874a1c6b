//! Who may have anything decided: admins sign every change, voters agree on its order.
//!
//! An admin is the key of whoever governs the cluster; gateways derive it from the vault key, and
//! no machine that only stores for others has it. So what such a machine proposes, however often it
//! votes for itself, is no epoch.

use ed25519_dalek::{Signer, SigningKey};

use super::{EpochError, EpochOp, EpochProposal, EpochState};
use crate::codec::{Canonical, Writer};
use crate::id::{AdminId, ClusterId, NodeId};
use crate::signature::verify_signature;

/// An admin's signature under a proposal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Authority {
    /// The admin.
    pub admin: AdminId,
    /// Its signature over the cluster and the hash of the proposal, which names the admin.
    pub signature: [u8; 64],
}

/// Who may decide what follows an epoch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deciders {
    /// The generation that they are of.
    pub generation: u64,
    /// Who votes.
    pub voters: Vec<NodeId>,
    /// Whose signature is needed.
    pub admins: Vec<AdminId>,
}

impl AdminId {
    /// The admin that has this key.
    pub fn of(key: &SigningKey) -> Self {
        Self::new(key.verifying_key().to_bytes())
    }
}

impl Deciders {
    /// Of a node that knows nothing yet but what founded the cluster.
    pub fn none() -> Self {
        Self { generation: 0, voters: Vec::new(), admins: Vec::new() }
    }
}

impl EpochState {
    /// Who decides the next epoch.
    pub fn deciders(&self) -> Deciders {
        let (voters, admins) = (self.voters.clone(), self.admins.clone());
        Deciders { generation: self.generation, voters, admins }
    }
}

impl EpochProposal {
    /// The proposal, signed by an admin. `cluster` says of which cluster, from the proposal that
    /// names its admin.
    #[must_use]
    pub fn authorized(mut self, key: &SigningKey, cluster: impl Fn(&Self) -> ClusterId) -> Self {
        let admin = AdminId::of(key);
        self.authority = Some(Authority { admin, signature: [0; 64] });
        let signature = key.sign(&authority_bytes(cluster(&self), &self.hash())).to_bytes();
        self.authority = Some(Authority { admin, signature });
        self
    }

    /// Checks that one of `admins` signed this; where there are none yet, one of those it names.
    ///
    /// # Errors
    /// [`EpochError::NotAuthorized`] when none did.
    pub(super) fn verify_authority(
        &self,
        cluster: ClusterId,
        admins: &[AdminId],
    ) -> Result<(), EpochError> {
        let named = self.ops.iter().find_map(|op| match op {
            EpochOp::SetAdmins(named) => Some(&named[..]),
            _ => None,
        });
        let may = if admins.is_empty() { named.unwrap_or_default() } else { admins };
        let holds = match &self.authority {
            // Of the time before admins.
            None => may.is_empty(),
            Some(Authority { admin, signature }) => {
                let message = authority_bytes(cluster, &self.hash());
                may.contains(admin)
                    && verify_signature(admin.as_bytes(), &message, signature).is_ok()
            }
        };
        if holds { Ok(()) } else { Err(EpochError::NotAuthorized) }
    }
}

fn authority_bytes(cluster: ClusterId, hash: &[u8; 32]) -> Vec<u8> {
    let mut out = Writer::default();
    out.fixed(b"dfs-admin-v1\0");
    cluster.encode(&mut out);
    out.fixed(hash);
    out.into_vec()
}
