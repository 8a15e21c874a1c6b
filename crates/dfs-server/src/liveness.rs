//! Who is alive: what this node reaches, told to others, and what others say they reach.
//!
//! Routing goes by this node's own connections (`Node::is_reachable`). How long a member has been
//! down, which the steward and `peers` ask, counts from when nobody reached it.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use dfs_core::id::NodeId;
use dfs_core::node::liveness::{Reach, Watch};
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::node::Node;

/// What is known about who is reached.
#[derive(Debug)]
pub(crate) struct Liveness {
    started: Instant,
    watch: Mutex<Watch>,
    /// A connection came or went, or a node said what it reaches.
    pub(crate) wake: Notify,
}

impl Liveness {
    pub(crate) fn new(now: Instant) -> Self {
        Self { started: now, watch: Mutex::default(), wake: Notify::new() }
    }

    fn watch(&self) -> MutexGuard<'_, Watch> {
        self.watch.lock().expect("no holder of this lock panics")
    }
}

impl Node {
    /// Keeps up with who is reached, until shutdown.
    pub(crate) async fn watch_liveness(self: Arc<Self>) {
        loop {
            // First of all: before that nobody counts as down.
            self.look_who_is_alive();
            self.env.sleep(LOOKS_APART).await;
            tokio::select! {
                biased;
                () = self.shutdown.cancelled() => return,
                () = self.liveness.wake.notified() => {}
                () = self.env.sleep(LOOK_EVERY) => {}
            }
        }
    }

    fn look_who_is_alive(&self) {
        let Ok(state) = self.joined() else { return };
        let others = || state.members.iter().filter(|member| member.node_id != self.id);
        let connected = |node: &NodeId| self.network().is_connected(node);
        let direct = Reach::of(others().filter(|m| connected(&m.node_id)).map(|m| m.idx));
        // Who is no member may say what it likes.
        let mut reached = self.network().reach_of_peers(|node| state.is_member(node));
        reached.add(&direct);
        let seen = others().map(|member| (member.node_id, reached.contains(member.idx)));
        self.liveness.watch().look(self.liveness.started.elapsed(), seen);
        self.network().update(|facts| facts.reach = direct);
    }

    /// How long nobody has reached a member; `None` while this node, or one that it reaches, does.
    pub(crate) fn unreached_for(&self, node: &NodeId) -> Option<Duration> {
        if *node == self.id || self.network().is_connected(node) {
            return None;
        }
        self.liveness.watch().down_for(self.liveness.started.elapsed(), node)
    }

    /// How long a peer counts as down for those who look: not at all while it is connected, and for
    /// no time yet while only others reach it.
    pub(crate) fn shown_down_for(&self, node: &NodeId) -> Option<Duration> {
        let connected = self.network().is_connected(node);
        (!connected).then(|| self.unreached_for(node).unwrap_or_default())
    }
}

/// How often a node looks without being told.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Changes in between are told together: when many nodes start, each tells twice a second at most.
const LOOKS_APART: Duration = Duration::from_millis(500);
