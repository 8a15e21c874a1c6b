//! Founding a cluster together with listed peers: the decisions of [`dfs_core::layout::forming`]
//! carried out, and why this node has not joined a cluster yet.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use dfs_core::id::NodeId;
use dfs_core::layout::epoch::EpochState;
use dfs_core::layout::forming::{
    FOUNDERS_MAX, Forming, FormingStep, ListUnknown, Listed, Waiting, closure,
};
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
    /// What nodes list that are in no cluster either, as they told; by which start of each.
    told: Mutex<BTreeMap<NodeId, (u64, BTreeSet<NodeId>)>>,
    /// Whom this node told what it lists, and in which start of each.
    heard: Mutex<BTreeMap<NodeId, (u64, BTreeSet<NodeId>)>>,
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
            told: Mutex::default(),
            heard: Mutex::default(),
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
        self.tell_list().await;
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
        let in_cluster = |nodes: &BTreeSet<NodeId>| {
            let joined = nodes.iter().find(|node| {
                **node != self.replica.id
                    && self.replica.net().info(node).is_some_and(|i| i.durable_epoch > 0)
            });
            joined.map(|node| format!("asking to join the cluster of {}", node.short()))
        };
        if let Some(why) = in_cluster(&listed) {
            return Err(why);
        }
        let told = self.joining.told.lock();
        let list_of = |node: &NodeId| {
            let (start, listed) = told.get(node)?;
            self.replica.is_reachable(node).then_some(())?;
            let is_its = self.replica.net().with_info(node, |info| info.incarnation == *start);
            is_its.filter(|is_its| *is_its).map(|_| listed.clone())
        };
        let all = closure(self.replica.id, &listed, list_of);
        drop(told);
        let all = all.map_err(|ListUnknown { of, by }| self.why_unknown(&of, &by))?;
        match in_cluster(&all) {
            Some(why) => Err(why),
            None => Ok(all),
        }
    }

    /// Why it is not known what a node lists.
    fn why_unknown(&self, of: &NodeId, by: &NodeId) -> String {
        let lists = match *by == self.replica.id {
            true => "this node lists it".to_owned(),
            false => format!("node {} lists it", by.short()),
        };
        let of = of.short();
        match self.replica.is_reachable(by) {
            _ if self
                .replica
                .net()
                .peers()
                .iter()
                .any(|peer| peer.info.node_id.short() == of && peer.down_for.is_none()) =>
            {
                format!("waiting for {of} to tell which peers it lists; {lists}")
            }
            _ => format!(
                "waiting for {of}, which does not answer; {lists}. Start it, or take it off the \
                 list; if this cluster shall begin without it, start one node with --init"
            ),
        }
    }

    /// Tells every node in reach that is in no cluster what this one lists, once: an offer of a set
    /// that is not the receiver's own is declined, and noted all the same.
    async fn tell_list(&self) {
        let Ok(listed) = self.replica.net().listed() else { return };
        if listed.len() == 1 || listed.len() > FOUNDERS_MAX {
            return;
        }
        let whom: Vec<(NodeId, u64)> = {
            let heard = self.joining.heard.lock();
            let peers = self.replica.net().peers().into_iter();
            let free = peers.filter(|peer| peer.down_for.is_none() && peer.info.durable_epoch == 0);
            let starts = free.map(|peer| (peer.info.node_id, peer.info.incarnation));
            let is_news = |(node, start): &(NodeId, u64)| {
                heard.get(node).is_none_or(|(to, what)| to != start || *what != listed)
            };
            starts.filter(is_news).take(FOUNDERS_MAX).collect()
        };
        let tells = whom.into_iter().map(|(node, start)| {
            let nodes = listed.iter().copied().collect();
            async move {
                let request = Request::GenesisOffer(nodes);
                // However it is answered, it was heard.
                let heard = self.replica.net().call(&node, call(request)).await.is_ok();
                heard.then_some((node, start))
            }
        });
        let heard: Vec<_> = join_all(tells).await.into_iter().flatten().collect();
        let mut known = self.joining.heard.lock();
        known.retain(|node, _| self.replica.is_reachable(node));
        known.extend(heard.into_iter().map(|(node, start)| (node, (start, listed.clone()))));
    }

    /// Notes what a node lists, of as many as may found together.
    fn note_list(&self, from: &NodeId, nodes: &[NodeId]) {
        let start = self.replica.net().with_info(from, |info| info.incarnation);
        let Some(start) = start else { return };
        let mut told = self.joining.told.lock();
        told.retain(|node, _| node == from || self.replica.is_reachable(node));
        if told.contains_key(from) || told.len() < LISTS_MAX {
            told.insert(*from, (start, nodes.iter().copied().collect()));
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
        self.note_list(&from.node, nodes);
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
/// Nodes of which it is remembered what they list: whoever has the cluster's key can tell.
const LISTS_MAX: usize = 4 * FOUNDERS_MAX;
/// A promise is one small durable write.
const ANSWER_MAX: Duration = Duration::from_secs(5);
