//! Fetching a blob from this disk or whichever peer has it; every byte is checked against its id.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use dfs_core::id::{BlobId, NodeId};
use dfs_core::layout::epoch::EpochState;
use dfs_core::replica::conduct::Fault;
use dfs_core::replica::op::fetch::{Fetch, FetchEvent, FetchSpec, FetchTask, Fetched, Movement};
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
        let _wanted = self.fetching.want(id);
        self.let_repair_end(&id).await;
        let blob = self.find_blob(id, Priority::Chunks).await?;
        if self.replica.missing.is_wanted(&id) {
            self.keep_later(blob.clone());
        }
        Ok(blob.bytes)
    }

    /// Waits while a blob is being fetched for this disk and the line is full: asked for once more
    /// it would come later, and twice.
    async fn let_repair_end(&self, id: &BlobId) {
        while self.fetching.is_repaired(id) && self.look_at_line() {
            let _ = self.replica.env.timeout(HEDGE_AFTER, self.fetching.one_ended()).await;
        }
    }

    /// A verified blob from a peer, for this disk; `None` when it comes already.
    pub(crate) async fn fetch_for_disk(
        self: &Arc<Self>,
        id: BlobId,
        state: &Arc<EpochState>,
    ) -> Result<Option<Blob>, Error> {
        let Some(_repaired) = self.fetching.repair(id) else { return Ok(None) };
        let may_wait = self.replica.missing.may_wait(&id);
        // Over a slow line a peer that brings it takes its time.
        if may_wait && self.replica.net().is_arriving(&id) {
            debug!(blob = ?id, "a blob is arriving");
            return Ok(None);
        }
        let slow = if may_wait { self.slow_holders(id, state) } else { BTreeSet::new() };
        let blob = match self.fetch_without(&slow, id, state, Priority::Background).await {
            // One behind a slow line may just be bringing it to a nearer one.
            Err(Error::Lost(_) | Error::Unavailable(_)) if !slow.is_empty() => {
                debug!(blob = ?id, ?slow, "a blob may be on its way over a slow line");
                return Ok(None);
            }
            fetched => fetched?,
        };
        self.replica.store.restore_blob(blob.clone()).await?;
        Ok(Some(blob))
    }

    /// Keeps what came for someone and is missing here, so that it is not fetched once more.
    fn keep_later(&self, blob: Blob) {
        let replica = self.replica.clone();
        self.replica.finisher.finish_later(async move {
            let (id, len) = (blob.id, blob.bytes.len() as u64);
            match replica.store.restore_blob(blob).await {
                Ok(()) => {
                    replica.missing.fetched(replica.env.mono(), len);
                    replica.missing.found(&id);
                }
                Err(error) => debug!(blob = ?id, %error, "what was fetched could not be kept"),
            }
        });
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

    /// Whether a peer was slow lately.
    fn is_slow(&self, node: &NodeId) -> bool {
        self.replica.net().arrival_rate(node).is_some_and(|rate| rate < SLOW_PEER_BYTES)
    }

    /// Those that should hold a blob and were slow lately, unless all in reach were: then the slow
    /// line is that of this node.
    fn slow_holders(&self, id: BlobId, state: &EpochState) -> BTreeSet<NodeId> {
        let mut holders = state.holders(id.partition(state.bits));
        holders.retain(|node| *node != self.replica.id && self.replica.is_reachable(node));
        let slow: BTreeSet<_> = holders.iter().copied().filter(|node| self.is_slow(node)).collect();
        if slow.len() == holders.len() { BTreeSet::new() } else { slow }
    }

    /// A verified blob from a peer.
    async fn fetch_remote(
        self: &Arc<Self>,
        id: BlobId,
        state: &Arc<EpochState>,
        priority: Priority,
    ) -> Result<Blob, Error> {
        self.fetch_without(&BTreeSet::new(), id, state, priority).await
    }

    /// A verified blob from a peer that is none of those left out.
    async fn fetch_without(
        self: &Arc<Self>,
        left_out: &BTreeSet<NodeId>,
        id: BlobId,
        state: &Arc<EpochState>,
        priority: Priority,
    ) -> Result<Blob, Error> {
        let replicas = state.holders(id.partition(state.bits));
        let may_ask = |node: &NodeId| *node != self.replica.id && !left_out.contains(node);
        let mut candidates: Vec<NodeId> = replicas.iter().copied().filter(may_ask).collect();
        let net = self.replica.net();
        candidates.sort_by_key(|node| (!self.replica.is_reachable(node), self.is_slow(node)));
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
        self.look_at_line();
        let mut asked = Vec::new();
        let perform = |task| -> Option<Running<FetchEvent<NodeId, Blob, AskError>>> {
            let this = self.clone();
            Some(match task {
                FetchTask::Ask(node) => {
                    asked.push(node);
                    Box::pin(async move {
                        let result = this.get_blob_from(node, id, priority).await;
                        Ok(FetchEvent::Answered(node, result))
                    })
                }
                FetchTask::Look => {
                    let is_full = self.look_at_line();
                    let moves = asked.iter().any(|node| net.has_brought(node, hedge_after));
                    let looked = FetchEvent::Looked(Movement { moves, is_full });
                    Box::pin(async move { Ok(looked) })
                }
            })
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
    ) -> Result<Blob, AskError> {
        let ask = Ask {
            answer_bytes_max: BLOB_BYTES_MAX,
            deadline: BLOB_DEADLINE,
            ..Ask::new(priority, Request::ChunkGet(id))
        };
        let (_, bytes) = self.rpc.ask_again(&node, 0, ask).await?;
        if let Some(blob) = self.replica.env.offload(move || Blob::checked(id, bytes)).await {
            return Ok(blob);
        }
        let now = self.replica.env.mono();
        self.replica.conduct.fault(now, &node, Fault::WrongBytes, *id.as_bytes());
        let report = Ask::new(Priority::Background, Request::ReportCorrupt(id));
        let _ = self.rpc.ask(&node, 0, report).await;
        Err(Refusal::new(Code::Corrupt, "it sent other bytes").into())
    }

    /// Looks how much comes in; whether it is as much as the line carries.
    fn look_at_line(&self) -> bool {
        let (now, received) = (self.replica.env.mono(), self.replica.net().received());
        let mut line = self.line.lock();
        line.note(now.saturating_duration_since(self.began), received);
        line.is_full()
    }
}

/// How long the first peer may take before a second one is asked as well, where someone waits.
const HEDGE_AFTER: Duration = Duration::from_millis(250);
/// Who sent less in a second lately is asked after the others: it is behind a slow line.
const SLOW_PEER_BYTES: u64 = 2 * 1024 * 1024;
/// Members asked for a blob that are not its replicas.
const STRANGERS_ASKED_MAX: usize = 16;
