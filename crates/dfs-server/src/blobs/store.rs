//! Storing a blob: the reference that protects it first, then the bytes, on enough replicas.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use dfs_core::id::NodeId;
use dfs_core::layout::epoch::EpochState;
use dfs_core::record::refs::RefRow;
pub(crate) use dfs_core::replica::op::store::Copies;
use dfs_core::replica::op::store::{Store, StoreEvent, StoreSpec, StoreTask, spared};
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
    /// Whether the line of this node is what the upload waits for.
    is_line_slow: AtomicBool,
}

impl Default for Lag {
    fn default() -> Self {
        Self {
            permits: Arc::new(Semaphore::new(LAG_BLOBS_MAX)),
            behind: Mutex::default(),
            is_line_slow: AtomicBool::new(false),
        }
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

    fn is_line_slow(&self) -> bool {
        self.is_line_slow.load(Ordering::Relaxed)
    }

    /// Notes how long the first peer took that got a blob of so many bytes, and what all peers got
    /// meanwhile.
    fn sent(&self, len: u64, took: Duration, delivered: u64) {
        let is_slow = is_line_slow(len, took, delivered);
        if is_slow && !self.is_line_slow.swap(true, Ordering::Relaxed) {
            debug!(?took, delivered, "an upload sends each blob to just enough replicas");
        }
    }
}

/// Whether it was the line that took so long, and not a peer or its disk: it moved, and moved
/// little.
fn is_line_slow(len: u64, took: Duration, delivered: u64) -> bool {
    let millis = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
    let could = (SLOW_LINE_BYTES / 1000).saturating_mul(millis);
    took >= SLOW_AFTER && delivered >= len / 2 && delivered < could
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
        let is_first = Arc::new(AtomicBool::new(true));
        // What is being sent keeps the leave to lag, once there is one, until the last has ended.
        let leave = Arc::new(Mutex::new(None));
        let perform = |task| -> Option<Running<StoreEvent<NodeId, AskError>>> {
            let (this, lag, leave) = (self.clone(), lag.clone(), leave.clone());
            let (blob, epoch, is_first) = (blob.clone(), state.epoch, is_first.clone());
            let (sets, counting) = (sets.clone(), counting);
            Some(match task {
                StoreTask::Note(node) => {
                    let ask = Ask::new(Priority::Records, Request::RefAdd(vec![row]));
                    let holds = |told| matches!(told, Response::Held(held) if held == [true]);
                    self.rpc.asking(node, epoch, ask, move |node, told| {
                        StoreEvent::Noted(node, told.map(holds))
                    })
                }
                StoreTask::LookBehind => {
                    let mut behind = lag.behind();
                    if needs_quorum && lag.is_line_slow() {
                        let replica = &self.replica;
                        behind.extend(spared(&sets, &counting, |node| {
                            (
                                *node != replica.id,
                                behind.contains(node),
                                !replica.is_reachable(node),
                            )
                        }));
                    }
                    Box::pin(async move { Ok(StoreEvent::Behind(behind)) })
                }
                StoreTask::Send(node) => Box::pin(async move {
                    let (len, began) = (blob.bytes.len() as u64, this.replica.env.mono());
                    let before = this.replica.net().delivered();
                    let (node, result) = this.clone().send_blob(node, epoch, blob).await;
                    let is_remote = node != this.replica.id && result.is_ok();
                    if is_remote && is_first.swap(false, Ordering::Relaxed) {
                        let took = this.replica.env.mono() - began;
                        lag.sent(len, took, this.replica.net().delivered() - before);
                    }
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
        let store = Store::new(StoreSpec { sets: sets.clone(), counting, needs_quorum });
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
/// Bytes a second below which a line is slow: at 12 Mbit/s it pays to send each blob once less.
const SLOW_LINE_BYTES: u64 = 1536 * 1024;
/// A blob that took less was not held up, whatever else moved.
const SLOW_AFTER: Duration = Duration::from_millis(1500);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_slow_when_it_moves_and_moves_little() {
        let (len, ms) = (1 << 20, Duration::from_millis);
        for (took, delivered, is_slow) in [
            (ms(3400), 2 << 20, true),
            (ms(16_000), 2 << 20, true),
            (ms(1600), 1 << 20, true),
            (ms(100), 1 << 20, false),
            // A peer or its disk hangs.
            (ms(9000), 0, false),
            (ms(9000), 1 << 18, false),
            // Others are served meanwhile.
            (ms(2000), 90 << 20, false),
        ] {
            assert_eq!(is_line_slow(len, took, delivered), is_slow, "{took:?} {delivered}");
        }
    }
}
