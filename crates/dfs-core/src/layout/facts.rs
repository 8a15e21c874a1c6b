//! What those who plan the layout must know about nodes, and cannot read in it.

use std::time::Duration;

use crate::id::{NodeId, Partition};

/// What the steward knows about nodes, beyond the layout.
pub trait Facts {
    /// How long the node has been unreachable from here; `None` while it is reachable.
    fn down_for(&self, node: &NodeId) -> Option<Duration>;
    /// The newest epoch the node has on disk.
    fn durable_epoch(&self, node: &NodeId) -> u64;
    /// The zone the node says it is in, and the bytes it offers; `None` when nothing is known.
    fn offer(&self, node: &NodeId) -> Option<(String, u64)>;
    /// Whether the node has proved on its connection to have the key of an admin of this cluster.
    fn proves_admin(&self, node: &NodeId) -> bool;
    /// Bytes of blobs on the node.
    fn used(&self, node: &NodeId) -> u64;
    /// Whether the node pulled all rows of a partition for the move prepared by this epoch.
    fn synced(&self, node: &NodeId, partition: Partition, prepare_epoch: u64) -> bool;
    /// How long a member is away before its share is given to others.
    fn out_after(&self) -> Duration;
    /// Whether the node said of the newest layout that it keeps no row that others should hold.
    fn keeps_nothing(&self, node: &NodeId) -> bool;
    /// Whether the node has no rows of a partition that it held until this epoch.
    fn clean(&self, node: &NodeId, partition: Partition, changed: u64) -> bool;
    /// Whether it is proved to whoever plans that the node does not hold what it claims to hold.
    fn is_convicted(&self, node: &NodeId) -> bool;
    /// Whether the node has every chunk that those rows reference.
    fn bodies(&self, node: &NodeId, partition: Partition, prepare_epoch: u64) -> bool;
}
