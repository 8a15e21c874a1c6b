//! Answering a gateway that wants to be shown that blobs are still here.

use std::sync::Arc;
use std::time::Duration;

use dfs_core::id::BlobId;
use dfs_core::replica::possession::{Proof, digest};
use dfs_core::replica::withheld::Withheld;
use dfs_p2p::Caller;
use dfs_p2p::message::{Code, Refusal, Response};
use dfs_store::ReadError;
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::replica::Replica;
use crate::rpc::answer::{Told, done, refusal};

/// Answers challenges, and withholds the blobs they are about meanwhile.
pub(crate) struct Challenged {
    replica: Arc<Replica>,
    withheld: Mutex<Withheld>,
    /// What its times count from.
    origin: Instant,
}

impl Challenged {
    pub(super) fn new(replica: Arc<Replica>) -> Self {
        Self { origin: replica.env.mono(), replica, withheld: Mutex::default() }
    }

    /// Answers a challenge: every blob is read, and checked, from the disk. Bounded by what one
    /// challenger, and all together, may have under challenge at once.
    pub(crate) async fn on_prove(&self, from: Caller, nonce: [u8; 32], ids: Vec<BlobId>) -> Told {
        let within = self.replica.conduct.cadence.answer_within;
        let now = self.since_start();
        let taken = self.withheld.lock().challenge(from.node, &ids, now, within);
        taken.map_err(|wait| later("too many challenges", wait))?;
        let mut proofs = Vec::with_capacity(ids.len());
        for id in ids {
            proofs.push(self.prove(nonce, id).await);
        }
        done(Response::Proofs(proofs))
    }

    async fn prove(&self, nonce: [u8; 32], id: BlobId) -> Proof {
        match self.replica.store.get_blob(id).await {
            Ok(blob) => {
                let shown = self.replica.env.offload(move || digest(&nonce, &blob.bytes));
                Proof::Digest(shown.await)
            }
            Err(ReadError::Corrupt(_)) => {
                self.replica.missing.want_now(id);
                Proof::HaveNot
            }
            Err(ReadError::NotHeld(_)) => Proof::HaveNot,
            Err(ReadError::Io(..) | ReadError::Index(_)) => Proof::Unread,
        }
    }

    /// Refuses a blob that is under a challenge to whoever only stores, and may have thrown its own
    /// copy away.
    pub(super) fn refuse(&self, from: Caller, id: &BlobId) -> Result<(), Refusal> {
        let Some(left) = self.withheld.lock().left(id, self.since_start()) else { return Ok(()) };
        let state = self.replica.layout.current();
        let is_trusted = state.is_none_or(|state| {
            state.admins.is_empty() || state.is_gateway(&from.node) || from.node == self.replica.id
        });
        if is_trusted { Ok(()) } else { Err(later("members are challenged for the blob", left)) }
    }

    fn since_start(&self) -> Duration {
        self.replica.env.mono().saturating_duration_since(self.origin)
    }
}

fn later(why: &str, wait: Duration) -> Refusal {
    Refusal { retry_after: Some(wait), ..refusal(Code::Overloaded, why) }
}
