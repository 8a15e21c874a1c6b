//! One phase of a Paxos attempt over the network: ask every acceptor, and feed what they say to
//! the proposer until it knows how to go on.

use std::sync::Arc;

use dfs_core::id::NodeId;
use dfs_core::paxos::{Ballot, Heard, Next, Proposer};
use dfs_p2p::message::{Code, Response};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tracing::debug;

use super::call::{Ask, Rpc};
use super::layout::StepError;

impl Rpc {
    /// A ballot above what was seen, and unlike any other: a node that restarts must not bring a
    /// second value under a ballot it has forgotten, so each attempt draws its own id.
    pub(crate) fn new_ballot(&self, seen: Option<Ballot>) -> Ballot {
        Ballot::above(seen, NodeId::new(self.replica.env.random()))
    }

    /// Asks all acceptors of `proposer` the same, until it is clear how to go on.
    pub(crate) async fn phase<V: Clone + Eq, B: Copy + Ord>(
        self: &Arc<Self>,
        proposer: &mut Proposer<V, B>,
        epoch: u64,
        ask: &Ask,
        mut hear: impl FnMut(NodeId, Response) -> Heard<V, B>,
    ) -> Result<Next<V, B>, StepError> {
        let mut running = FuturesUnordered::new();
        for node in proposer.acceptors() {
            let (this, ask) = (self.clone(), ask.clone());
            running.push(async move {
                let result = this.ask(&node, epoch, ask).await;
                (node, result)
            });
        }
        while let Some((node, result)) = running.next().await {
            let next = match result {
                Ok((response, _)) => proposer.heard(node, hear(node, response)),
                Err(error) if error.code() == Some(Code::StaleEpoch) => {
                    return Err(StepError::Stale);
                }
                Err(error) => {
                    debug!(peer = ?node, %error, "an acceptor did not do its part");
                    proposer.failed(node)
                }
            };
            if next != Next::Wait {
                self.let_end(running.map(|(node, result)| result.is_err().then_some(node)));
                return Ok(next);
            }
        }
        Ok(Next::Lost { higher: None })
    }
}
