//! The face of this crate: listen, dial, exchange infos, call peers, shut down.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use dfs_core::address::Address;
use dfs_core::hlc::Clock;
use dfs_core::id::{AdminId, BlobId, NodeId};
use dfs_core::node::liveness::Reach;
use dfs_core::node::member::NodeInfo;
use dfs_env::{Env, Listener};
use tracing::debug;

use crate::book;
use crate::clocks::ClockTold;
use crate::config::{Config, OwnFacts};
use crate::error::{CallError, StartError};
use crate::handler::{Caller, Handler};
use crate::hello::{ConnClass, Credentials};
use crate::message::{Answer, Call, Gossip, Priority, Response};
use crate::own::Own;
use crate::refusals::KeptApart;
use crate::registry::Registry;
use crate::secure::Tls;
use crate::shared::{Identity, Shared};

/// A node heard of.
#[derive(Debug, Clone)]
pub struct Peer {
    /// The newest it said about itself.
    pub info: NodeInfo,
    /// How long it has been unreachable from here; `None` while connected.
    pub down_for: Option<Duration>,
}

/// A running network; cheap to clone.
#[derive(Clone)]
pub struct Network(pub(crate) Arc<Shared>);

impl Network {
    /// Binds a port; 0 picks a free one.
    ///
    /// # Errors
    /// [`StartError::Listen`] when it is taken or the address is not ours.
    pub async fn bind(env: &Env, on: SocketAddr) -> Result<Box<dyn Listener>, StartError> {
        env.net().listen(on).await.map_err(|error| StartError::Listen(on, error))
    }

    /// Starts listening, dialling and gossiping. `bound` gets the network before the first
    /// connection, for a handler that uses it.
    ///
    /// # Errors
    /// [`StartError::Key`] when the node key cannot be used.
    pub async fn start(
        env: Env,
        listener: Box<dyn Listener>,
        config: Config,
        facts: OwnFacts,
        handler: Arc<dyn Handler>,
        bound: impl FnOnce(&Self),
    ) -> Result<Self, StartError> {
        let tls = Tls::new(&config.node_key).map_err(|error| StartError::Key(Box::new(error)))?;
        let listen = listener.local_addr();
        let node = NodeId::new(config.node_key.verifying_key().to_bytes());
        let identity = Identity {
            node,
            incarnation: config.incarnation,
            credentials: Credentials {
                cluster_key: config.cluster_key.clone(),
                admin: config.admin.clone(),
                invite: config.invite.clone(),
            },
            tls,
        };
        let addrs = if listen.ip().is_unspecified() { Vec::new() } else { vec![listen] };
        let known = match config.book.clone() {
            None => Vec::new(),
            Some(path) => {
                let fs = env.clone();
                env.offload(move || book::read(fs.fs(), &path)).await
            }
        };
        let own_stamp = known.iter().find(|known| known.node_id == node).map(|known| known.seq);
        let clock = own_stamp.map(Clock::starting_after).unwrap_or_default();
        let own = Own::new(&env, &config, facts, addrs, clock);
        let info = own.info().clone();
        let registry = Registry::new(env.mono());
        let shared = Shared::new(env.clone(), config, identity, handler, listen, registry, own);
        let network = Self(Arc::new(shared));
        network.0.learn_book(known);
        bound(&network);
        network.0.publish(info);
        let shared = &network.0;
        let tasks = vec![
            env.spawn("accept", shared.clone().accept(listener)),
            env.spawn("dial", shared.clone().dial()),
            env.spawn("gossip", shared.clone().gossip()),
            env.spawn("book", shared.clone().keep_book()),
        ];
        *shared.tasks.lock() = tasks;
        Ok(network)
    }

    /// This node's id.
    pub fn node_id(&self) -> NodeId {
        self.0.identity.node
    }

    /// The bound address.
    pub fn listen_addr(&self) -> SocketAddr {
        self.0.listen
    }

    /// What this node says about itself now.
    pub fn own_info(&self) -> NodeInfo {
        self.0.own().info().clone()
    }

    /// Changes what this node says about itself; tells every peer at once if anything changed.
    pub fn update(&self, change: impl FnOnce(&mut OwnFacts)) {
        self.0.change_facts(change);
    }

    /// Signs anew what this node says about itself and tells every peer, though it is no news: a
    /// sign of life for those that others tell of it. One signature.
    pub fn say_again(&self) {
        self.0.say_again();
    }

    /// Every other node heard of.
    pub fn peers(&self) -> Vec<Peer> {
        let now = self.0.env.mono();
        let registry = self.0.registry();
        let others = registry.directory.iter().filter(|info| info.node_id != self.node_id());
        let peer = |info: &NodeInfo| Peer {
            info: info.clone(),
            down_for: registry.down_for(&info.node_id, now),
        };
        others.map(peer).collect()
    }

    /// Whether there is a connection to the node.
    pub fn is_connected(&self, node: &NodeId) -> bool {
        self.0.registry().is_connected(node)
    }

    /// The admin whose key the node has proved to have, on the connection there is; this node's own
    /// for itself.
    pub fn admin_of(&self, node: &NodeId) -> Option<AdminId> {
        if *node == self.node_id() {
            return self.0.identity.credentials.admin.as_ref().map(AdminId::of);
        }
        self.0.registry().conn(node, ConnClass::Control)?.admin
    }

    /// What the clocks of connected nodes read; of one that has yet to tell, `None`.
    pub fn clocks(&self) -> BTreeMap<NodeId, Option<ClockTold>> {
        let registry = self.0.registry();
        let usable = registry
            .conns
            .iter()
            .filter(|((_, class), conn)| *class == ConnClass::Control && !conn.is_retired());
        usable.map(|((node, _), conn)| (*node, conn.clock())).collect()
    }

    /// Asks these nodes what their clocks read now, and waits until each that is connected has told
    /// or `limit` has passed.
    pub async fn read_clocks(&self, nodes: &[NodeId], limit: Duration) {
        let conns: Vec<_> = {
            let registry = self.0.registry();
            nodes.iter().filter_map(|node| registry.conn(node, ConnClass::Control)).collect()
        };
        let told = futures_util::future::join_all(conns.iter().map(|conn| conn.read_clock()));
        // Who does not tell in time is judged by what it told before, or not at all.
        let _ = self.0.env.timeout(limit, told).await;
    }

    /// Nodes that cannot be connected until someone does something.
    pub fn kept_apart(&self) -> Vec<KeptApart> {
        self.0.registry().refusals.list()
    }

    /// The nodes that the bootstrap addresses stand for, and this node itself.
    ///
    /// # Errors
    /// The first address behind which no node is connected.
    pub fn listed(&self) -> Result<BTreeSet<NodeId>, Address> {
        let registry = self.0.registry();
        let mut nodes = BTreeSet::from([self.node_id()]);
        for address in &self.0.config.bootstrap {
            let answered = registry.bootstrap_ids.get(address);
            let here = answered.filter(|n| **n == self.node_id() || registry.is_connected(n));
            nodes.insert(*here.ok_or_else(|| address.clone())?);
        }
        Ok(nodes)
    }

    /// How long the node has been unreachable from here; `None` while connected. A node never
    /// seen counts from the start.
    pub fn down_for(&self, node: &NodeId) -> Option<Duration> {
        self.0.registry().down_for(node, self.0.env.mono())
    }

    /// Everyone whom the connected peers reach; only of those that `counts` says.
    pub fn reach_of_peers(&self, counts: impl Fn(&NodeId) -> bool) -> Reach {
        let registry = self.0.registry();
        let mut reach = Reach::default();
        let connected = registry
            .directory
            .iter()
            .filter(|info| registry.is_connected(&info.node_id) && counts(&info.node_id));
        connected.for_each(|info| reach.add(&info.reach));
        reach
    }

    /// Waits for the first dials after the start that may bring connections to these nodes: until
    /// each was dialled once, at most for [`FIRST_DIALS_MAX`] from the start on.
    pub async fn first_dials(&self, nodes: &[NodeId]) {
        let shared = &self.0;
        let until = shared.registry().started() + FIRST_DIALS_MAX;
        loop {
            let mut dialled = std::pin::pin!(shared.dialled_once.notified());
            dialled.as_mut().enable();
            let all_tried = {
                let registry = shared.registry();
                let mut others = nodes.iter().filter(|node| **node != self.node_id());
                others.all(|node| registry.was_tried(node, &shared.config.bootstrap))
            };
            if all_tried || shared.env.mono() >= until {
                return;
            }
            tokio::select! {
                biased;
                () = shared.shutdown.cancelled() => return,
                () = dialled => {}
                () = shared.env.sleep_until(until) => {}
            }
        }
    }

    /// The newest a node said about itself.
    pub fn info(&self, node: &NodeId) -> Option<NodeInfo> {
        self.with_info(node, NodeInfo::clone)
    }

    /// Looks at the newest a node said about itself, this one included, without copying it.
    pub fn with_info<T>(&self, node: &NodeId, look: impl FnOnce(&NodeInfo) -> T) -> Option<T> {
        if *node == self.node_id() {
            return Some(look(self.0.own().info()));
        }
        self.0.registry().directory.get(node).map(look)
    }

    /// Makes a call. Its deadline is how long nothing may move that it waits for: a slow line does
    /// not end it, a silent peer does.
    ///
    /// # Errors
    /// [`CallError`] when no answer came. A refusal is an answer.
    ///
    /// # Cancel safety
    /// Dropping the future gives the call up and tells the peer.
    pub async fn call(&self, to: &NodeId, call: Call) -> Result<Answer, CallError> {
        let class = match call.priority {
            Priority::Layout | Priority::Records => ConnClass::Control,
            Priority::Chunks | Priority::Background => ConnClass::Bulk,
        };
        let conn = self.0.registry().conn(to, class).ok_or(CallError::NotConnected)?;
        conn.call(call).await
    }

    /// Whether content has come from the node in the last `within`, whatever it was; from a slow
    /// node, whether it came as lately as can be expected.
    pub fn has_brought(&self, node: &NodeId, within: Duration) -> bool {
        let conn = self.0.registry().conn(node, ConnClass::Bulk);
        conn.is_some_and(|conn| conn.has_brought(within))
    }

    /// Bytes a second that last came from the node; `None` while too few did.
    pub fn arrival_rate(&self, node: &NodeId) -> Option<u64> {
        let conn = self.0.registry().conn(node, ConnClass::Bulk);
        conn.and_then(|conn| conn.arrival_rate())
    }

    /// Whether some peer is bringing this blob just now.
    pub fn is_arriving(&self, id: &BlobId) -> bool {
        let conns: Vec<_> = self.0.registry().conns.values().cloned().collect();
        conns.iter().any(|conn| conn.is_arriving(id))
    }

    /// Bytes of content that all peers together are known to have got.
    pub fn delivered(&self) -> u64 {
        self.0.traffic.delivered()
    }

    /// Bytes that came from all peers together.
    pub fn received(&self) -> u64 {
        self.0.traffic.received()
    }

    /// Answers a gossip call, which the layer above passes here: takes in what the peer knows and
    /// returns what it lacks.
    pub fn on_gossip(&self, from: Caller, gossip: Gossip) -> Response {
        self.0.answer_gossip(&from.node, gossip)
    }

    /// Answers a peer that asks whether this start of the node still runs, which the layer above
    /// passes here. One signature.
    pub fn on_still_runs(&self, challenge: [u8; 32]) -> Response {
        Response::StillRuns(self.0.say_still_runs(challenge))
    }

    /// Says goodbye, lets calls under way finish within [`SHUTDOWN_MAX`], and ends every task.
    pub async fn shutdown(&self) {
        let shared = &self.0;
        shared.shutdown.cancel();
        let tasks = std::mem::take(&mut *shared.tasks.lock());
        let all = async {
            for task in tasks {
                // A task that panicked has nothing left to finish.
                let _ = task.await;
            }
        };
        tokio::pin!(all);
        if shared.env.timeout(SHUTDOWN_MAX, &mut all).await.is_err() {
            debug!("some peers did not close in time");
            shared.force.cancel();
            all.await;
        }
    }

    /// Ends every task and connection at once, as a crash would.
    pub fn abort(&self) {
        drop(std::mem::take(&mut *self.0.tasks.lock()));
    }
}

impl std::fmt::Debug for Network {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Network").field("node", &self.node_id()).finish_non_exhaustive()
    }
}

/// How long after its start a node lets requests wait for its first dials: those that bring
/// anything take two round trips and a handshake.
pub const FIRST_DIALS_MAX: Duration = Duration::from_secs(5);
/// How long peers may take to close when this node stops.
pub const SHUTDOWN_MAX: Duration = Duration::from_secs(2);
