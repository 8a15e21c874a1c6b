//! A network whose layer above answers everything and asks nothing.

use std::net::SocketAddr;
use std::sync::Arc;

use dfs_core::id::{ClusterId, NodeId};
use dfs_core::node::member::NodeInfo;
use dfs_env::{BoxFuture, Env};
use ed25519_dalek::SigningKey;
use zeroize::Zeroizing;

use crate::message::{Answer, Call, Response};
use crate::{Caller, Config, Handler, Network, OwnFacts};

/// The layer above: in a cluster of these members, or in none.
pub(crate) struct Quiet {
    pub(crate) members: Option<Vec<NodeId>>,
}

impl Handler for Quiet {
    fn handle(&self, _: Caller, _: Call) -> BoxFuture<'_, Answer> {
        Box::pin(async { Answer::new(Ok(Response::Done), 0) })
    }

    fn is_member(&self, node: &NodeId) -> bool {
        self.members.as_ref().is_some_and(|members| members.contains(node))
    }

    fn cluster_id(&self) -> Option<ClusterId> {
        self.members.as_ref().map(|_| ClusterId::new([9; 32]))
    }

    fn peer_changed(&self, _: NodeId, _: bool) {}
    fn retired(&self, _: &str) {}
    fn info_changed(&self, _: &NodeInfo) {}
}

/// Starts a node with boot counter 3.
pub(crate) async fn start(env: Env, on: SocketAddr, key: [u8; 32], quiet: Quiet) -> Network {
    let config = Config {
        bootstrap: Vec::new(),
        node_key: SigningKey::from_bytes(&key),
        incarnation: 3 << 32,
        cluster_key: Zeroizing::new([1; 32]),
        admin: None,
        invite: None,
        zone: "z".to_owned(),
        build: "test".to_owned(),
        book: None,
    };
    let listener = Network::bind(&env, on).await.unwrap();
    let (facts, handler) = (OwnFacts::default(), Arc::new(quiet));
    Network::start(env, listener, config, facts, handler, |_| ()).await.unwrap()
}
