//! What this node has seen of how members behave: what they could not show, and what no honest one
//! does. The judgement is in [`dfs_core::replica::possession`] and [`dfs_core::replica::conduct`].

use std::collections::BTreeMap;
use std::time::Duration;

use dfs_core::id::NodeId;
use dfs_core::replica::conduct::{Fault, Score};
use dfs_core::replica::possession::{Cadence, Possession};
use parking_lot::{Mutex, MutexGuard};
use tokio::time::Instant;
use tracing::warn;

/// How members behave, as this node itself saw it.
pub(crate) struct Conduct {
    own: NodeId,
    /// How often members are challenged.
    pub(crate) cadence: Cadence,
    possession: Mutex<Possession>,
    scores: Mutex<BTreeMap<NodeId, Score>>,
    /// When something was last logged of a member.
    logged: Mutex<BTreeMap<(NodeId, &'static str), Instant>>,
}

impl Conduct {
    pub(crate) fn new(own: NodeId, cadence: Cadence) -> Self {
        let (possession, scores, logged) = (Mutex::default(), Mutex::default(), Mutex::default());
        Self { own, cadence, possession, scores, logged }
    }

    /// What came of challenging members.
    pub(crate) fn possession(&self) -> MutexGuard<'_, Possession> {
        self.possession.lock()
    }

    /// Counts what a member did to this node, and the record, blob or layout that it was about.
    pub(crate) fn fault(&self, now: Instant, node: &NodeId, fault: Fault, about: [u8; 32]) {
        if *node == self.own {
            return;
        }
        metrics::counter!("dfs_peer_faults_total", "fault" => fault.name()).increment(1);
        let mut scores = self.scores.lock();
        if scores.len() >= NODES_MAX && !scores.contains_key(node) {
            return;
        }
        let times = scores.entry(*node).or_default().note(fault, about);
        drop(scores);
        if self.may_log(now, node, fault.name()) {
            let fault = fault.name();
            warn!(peer = ?node, fault, times, "a member did what no honest one does");
        }
    }

    /// Whether something may be said of a member in the log: not twice a minute.
    pub(crate) fn may_log(&self, now: Instant, node: &NodeId, what: &'static str) -> bool {
        let mut logged = self.logged.lock();
        logged.retain(|_, at| now.saturating_duration_since(*at) < LOGGED_APART);
        let is_new = logged.len() < NODES_MAX && !logged.contains_key(&(*node, what));
        if is_new {
            logged.insert((*node, what), now);
        }
        is_new
    }

    /// Since when a member is known not to hold what it claims to, in milliseconds since 1970.
    pub(crate) fn convicted(&self, node: &NodeId) -> Option<u64> {
        self.possession().account(node)?.distrusted_ms
    }

    /// Why a member is distrusted, if it is.
    pub(crate) fn distrusted(&self, node: &NodeId) -> Option<&'static str> {
        if self.convicted(node).is_some() {
            return Some("it claims to hold pieces that it cannot show");
        }
        match self.scores.lock().get(node)?.distrusted()? {
            Fault::ForgedRecord => Some("it sent versions that nobody signed"),
            Fault::WrongBytes => Some("it sent other bytes than those of pieces asked for"),
            Fault::Nonsense | Fault::StaleClaim => None,
        }
    }

    /// Begins anew with a member: an operator vouches for it.
    pub(crate) fn forgive(&self, node: &NodeId) {
        self.possession().forgive(node);
        self.scores.lock().remove(node);
    }
}

/// Nodes of which something is remembered: as many as a layout has room for.
const NODES_MAX: usize = dfs_core::layout::epoch::MEMBERS_MAX;
/// One cause is logged so seldom.
const LOGGED_APART: Duration = Duration::from_secs(60);
