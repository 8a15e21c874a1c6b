//! Two nodes in one process: the second dials the first and asks it to give bytes back.
//!
//! cargo run -p dfs-p2p --example echo_peers

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use dfs_core::id::{BlobId, ClusterId, NodeId};
use dfs_core::node::member::NodeInfo;
use dfs_env::{BoxFuture, Env};
use dfs_p2p::message::{Answer, Call, Priority, Request, Response};
use dfs_p2p::{Caller, Config, Handler, Network, OwnFacts};
use ed25519_dalek::SigningKey;
use tokio::sync::Notify;
use zeroize::Zeroizing;

/// Answers every call with the bytes that came with it.
struct Echo(Arc<Notify>);

impl Handler for Echo {
    fn handle(&self, _from: Caller, call: Call) -> BoxFuture<'_, Answer> {
        Box::pin(async move { Answer { result: Ok(Response::Done), epoch: 0, body: call.body } })
    }
    fn is_member(&self, _node: &NodeId) -> bool {
        false
    }
    fn cluster_id(&self) -> Option<ClusterId> {
        None
    }
    fn peer_changed(&self, _node: NodeId, _connected: bool) {
        self.0.notify_one();
    }
    fn retired(&self, _why: &str) {}

    fn info_changed(&self, _info: &NodeInfo) {}
}

async fn start(
    env: &Env,
    bootstrap: Vec<String>,
) -> Result<(Network, Arc<Notify>), Box<dyn std::error::Error>> {
    let changed = Arc::new(Notify::new());
    let config = Config {
        bootstrap: bootstrap.iter().map(|addr| addr.parse()).collect::<Result<_, _>>()?,
        node_key: SigningKey::from_bytes(&env.random()),
        incarnation: 1,
        cluster_key: Zeroizing::new([7; 32]),
        admin: None,
        invite: None,
        zone: "default".to_owned(),
        build: "example".to_owned(),
        book: None,
    };
    let listener = Network::bind(env, "127.0.0.1:0".parse()?).await?;
    let handler = Arc::new(Echo(changed.clone()));
    Ok((
        Network::start(env.clone(), listener, config, OwnFacts::default(), handler, |_| ()).await?,
        changed,
    ))
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let env = Env::real();
    let (first, _) = start(&env, Vec::new()).await?;
    let (second, changed) = start(&env, vec![first.listen_addr().to_string()]).await?;
    changed.notified().await; // The connection is up.
    let put = Request::ChunkPut(BlobId::of(b"hello"));
    let call = Call::new(Priority::Records, Duration::from_secs(5), put);
    let call = Call { body: Bytes::from_static(b"hello"), answer_bytes_max: 1024, ..call };
    let answer = second.call(&first.node_id(), call).await?;
    eprintln!("the peer gave back {:?}", answer.body);
    second.shutdown().await;
    first.shutdown().await;
    Ok(())
}
