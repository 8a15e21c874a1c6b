//! Asking one node, this one included.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use dfs_core::id::NodeId;
use dfs_core::replica::conduct::Fault;
use dfs_env::{Bug, bug};
use dfs_p2p::message::{Call, Code, Priority, Refusal, Request, Response};
use dfs_p2p::{CallError, Caller, Handler};
use tracing::debug;

use crate::chain::Chain;
use crate::replica::Replica;

/// Calls to the nodes of the cluster.
pub(crate) struct Rpc {
    pub(crate) replica: Arc<Replica>,
    chain: Arc<Chain>,
    /// What answers when this node asks itself.
    own: OnceLock<Arc<dyn Handler>>,
}

/// What one replica is asked.
#[derive(Debug, Clone)]
pub(crate) struct Ask {
    pub(crate) priority: Priority,
    pub(crate) request: Request,
    pub(crate) body: Bytes,
    pub(crate) answer_bytes_max: usize,
    pub(crate) deadline: Duration,
}

impl Ask {
    pub(crate) fn new(priority: Priority, request: Request) -> Self {
        let deadline = ASK_DEADLINE;
        Self { priority, request, body: Bytes::new(), answer_bytes_max: 0, deadline }
    }
}

/// Why one replica did not do what it was asked.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum AskError {
    #[error(transparent)]
    Call(#[from] CallError),
    #[error(transparent)]
    Refused(#[from] Refusal),
    #[error("it calls the layout old and shows no newer one")]
    NotShownStale,
}

impl AskError {
    pub(crate) fn code(&self) -> Option<Code> {
        match self {
            Self::Call(_) | Self::NotShownStale => None,
            Self::Refused(refusal) => Some(refusal.code),
        }
    }
}

impl Rpc {
    pub(crate) fn new(replica: Arc<Replica>, chain: Arc<Chain>) -> Self {
        Self { replica, chain, own: OnceLock::new() }
    }

    /// Takes what answers when this node asks itself, before it does.
    pub(crate) fn answer_with(&self, own: Arc<dyn Handler>) {
        let _ = self.own.set(own);
    }

    /// Asks one node, this one included.
    pub(crate) async fn ask(
        &self,
        node: &NodeId,
        epoch: u64,
        ask: Ask,
    ) -> Result<(Response, Bytes), AskError> {
        let call = Call {
            priority: ask.priority,
            deadline: ask.deadline,
            epoch,
            request: ask.request,
            body: ask.body,
            answer_bytes_max: ask.answer_bytes_max,
        };
        let (id, net) = (self.replica.id, self.replica.net());
        let is_given = !call.body.is_empty();
        let answer = if *node == id {
            let own = self.own.get().expect("it is set before anything is asked");
            own.handle(
                Caller {
                    node: id,
                    proved: true,
                    admin: self.replica.net().admin_of(&id),
                    grant: None,
                },
                call,
            )
            .await
        } else {
            match net.call(node, call.clone()).await {
                // One of two connections to the same peer gave way to the other, or a new one is
                // up already. Every request may be repeated.
                Err(CallError::Lost | CallError::NotConnected) if net.is_connected(node) => {
                    net.call(node, call).await?
                }
                other => other?,
            }
        };
        if answer.epoch > self.replica.layout.epoch()
            && let Err(error) = self.chain.catch_up(node).await
        {
            debug!(%error, "a newer layout could not be stored");
        }
        if is_given {
            let told = answer.result.as_ref().map(|_| ()).map_err(|refusal| refusal.code);
            self.replica.refusing.note(self.replica.env.mono(), *node, told);
        }
        match answer.result {
            // One replica's word ends no operation: the newer layout must be here by now.
            Err(refusal)
                if refusal.code == Code::StaleEpoch
                    && !bug(Bug::StaleWordEndsAll)
                    && (epoch == 0 || self.replica.layout.epoch() <= epoch) =>
            {
                let about = *blake3::hash(&epoch.to_be_bytes()).as_bytes();
                let conduct = &self.replica.conduct;
                conduct.fault(self.replica.env.mono(), node, Fault::StaleClaim, about);
                Err(AskError::NotShownStale)
            }
            result => Ok((result?, answer.body)),
        }
    }

    /// Asks, and asks again while the node says that it is too busy.
    pub(crate) async fn ask_again(
        &self,
        node: &NodeId,
        epoch: u64,
        ask: Ask,
    ) -> Result<(Response, Bytes), AskError> {
        let mut tries = 0;
        loop {
            let result = self.ask(node, epoch, ask.clone()).await;
            let Err(AskError::Refused(refusal)) = &result else { return result };
            let Some(wait) = refusal.retry_after.filter(|_| tries < OVERLOADED_TRIES) else {
                return result;
            };
            tries += 1;
            self.replica.env.sleep(wait.min(OVERLOADED_WAIT_MAX) * tries).await;
        }
    }
}

/// How long a replica may be silent before the operation goes on without it.
const ASK_DEADLINE: Duration = Duration::from_secs(10);
/// How often a busy replica is asked again.
const OVERLOADED_TRIES: u32 = 20;
/// The longest wait that a busy replica may ask for.
const OVERLOADED_WAIT_MAX: Duration = Duration::from_millis(500);
