//! Incarnations of a node: which of several that claim one id may take part.
//!
//! Each start of a node has a higher boot counter than the one before, durable before the first
//! greeting. So a node with a lower counter than a peer has seen, or with the same one and other
//! random bits, runs from a copy of its data directory or from an older state of it. It would
//! answer for what it no longer has, and is turned away for good. So is one that lacks an epoch it
//! once had on disk: a state that was copied while the node ran counts up like a restart.

use std::time::Duration;

use dfs_core::hlc::Hlc;
use dfs_core::id::NodeId;
use dfs_core::node::member::{IncarnationOrder, NodeInfo, compare_incarnations};
use tracing::{debug, warn};

use crate::hello::ConnClass;
use crate::message::{Call, Gossip, Priority, Request};
use crate::peer::Conn;
use crate::shared::Shared;

impl Shared {
    /// Whether a peer that greets with this incarnation may be let in.
    pub(crate) async fn is_welcome(&self, peer: &NodeId, incarnation: u64) -> bool {
        let (known, former) = {
            let registry = self.registry();
            let former = registry.conns.get(&(*peer, ConnClass::Control));
            let former = former.filter(|conn| conn.facts.peer_incarnation != incarnation);
            (registry.directory.get(peer).map(|info| info.incarnation), former.cloned())
        };
        match (compare_incarnations(known, incarnation), former) {
            (IncarnationOrder::Former, _) => false,
            (IncarnationOrder::Newer, Some(former)) => !answers(&former).await,
            (IncarnationOrder::Newer | IncarnationOrder::Same, _) => true,
        }
    }

    /// Whether what a peer says in its greeting shows that its disk went back in time.
    pub(crate) fn went_back(&self, info: &NodeInfo) -> bool {
        let registry = self.registry();
        let known = registry.directory.get(&info.node_id);
        known.is_some_and(|known| info.lacks_what_was_durable(known))
    }

    /// Takes in what someone with this node's key said. Returns the number of what an earlier
    /// incarnation said with a clock that ran ahead: this one must go on from there.
    pub(crate) fn hear_of_myself(&self, info: &NodeInfo) -> Option<Hlc> {
        if info.incarnation == self.config.incarnation || info.verify().is_err() {
            return None;
        }
        match compare_incarnations(Some(info.incarnation), self.config.incarnation) {
            IncarnationOrder::Newer => (info.seq >= self.own().info().seq).then_some(info.seq),
            IncarnationOrder::Former | IncarnationOrder::Same => {
                self.retire("another node runs with its key and was started later");
                None
            }
        }
    }

    /// Takes part in nothing from now on: a peer knows a later incarnation of this node.
    pub(crate) fn retire(&self, why: &str) {
        if !self.shutdown.is_cancelled() {
            warn!(why, "this node is retired");
            self.shutdown.cancel();
            self.handler.retired(why);
        }
    }
}

/// Whether the other end of a connection still is there: it answers what is asked only now.
async fn answers(former: &Conn) -> bool {
    let ask = Call::new(Priority::Layout, ALIVE_MAX, Request::Gossip(Gossip::default()));
    let alive = former.call(ask).await.is_ok();
    if alive {
        debug!(peer = ?former.peer, "a node greets while an earlier incarnation of it is there");
    }
    alive
}

/// How long an earlier incarnation may take to answer. A node that was restarted waits so long at
/// most, when its former connection is still thought to be up; it must fit into a greeting.
const ALIVE_MAX: Duration = Duration::from_secs(2);
