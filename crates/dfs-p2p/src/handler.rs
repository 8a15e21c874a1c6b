//! What the layer above provides.

use dfs_core::id::{AdminId, ClusterId, NodeId};
use dfs_core::layout::epoch::Grant;
use dfs_core::node::member::NodeInfo;
use dfs_env::BoxFuture;
use zeroize::Zeroizing;

use crate::message::{Answer, Call};

/// Who is calling.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Caller {
    /// The node, proved by TLS.
    pub node: NodeId,
    /// Whether it proved the cluster key; otherwise it is let in as a member.
    pub proved: bool,
    /// The admin whose key it proved to have.
    pub admin: Option<AdminId>,
    /// What the invite grants that it proved to have.
    pub grant: Option<Grant>,
}

/// Answers calls and hears about peers. Methods other than `handle` must not block.
pub trait Handler: Send + Sync + 'static {
    /// Carries out one call. Dropped when the caller gives up or the connection ends.
    fn handle(&self, from: Caller, call: Call) -> BoxFuture<'_, Answer>;

    /// Whether the node is a member of the layout known here. Must not ask the network anything.
    fn is_member(&self, node: &NodeId) -> bool;

    /// The cluster this node belongs to, once it does.
    fn cluster_id(&self) -> Option<ClusterId>;

    /// The secret of the invite that grants this, on a node that can tell and while the invite
    /// admits.
    fn invite_secret(&self, grant: &Grant) -> Option<Zeroizing<[u8; 32]>> {
        let _ = grant;
        None
    }

    /// Whether this admin governs the cluster known here.
    fn is_admin(&self, admin: &AdminId) -> bool {
        let _ = admin;
        false
    }

    /// The keys that are due to whoever proved the invite that grants this, or to an admin without
    /// the cluster's key: at most [`crate::KEYS_BYTES_MAX`] bytes, which mean something to the
    /// layer above.
    fn keys_due(&self, grant: Option<&Grant>) -> Zeroizing<Vec<u8>> {
        let _ = grant;
        Zeroizing::default()
    }

    /// A peer's first connection came up, or its last went away.
    fn peer_changed(&self, node: NodeId, connected: bool);

    /// It is proved that this node lives on in a later start, or in one from a copy of its data
    /// directory: the network takes part in nothing any more, and the layer above must not either.
    /// Called once.
    fn retired(&self, why: &str);

    /// News about a node arrived.
    fn info_changed(&self, info: &NodeInfo);
}
