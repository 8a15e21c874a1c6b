//! What a hostile member answers that holds nothing: gossip, because it wants to be known, and
//! lies.

use std::sync::OnceLock;

use dfs_core::id::{ClusterId, NodeId};
use dfs_core::node::member::NodeInfo;
use dfs_env::BoxFuture;
use dfs_p2p::message::{Answer, Call, Code, Refusal, Request, Response};
use dfs_p2p::{Caller, Handler, Network};

use crate::vaults::own_cert;

/// Answers calls. Everything it says carries the highest epoch there can be, and whoever asks for
/// that waits in vain.
#[derive(Debug, Default)]
pub struct Liar(OnceLock<Network>);

impl Liar {
    /// Gives it the network, before the first call.
    pub fn use_network(&self, network: &Network) {
        let _ = self.0.set(network.clone());
    }
}

impl Handler for Liar {
    fn handle(&self, from: Caller, call: Call) -> BoxFuture<'_, Answer> {
        Box::pin(async move {
            let result = match (call.request, self.0.get()) {
                (Request::Gossip(gossip), Some(network)) => Ok(network.on_gossip(from, gossip)),
                (Request::CertGet(_), _) => Ok(Response::Cert(Box::new(own_cert()))),
                (Request::ChainGet { .. }, _) => std::future::pending().await,
                (Request::EpochDecided(_), _) => Ok(Response::Done),
                _ => Err(Refusal::new(Code::StaleEpoch, "the partition has moved")),
            };
            Answer::new(result, u64::MAX)
        })
    }

    fn is_member(&self, _: &NodeId) -> bool {
        true
    }

    fn cluster_id(&self) -> Option<ClusterId> {
        None
    }

    fn peer_changed(&self, _: NodeId, _: bool) {}

    fn retired(&self, _: &str) {}

    fn info_changed(&self, _: &NodeInfo) {}
}
