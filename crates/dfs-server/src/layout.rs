//! The epoch chain as this node knows it: adopt what was decided, catch up, decide as the voter.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;
use dfs_core::codec::Canonical;
use dfs_core::epoch::{EpochCert, EpochError, EpochOp, EpochState, Member, MemberState};
use dfs_core::id::{NodeId, Partition};
use dfs_core::steward::{Facts, Joiner, plan};
use dfs_p2p::message::{Call, Priority, Request, Response};
use tokio::time::Instant;
use tracing::{debug, info, warn};

use crate::error::{Error, StartServerError};
use crate::node::Node;

/// The newest layout on this node's disk.
pub(crate) struct Layout {
    newest: Mutex<Option<Newest>>,
    /// One adoption at a time, so that none overtakes another on its way to the disk.
    adopting: tokio::sync::Mutex<()>,
    joiners: Mutex<Vec<Joiner>>,
}

#[derive(Clone)]
struct Newest {
    state: Arc<EpochState>,
    cert: Arc<EpochCert>,
    since: Instant,
}

impl Layout {
    pub(crate) fn new(known: Option<(EpochState, EpochCert)>, now: Instant) -> Self {
        let newest = known.map(|(state, cert)| Newest {
            state: Arc::new(state),
            cert: Arc::new(cert),
            since: now,
        });
        Self {
            newest: Mutex::new(newest),
            adopting: tokio::sync::Mutex::new(()),
            joiners: Mutex::default(),
        }
    }

    fn newest(&self) -> MutexGuard<'_, Option<Newest>> {
        self.newest.lock().expect("no holder of this lock panics")
    }

    /// The newest layout, if any.
    pub(crate) fn current(&self) -> Option<Arc<EpochState>> {
        self.newest().as_ref().map(|newest| newest.state.clone())
    }

    /// Its number; 0 for none.
    pub(crate) fn epoch(&self) -> u64 {
        self.newest().as_ref().map_or(0, |newest| newest.state.epoch)
    }

    /// Notes that a node asks to become a member.
    pub(crate) fn ask_to_join(&self, joiner: Joiner) {
        let mut joiners = self.joiners.lock().expect("no holder of this lock panics");
        joiners.retain(|known| known.node_id != joiner.node_id);
        if joiners.len() < JOINERS_MAX {
            joiners.push(joiner);
        }
    }

    fn joiners(&self) -> Vec<Joiner> {
        self.joiners.lock().expect("no holder of this lock panics").clone()
    }
}

/// The first epoch of a new cluster, durable before anyone hears of it.
pub(crate) async fn found(
    env: &dfs_env::Env,
    store: &dfs_store::Store,
    data_dir: &dfs_store::data_dir::DataDir,
    zone: &str,
) -> Result<(EpochState, EpochCert), StartServerError> {
    let key = data_dir.node_key();
    let member = Member {
        node_id: NodeId::new(key.verifying_key().to_bytes()),
        idx: 0,
        zone: zone.to_owned(),
        capacity: store.capacity(),
        state: MemberState::Active,
    };
    let (state, cert) = EpochState::genesis(member, env.random(), key);
    store.put_epoch(&state, &cert).await?;
    info!(cluster = ?state.cluster_id, "founded a new cluster");
    Ok((state, cert))
}

impl Node {
    /// Takes over a decided epoch: verified, then durable, then in force.
    pub(crate) async fn adopt(&self, cert: EpochCert) -> Result<(), Error> {
        let _one = self.layout.adopting.lock().await;
        let newest = self.layout.newest().clone();
        let Some(newest) = newest else { return Ok(()) };
        match newest.state.follow(newest.cert.proposal.hash(), &cert) {
            Ok(state) => self.put_in_force(state, cert).await,
            Err(EpochError::NotNext) => Ok(()),
            Err(error) => {
                warn!(%error, epoch = cert.proposal.epoch, "an epoch is refused");
                Ok(())
            }
        }
    }

    /// Takes over a whole state, when there is none here or it is far ahead.
    async fn adopt_snapshot(&self, state: EpochState, cert: EpochCert) -> Result<(), Error> {
        let _one = self.layout.adopting.lock().await;
        let newest = self.layout.newest().clone();
        let ours = newest.map(|newest| newest.state);
        let voters = ours.as_ref().map_or(&state.voters, |ours| &ours.voters);
        let newer = ours
            .as_ref()
            .is_none_or(|ours| ours.cluster_id == state.cluster_id && ours.epoch < state.epoch);
        let proven = cert.proposal.epoch == state.epoch
            && cert.proposal.state_hash == state.hash()
            && cert.verify_votes(state.cluster_id, voters).is_ok();
        if !newer || !proven {
            if newer {
                warn!(epoch = state.epoch, "a layout snapshot is refused: it is not proven");
            }
            return Ok(());
        }
        if ours.is_none() && !self.joining.may_join(&state) {
            debug!(cluster = ?state.cluster_id, "bound to found with others: not joining yet");
            return Ok(());
        }
        self.put_in_force(state, cert).await
    }

    /// Founds a cluster, unless this node is in one or may not found any more.
    pub(crate) async fn found_now(&self) -> Result<(), Error> {
        let _one = self.layout.adopting.lock().await;
        if self.layout.current().is_some() || !self.joining.begin_founding() {
            return Ok(());
        }
        let zone = self.network().own_info().zone;
        let founded = found(&self.env, &self.store, &self.data_dir, &zone).await;
        let (state, cert) = founded.map_err(|error| Error::Store(Box::new(error)))?;
        self.put_in_force(state, cert).await
    }

    /// Held while a promise to a founder is made or taken back, so that it never crosses with
    /// founding or joining.
    pub(crate) async fn joining_lock(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.layout.adopting.lock().await
    }

    async fn put_in_force(&self, state: EpochState, cert: EpochCert) -> Result<(), Error> {
        self.store.put_epoch(&state, &cert).await?;
        let epoch = state.epoch;
        let was_member = self.joined().is_ok();
        if self.gains_partitions(&state) {
            // What was missing of them may have been forgotten while they were not this node's.
            self.repair.look_again();
        }
        let newest =
            Newest { state: Arc::new(state), cert: Arc::new(cert), since: self.env.mono() };
        *self.layout.newest() = Some(newest);
        self.joining.done();
        debug!(epoch, "a new layout is in force");
        if !was_member && let Ok(state) = self.joined() {
            info!(cluster = ?state.cluster_id, epoch, "joined");
        }
        self.network().update(|facts| facts.durable_epoch = epoch);
        self.facts_changed.notify_one();
        self.sync.wake();
        Ok(())
    }

    fn gains_partitions(&self, new: &EpochState) -> bool {
        let old = self.layout.current();
        let had = |partition| old.as_ref().is_some_and(|old| old.is_replica(partition, &self.id));
        self.partitions_of(new, &self.id).into_iter().any(|partition| !had(partition))
    }

    /// Fetches the epochs this node lacks from a peer that has them.
    pub(crate) async fn catch_up(&self, from: &NodeId) -> Result<(), Error> {
        let ours = self.layout.epoch();
        let call = Call {
            priority: Priority::Layout,
            deadline: CHAIN_DEADLINE,
            epoch: 0,
            request: Request::ChainGet { from: ours },
            body: Bytes::new(),
            answer_bytes_max: 0,
        };
        let answer = self.network().call(from, call).await;
        let Ok(Ok(Response::Chain { snapshot, certs })) = answer.map(|answer| answer.result) else {
            return Ok(());
        };
        if let (Some(state), Some(cert)) = (snapshot, certs.last()) {
            return self.adopt_snapshot(*state, cert.clone()).await;
        }
        for cert in certs {
            self.adopt(cert).await?;
        }
        Ok(())
    }

    /// What a peer at epoch `from` lacks.
    pub(crate) async fn chain_after(&self, from: u64) -> Result<Response, Error> {
        let newest = self.layout.newest().clone();
        let Some(newest) = newest.filter(|newest| newest.state.epoch > from) else {
            return Ok(Response::Chain { snapshot: None, certs: Vec::new() });
        };
        let mut certs = Vec::new();
        let mut bytes = 0;
        if from > 0 && newest.state.epoch - from <= CHAIN_CERTS_MAX {
            for epoch in from + 1..=newest.state.epoch {
                let found = self.store.epoch_cert(epoch).await?;
                bytes += found.as_ref().map_or(CHAIN_BYTES_MAX, Vec::len);
                if bytes >= CHAIN_BYTES_MAX {
                    break;
                }
                certs.extend(found.and_then(|cert| EpochCert::from_canonical(cert).ok()));
            }
            if bytes < CHAIN_BYTES_MAX {
                return Ok(Response::Chain { snapshot: None, certs });
            }
        }
        let (state, cert) = (newest.state.as_ref().clone(), newest.cert.as_ref().clone());
        Ok(Response::Chain { snapshot: Some(Box::new(state)), certs: vec![cert] })
    }

    /// Decides epochs while this node is the voter, until shutdown.
    pub(crate) async fn steward(self: Arc<Self>) {
        loop {
            tokio::select! {
                biased;
                () = self.shutdown.cancelled() => return,
                () = self.facts_changed.notified() => {}
                () = self.env.sleep(STEWARD_EVERY) => {}
            }
            if self.retired.get().is_some() {
                return;
            }
            let newest = self.layout.newest().clone();
            let Some(newest) = newest else { continue };
            if newest.state.voters != [self.id] || newest.since.elapsed() < EPOCHS_APART {
                continue;
            }
            let waited = newest.since.elapsed();
            let ops = plan(&newest.state, &self.layout.joiners(), waited, self.as_ref());
            if !ops.is_empty()
                && let Err(error) = self.decide(&newest, ops).await
            {
                warn!(%error, "an epoch could not be decided");
            }
        }
    }

    async fn decide(&self, newest: &Newest, ops: Vec<EpochOp>) -> Result<(), Error> {
        let proposed = newest.state.propose(newest.cert.proposal.hash(), ops, self.id);
        let proposal = match proposed {
            Ok((_, proposal)) => proposal,
            Err(error) => {
                warn!(%error, "a planned change is not allowed");
                return Ok(());
            }
        };
        let cert = proposal.sign_alone(newest.state.cluster_id, self.data_dir.node_key());
        self.adopt(cert.clone()).await?;
        for peer in self.network().peers().iter().filter(|peer| peer.down_for.is_none()) {
            let node = peer.info.node_id;
            let call = Call {
                priority: Priority::Layout,
                deadline: CHAIN_DEADLINE,
                epoch: 0,
                request: Request::EpochDecided(Box::new(cert.clone())),
                body: Bytes::new(),
                answer_bytes_max: 0,
            };
            let network = self.network().clone();
            // Whoever misses it sees the newer epoch in our info and asks.
            self.finish_later(Box::pin(async move {
                let _ = network.call(&node, call).await;
            }));
        }
        Ok(())
    }

    /// Asks to become a member until this node is one.
    pub(crate) async fn join(self: Arc<Self>) {
        while self.joined().is_err() && self.retired.get().is_none() {
            tokio::select! {
                biased;
                () = self.shutdown.cancelled() => return,
                () = self.joining.wake.notified() => {}
                () = self.env.sleep(JOIN_EVERY) => {}
            }
            self.form().await;
            let peers = self.network().peers();
            for peer in peers.iter().filter(|peer| peer.down_for.is_none()) {
                let node = peer.info.node_id;
                if let Err(error) = self.catch_up(&node).await {
                    warn!(%error, "the layout could not be stored");
                }
                self.ask_to_join(&node).await;
            }
        }
    }

    async fn ask_to_join(&self, voter: &NodeId) {
        let decides = self.layout.current().is_some_and(|state| state.voters.contains(voter));
        if !decides || self.joined().is_ok() {
            return;
        }
        let call = Call {
            priority: Priority::Layout,
            deadline: CHAIN_DEADLINE,
            epoch: 0,
            request: Request::Join(Box::new(self.network().own_info())),
            body: Bytes::new(),
            answer_bytes_max: 0,
        };
        match self.network().call(voter, call).await {
            Ok(answer) => {
                if let Err(refusal) = answer.result {
                    warn!(%refusal, "this node may not join");
                }
            }
            Err(error) => debug!(%error, "asking to join failed"),
        }
    }

    /// The partitions a node should hold.
    pub(crate) fn partitions_of(&self, state: &EpochState, node: &NodeId) -> Vec<Partition> {
        let all = (0..=Partition::MAX).take(state.bits.count());
        all.filter(|partition| state.is_replica(*partition, node)).collect()
    }
}

impl Facts for Node {
    fn down_for(&self, node: &NodeId) -> Option<Duration> {
        self.unreached_for(node)
    }

    fn durable_epoch(&self, node: &NodeId) -> u64 {
        self.network().info(node).map_or(0, |info| info.durable_epoch)
    }

    fn synced(&self, node: &NodeId, partition: Partition, prepare_epoch: u64) -> bool {
        let info = self.network().info(node);
        info.is_some_and(|info| info.synced.iter().any(|f| f.covers(partition, prepare_epoch)))
    }

    fn bodies(&self, node: &NodeId, partition: Partition, prepare_epoch: u64) -> bool {
        let info = self.network().info(node);
        info.is_some_and(|info| info.bodies.iter().any(|f| f.covers(partition, prepare_epoch)))
    }
}

/// Nodes that may wait to be admitted.
const JOINERS_MAX: usize = 256;
/// Fetching epochs is small work; a peer that does not manage is not waited for.
const CHAIN_DEADLINE: Duration = Duration::from_secs(5);
/// Certificates in one answer; beyond this a snapshot is shorter.
const CHAIN_BYTES_MAX: usize = 128 * 1024;
/// Certificates in one answer, as many as a receiver takes.
const CHAIN_CERTS_MAX: u64 = 64;
/// How often the steward looks without being told.
const STEWARD_EVERY: Duration = Duration::from_millis(500);
/// Epochs follow each other no faster, so that every node keeps up.
const EPOCHS_APART: Duration = Duration::from_millis(300);
/// How often a node asks to join.
const JOIN_EVERY: Duration = Duration::from_millis(500);
