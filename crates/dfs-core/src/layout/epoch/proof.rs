//! What proves that an epoch was decided: votes, and how to trust those who cast them.

use std::cmp::Ordering;

use ed25519_dalek::{Signer, SigningKey};

use super::recovery::begins_generation;
use super::{Deciders, EpochCert, EpochError, EpochOp, EpochProposal, Vote};
use crate::codec::{Canonical, Writer};
use crate::id::{ClusterId, NodeId};
use crate::paxos::Ballot;
use crate::signature::verify_signature;

impl EpochProposal {
    /// One voter's signature for this proposal under a ballot. The voter must have it on disk as
    /// accepted under that ballot before anyone sees the signature.
    pub fn vote(&self, cluster: ClusterId, ballot: Ballot, key: &SigningKey) -> Vote {
        let voter = NodeId::new(key.verifying_key().to_bytes());
        let message = vote_bytes(cluster, self.epoch, ballot, &self.hash());
        Vote { voter, signature: key.sign(&message).to_bytes() }
    }

    /// Decides the proposal as the only voter. The voter must have no other proposal for this
    /// slot on disk, and must have this one there before it shows the result to anyone.
    pub fn sign_alone(self, cluster: ClusterId, key: &SigningKey) -> EpochCert {
        let ballot = Ballot { round: 1, node: NodeId::new(key.verifying_key().to_bytes()) };
        let vote = self.vote(cluster, ballot, key);
        EpochCert { proposal: self, ballot, votes: vec![vote] }
    }
}

impl Vote {
    /// Whether the voter cast this vote, for this proposal under this ballot. One signature check.
    pub fn is_genuine(&self, cluster: ClusterId, ballot: Ballot, of: &EpochProposal) -> bool {
        let message = vote_bytes(cluster, of.epoch, ballot, &of.hash());
        verify_signature(self.voter.as_bytes(), &message, &self.signature).is_ok()
    }
}

impl EpochCert {
    /// Whether this is the epoch that founded the cluster: its hash is the cluster's id.
    pub fn founds(&self, cluster: ClusterId) -> bool {
        self.proposal.epoch == 1 && ClusterId::new(self.proposal.hash()) == cluster
    }

    /// Checks that a majority of `voters` signed this very proposal under one ballot.
    ///
    /// # Errors
    /// [`EpochError::NotDecided`] when they did not.
    pub fn verify_votes(&self, cluster: ClusterId, voters: &[NodeId]) -> Result<(), EpochError> {
        let hash = self.proposal.hash();
        let message = vote_bytes(cluster, self.proposal.epoch, self.ballot, &hash);
        let genuine = |voter: &&NodeId| {
            self.votes.iter().any(|vote| {
                vote.voter == **voter
                    && verify_signature(voter.as_bytes(), &message, &vote.signature).is_ok()
            })
        };
        let count = voters.iter().filter(genuine).count();
        if count > voters.len() / 2 { Ok(()) } else { Err(EpochError::NotDecided) }
    }
}

/// Who may decide after the given changes, beginning with those that are trusted, or with the epoch
/// that founded the cluster.
///
/// Whoever lags too far to follow every epoch needs only those that changed the voters or admins:
/// each was signed by an admin and decided by the voters that the change before it named, or by
/// whoever was left of them, where it begins a generation after that of `known` and `trusts` says
/// that the loss it speaks of is known; `knows` says who is a member, for a generation that none of
/// the voters began. `O(changes * voters)` signature checks.
///
/// # Errors
/// [`EpochError::NotNext`] when they are out of order, [`EpochError::NotDecided`] when a change
/// lacks the votes of those before it, [`EpochError::NotAuthorized`] when it lacks an admin's.
pub fn deciders_after(
    cluster: ClusterId,
    known: Deciders,
    changes: &[EpochCert],
    knows: impl Fn(&NodeId) -> bool,
    trusts: impl Fn(&EpochProposal) -> bool,
) -> Result<Deciders, EpochError> {
    let mut deciders = known;
    if !changes.is_sorted_by(|a, b| a.proposal.epoch < b.proposal.epoch) {
        return Err(EpochError::NotNext);
    }
    for cert in changes {
        cert.proposal.verify_authority(cluster, &deciders.admins)?;
        match cert.proposal.generation.cmp(&deciders.generation) {
            Ordering::Less => return Err(EpochError::NotNext),
            Ordering::Equal if cert.founds(cluster) => {}
            Ordering::Equal => cert.verify_votes(cluster, &deciders.voters)?,
            Ordering::Greater => {
                deciders.generation = cert.proposal.generation;
                // Whom to trust is asked only about what was signed by those who may.
                let begins = begins_generation(cluster, &deciders.voters, cert, &knows);
                if !begins || !trusts(&cert.proposal) {
                    return Err(EpochError::NotDecided);
                }
            }
        }
        for op in &cert.proposal.ops {
            match op {
                EpochOp::SetVoters(named) => deciders.voters.clone_from(named),
                EpochOp::SetAdmins(named) => deciders.admins.clone_from(named),
                _ => {}
            }
        }
    }
    Ok(deciders)
}

fn vote_bytes(cluster: ClusterId, slot: u64, ballot: Ballot, hash: &[u8; 32]) -> Vec<u8> {
    let mut out = Writer::default();
    out.fixed(b"dfs-epoch-v1\0");
    cluster.encode(&mut out);
    out.u64(slot);
    ballot.encode(&mut out);
    out.fixed(hash);
    out.into_vec()
}
