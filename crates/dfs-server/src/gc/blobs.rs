//! Blobs that no row needs: given up after a time.

use std::collections::BTreeMap;
use std::sync::Arc;

use dfs_core::id::{BlobId, NodeId, Partition};
use dfs_core::layout::epoch::{EpochState, Stage};
use dfs_env::{Bug, bug};
use dfs_p2p::message::Request;
use tokio::time::Instant;
use tracing::debug;

use super::evidence::Evidence;
use crate::error::Error;
use crate::replica::Replica;

/// Gives up blobs.
pub(super) struct BlobCollector {
    replica: Arc<Replica>,
    evidence: Arc<Evidence>,
}

/// A blob that no row has needed for long enough, and since when.
type Due = (BlobId, Instant);

impl BlobCollector {
    pub(super) fn new(replica: Arc<Replica>, evidence: Arc<Evidence>) -> Self {
        Self { replica, evidence }
    }

    /// Gives up blobs that nobody has wanted for long enough; says how many, and their bytes.
    pub(super) async fn collect(&self) -> Result<(u64, u64), Error> {
        let state = self.replica.joined()?;
        if bug(Bug::NothingCollected) {
            return Ok((0, 0));
        }
        let (mut blobs, mut bytes) = (0, 0);
        let mut after = None;
        loop {
            let page = self.replica.store.unused(after, BLOBS_AT_ONCE).await?;
            let now = self.replica.env.mono();
            let since = page.ids.into_iter().filter_map(|id| {
                let since = self.replica.unwanted.note(id, now)?;
                (now - since >= self.replica.grace.collect_after).then_some((id, since))
            });
            for (id, since) in self.given_up(since.collect(), &state).await {
                if self.replica.layout.epoch() != state.epoch {
                    return Ok((blobs, bytes)); // Who wants what may be another question now.
                }
                let still = || self.replica.unwanted.is_since(&id, since);
                if let Some(len) = self.replica.store.collect(id, still).await? {
                    debug!(blob = ?id, "a blob that nobody wants is gone");
                    self.replica.unwanted.spare(&id);
                    (blobs, bytes) = (blobs + 1, bytes + len);
                }
            }
            after = page.last;
            if after.is_none() {
                break;
            }
            self.replica.rest(true).await?;
        }
        self.replica.unwanted.end_round();
        Ok((blobs, bytes))
    }

    /// Those of some unwanted blobs that may go now.
    async fn given_up(&self, due: Vec<Due>, state: &Arc<EpochState>) -> Vec<Due> {
        let (mut given_up, mut others) = (Vec::new(), BTreeMap::<Vec<NodeId>, Vec<Due>>::new());
        for (id, since) in due {
            let partition = id.partition(state.bits);
            if state.row(partition).stage != Stage::Stable {
                continue;
            }
            if !state.is_replica(partition, &self.replica.id) {
                others.entry(state.read_set(partition)).or_default().push((id, since));
            } else if self.knows_all_uses(partition, since, state) {
                given_up.push((id, since));
            }
        }
        for (replicas, due) in others {
            given_up.extend(self.nobody_needs(&replicas, due, state).await);
        }
        given_up
    }

    /// Whether every use that a replica knew of at `since` is known here. If not, it will be soon.
    /// All replicas, not a majority: in available mode one that is away now may alone have noted a
    /// use of what was sent here.
    fn knows_all_uses(&self, partition: Partition, since: Instant, state: &EpochState) -> bool {
        let others = state.read_set(partition).into_iter().filter(|node| *node != self.replica.id);
        let unknown: Vec<NodeId> = others
            .filter(|node| !self.replica.owed.compared_since(node, partition, since))
            .collect();
        for node in &unknown {
            self.replica.owed.owe(*node);
        }
        unknown.is_empty()
    }

    /// Those of some blobs on the same other nodes that each of these holds or does not want. One
    /// that wants a blob and lacks it fetches it from here.
    async fn nobody_needs(
        &self,
        replicas: &[NodeId],
        mut due: Vec<Due>,
        state: &Arc<EpochState>,
    ) -> Vec<Due> {
        for node in replicas {
            let asked = Request::ChunksNeeded(due.iter().map(|(id, _)| *id).collect());
            let told = self.evidence.ask_of_each(node, asked, due.len(), state).await;
            let Some(told) = told else { return Vec::new() };
            let mut told = told.into_iter();
            due.retain(|_| told.next() == Some(false));
        }
        due
    }
}

/// Blobs looked at in one go.
const BLOBS_AT_ONCE: usize = 1024;
