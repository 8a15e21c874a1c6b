//! Whom this node knows, its connections to them, and what became of its dials.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use dfs_core::address::Address;
use dfs_core::id::NodeId;
use dfs_core::node::directory::{Directory, NODES_MAX};
use tokio::time::Instant;

use crate::dial::Target;
use crate::hello::ConnClass;
use crate::peer::Conn;
use crate::refusals::Refusals;

pub(crate) struct Registry {
    pub(crate) directory: Directory,
    pub(crate) conns: BTreeMap<(NodeId, ConnClass), Arc<Conn>>,
    /// Since when each node without a connection has had none.
    pub(crate) down_since: BTreeMap<NodeId, Instant>,
    /// Who answered at each bootstrap address last.
    pub(crate) bootstrap_ids: BTreeMap<Address, NodeId>,
    /// Why bootstrap addresses did not answer, as last told.
    pub(crate) unanswered: BTreeMap<Address, String>,
    /// What keeps this node apart from others.
    pub(crate) refusals: Refusals,
    /// News that dialling should react to.
    pub(crate) hurry: BTreeSet<NodeId>,
    pub(crate) started: Instant,
    pub(crate) book_is_old: bool,
    /// Greeted connections of each peer that have not ended, in use or not.
    pub(crate) open: BTreeMap<NodeId, usize>,
    pub(crate) dials: u64,
}

impl Registry {
    pub(crate) fn new(directory: Directory, started: Instant) -> Self {
        Self {
            directory,
            conns: BTreeMap::new(),
            down_since: BTreeMap::new(),
            bootstrap_ids: BTreeMap::new(),
            unanswered: BTreeMap::new(),
            refusals: Refusals::default(),
            hurry: BTreeSet::new(),
            started,
            book_is_old: true,
            open: BTreeMap::new(),
            dials: 0,
        }
    }

    pub(crate) fn is_connected(&self, node: &NodeId) -> bool {
        self.usable(node, ConnClass::Control).is_some()
    }

    /// How long the node has been unreachable; one never seen counts from the start.
    pub(crate) fn down_for(&self, node: &NodeId, now: Instant) -> Option<Duration> {
        if self.is_connected(node) {
            return None;
        }
        let since = self.down_since.get(node).copied().unwrap_or(self.started);
        Some(now - since)
    }

    /// Notes that a node has no connection any more.
    pub(crate) fn note_down(&mut self, node: NodeId, now: Instant) {
        if self.down_since.len() >= NODES_MAX {
            self.down_since.retain(|node, _| self.directory.get(node).is_some());
        }
        self.down_since.insert(node, now);
    }

    /// The connection for calls of a class: the other one while there is none of its own.
    pub(crate) fn conn(&self, node: &NodeId, class: ConnClass) -> Option<Arc<Conn>> {
        self.usable(node, class).or_else(|| self.usable(node, ConnClass::Control)).cloned()
    }

    /// A connection that takes new calls.
    fn usable(&self, node: &NodeId, class: ConnClass) -> Option<&Arc<Conn>> {
        self.conns.get(&(*node, class)).filter(|conn| !conn.is_retired())
    }

    /// What to dial, due or not.
    pub(crate) fn wanted(&self, me: &NodeId, bootstrap: &[Address]) -> Vec<Target> {
        let mut wanted = Vec::new();
        for address in bootstrap {
            let answered = self.bootstrap_ids.get(address);
            // A list that is the same on every node names this one as well.
            if !answered.is_some_and(|node| node == me || self.is_connected(node)) {
                wanted.push(Target::Bootstrap(address.clone()));
            }
        }
        for info in self.directory.iter().filter(|info| info.node_id != *me) {
            let node = info.node_id;
            match self.usable(&node, ConnClass::Control) {
                None if info.addrs.is_empty() => {}
                None => wanted.push(Target::Control(node)),
                Some(conn) => {
                    let has_bulk = self.usable(&node, ConnClass::Bulk).is_some();
                    wanted.extend(
                        conn.dialled.filter(|_| !has_bulk).map(|addr| Target::Bulk(node, addr)),
                    );
                }
            }
        }
        wanted
    }
}
