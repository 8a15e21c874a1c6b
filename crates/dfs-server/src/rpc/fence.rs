//! Which requests this node may answer: of partitions it holds, for a layout that still counts.

use dfs_core::id::{BlobId, NodeId, Partition, RecordKey};
use dfs_core::layout::epoch::EpochState;
use dfs_env::{Bug, bug};
use dfs_p2p::message::{Code, Refusal};

use super::answer::refusal;
use crate::replica::Replica;

/// The layout that a request is held against.
#[derive(Clone, Copy)]
pub(crate) struct Fence<'a> {
    pub(crate) state: &'a EpochState,
    id: NodeId,
    /// The layout that the caller knows; 0 for a request that does not count for a quorum.
    epoch: u64,
}

impl<'a> Fence<'a> {
    /// For requests to node `id` that do not count for a quorum.
    pub(crate) fn new(state: &'a EpochState, id: NodeId) -> Self {
        Self { state, id, epoch: 0 }
    }

    /// The same for a caller that knows the layout with this number.
    pub(crate) fn at(self, epoch: u64) -> Self {
        Self { epoch, ..self }
    }

    /// Refuses what an old layout asks for, and what this node does not hold.
    pub(crate) fn partition(&self, partition: Partition) -> Result<(), Refusal> {
        let Self { state, epoch, .. } = *self;
        if epoch != 0 && state.row(partition).is_newer_than(epoch) && !bug(Bug::StaleLayoutAccepted)
        {
            return Err(refusal(Code::StaleEpoch, "the partition has moved"));
        }
        if !state.is_replica(partition, &self.id) {
            return Err(refusal(Code::NotReplica, "this node does not hold the partition"));
        }
        Ok(())
    }

    /// The same for the partitions of records.
    pub(crate) fn keys<'k>(
        &self,
        mut keys: impl Iterator<Item = &'k RecordKey>,
    ) -> Result<(), Refusal> {
        keys.try_for_each(|key| self.partition(key.partition(self.state.bits)))
    }

    /// The same for the partitions of blobs.
    pub(crate) fn blobs<'b>(
        &self,
        mut ids: impl Iterator<Item = &'b BlobId>,
    ) -> Result<(), Refusal> {
        ids.try_for_each(|id| self.partition(id.partition(self.state.bits)))
    }

    /// Checks again once the disk was asked. A layout that came into force meanwhile may have let
    /// others read this node's rows before a write was among them, or have had this node forget
    /// rows before they were read. What was written stays, and does not count.
    pub(crate) fn again(
        &self,
        replica: &Replica,
        check: impl FnOnce(Fence<'_>) -> Result<(), Refusal>,
    ) -> Result<(), Refusal> {
        match replica.layout.current() {
            Some(state)
                if self.epoch != 0 && state.epoch > self.epoch && !bug(Bug::AnsweredUnfenced) =>
            {
                check(Fence { state: &state, ..*self })
            }
            _ => Ok(()),
        }
    }
}
