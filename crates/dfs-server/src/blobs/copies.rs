//! Counting the durable copies of blobs.

use std::collections::BTreeSet;
use std::sync::Arc;

use dfs_core::id::{BlobId, NodeId};
use dfs_core::layout::epoch::EpochState;
use dfs_p2p::message::{Priority, Request, Response};
use dfs_store::pages::PageWalk;

use super::Blobs;
use crate::error::Error;
use crate::rpc::Ask;

impl Blobs {
    /// Counts the copies of every blob of a version, its reference pages included.
    pub(crate) async fn copies_of(
        self: &Arc<Self>,
        refs_root: BlobId,
        state: &Arc<EpochState>,
    ) -> Result<Vec<(BlobId, usize)>, Error> {
        let counts = self.count_copies(&[refs_root], state).await;
        let mut copies: Vec<_> = std::iter::zip([refs_root], counts).collect();
        let mut walk = PageWalk::from(refs_root);
        while let Some(at) = walk.next_page() {
            let ids = walk.enter(at, &self.fetch_blob(at.id).await?);
            let ids = ids.map_err(|_| Error::Unverified("a reference page".to_owned()))?;
            let counts = self.count_copies(&ids, state).await;
            copies.extend(ids.into_iter().zip(counts));
        }
        Ok(copies)
    }

    /// For each blob, how many of its replicas hold it durably now.
    pub(crate) async fn count_copies(
        self: &Arc<Self>,
        ids: &[BlobId],
        state: &Arc<EpochState>,
    ) -> Vec<usize> {
        let mut counts = vec![0; ids.len()];
        let nodes: BTreeSet<NodeId> =
            ids.iter().flat_map(|id| state.holders(id.partition(state.bits))).collect();
        for node in nodes.into_iter().filter(|node| self.replica.is_reachable(node)) {
            let on_node = |id: &BlobId| state.is_replica(id.partition(state.bits), &node);
            let places: Vec<_> = (0..ids.len()).filter(|at| on_node(&ids[*at])).collect();
            for places in places.chunks(dfs_p2p::KEYS_MAX) {
                let asked = places.iter().map(|at| ids[*at]).collect();
                let ask = Ask::new(Priority::Records, Request::ChunkHas(asked));
                let Ok((Response::Held(held), _)) = self.rpc.ask(&node, 0, ask).await else {
                    break;
                };
                for (at, _) in places.iter().zip(held).filter(|(_, held)| *held) {
                    counts[*at] += 1;
                }
            }
        }
        counts
    }
}
