//! Storing a blob: the reference that protects it first, then the bytes, on enough replicas.

use std::collections::BTreeSet;
use std::sync::Arc;

use dfs_core::id::NodeId;
use dfs_core::layout::epoch::EpochState;
use dfs_core::record::refs::RefRow;
pub(crate) use dfs_core::replica::op::store::Copies;
use dfs_core::replica::op::store::{Store, StoreEvent, StoreSpec, StoreTask};
use dfs_p2p::message::{Code, Priority, Refusal, Request, Response};
use dfs_store::blob::Blob;
use parking_lot::Mutex;
use tokio::sync::Semaphore;
use tracing::{debug, warn};

use super::{BLOB_DEADLINE, Blobs};
use crate::config::Mode;
use crate::error::Error;
use crate::rpc::drive::{Running, counting_writes};
use crate::rpc::{Ask, AskError, StepError};

/// How far one upload lets slow replicas fall behind.
#[derive(Debug)]
pub(crate) struct Lag {
    /// Blobs that a slow replica may still owe when the upload goes on.
    permits: Arc<Semaphore>,
    /// Replicas that this upload no longer waits for or sends to.
    behind: Mutex<BTreeSet<NodeId>>,
}

impl Default for Lag {
    fn default() -> Self {
        Self { permits: Arc::new(Semaphore::new(LAG_BLOBS_MAX)), behind: Mutex::default() }
    }
}

impl Lag {
    fn behind(&self) -> BTreeSet<NodeId> {
        self.behind.lock().clone()
    }

    fn leave_behind(&self, nodes: Vec<NodeId>) {
        warn!(peers = ?nodes, "an upload goes on without slow replicas");
        self.behind.lock().extend(nodes);
    }
}

type Sent = (NodeId, Result<(), AskError>);

impl Blobs {
    /// Stores a blob: first the reference that protects it, then the bytes, each durable on
    /// enough replicas before this returns.
    pub(crate) async fn store_blob(
        self: &Arc<Self>,
        blob: Blob,
        row: RefRow,
        lag: &Arc<Lag>,
        mode: Mode,
    ) -> Result<Copies, Error> {
        self.rpc.with_layout(|state| self.store_attempt(blob.clone(), row, lag, mode, state)).await
    }

    async fn store_attempt(
        self: &Arc<Self>,
        blob: Blob,
        row: RefRow,
        lag: &Arc<Lag>,
        mode: Mode,
        state: Arc<EpochState>,
    ) -> Result<Copies, StepError> {
        let needs_quorum = self.replica.is_quorum(mode, &state);
        let sets = state.write_sets(blob.id.partition(state.bits));
        let counting = counting_writes(needs_quorum);
        // What is being sent keeps the leave to lag, once there is one, until the last has ended.
        let leave = Arc::new(Mutex::new(None));
        let perform = |task| -> Option<Running<StoreEvent<NodeId, AskError>>> {
            let (this, lag, leave) = (self.clone(), lag.clone(), leave.clone());
            let (blob, epoch) = (blob.clone(), state.epoch);
            Some(match task {
                StoreTask::Note(node) => {
                    let ask = Ask::new(Priority::Records, Request::RefAdd(vec![row]));
                    let holds = |told| matches!(told, Response::Held(held) if held == [true]);
                    self.rpc.asking(node, epoch, ask, move |node, told| {
                        StoreEvent::Noted(node, told.map(holds))
                    })
                }
                StoreTask::LookBehind => {
                    Box::pin(async move { Ok(StoreEvent::Behind(lag.behind())) })
                }
                StoreTask::Send(node) => Box::pin(async move {
                    let (node, result) = this.send_blob(node, epoch, blob).await;
                    drop(leave);
                    Ok(StoreEvent::Sent(node, result))
                }),
                StoreTask::AskToLag => Box::pin(async move {
                    let Ok(permit) = lag.permits.clone().acquire_owned().await else {
                        return std::future::pending().await;
                    };
                    *leave.lock() = Some(permit);
                    Ok(StoreEvent::MayLag)
                }),
                StoreTask::LeaveBehind(nodes) => {
                    lag.leave_behind(nodes);
                    return None;
                }
                StoreTask::KeepHere => Box::pin(async move {
                    this.replica.store.add_refs(vec![row]).await?;
                    this.replica.store.put_blob(blob.id, blob.bytes).await?;
                    Ok(StoreEvent::Kept)
                }),
            })
        };
        let store = Store::new(StoreSpec { sets, counting, needs_quorum });
        Ok(self.rpc.drive(store, perform).await??)
    }

    async fn send_blob(self: Arc<Self>, node: NodeId, epoch: u64, blob: Blob) -> Sent {
        let ask = Ask {
            body: blob.bytes,
            deadline: BLOB_DEADLINE,
            ..Ask::new(Priority::Chunks, Request::ChunkPut(blob.id))
        };
        if self.replica.joined().is_ok_and(|state| self.replica.is_at_cap(&node, &state)) {
            let full = Refusal::new(Code::NoSpace, "it would hold more than it was admitted for");
            return (node, Err(full.into()));
        }
        let result = self.rpc.ask_again(&node, epoch, ask).await;
        if let Err(error) = &result {
            debug!(peer = ?node, %error, "a replica did not take a blob");
        }
        (node, result.map(|_| ()))
    }
}

/// Blobs that slow replicas may owe one upload: half the window again.
const LAG_BLOBS_MAX: usize = 2;
