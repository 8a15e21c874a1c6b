//! Fetching a blob from this disk or whichever peer has it; every byte is checked against its id.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use dfs_core::id::{BlobId, NodeId};
use dfs_core::layout::epoch::EpochState;
use dfs_core::replica::conduct::Fault;
use dfs_core::replica::op::fetch::{Fetch, FetchSpec, Fetched};
use dfs_env::{Bug, bug};
use dfs_p2p::message::{Code, Priority, Refusal, Request};
use dfs_store::ReadError;
use dfs_store::blob::{BLOB_BYTES_MAX, Blob};
use tracing::debug;

use super::{BLOB_DEADLINE, Blobs};
use crate::error::Error;
use crate::rpc::drive::{Running, told};
use crate::rpc::{Ask, AskError};

impl Blobs {
    /// A verified blob, from this disk or whichever peer has it.
    ///
    /// A peer that lacks it, sends something else or is silent costs a bounded delay.
    pub(crate) async fn fetch_blob(self: &Arc<Self>, id: BlobId) -> Result<Bytes, Error> {
        let _waited = self.replica.load.begin();
        Ok(self.find_blob(id, Priority::Chunks).await?.bytes)
    }

    /// The same, whether or not someone waits for it.
    pub(crate) async fn find_blob(
        self: &Arc<Self>,
        id: BlobId,
        priority: Priority,
    ) -> Result<Blob, Error> {
        let mut here = None;
        match self.replica.store.get_blob(id).await {
            Ok(blob) => return Ok(blob),
            Err(ReadError::Corrupt(_)) => self.replica.missing.want_now(id),
            Err(ReadError::NotHeld(_)) => {}
            Err(error) => {
                debug!(blob = ?id, %error, "a blob could not be read here");
                here = Some(error.to_string());
            }
        }
        let state = self.replica.joined()?;
        match (self.fetch_remote(id, &state, priority).await, here) {
            // This disk may still have it, and only could not be asked.
            (Err(Error::Lost(_)), Some(why)) => {
                Err(Error::Unavailable(vec![(self.replica.id, why)]))
            }
            (fetched, _) => fetched,
        }
    }

    /// A verified blob from a peer.
    pub(crate) async fn fetch_remote(
        self: &Arc<Self>,
        id: BlobId,
        state: &Arc<EpochState>,
        priority: Priority,
    ) -> Result<Blob, Error> {
        let replicas = state.holders(id.partition(state.bits));
        let mut candidates: Vec<NodeId> =
            replicas.iter().copied().filter(|node| *node != self.replica.id).collect();
        candidates.sort_by_key(|node| !self.replica.is_reachable(node));
        let others = state.present().map(|member| member.node_id);
        let others = others.filter(|node| {
            *node != self.replica.id && !replicas.contains(node) && self.replica.is_reachable(node)
        });
        candidates.extend(others.take(STRANGERS_ASKED_MAX));
        if bug(Bug::FetchAsksOne) {
            candidates.truncate(1);
        }
        // A second copy on its way takes from the line what the first one needs.
        let hedge_after = match priority {
            Priority::Background => BLOB_DEADLINE / 2,
            _ => HEDGE_AFTER,
        };
        let replicas = replicas.into_iter().collect();
        let fetch = Fetch::new(FetchSpec { candidates, replicas, hedge_after });
        let perform = |node| -> Option<Running<(NodeId, Result<Blob, AskError>)>> {
            let this = self.clone();
            Some(Box::pin(async move { Ok(this.get_blob_from(node, id, priority).await) }))
        };
        match self.rpc.drive(fetch, perform).await? {
            Fetched::Found(blob) => Ok(blob),
            Fetched::Lost => Err(Error::Lost(format!("blob {id}"))),
            Fetched::Unavailable(away) => Err(Error::Unavailable(told(away))),
        }
    }

    async fn get_blob_from(
        self: Arc<Self>,
        node: NodeId,
        id: BlobId,
        priority: Priority,
    ) -> (NodeId, Result<Blob, AskError>) {
        let ask = Ask {
            answer_bytes_max: BLOB_BYTES_MAX,
            deadline: BLOB_DEADLINE,
            ..Ask::new(priority, Request::ChunkGet(id))
        };
        let result = match self.rpc.ask_again(&node, 0, ask).await {
            Err(error) => Err(error),
            Ok((_, bytes)) => {
                match self.replica.env.offload(move || Blob::checked(id, bytes)).await {
                    Some(blob) => Ok(blob),
                    None => {
                        let now = self.replica.env.mono();
                        let fault = Fault::WrongBytes;
                        self.replica.conduct.fault(now, &node, fault, *id.as_bytes());
                        let report = Ask::new(Priority::Background, Request::ReportCorrupt(id));
                        let _ = self.rpc.ask(&node, 0, report).await;
                        let why = "it sent other bytes";
                        Err(Refusal::new(Code::Corrupt, why).into())
                    }
                }
            }
        };
        (node, result)
    }
}

/// How long the first peer may take before a second one is asked as well, where someone waits.
const HEDGE_AFTER: Duration = Duration::from_millis(250);
/// Members asked for a blob that are not its replicas.
const STRANGERS_ASKED_MAX: usize = 16;
