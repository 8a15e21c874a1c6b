//! What a peer can and cannot make of a node by calling it retired.

use std::net::SocketAddr;
use std::sync::Arc;

use dfs_core::id::ClusterId;
use dfs_env::{BoxFuture, Env, MemoryNet};
use ed25519_dalek::SigningKey;
use zeroize::Zeroizing;

use super::*;
use crate::message::Answer;
use crate::wire::Goodbye;
use crate::{Caller, Config, Handler, Network, OwnFacts};

struct Nothing;

impl Handler for Nothing {
    fn handle(&self, _: Caller, _: Call) -> BoxFuture<'_, Answer> {
        Box::pin(async { Answer::new(Ok(Response::Done), 0) })
    }

    fn is_member(&self, _: &NodeId) -> bool {
        false
    }

    fn cluster_id(&self) -> Option<ClusterId> {
        None
    }

    fn peer_changed(&self, _: NodeId, _: bool) {}
    fn retired(&self, _: &str) {}
    fn info_changed(&self, _: &NodeInfo) {}
}

const KEY: [u8; 32] = [7; 32];
const CHALLENGE: [u8; 32] = [5; 32];

/// Whether a start with boot counter 3 goes on after it was called retired with this proof.
async fn goes_on(proof: impl FnOnce(NodeInfo) -> Option<LaterLife>) -> bool {
    let env = Env::in_memory(1, MemoryNet::default());
    let config = Config {
        bootstrap: Vec::new(),
        node_key: SigningKey::from_bytes(&KEY),
        incarnation: 3 << 32,
        cluster_key: Zeroizing::new([1; 32]),
        zone: "z".to_owned(),
        build: "test".to_owned(),
        book: None,
    };
    let on = SocketAddr::from(([127, 0, 0, 1], 4000));
    let listener = Network::bind(&env, on).await.unwrap();
    let (facts, handler) = (OwnFacts::default(), Arc::new(Nothing));
    let network = Network::start(env, listener, config, facts, handler, |_| ()).await.unwrap();
    let later_life = proof(network.own_info()).map(Box::new);
    let goodbye = Goodbye { code: Code::Retired, text: String::new(), later_life };
    network.0.heed(&ConnError::Refused { goodbye, greeted: true }, &CHALLENGE);
    let goes_on = !network.0.shutdown.is_cancelled();
    network.shutdown().await;
    goes_on
}

#[tokio::test]
async fn a_peers_bare_word_retires_no_node() {
    let key = SigningKey::from_bytes(&KEY);
    let told = |info: NodeInfo| Some(LaterLife::Info(Box::new(info)));
    assert!(goes_on(|_| None).await);
    assert!(goes_on(told).await);
    assert!(goes_on(|own| told(NodeInfo { incarnation: 4 << 32, ..own })).await);
    assert!(!goes_on(|own| told(NodeInfo { incarnation: 4 << 32, ..own }.sign(&key))).await);
    let still = |challenge| Some(LaterLife::StillRuns(StillRuns::sign(2 << 32, challenge, &key)));
    assert!(goes_on(|_| still([6; 32])).await);
    assert!(!goes_on(|_| still(CHALLENGE)).await);
}
