//! Founding a cluster together with listed peers: the decisions of [`dfs_core::layout::forming`]
//! carried out, and why this node has not joined a cluster yet.

use std::collections::BTreeSet;
use std::time::Duration;

use dfs_core::id::NodeId;
use dfs_core::layout::epoch::EpochState;
use dfs_core::layout::forming::{Forming, FormingStep, Listed, Waiting};
use dfs_env::Env;
use dfs_p2p::Caller;
use dfs_p2p::message::{Call, Code, Priority, Refusal, Request, Response};
use dfs_store::Store;
use dfs_store::disk::data_dir::DataDir;
use futures_util::future::join_all;
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::watch;
use tracing::{debug, info, warn};

use super::Chain;
use crate::config::Config;
use crate::error::StartServerError;

/// This node's way into a cluster.
pub(crate) struct Joining {
    forming: Mutex<Forming>,
    /// Why the node is in no cluster yet, as last told.
    why: Mutex<String>,
    /// See [`crate::Config::founds`].
    founds: bool,
    /// See [`crate::Config::new_node`].
    pub(super) new_node: bool,
    /// Why this node must not go on, once it must not.
    given_up: watch::Sender<Option<String>>,
}

impl Joining {
    /// Takes up a promise of an earlier start.
    pub(crate) async fn open(
        env: &Env,
        store: &Store,
        data_dir: &DataDir,
        in_cluster: bool,
        config: &Config,
    ) -> Result<Self, StartServerError> {
        let me = NodeId::new(data_dir.node_key().verifying_key().to_bytes());
        let promised = store.state(FOUNDER).await?;
        // An empty value is a promise that was given back.
        let bound_to = promised.and_then(|bytes| NodeId::from_slice(&bytes).ok());
        let mut forming = Forming::new(me, bound_to, env.random_u64());
        if in_cluster {
            forming.done();
        }
        Ok(Self {
            forming: Mutex::new(forming),
            why: Mutex::new("no peer has answered yet".to_owned()),
            founds: config.founds,
            new_node: config.new_node,
            given_up: watch::Sender::new(None),
        })
    }

    /// Ends the way into a cluster: whoever runs this node must look first.
    pub(super) fn give_up(&self, why: String) {
        self.tell(why.clone());
        self.given_up.send_replace(Some(why));
    }

    /// Waits until this node must not go on, and returns why.
    pub(crate) async fn given_up(&self) -> String {
        let mut given_up = self.given_up.subscribe();
        match given_up.wait_for(Option::is_some).await.map(|why| why.clone()) {
            Ok(Some(why)) => why,
            // The sender is this value's own.
            _ => std::future::pending().await,
        }
    }

    fn forming(&self) -> MutexGuard<'_, Forming> {
        self.forming.lock()
    }

    /// Whether this node has promised nobody to join theirs.
    pub(crate) fn is_free(&self) -> bool {
        self.forming().bound_to().is_none()
    }

    /// See [`Forming::begin_founding`].
    pub(crate) fn begin_founding(&self) -> bool {
        self.forming().begin_founding()
    }

    /// See [`Forming::done`].
    pub(crate) fn done(&self) {
        self.forming().done();
    }

    /// See [`Forming::may_join`].
    pub(crate) fn may_join(&self, state: &EpochState) -> bool {
        self.forming().may_join(|node| state.member(node).is_some())
    }

    /// Why the node is in no cluster yet.
    pub(crate) fn why(&self) -> String {
        self.why.lock().clone()
    }

    /// Notes why not, and logs it when it is another reason than before.
    pub(super) fn tell(&self, why: String) {
        let mut told = self.why.lock();
        if *told != why {
            info!(why, "in no cluster yet");
            *told = why;
        }
    }
}

impl Chain {
    /// Goes a step towards a cluster with the listed peers, while this node is in none.
    pub(crate) async fn form(&self) {
        if self.replica.layout.current().is_some() {
            return;
        }
        let listed = self.listed_and_free();
        let step = {
            let mut forming = self.joining.forming();
            forming.see(listed.as_ref().ok().map(|nodes| self.seen(nodes)));
            forming.step()
        };
        match step {
            FormingStep::Wait(waiting) => self.tell_waiting(waiting, listed.err()),
            FormingStep::Offer { attempt, nodes, whom } => self.offer(attempt, &nodes, whom).await,
            FormingStep::Found => {}
            FormingStep::AskRelease { founder, promise } => {
                self.ask_release(founder, promise).await
            }
        }
        if self.joining.forming().step() == FormingStep::Found
            && let Err(error) = self.found_now().await
        {
            warn!(%error, "a cluster could not be founded");
        }
    }

    /// The listed peers and this node, while all of them are in reach and in no cluster; or why
    /// not.
    fn listed_and_free(&self) -> Result<BTreeSet<NodeId>, String> {
        let listed = self.replica.net().listed();
        let listed = listed.map_err(|address| format!("{address} does not answer"))?;
        if listed.len() == 1 && !self.joining.founds {
            return Err("it shall join a cluster, and no node of one is named".to_owned());
        }
        let in_cluster = |node: &&NodeId| {
            **node != self.replica.id
                && self.replica.net().info(node).is_some_and(|i| i.durable_epoch > 0)
        };
        match listed.iter().find(in_cluster) {
            Some(node) => Err(format!("asking to join the cluster of {}", node.short())),
            None => Ok(listed),
        }
    }

    /// The listed, and who of them has proved to have the key of a vault: of this node's, if it has
    /// one, for it joins no cluster of another.
    fn seen(&self, nodes: &BTreeSet<NodeId>) -> Listed {
        let own = self.replica.net().admin_of(&self.replica.id);
        Listed::new(nodes.clone(), |node| {
            let admin = self.replica.net().admin_of(node);
            admin.is_some() && (own.is_none() || own == admin)
        })
    }

    fn tell_waiting(&self, waiting: Waiting, unready: Option<String>) {
        self.joining.tell(match (waiting, unready) {
            (Waiting::Done, _) => return,
            (Waiting::Founder(founder), _) => {
                format!("waiting for {} to found a cluster", founder.short())
            }
            (Waiting::Peers | Waiting::TooMany, Some(unready)) => unready,
            (Waiting::Peers, None) => "waiting for peers".to_owned(),
            (Waiting::Gateway, _) => {
                "no listed node has a vault key, so none can found a cluster: start one without \
                 --storage-only"
                    .to_owned()
            }
            (Waiting::TooMany, None) => {
                "too many peers are listed to found a cluster together: start one node with --init"
                    .to_owned()
            }
        });
    }

    async fn offer(&self, attempt: u64, nodes: &BTreeSet<NodeId>, whom: Vec<NodeId>) {
        let asked = whom.into_iter().map(|node| async move {
            let request = Request::GenesisOffer(nodes.iter().copied().collect());
            (node, self.replica.net().call(&node, call(request)).await)
        });
        let mut declined = Vec::new();
        for (node, answer) in join_all(asked).await {
            match answer.map(|answer| answer.result) {
                Ok(Ok(_)) => self.joining.forming().promised(node, attempt),
                Ok(Err(refusal)) => declined.push(format!("{}: {}", node.short(), refusal.message)),
                Err(error) => declined.push(format!("{}: {error}", node.short())),
            }
        }
        if !declined.is_empty() {
            let why = declined.join("; ");
            self.joining.tell(format!("the listed peers do not agree to found a cluster: {why}"));
        }
    }

    async fn ask_release(&self, founder: NodeId, promise: u64) {
        match self.replica.net().call(&founder, call(Request::GenesisWithdraw)).await {
            Ok(answer) if answer.result.is_ok() => {
                let _one = self.adopting.lock().await;
                let released = self.joining.forming().released(promise);
                if released && let Err(error) = self.keep_promise(None).await {
                    warn!(%error, "a promise that was given back could not be forgotten");
                }
            }
            Ok(_) => self.joining.forming().refused_release(),
            Err(error) => {
                debug!(?founder, %error, "asking for a promise back failed");
                self.joining.tell(format!(
                    "promised to join the cluster of {}, which does not answer; if it is gone for \
                     good, start this node with an empty data directory: it holds nothing yet",
                    founder.short()
                ));
            }
        }
    }

    async fn keep_promise(&self, founder: Option<NodeId>) -> Result<(), dfs_store::WriteError> {
        let value = founder.map(|founder| founder.as_bytes().to_vec());
        self.replica.store.put_state(FOUNDER, value.unwrap_or_default()).await
    }

    /// Answers an offer to found a cluster together.
    pub(crate) async fn on_genesis_offer(
        &self,
        from: Caller,
        nodes: &[NodeId],
    ) -> Result<Response, Refusal> {
        if !from.proved {
            return Err(Refusal::new(Code::NotMember, "the cluster key is not proved"));
        }
        let _one = self.adopting.lock().await;
        let listed = self.listed_and_free();
        {
            let mut forming = self.joining.forming();
            forming.see(listed.ok().map(|nodes| self.seen(&nodes)));
            let offered = forming.offered(from.node, &nodes.iter().copied().collect());
            offered.map_err(|why| Refusal::new(Code::PreconditionFailed, why.to_string()))?;
        }
        let kept = self.keep_promise(Some(from.node)).await;
        kept.map_err(|error| Refusal::new(Code::Internal, error.to_string()))?;
        debug!(founder = ?from.node, "promised to found a cluster together");
        Ok(Response::Done)
    }

    /// Answers a founder that asks for its promise back.
    pub(crate) fn on_genesis_withdraw(&self, from: Caller) -> Result<Response, Refusal> {
        debug!(by = ?from.node, "a promise is asked back");
        let withdrawn = self.joining.forming().withdrawn();
        withdrawn.map_err(|why| Refusal::new(Code::PreconditionFailed, why.to_string()))?;
        Ok(Response::Done)
    }
}

fn call(request: Request) -> Call {
    Call::new(Priority::Layout, ANSWER_MAX, request)
}

/// Whom this node has promised to found with; empty when the promise was given back.
const FOUNDER: &str = "founder";
/// A promise is one small durable write.
const ANSWER_MAX: Duration = Duration::from_secs(5);
