//! Machines on a network whose links can be cut and whose names can move; a node of each may run.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use dfs_env::{BoxFuture, Env, Listener, MemoryFs, MemoryNet, Net, Stream};
use dfs_server::health::Health;
use dfs_server::{Cadence, Client, Config, Grace, PeerState, PeerView, Server, VaultConfig};
use dfs_store::vault::keys::{ClusterKey, VaultKey};

pub(crate) struct Machines {
    net: MemoryNet,
    links: Arc<Mutex<Links>>,
    pub(crate) disks: Vec<MemoryFs>,
    pub(crate) servers: Vec<Option<Server>>,
    boots: u64,
}

/// What the network lets through.
#[derive(Debug, Default)]
struct Links {
    /// Which machine listens on a port.
    ports: BTreeMap<u16, usize>,
    /// Pairs of machines that cannot connect.
    cut: BTreeSet<(usize, usize)>,
    /// Ports that names stand for.
    names: BTreeMap<String, u16>,
}

/// The network as one machine has it.
struct Seen {
    machine: usize,
    net: MemoryNet,
    links: Arc<Mutex<Links>>,
}

impl Net for Seen {
    fn connect(&self, to: SocketAddr) -> BoxFuture<'_, io::Result<Stream>> {
        let links = self.links.lock().unwrap();
        let other = links.ports.get(&to.port()).copied().unwrap_or(self.machine);
        let pair = (self.machine.min(other), self.machine.max(other));
        if links.cut.contains(&pair) {
            return Box::pin(async { Err(io::ErrorKind::ConnectionRefused.into()) });
        }
        self.net.connect(to)
    }

    fn listen(&self, on: SocketAddr) -> BoxFuture<'_, io::Result<Box<dyn Listener>>> {
        self.links.lock().unwrap().ports.insert(on.port(), self.machine);
        self.net.listen(on)
    }

    fn resolve<'a>(
        &'a self,
        host: &'a str,
        port: u16,
    ) -> BoxFuture<'a, io::Result<Vec<SocketAddr>>> {
        let named = self.links.lock().unwrap().names.get(host).copied();
        self.net.resolve(host, named.unwrap_or(port))
    }
}

/// How a node is started, besides its number.
#[derive(Debug, Clone)]
pub(crate) struct How {
    pub(crate) list: Vec<String>,
    pub(crate) init: bool,
    pub(crate) key: u8,
    /// Which vault's key it has, if any.
    pub(crate) vault: Option<u8>,
    pub(crate) port: Option<u16>,
    /// Whether it may take the place of a member that is away.
    pub(crate) new_node: bool,
}

/// The numbers of the nodes it lists.
pub(crate) fn listing(list: &[u16]) -> How {
    let list = list.iter().map(|number| format!(":{}", 4000 + number)).collect();
    How { list, init: false, key: 1, vault: Some(2), port: None, new_node: true }
}

impl Machines {
    pub(crate) fn new(count: usize) -> Self {
        Self {
            net: MemoryNet::default(),
            links: Arc::default(),
            disks: (0..count).map(|_| MemoryFs::default()).collect(),
            servers: (0..count).map(|_| None).collect(),
            boots: 0,
        }
    }

    /// From now on two machines cannot connect; connections that are up stay.
    pub(crate) fn cut(&self, one: usize, other: usize) {
        self.links.lock().unwrap().cut.insert((one.min(other), one.max(other)));
    }

    /// From now on all connections together carry so many bytes a second; 0 is no limit.
    pub(crate) fn slow_down(&self, bytes_per_second: u64) {
        self.net.slow_down(bytes_per_second);
    }

    /// All machines can connect again.
    pub(crate) fn heal(&self) {
        self.links.lock().unwrap().cut.clear();
    }

    /// From now on a name stands for a port.
    pub(crate) fn name(&self, name: &str, port: u16) {
        self.links.lock().unwrap().names.insert(name.to_owned(), port);
    }

    /// What a machine's next start runs on.
    pub(crate) fn env(&mut self, at: usize) -> Env {
        self.boots += 1;
        let (net, links) = (self.net.clone(), self.links.clone());
        let seen = Seen { machine: at, net, links };
        Env::with_disk(self.boots, seen, self.disks[at].clone())
    }

    pub(crate) async fn start(&mut self, at: usize, how: How) {
        let env = self.env(at);
        let config = self.config(at, &how);
        // A node that crashed a moment ago gives its port back when its tasks are gone.
        while env.net().listen(config.listen).await.is_err() {
            tokio::task::yield_now().await;
        }
        self.servers[at] = Some(Server::start(env, config).await.unwrap());
    }

    pub(crate) fn config(&self, at: usize, how: &How) -> Config {
        let port = how.port.unwrap_or_else(|| 4000 + u16::try_from(at).unwrap());
        Config {
            data_dir: PathBuf::from("/data"),
            listen: ([127, 0, 0, 1], port).into(),
            init: how.init,
            bootstrap: how.list.iter().map(|address| address.parse().unwrap()).collect(),
            cluster_key: ClusterKey::from_bytes([how.key; 32]),
            invite: None,
            founds: true,
            new_node: how.new_node,
            vault: how.vault.map(|key| VaultConfig { key: VaultKey::from_bytes([key; 32]) }),
            zone: "z".to_owned(),
            capacity: None,
            packed_max: dfs_store::PACKED_BYTES_MAX,
            out_after: dfs_server::OUT_AFTER,
            build: "test".to_owned(),
            grace: Grace::default(),
            cadence: Cadence::default(),
        }
    }

    /// Ends a node without a goodbye; its disk keeps what was synced.
    pub(crate) fn crash(&mut self, at: usize) {
        drop(self.servers[at].take());
        self.disks[at].crash();
    }

    pub(crate) fn node(&self, at: usize) -> Client {
        self.servers[at].as_ref().unwrap().client()
    }

    /// Waits until a node's health is as told; gives it.
    pub(crate) async fn until(&self, at: usize, is: impl Fn(&Health) -> bool) -> Health {
        let client = self.node(at);
        let waited = async {
            loop {
                let health = client.health().await.unwrap();
                if is(&health) {
                    return health;
                }
                tokio::time::sleep(LOOK_EVERY).await;
            }
        };
        match tokio::time::timeout(LIMIT, waited).await {
            Ok(health) => health,
            Err(_) => panic!("node {at} says {:?}", client.health().await),
        }
    }

    /// Waits until a node shows another one alive at this port.
    pub(crate) async fn until_at(&self, at: usize, other: &str, port: u16) {
        let addr = format!("127.0.0.1:{port}");
        let is_there = |peer: &PeerView| {
            peer.id == other && peer.addr == addr && peer.state == PeerState::Alive
        };
        let waited = async {
            while !self.node(at).peers().iter().any(is_there) {
                tokio::time::sleep(LOOK_EVERY).await;
            }
        };
        let waited = tokio::time::timeout(LIMIT, waited).await;
        assert!(waited.is_ok(), "node {at} shows {:?}", self.node(at).peers());
    }

    /// Waits until a node shows another one in a state.
    pub(crate) async fn until_shown(&self, at: usize, other: &str, state: PeerState) {
        let shown = || self.node(at).peers().into_iter().find(|peer| peer.id == other);
        let waited = async {
            while shown().map(|peer| peer.state) != Some(state) {
                tokio::time::sleep(LOOK_EVERY).await;
            }
        };
        let waited = tokio::time::timeout(LIMIT, waited).await;
        assert!(waited.is_ok(), "node {at} shows {:?}", shown());
    }

    pub(crate) fn id(&self, at: usize) -> String {
        self.servers[at].as_ref().unwrap().node_id().to_string()
    }

    /// Waits until these nodes are one cluster, each with all of them alive.
    pub(crate) async fn are_one(&self, nodes: &[usize]) -> String {
        let count = nodes.len();
        let mut clusters = Vec::new();
        for at in nodes {
            let client = self.node(*at);
            let is_one = |health: &Health| {
                let peers = client.peers();
                let alive = peers.iter().filter(|peer| peer.state == PeerState::Alive).count();
                !health.cluster.is_empty()
                    && (health.nodes, health.alive, alive) == (count, count, count)
            };
            clusters.push(self.until(*at, is_one).await.cluster);
        }
        clusters.dedup();
        assert_eq!(clusters.len(), 1, "{clusters:?}");
        clusters.remove(0)
    }
}

/// Generous: a busy machine must not fail a test.
const LIMIT: Duration = Duration::from_secs(120);
/// How often a condition is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(10);
