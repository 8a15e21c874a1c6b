//! What planning asks of nodes, answered from what they say of themselves and from who is reached.

use std::time::Duration;

use dfs_core::id::{NodeId, Partition};
use dfs_core::layout::facts::Facts;
use dfs_core::node::member::{MoveFact, NodeInfo};

use super::Reachability;
use crate::chain::ZONE_BYTES_MAX;
use crate::replica::Replica;

/// The facts as this node knows them.
pub(super) struct NodeFacts<'a> {
    pub(super) replica: &'a Replica,
    pub(super) reach: &'a Reachability,
    /// See [`crate::Config::out_after`].
    pub(super) out_after: Duration,
}

impl Facts for NodeFacts<'_> {
    fn down_for(&self, node: &NodeId) -> Option<Duration> {
        self.reach.unreached_for(node)
    }

    fn durable_epoch(&self, node: &NodeId) -> u64 {
        self.told(node, |info| info.durable_epoch).unwrap_or(0)
    }

    fn offer(&self, node: &NodeId) -> Option<(String, u64)> {
        let offer = |info: &NodeInfo| (info.zone.clone(), info.capacity);
        self.told(node, offer).filter(|(zone, _)| zone.len() <= ZONE_BYTES_MAX)
    }

    fn proves_admin(&self, node: &NodeId) -> bool {
        let state = self.replica.layout.current();
        state.is_some_and(|state| self.replica.proves_admin(&state, node))
    }

    fn used(&self, node: &NodeId) -> u64 {
        if *node == self.replica.id {
            return self.replica.store.held();
        }
        self.told(node, |info| info.used).unwrap_or(0)
    }

    fn synced(&self, node: &NodeId, partition: Partition, prepare_epoch: u64) -> bool {
        self.told_of(node, |info| &info.synced, partition, prepare_epoch)
    }

    fn out_after(&self) -> Duration {
        self.out_after
    }

    fn keeps_nothing(&self, node: &NodeId) -> bool {
        self.told(node, |info| info.clean.epoch).is_some_and(|at| at >= self.replica.layout.epoch())
    }

    fn clean(&self, node: &NodeId, partition: Partition, changed: u64) -> bool {
        self.told_of(node, |info| &info.emptied, partition, changed)
    }

    fn is_convicted(&self, node: &NodeId) -> bool {
        self.replica.conduct.convicted(node).is_some()
    }

    fn bodies(&self, node: &NodeId, partition: Partition, prepare_epoch: u64) -> bool {
        self.told_of(node, |info| &info.bodies, partition, prepare_epoch)
    }
}

impl NodeFacts<'_> {
    fn told<T>(&self, node: &NodeId, what: impl FnOnce(&NodeInfo) -> T) -> Option<T> {
        self.replica.net().with_info(node, what)
    }

    /// Whether a node said a thing of a partition since an epoch.
    fn told_of(
        &self,
        node: &NodeId,
        facts: impl FnOnce(&NodeInfo) -> &Vec<MoveFact>,
        partition: Partition,
        epoch: u64,
    ) -> bool {
        let covers = |info: &NodeInfo| facts(info).iter().any(|f| f.covers(partition, epoch));
        self.told(node, covers).unwrap_or(false)
    }
}
