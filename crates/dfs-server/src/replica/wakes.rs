//! What wakes the long-running tasks; each belongs to one of them, which waits for nothing else.

use tokio::sync::Notify;

/// A bell for each task. Ringing it twice before the task looks is the same as once.
#[derive(Debug, Default)]
pub(crate) struct Wakes {
    /// Rows of other nodes may lie here, or their replicas came into reach.
    pub(crate) handoff: Notify,
    /// A fact changed that a layout may follow from.
    pub(crate) steward: Notify,
    /// A connection came or went, or a node said what it reaches.
    pub(crate) reachability: Notify,
    /// Something changed that may bring this node into a cluster.
    pub(crate) join: Notify,
    /// Something changed that peers are told of.
    pub(crate) publish: Notify,
    /// This node takes part in nothing from now on.
    pub(crate) retirement: Notify,
}
