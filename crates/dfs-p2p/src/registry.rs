//! Whom this node knows, its connections to them, and what became of its dials.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use dfs_core::address::Address;
use dfs_core::id::NodeId;
use dfs_core::node::directory::{Directory, Learned, NODES_MAX, STRANGER_KEPT, View};
use dfs_core::node::member::{Genuine, NodeInfo};
use dfs_env::{Bug, bug};
use tokio::time::Instant;

use crate::checks::Checks;
use crate::dial::Target;
use crate::hello::ConnClass;
use crate::peer::Conn;
use crate::refusals::Refusals;

/// Who is who at one moment, as the clocks and the layer above say.
pub(crate) struct Moment<'a> {
    pub(crate) now: Instant,
    pub(crate) wall_ms: u64,
    /// Members, and this node itself.
    pub(crate) is_member: &'a dyn Fn(&NodeId) -> bool,
}

/// A peer with connections.
#[derive(Default)]
pub(crate) struct Open {
    pub(crate) count: usize,
    /// Signatures that it makes this node check, over all of them.
    pub(crate) checks: Checks,
}

pub(crate) struct Registry {
    pub(crate) directory: Directory,
    pub(crate) conns: BTreeMap<(NodeId, ConnClass), Arc<Conn>>,
    /// Since when each node without a connection has had none.
    pub(crate) down_since: BTreeMap<NodeId, Instant>,
    /// Who answered at each bootstrap address last.
    pub(crate) bootstrap_ids: BTreeMap<Address, NodeId>,
    /// Why bootstrap addresses did not answer, as last told.
    /// What was dialled at least once, in vain.
    pub(crate) tried: BTreeSet<Target>,
    pub(crate) unanswered: BTreeMap<Address, String>,
    /// What keeps this node apart from others.
    pub(crate) refusals: Refusals,
    /// News that dialling should react to.
    pub(crate) hurry: BTreeSet<NodeId>,
    pub(crate) started: Instant,
    pub(crate) book_is_old: bool,
    /// Each peer with greeted connections that have not ended, in use or not.
    pub(crate) open: BTreeMap<NodeId, Open>,
    pub(crate) dials: u64,
}

impl Registry {
    pub(crate) fn new(started: Instant) -> Self {
        Self {
            directory: Directory::default(),
            conns: BTreeMap::new(),
            down_since: BTreeMap::new(),
            bootstrap_ids: BTreeMap::new(),
            tried: BTreeSet::new(),
            unanswered: BTreeMap::new(),
            refusals: Refusals::default(),
            hurry: BTreeSet::new(),
            started,
            book_is_old: true,
            open: BTreeMap::new(),
            dials: 0,
        }
    }

    /// Why an info that `from` tells would not be taken in, before its signature is checked.
    pub(crate) fn refuses(
        &self,
        info: &NodeInfo,
        from: &NodeId,
        moment: &Moment<'_>,
    ) -> Option<Learned> {
        let is_vouched_for = self.vouches(from, info, moment);
        let is_heard = |node: &NodeId| is_heard(&self.open, &self.down_since, moment.now, node);
        self.directory.refuses(info, &moment.view(is_vouched_for, &is_heard))
    }

    /// Takes in an info that `from` tells.
    pub(crate) fn learn(&mut self, info: Genuine, from: &NodeId, moment: &Moment<'_>) -> Learned {
        let is_vouched_for = self.vouches(from, &info, moment);
        let Self { directory, open, down_since, .. } = self;
        let is_heard = |node: &NodeId| is_heard(open, down_since, moment.now, node);
        directory.learn(info, &moment.view(is_vouched_for, &is_heard))
    }

    /// Whether a signature may be checked that a peer sent.
    pub(crate) fn may_check(&mut self, from: &NodeId, now: Instant) -> bool {
        self.open.get_mut(from).is_some_and(|open| open.checks.take(now))
    }

    /// Forgets strangers that were not heard of lately.
    pub(crate) fn forget_strangers(&mut self, moment: &Moment<'_>) {
        let Self { directory, open, down_since, .. } = self;
        let is_heard = |node: &NodeId| is_heard(open, down_since, moment.now, node);
        for node in directory.forget_strangers(&moment.view(false, &is_heard)) {
            self.down_since.remove(&node);
            self.book_is_old = true;
        }
    }

    /// Whether `from` may tell of the info's node if that is a stranger, so that this node dials
    /// it: what strangers tell of others is nobody's to answer for.
    fn vouches(&self, from: &NodeId, info: &NodeInfo, moment: &Moment<'_>) -> bool {
        let is_named = || self.bootstrap_ids.values().any(|node| node == from);
        bug(Bug::AnyoneTellsOfStrangers)
            || *from == info.node_id
            || (moment.is_member)(from)
            || is_named()
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

    /// When this node began to dial.
    pub(crate) fn started(&self) -> Instant {
        self.started
    }

    /// Whether the first dials that may bring a connection to the node are over: there is one, or
    /// all of them were in vain.
    pub(crate) fn was_tried(&self, node: &NodeId, bootstrap: &[Address]) -> bool {
        let tried = |target| self.tried.contains(&target);
        let is_over = |address: &Address| {
            let there = self.bootstrap_ids.get(address);
            there.is_some_and(|node| self.is_connected(node))
                || tried(Target::Bootstrap(address.clone()))
        };
        // One of which no address is known can only dial this node, or be told of by others.
        let is_known = self.directory.get(node).is_some_and(|info| !info.addrs.is_empty());
        let was_dialled = is_known && tried(Target::Control(*node));
        self.is_connected(node) || (was_dialled && bootstrap.iter().all(is_over))
    }

    /// Notes that a dial ended without a connection.
    pub(crate) fn note_tried(&mut self, target: Target) {
        if self.tried.len() < TRIED_MAX {
            self.tried.insert(target);
        }
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

impl<'a> Moment<'a> {
    fn view(&self, is_vouched_for: bool, is_heard: &'a dyn Fn(&NodeId) -> bool) -> View<'a> {
        View { is_vouched_for, now_unix_ms: self.wall_ms, is_member: self.is_member, is_heard }
    }
}

/// Whether there is a connection to the node, or was lately.
fn is_heard(
    open: &BTreeMap<NodeId, Open>,
    down_since: &BTreeMap<NodeId, Instant>,
    now: Instant,
    node: &NodeId,
) -> bool {
    let was_lately = || down_since.get(node).is_some_and(|since| now - *since <= STRANGER_KEPT);
    open.contains_key(node) || was_lately()
}

/// Targets that are remembered as tried: all of a start have their place, and a registry that lives
/// for years does not grow.
const TRIED_MAX: usize = 2 * NODES_MAX;

#[cfg(test)]
mod tests {
    use dfs_core::address::Address;
    use dfs_core::hlc::Hlc;
    use dfs_core::node::liveness::Reach;
    use dfs_core::node::member::Clean;
    use ed25519_dalek::SigningKey;

    use super::*;
    use dfs_env::{Env, MemoryNet};

    /// What node `of` said at second 0.
    fn said(of: u8) -> Genuine {
        let key = SigningKey::from_bytes(&[of; 32]);
        let info = NodeInfo {
            node_id: id(of),
            incarnation: 1,
            seq: Hlc::from_unix_ms(START_MS),
            addrs: vec!["127.0.0.1:4000".to_owned()],
            zone: String::new(),
            capacity: 0,
            used: 0,
            build: String::new(),
            durable_epoch: 0,
            repair_queue: 0,
            lost: 0,
            synced: Vec::new(),
            bodies: Vec::new(),
            emptied: Vec::new(),
            reach: Reach::default(),
            clean: Clean::default(),
            signature: [0; 64],
        };
        info.sign(&key).genuine().unwrap()
    }

    fn id(of: u8) -> NodeId {
        NodeId::new(SigningKey::from_bytes(&[of; 32]).verifying_key().to_bytes())
    }

    /// Both clocks so long after the start; node 1 is a member.
    fn moment(start: Instant, after: Duration) -> Moment<'static> {
        let after_ms = u64::try_from(after.as_millis()).unwrap();
        let is_member = &|node: &NodeId| *node == id(1);
        Moment { now: start + after, wall_ms: START_MS + after_ms, is_member }
    }

    #[tokio::test]
    async fn of_a_stranger_a_member_may_tell_and_who_was_named_and_itself() {
        let start = Env::in_memory(0, MemoryNet::default()).mono();
        let now = moment(start, Duration::ZERO);
        let named: Address = ":4001".parse().unwrap();
        for (teller, counts) in [(1, true), (2, true), (3, true), (4, false)] {
            let mut registry = Registry::new(start);
            registry.bootstrap_ids.insert(named.clone(), id(2));
            let refused = registry.refuses(&said(3), &id(teller), &now);
            assert_eq!(refused, (!counts).then_some(Learned::Hearsay), "{teller}");
            let learned = registry.learn(said(3), &id(teller), &now);
            assert_eq!(learned == Learned::NewNode, counts);
            let targets = registry.wanted(&id(9), &[]);
            assert_eq!(targets.contains(&Target::Control(id(3))), counts);
        }
    }

    #[tokio::test]
    async fn a_stranger_is_no_more_wanted_a_while_after_its_connection_ended() {
        let start = Env::in_memory(0, MemoryNet::default()).mono();
        let mut registry = Registry::new(start);
        let now = moment(start, Duration::ZERO);
        for of in 1..=4 {
            registry.learn(said(of), &id(of), &now);
        }
        registry.open.insert(id(2), Open::default());
        let ended = Duration::from_secs(60);
        registry.note_down(id(3), start + ended);
        let mut knows = |after: Duration| {
            registry.forget_strangers(&moment(start, after));
            (1..=4).filter(|of| registry.directory.get(&id(*of)).is_some()).collect::<Vec<_>>()
        };
        assert_eq!(knows(STRANGER_KEPT), [1, 2, 3, 4]);
        assert_eq!(knows(STRANGER_KEPT + Duration::from_secs(1)), [1, 2, 3]);
        assert_eq!(knows(STRANGER_KEPT + ended + Duration::from_secs(1)), [1, 2]);
        assert!(registry.down_since.is_empty());
    }

    const START_MS: u64 = 2_000_000_000_000;
}
