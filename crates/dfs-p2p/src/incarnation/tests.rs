//! What a peer can and cannot make of a node by calling it retired.

use std::net::SocketAddr;

use dfs_env::{Env, MemoryNet};
use ed25519_dalek::SigningKey;

use super::*;
use crate::tests::quiet::{self, Quiet};
use crate::wire::Goodbye;

const KEY: [u8; 32] = [7; 32];
const CHALLENGE: [u8; 32] = [5; 32];

/// Whether a start with boot counter 3 goes on after it was called retired with this proof.
async fn goes_on(proof: impl FnOnce(NodeInfo) -> Option<LaterLife>) -> bool {
    let env = Env::in_memory(1, MemoryNet::default());
    let on = SocketAddr::from(([127, 0, 0, 1], 4000));
    let network = quiet::start(env, on, KEY, Quiet { members: None }).await;
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
