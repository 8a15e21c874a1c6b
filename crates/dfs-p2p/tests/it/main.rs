//! Networks of nodes in one process: meeting, calling, refusing, closing.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(clippy::disallowed_methods, reason = "a test waits by the clock of its own machine")]

mod apart;
mod first_dials;
mod half_open;
mod incarnation;
mod slow_line;
mod strangers;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use dfs_core::id::{BlobId, ClusterId, NodeId};
use dfs_core::node::invite::Invite;
use dfs_core::node::member::NodeInfo;
use dfs_core::replica::sync::Table;
use dfs_env::{BoxFuture, Env, MemoryNet};
use dfs_p2p::message::{Answer, Call, Code, Priority, Request, Response};
use dfs_p2p::{CallError, Caller, Config, FRAME_BYTES_MAX, Handler, Network, OwnFacts};
use ed25519_dalek::SigningKey;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::watch;
use zeroize::Zeroizing;

struct Node {
    network: Network,
    connected: watch::Receiver<BTreeSet<NodeId>>,
    retired: watch::Receiver<Option<String>>,
}

struct Echo {
    cluster: Option<ClusterId>,
    members: BTreeSet<NodeId>,
    network: Arc<Mutex<Option<Network>>>,
    connected: watch::Sender<BTreeSet<NodeId>>,
    retired: watch::Sender<Option<String>>,
}

impl Handler for Echo {
    fn handle(&self, from: Caller, call: Call) -> BoxFuture<'_, Answer> {
        let network = self.network.lock().unwrap().clone();
        Box::pin(async move {
            let result = match (call.request, network) {
                (Request::Gossip(gossip), Some(network)) => Ok(network.on_gossip(from, gossip)),
                (Request::StillRuns { challenge }, Some(network)) => {
                    Ok(network.on_still_runs(challenge))
                }
                (Request::ChainGet { .. }, _) => std::future::pending().await,
                (Request::SyncScan { .. }, _) => Ok(rows(FRAME_BYTES_MAX)),
                _ => Ok(Response::Done),
            };
            Answer { result, epoch: 0, body: call.body }
        })
    }

    fn is_member(&self, node: &NodeId) -> bool {
        self.members.contains(node)
    }

    fn cluster_id(&self) -> Option<ClusterId> {
        self.cluster
    }

    fn peer_changed(&self, node: NodeId, connected: bool) {
        self.connected.send_modify(|nodes| {
            if connected {
                nodes.insert(node)
            } else {
                nodes.remove(&node)
            };
        });
    }

    fn retired(&self, why: &str) {
        self.retired.send_replace(Some(why.to_owned()));
    }

    fn info_changed(&self, _info: &NodeInfo) {}
}

struct World {
    net: MemoryNet,
}

impl World {
    fn new() -> Self {
        Self { net: MemoryNet::default() }
    }

    async fn start(&self, seed: u64, port: u16, bootstrap: &[u16], cluster_key: u8) -> Node {
        let env = Env::in_memory(seed, self.net.clone());
        start(env, port, bootstrap, cluster_key).await
    }
}

/// How a node is started.
#[derive(Clone)]
struct Setup {
    port: u16,
    bootstrap: Vec<u16>,
    cluster_key: u8,
    /// Seed of the admin's key that it has.
    admin: Option<u8>,
    invite: Option<Invite>,
    cluster: Option<ClusterId>,
    members: BTreeSet<NodeId>,
    node_key: [u8; 32],
    incarnation: u64,
    durable_epoch: u64,
}

impl Setup {
    fn new(env: &Env, port: u16, bootstrap: &[u16]) -> Self {
        Self {
            port,
            bootstrap: bootstrap.to_vec(),
            cluster_key: 1,
            admin: None,
            invite: None,
            cluster: None,
            members: BTreeSet::new(),
            node_key: env.random(),
            incarnation: env.random_u64(),
            durable_epoch: 0,
        }
    }
}

async fn start(env: Env, port: u16, bootstrap: &[u16], cluster_key: u8) -> Node {
    let setup = Setup { cluster_key, ..Setup::new(&env, port, bootstrap) };
    start_with(env, setup).await
}

async fn start_with(env: Env, setup: Setup) -> Node {
    let config = Config {
        bootstrap: setup.bootstrap.iter().map(|port| format!(":{port}").parse().unwrap()).collect(),
        node_key: SigningKey::from_bytes(&setup.node_key),
        incarnation: setup.incarnation,
        cluster_key: Zeroizing::new([setup.cluster_key; 32]),
        admin: setup.admin.map(|of| SigningKey::from_bytes(&[of; 32])),
        invite: setup.invite.clone(),
        zone: "z".to_owned(),
        build: "test".to_owned(),
        book: None,
    };
    let (sender, connected) = watch::channel(BTreeSet::new());
    let (retire, retired) = watch::channel(None);
    let holder = Arc::new(Mutex::new(None));
    let handler = Arc::new(Echo {
        cluster: setup.cluster,
        members: setup.members,
        network: holder.clone(),
        connected: sender,
        retired: retire,
    });
    let listen = SocketAddr::from(([127, 0, 0, 1], setup.port));
    let listener = Network::bind(&env, listen).await.unwrap();
    let facts = OwnFacts { durable_epoch: setup.durable_epoch, ..OwnFacts::default() };
    let network = Network::start(env, listener, config, facts, handler, |network| {
        *holder.lock().unwrap() = Some(network.clone());
    });
    Node { network: network.await.unwrap(), connected, retired }
}

impl Node {
    async fn sees(&mut self, count: usize) {
        let wait = self.connected.wait_for(|nodes| nodes.len() == count);
        drop(tokio::time::timeout(LIMIT, wait).await.expect("not connected in time").unwrap());
    }

    /// Waits until it knows this of another node.
    async fn hears(&self, of: &Node, what: impl Fn(&NodeInfo) -> bool) {
        let of = of.network.node_id();
        let waited = async {
            while !self.network.with_info(&of, &what).unwrap_or(false) {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(LIMIT, waited).await.expect("not heard in time");
    }

    async fn echo(&self, to: &Node, body: usize) -> Result<usize, CallError> {
        let call = call(Request::ChunkPut(BlobId::new([1; 32])), body);
        self.network.call(&to.network.node_id(), call).await.map(|answer| answer.body.len())
    }
}

fn call(request: Request, body: usize) -> Call {
    let call = Call::new(Priority::Chunks, Duration::from_secs(5), request);
    Call { body: Bytes::from(vec![7; body]), answer_bytes_max: body, ..call }
}

/// Asks for a page that the answerer makes too large, after a key of this length.
fn scan(after: usize) -> Call {
    let after = Bytes::from(vec![0; after]);
    call(Request::SyncScan { table: Table::Refs, partition: 0, after }, 0)
}

fn rows(last: usize) -> Response {
    let last = Bytes::from(vec![0; last]);
    Response::Rows { hashes: Vec::new(), refs: Vec::new(), last, more: true }
}

const LIMIT: Duration = Duration::from_secs(20);

#[tokio::test]
async fn nodes_in_a_chain_meet_everyone_in_any_order() {
    // Each knows only the port before it; the last is started first.
    let world = World::new();
    let mut nodes = Vec::new();
    for at in (1..=5u16).rev() {
        let before: &[u16] = if at == 1 { &[] } else { &[at - 1 + 4000] };
        nodes.push(world.start(at.into(), 4000 + at, before, 1).await);
    }
    for node in &mut nodes {
        node.sees(4).await;
    }
    for from in &nodes {
        for to in nodes.iter().filter(|to| to.network.node_id() != from.network.node_id()) {
            assert_eq!(from.echo(to, 100_000).await, Ok(100_000));
        }
    }
    for node in nodes {
        node.network.shutdown().await;
    }
}

#[tokio::test]
async fn two_that_dial_each_other_keep_talking() {
    for seed in 0..20 {
        let world = World::new();
        let mut a = world.start(seed * 2, 4001, &[4002], 1).await;
        let mut b = world.start(seed * 2 + 1, 4002, &[4001], 1).await;
        a.sees(1).await;
        b.sees(1).await;
        for _ in 0..20 {
            // A call on the connection that gives way may be lost; the next one must not be.
            let echoed = match a.echo(&b, 1000).await {
                Err(CallError::Lost | CallError::NotConnected) => {
                    b.sees(1).await;
                    a.sees(1).await;
                    a.echo(&b, 1000).await
                }
                other => other,
            };
            assert_eq!(echoed, Ok(1000), "seed {seed}");
        }
        a.network.shutdown().await;
        b.network.shutdown().await;
    }
}

#[tokio::test]
async fn another_cluster_key_stays_out() {
    let world = World::new();
    let mut inside = world.start(1, 4001, &[], 1).await;
    let mut friend = world.start(2, 4002, &[4001], 1).await;
    let stranger = world.start(3, 4003, &[4001], 2).await;
    friend.sees(1).await;
    inside.sees(1).await;
    assert!(!stranger.network.is_connected(&inside.network.node_id()));
    assert_eq!(stranger.echo(&inside, 1).await, Err(CallError::NotConnected));
    assert!(inside.network.info(&stranger.network.node_id()).is_none());
}

#[tokio::test]
async fn a_call_ends_at_its_deadline_and_when_the_peer_goes() {
    let world = World::new();
    let mut a = world.start(1, 4001, &[], 1).await;
    let mut b = world.start(2, 4002, &[4001], 1).await;
    a.sees(1).await;
    b.sees(1).await;
    let to = b.network.node_id();
    // The peer never answers; either end says so at the deadline.
    let silent =
        Call { deadline: Duration::from_millis(50), ..call(Request::ChainGet { from: 0 }, 0) };
    match a.network.call(&to, silent).await {
        Ok(answer) => assert_eq!(answer.result.unwrap_err().code, Code::Deadline),
        Err(error) => assert_eq!(error, CallError::Deadline),
    }
    b.network.shutdown().await;
    a.sees(0).await;
    assert_eq!(a.echo(&b, 1).await, Err(CallError::NotConnected));
}

#[tokio::test]
async fn garbage_from_strangers_disturbs_nobody() {
    let env = Env::real();
    let mut a = start(env.clone(), 0, &[], 1).await;
    let port = a.network.listen_addr().port();
    let mut b = start(env.clone(), 0, &[port], 1).await;
    let garbage: [&[u8]; 5] =
        [b"", b"\xff\xff\xff\xff", b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x40\x00", &[0; 5000]];
    for bytes in garbage.iter().cycle().take(100) {
        let mut stream = env.net().connect(a.network.listen_addr()).await.unwrap();
        // The node may close before it has read everything.
        let _ = stream.write_all(bytes).await;
        if bytes.len() > 5 {
            let mut rest = Vec::new();
            let _ = stream.read_to_end(&mut rest).await;
        }
    }
    a.sees(1).await;
    b.sees(1).await;
    assert_eq!(b.echo(&a, 300_000).await, Ok(300_000));
    a.network.shutdown().await;
    b.network.shutdown().await;
}

#[tokio::test]
async fn many_calls_at_once_share_a_connection() {
    let world = World::new();
    let mut a = world.start(1, 4001, &[], 1).await;
    let mut b = world.start(2, 4002, &[4001], 1).await;
    a.sees(1).await;
    b.sees(1).await;
    let calls = (0..100usize).map(|size| a.echo(&b, size * 3000));
    let echoed = futures_util::future::join_all(calls).await;
    for (size, echoed) in echoed.into_iter().enumerate() {
        assert_eq!(echoed, Ok(size * 3000));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_answer_is_lost_when_it_outruns_its_caller() {
    let world = World::new();
    let mut a = world.start(1, 4001, &[], 1).await;
    let mut b = world.start(2, 4002, &[4001], 1).await;
    a.sees(1).await;
    b.sees(1).await;
    let (a, b) = (Arc::new(a), Arc::new(b));
    let env = Env::real();
    let callers = (0..8).map(|_| {
        let (a, b) = (a.clone(), b.clone());
        env.spawn("caller", async move {
            for _ in 0..2_000 {
                assert_eq!(a.echo(&b, 0).await, Ok(0));
            }
        })
    });
    for caller in callers.collect::<Vec<_>>() {
        caller.await.unwrap();
    }
}

#[tokio::test]
async fn a_change_that_panics_leaves_the_network_usable() {
    let world = World::new();
    let mut a = world.start(1, 4001, &[], 1).await;
    let network = &a.network;
    let change = || network.update(|_| panic!("a mistake of the layer above"));
    assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(change)).is_err());
    network.update(|facts| facts.used = 7);
    assert_eq!(network.own_info().used, 7);
    let mut b = world.start(2, 4002, &[4001], 1).await;
    a.sees(1).await;
    b.sees(1).await;
    assert_eq!(b.echo(&a, 1).await, Ok(1));
}

#[tokio::test]
async fn what_fits_no_frame_fails_alone() {
    let world = World::new();
    let mut a = world.start(1, 4001, &[], 1).await;
    let mut b = world.start(2, 4002, &[4001], 1).await;
    a.sees(1).await;
    b.sees(1).await;
    let to = b.network.node_id();
    let too_large = async {
        let asked = a.network.call(&to, scan(FRAME_BYTES_MAX)).await;
        assert_eq!(asked.unwrap_err(), CallError::TooLarge);
        let answer = a.network.call(&to, scan(0)).await.unwrap();
        assert_eq!(answer.result.unwrap_err().code, Code::Internal);
        assert_eq!(a.echo(&b, 100_000).await, Ok(100_000));
    };
    // This one is under way on the same connection all the time.
    tokio::select! {
        biased;
        ended = a.network.call(&to, call(Request::ChainGet { from: 0 }, 0)) => panic!("{ended:?}"),
        () = too_large => {}
    }
}
