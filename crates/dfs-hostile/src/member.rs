//! Becoming a member, and asking the others.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use bytes::Bytes;
use dfs_core::address::Address;
use dfs_core::hlc::Hlc;
use dfs_core::id::{NodeId, Partition, PartitionBits, RecordKey};
use dfs_core::layout::epoch::EpochState;
use dfs_core::node::member::Clean;
use dfs_core::replica::sync::Table;
use dfs_env::Env;
use dfs_p2p::message::{Answer, Call, Priority, Request, Response};
use dfs_p2p::{CallError, Config, Network, OwnFacts};
use ed25519_dalek::SigningKey;
use zeroize::Zeroizing;

use crate::liar::Liar;
use crate::seen::Seen;

/// The hostile member.
#[derive(Debug)]
pub struct Member {
    pub(crate) env: Env,
    pub(crate) network: Network,
    pub(crate) peers: Vec<SocketAddr>,
    key: SigningKey,
    /// What it has seen, where it takes its aim by that.
    pub(crate) seen: Option<Arc<Seen>>,
}

impl Member {
    /// Starts one that holds nothing, with a key of its own.
    ///
    /// # Errors
    /// It cannot listen, or an address is none.
    pub async fn start(
        env: Env,
        peers: &[SocketAddr],
        cluster_key: Zeroizing<[u8; 32]>,
        liar: &Arc<Liar>,
    ) -> Result<Self> {
        let key = SigningKey::from_bytes(&env.random());
        let address = |peer: &SocketAddr| peer.to_string().parse::<Address>();
        let config = Config {
            bootstrap: peers.iter().map(address).collect::<Result<_, _>>()?,
            node_key: key.clone(),
            incarnation: 1 << 32 | env.random_u64() >> 32,
            cluster_key,
            admin: None,
            invite: None,
            zone: "hostile".to_owned(),
            build: "hostile".to_owned(),
            book: None,
        };
        let listener = Network::bind(&env, (Ipv4Addr::LOCALHOST, 0).into()).await?;
        let (facts, handler) = (OwnFacts::default(), liar.clone());
        let bound = |network: &Network| liar.use_network(network);
        let network = Network::start(env.clone(), listener, config, facts, handler, bound).await?;
        Ok(Self { env, network, peers: peers.to_vec(), key, seen: None })
    }

    /// One that a node already is. Takes its aim by what that has seen, and does little at once.
    pub fn of(env: Env, network: Network, key: &[u8; 32], seen: Arc<Seen>) -> Self {
        let key = SigningKey::from_bytes(key);
        Self { env, network, peers: Vec::new(), key, seen: Some(seen) }
    }

    /// Asks to become a member until it is one; gives the epoch that made it so.
    ///
    /// # Errors
    /// Nobody let it in.
    pub async fn join(&self) -> Result<u64> {
        let began = self.env.mono();
        while began.elapsed() < JOIN_MAX {
            for node in self.victims() {
                let join = Request::Join(Box::new(self.network.own_info()));
                let _ = self.ask(&node, Priority::Layout, 0, join).await;
            }
            if let Some(state) = self.layout().await
                && state.is_member(&self.network.node_id())
            {
                return Ok(state.epoch);
            }
            self.env.sleep(LOOK_EVERY).await;
        }
        None.context("nobody let it in")
    }

    /// The honest nodes that are connected.
    pub(crate) fn victims(&self) -> Vec<NodeId> {
        let peers = self.network.peers();
        let up = peers.iter().filter(|peer| peer.down_for.is_none() && peer.info.capacity > 0);
        up.map(|peer| peer.info.node_id).collect()
    }

    /// The newest layout that anyone shows.
    pub(crate) async fn layout(&self) -> Option<EpochState> {
        for node in self.victims() {
            let get = Request::ChainGet { from: 0 };
            let answer = self.ask(&node, Priority::Layout, 0, get).await;
            if let Ok(Ok(Response::Chain { snapshot: Some(state), .. })) = answer.map(|a| a.result)
            {
                return Some(*state);
            }
        }
        None
    }

    /// Partitions to look at: one in `step` of all, or a few that have something.
    pub(crate) fn partitions(&self, table: Table, step: usize) -> Vec<Partition> {
        let Some(seen) = &self.seen else { return (0..PARTITIONS).step_by(step).collect() };
        let (from, bits) = (self.env.random_u64(), PartitionBits::GENESIS);
        match table {
            Table::Records => {
                let keys = seen.keys(from, AIMS_MAX);
                keys.iter().map(|key| key.partition(bits)).collect()
            }
            Table::Refs => {
                let blobs = seen.blobs(from, AIMS_MAX);
                blobs.iter().map(|blob| blob.partition(bits)).collect()
            }
        }
    }

    /// The rows of a partition that one node shows.
    pub(crate) async fn rows(
        &self,
        node: &NodeId,
        table: Table,
        partition: Partition,
    ) -> Result<Answer, CallError> {
        let scan = Request::SyncScan { table, partition, after: Bytes::new() };
        self.ask(node, Priority::Records, 0, scan).await
    }

    /// The keys of records of a partition that one node shows.
    pub(crate) async fn record_keys(&self, node: &NodeId, partition: Partition) -> Vec<RecordKey> {
        match self.rows(node, Table::Records, partition).await.map(|answer| answer.result) {
            Ok(Ok(Response::Rows { hashes, .. })) => {
                hashes.into_iter().map(|(key, _)| key).collect()
            }
            _ => Vec::new(),
        }
    }

    /// The key that it is known by.
    pub(crate) fn key(&self) -> &SigningKey {
        &self.key
    }

    pub(crate) async fn ask(
        &self,
        node: &NodeId,
        priority: Priority,
        epoch: u64,
        request: Request,
    ) -> Result<Answer, CallError> {
        let call = Call { epoch, ..Call::new(priority, ANSWER_MAX, request) };
        self.network.call(node, call).await
    }

    /// Claims what has others forget the most: that it knows every epoch and keeps nothing for
    /// anyone.
    pub(crate) fn claim(&self, epoch: u64) {
        let at = Hlc::from_unix_ms(self.env.wall_ms());
        self.network.update(|facts| {
            facts.durable_epoch = epoch;
            facts.clean = Clean { at, epoch };
        });
    }

    /// Ends it.
    pub async fn leave(&self) {
        self.network.shutdown().await;
    }
}

/// The partitions of a new cluster.
const PARTITIONS: Partition = 1024;
/// Partitions that one turn looks at, where it knows which have something.
const AIMS_MAX: usize = 4;
/// How long it waits to be let in.
const JOIN_MAX: Duration = Duration::from_secs(30);
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// It does not wait for an answer any longer.
const ANSWER_MAX: Duration = Duration::from_secs(10);
