//! The face of this crate: listen, dial, exchange infos, call peers, shut down.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use dfs_core::address::Address;
use dfs_core::hlc::Clock;
use dfs_core::id::NodeId;
use dfs_core::node::liveness::Reach;
use dfs_core::node::member::{ADDRS_MAX, Clean, Directory, Learned, MoveFact, NodeInfo};
use dfs_env::{Env, Listener, Task};
use ed25519_dalek::SigningKey;
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::Notify;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tracing::debug;
use zeroize::Zeroizing;

use crate::book;
use crate::dial::Target;
use crate::greet::Identity;
use crate::handler::Handler;
use crate::hello::ConnClass;
use crate::message::{Answer, Call, Priority};
use crate::mux::Budget;
use crate::peer::{CallError, Conn};
use crate::refusals::{KeptApart, Refusals};
use crate::secure::Tls;

/// How a network is started.
#[derive(Debug, Clone)]
pub struct Config {
    /// Addresses to dial until someone answers; names are resolved at every attempt.
    pub bootstrap: Vec<Address>,
    /// The node's key; its public half is the node's id.
    pub node_key: SigningKey,
    /// This boot: a counter in the upper 32 bits, random bits below.
    pub instance: u64,
    /// Proves to others that this node may join.
    pub cluster_key: Zeroizing<[u8; 32]>,
    /// Failure domain.
    pub zone: String,
    /// The program's version.
    pub build: String,
    /// Where known peers are kept; `None` keeps none.
    pub book: Option<PathBuf>,
}

/// What a node says about itself and may change while it runs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OwnFacts {
    /// See [`NodeInfo::capacity`].
    pub capacity: u64,
    /// See [`NodeInfo::used`].
    pub used: u64,
    /// See [`NodeInfo::durable_epoch`].
    pub durable_epoch: u64,
    /// See [`NodeInfo::repair_queue`].
    pub repair_queue: u64,
    /// See [`NodeInfo::lost`].
    pub lost: u64,
    /// See [`NodeInfo::synced`].
    pub synced: Vec<MoveFact>,
    /// See [`NodeInfo::bodies`].
    pub bodies: Vec<MoveFact>,
    /// See [`NodeInfo::emptied`].
    pub emptied: Vec<MoveFact>,
    /// See [`NodeInfo::reach`].
    pub reach: Reach,
    /// See [`NodeInfo::clean`].
    pub clean: Clean,
}

/// Why a network could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The port is taken or the address is not ours.
    #[error("cannot listen on {0}")]
    Listen(SocketAddr, #[source] io::Error),
    /// The node key cannot be used for TLS.
    #[error("the node key cannot be used for TLS")]
    Key(#[source] Box<dyn std::error::Error + Send + Sync>),
}

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

pub(crate) struct Shared {
    pub(crate) env: Env,
    pub(crate) config: Config,
    pub(crate) identity: Identity,
    pub(crate) handler: Arc<dyn Handler>,
    pub(crate) listen: SocketAddr,
    pub(crate) registry: Mutex<Registry>,
    pub(crate) own: Mutex<Own>,
    pub(crate) budget: Arc<Budget>,
    /// Something changed that may make a dial due.
    pub(crate) dial_wake: Notify,
    pub(crate) gossip_wake: Notify,
    pub(crate) shutdown: CancellationToken,
    /// Ends every connection at once.
    pub(crate) force: CancellationToken,
    pub(crate) tasks: Mutex<Vec<Task<()>>>,
}

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

pub(crate) struct Own {
    pub(crate) facts: OwnFacts,
    pub(crate) addrs: Vec<SocketAddr>,
    pub(crate) clock: Clock,
    pub(crate) info: NodeInfo,
}

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
            instance: config.instance,
            cluster_key: config.cluster_key.clone(),
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
        let mut clock = Clock::default();
        let mut directory = Directory::default();
        for known in known {
            if known.node_id == node {
                clock = Clock::starting_after(known.seq);
            } else if directory.learn(known).is_err() {
                debug!("the peer book holds an info that does not verify");
            }
        }
        let info = sign(&env, &config, &mut clock, &facts, &addrs);
        let registry = Registry {
            directory,
            conns: BTreeMap::new(),
            down_since: BTreeMap::new(),
            bootstrap_ids: BTreeMap::new(),
            unanswered: BTreeMap::new(),
            refusals: Refusals::default(),
            hurry: BTreeSet::new(),
            started: env.mono(),
            book_is_old: true,
            open: BTreeMap::new(),
            dials: 0,
        };
        let network = Self(Arc::new(Shared {
            env: env.clone(),
            identity,
            handler,
            listen,
            registry: Mutex::new(registry),
            own: Mutex::new(Own { facts, addrs, clock, info: info.clone() }),
            budget: Arc::default(),
            dial_wake: Notify::new(),
            gossip_wake: Notify::new(),
            shutdown: CancellationToken::new(),
            force: CancellationToken::new(),
            tasks: Mutex::default(),
            config,
        }));
        bound(&network);
        network.learn(info);
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
        self.0.own().info.clone()
    }

    /// Changes what this node says about itself; tells every peer at once if anything changed.
    pub fn update(&self, change: impl FnOnce(&mut OwnFacts)) {
        self.0.update_own(|own| change(&mut own.facts));
    }

    /// Every other node heard of.
    pub fn peers(&self) -> Vec<Peer> {
        let registry = self.0.registry();
        let others = registry.directory.iter().filter(|info| info.node_id != self.node_id());
        let peer = |info: &NodeInfo| Peer {
            info: info.clone(),
            down_for: registry.down_for(&info.node_id),
        };
        others.map(peer).collect()
    }

    /// Whether there is a connection to the node.
    pub fn is_connected(&self, node: &NodeId) -> bool {
        self.0.registry().is_connected(node)
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
        self.0.registry().down_for(node)
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

    /// The newest a node said about itself.
    pub fn info(&self, node: &NodeId) -> Option<NodeInfo> {
        self.with_info(node, NodeInfo::clone)
    }

    /// Looks at the newest a node said about itself, this one included, without copying it.
    pub fn with_info<T>(&self, node: &NodeId, look: impl FnOnce(&NodeInfo) -> T) -> Option<T> {
        if *node == self.node_id() {
            return Some(look(&self.0.own().info));
        }
        self.0.registry().directory.get(node).map(look)
    }

    /// Makes a call.
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
        if timeout(SHUTDOWN_MAX, &mut all).await.is_err() {
            debug!("some peers did not close in time");
            shared.force.cancel();
            all.await;
        }
    }

    /// Ends every task and connection at once, as a crash would.
    pub fn abort(&self) {
        drop(std::mem::take(&mut *self.0.tasks.lock()));
    }

    fn learn(&self, info: NodeInfo) {
        self.0.learn(vec![info]);
    }
}

impl std::fmt::Debug for Network {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Network").field("node", &self.node_id()).finish_non_exhaustive()
    }
}

fn sign(
    env: &Env,
    config: &Config,
    clock: &mut Clock,
    facts: &OwnFacts,
    addrs: &[SocketAddr],
) -> NodeInfo {
    let info = NodeInfo {
        node_id: NodeId::new(config.node_key.verifying_key().to_bytes()),
        instance: config.instance,
        seq: clock.tick(env.wall_ms()),
        addrs: addrs.iter().map(ToString::to_string).collect(),
        zone: config.zone.clone(),
        capacity: facts.capacity,
        used: facts.used,
        build: config.build.clone(),
        durable_epoch: facts.durable_epoch,
        repair_queue: facts.repair_queue,
        lost: facts.lost,
        synced: facts.synced.clone(),
        bodies: facts.bodies.clone(),
        emptied: facts.emptied.clone(),
        reach: facts.reach.clone(),
        clean: facts.clean,
        signature: [0; 64],
    };
    info.sign(&config.node_key)
}

impl Registry {
    pub(crate) fn is_connected(&self, node: &NodeId) -> bool {
        self.usable(node, ConnClass::Control).is_some()
    }

    pub(crate) fn down_for(&self, node: &NodeId) -> Option<Duration> {
        if self.is_connected(node) {
            return None;
        }
        Some(self.down_since.get(node).copied().unwrap_or(self.started).elapsed())
    }

    pub(crate) fn conn(&self, node: &NodeId, class: ConnClass) -> Option<Arc<Conn>> {
        self.usable(node, class).or_else(|| self.usable(node, ConnClass::Control)).cloned()
    }

    /// A connection that takes new calls.
    fn usable(&self, node: &NodeId, class: ConnClass) -> Option<&Arc<Conn>> {
        self.conns.get(&(*node, class)).filter(|conn| !conn.is_retired())
    }

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

impl Shared {
    pub(crate) fn registry(&self) -> MutexGuard<'_, Registry> {
        self.registry.lock()
    }

    pub(crate) fn own(&self) -> MutexGuard<'_, Own> {
        self.own.lock()
    }

    /// Applies a change to what we say about ourselves, and publishes it if it is one.
    pub(crate) fn update_own(&self, change: impl FnOnce(&mut Own)) {
        let info = {
            let mut own = self.own();
            let before = (own.facts.clone(), own.addrs.clone());
            change(&mut own);
            if before == (own.facts.clone(), own.addrs.clone()) {
                return;
            }
            self.sign_anew(&mut own)
        };
        self.learn(vec![info]);
        self.gossip_wake.notify_one();
    }

    pub(crate) fn sign_anew(&self, own: &mut Own) -> NodeInfo {
        let (facts, addrs) = (own.facts.clone(), own.addrs.clone());
        own.info = sign(&self.env, &self.config, &mut own.clock, &facts, &addrs);
        own.info.clone()
    }

    /// Takes in infos; those that are news are passed on to the layer above.
    pub(crate) fn learn(&self, infos: Vec<NodeInfo>) {
        let mut own_is_old = None;
        for info in infos {
            let node = info.node_id;
            if node == self.identity.node {
                own_is_old = self.hear_of_myself(&info).or(own_is_old);
            }
            let learned = self.registry().directory.learn(info.clone());
            match learned {
                Err(error) => debug!(?node, %error, "an info is forged"),
                Ok(Learned::Former) => debug!(?node, "an info is of a former life"),
                Ok(Learned::Known) => {}
                Ok(Learned::NewNode | Learned::Newer) => {
                    let mut registry = self.registry();
                    registry.book_is_old = true;
                    registry.hurry.insert(node);
                    drop(registry);
                    self.dial_wake.notify_one();
                    self.handler.info_changed(&info);
                }
            }
        }
        if let Some(seq) = own_is_old {
            let info = {
                let mut own = self.own();
                own.clock = Clock::starting_after(seq);
                self.sign_anew(&mut own)
            };
            self.learn(vec![info]);
            self.gossip_wake.notify_one();
        }
    }

    /// A peer told where it sees us. Only a node that listens on every interface needs that.
    pub(crate) fn observed(&self, seen: SocketAddr, dialled_by_peer: bool) {
        if !self.listen.ip().is_unspecified() {
            return;
        }
        let seen = SocketAddr::new(canonical_ip(seen.ip()), seen.port());
        let addr = match dialled_by_peer {
            true => seen,
            false => SocketAddr::new(seen.ip(), self.listen.port()),
        };
        self.update_own(|own| {
            if !own.addrs.contains(&addr) {
                own.addrs.insert(0, addr);
                own.addrs.truncate(ADDRS_MAX);
            }
        });
    }
}

/// An IPv4 address that came over an IPv6 socket, as IPv4.
fn canonical_ip(ip: IpAddr) -> IpAddr {
    ip.to_canonical()
}

/// How long peers may take to close when this node stops.
pub const SHUTDOWN_MAX: Duration = Duration::from_secs(2);
