//! Who is alive: what this node reaches, told to others, and what others say they reach.
//!
//! Routing goes by this node's own connections ([`Replica::is_reachable`]). How long a member has
//! been down, which the steward and `peers` ask, counts from when nobody reached it.

use std::sync::Arc;
use std::time::Duration;

use dfs_core::hlc::Hlc;
use dfs_core::id::NodeId;
use dfs_core::node::liveness::{Reach, SAY_EVERY, Sign, Watch};
use dfs_env::{Bug, bug};
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::replica::Replica;

/// What is known about who is reached.
pub(crate) struct Reachability {
    replica: Arc<Replica>,
    started: Instant,
    watch: Mutex<Watch>,
    /// The number of what this node said last, and when it was seen first.
    said: Mutex<(Hlc, Duration)>,
}

impl Reachability {
    pub(crate) fn new(replica: Arc<Replica>) -> Self {
        let (watch, said) = Default::default();
        Self { started: replica.env.mono(), watch, said, replica }
    }

    /// Keeps up with who is reached, until shutdown.
    pub(crate) async fn run(self: Arc<Self>) {
        loop {
            // First of all: before that nobody counts as down.
            self.look();
            self.replica.watch_clocks().await;
            self.replica.env.sleep(LOOKS_APART).await;
            tokio::select! {
                biased;
                () = self.replica.shutdown.cancelled() => return,
                () = self.replica.wakes.reachability.notified() => {}
                () = self.replica.env.sleep(LOOK_EVERY) => {}
            }
        }
    }

    fn look(&self) {
        let Ok(state) = self.replica.joined() else { return };
        let others = || state.members.iter().filter(|member| member.node_id != self.replica.id);
        let connected = |node: &NodeId| self.replica.net().is_connected(node);
        let direct = Reach::of(others().filter(|m| connected(&m.node_id)).map(|m| m.idx));
        // Who is no member may say what it likes.
        let reached = self.replica.net().reach_of_peers(|node| {
            state.member(node).is_some_and(|member| state.is_vouched(member))
        });
        let said = |node: &NodeId| self.replica.net().with_info(node, |info| info.seq);
        let signs = others().map(|member| Sign {
            node: member.node_id,
            direct: direct.contains(member.idx)
                || (bug(Bug::HearsayKeepsAlive) && reached.contains(member.idx)),
            hearsay: reached.contains(member.idx),
            said: said(&member.node_id).unwrap_or_default(),
        });
        self.watch.lock().look(self.started.elapsed(), signs);
        self.replica.net().update(|facts| facts.reach = direct);
        self.say_again();
    }

    /// Says anew what this node says of itself, when it has said nothing for long.
    fn say_again(&self) {
        let (seq, now) = (self.replica.net().own_info().seq, self.started.elapsed());
        let mut said = self.said.lock();
        if said.0 != seq {
            *said = (seq, now);
        } else if now.saturating_sub(said.1) >= SAY_EVERY {
            self.replica.net().say_again();
        }
    }

    /// How long nobody has reached a member; `None` while this node, or one that it reaches, does.
    pub(crate) fn unreached_for(&self, node: &NodeId) -> Option<Duration> {
        if *node == self.replica.id || self.replica.net().is_connected(node) {
            return None;
        }
        self.watch.lock().down_for(self.started.elapsed(), node)
    }

    /// How long a peer counts as down for those who look: not at all while it is connected, and for
    /// no time yet while only others reach it.
    pub(crate) fn shown_down_for(&self, node: &NodeId) -> Option<Duration> {
        let connected = self.replica.net().is_connected(node);
        (!connected).then(|| self.unreached_for(node).unwrap_or_default())
    }
}

/// How often a node looks without being told.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Changes in between are told together: when many nodes start, each tells twice a second at most.
const LOOKS_APART: Duration = Duration::from_millis(500);
