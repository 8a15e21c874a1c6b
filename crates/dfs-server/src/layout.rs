//! The epoch chain as this node knows it: adopt what was decided, catch up, decide as the voter.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;
use dfs_core::codec::Canonical;
use dfs_core::id::{NodeId, Partition};
use dfs_core::layout::epoch::{
    EpochCert, EpochError, EpochProposal, EpochState, Loss, Member, MemberState, voters_after,
};
use dfs_core::layout::{facts::Facts, steward::Joiner};
use dfs_core::node::member::{MoveFact, NodeInfo};
use dfs_core::paxos::Ballot;
use dfs_p2p::message::{Call, Priority, Request, Response};
use tokio::time::Instant;
use tracing::{debug, info, warn};

use crate::error::{Error, StartServerError};
use crate::handler::ZONE_BYTES_MAX;
use crate::node::Node;

/// The newest layout on this node's disk.
pub(crate) struct Layout {
    newest: Mutex<Option<Newest>>,
    /// One adoption at a time, so that none overtakes another on its way to the disk.
    adopting: tokio::sync::Mutex<()>,
    joiners: Mutex<Vec<Joiner>>,
    /// The highest ballot heard of.
    ballot: Mutex<Option<Ballot>>,
    /// What this node's operator said of members that are gone, and until when that counts.
    told: Mutex<Option<(Loss, Instant)>>,
    /// What others went on from, which nobody told this node of.
    untold: Mutex<Option<Loss>>,
    /// See [`crate::Config::out_after`].
    out_after: Duration,
}

/// A layout, its proof, and since when it is in force here.
#[derive(Clone)]
pub(crate) struct Newest {
    pub(crate) state: Arc<EpochState>,
    pub(crate) cert: Arc<EpochCert>,
    pub(crate) since: Instant,
}

impl Layout {
    pub(crate) fn new(
        known: Option<(EpochState, EpochCert)>,
        out_after: Duration,
        now: Instant,
    ) -> Self {
        let newest = known.map(|(state, cert)| Newest {
            state: Arc::new(state),
            cert: Arc::new(cert),
            since: now,
        });
        Self {
            newest: Mutex::new(newest),
            adopting: tokio::sync::Mutex::new(()),
            joiners: Mutex::default(),
            ballot: Mutex::default(),
            told: Mutex::default(),
            untold: Mutex::default(),
            out_after,
        }
    }

    /// Takes the word of this node's operator that members are gone.
    pub(crate) fn tell(&self, loss: Loss, until: Instant) {
        *self.told.lock().expect("no holder of this lock panics") = Some((loss, until));
    }

    /// What others went on from, which nobody told this node of.
    pub(crate) fn untold(&self) -> Option<Loss> {
        self.untold.lock().expect("no holder of this lock panics").clone()
    }

    fn note_untold(&self, loss: Option<Loss>) {
        let mut untold = self.untold.lock().expect("no holder of this lock panics");
        if *untold != loss
            && let Some(loss) = &loss
        {
            warn!(lost = ?loss.lost, "others went on by hand without members this node counts on");
        }
        *untold = loss;
    }

    /// The newest layout with its proof.
    pub(crate) fn newest(&self) -> MutexGuard<'_, Option<Newest>> {
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

    /// The highest ballot heard of, to go above.
    pub(crate) fn ballot(&self) -> MutexGuard<'_, Option<Ballot>> {
        self.ballot.lock().expect("no holder of this lock panics")
    }

    /// Who asks to become a member.
    pub(crate) fn joiners(&self) -> Vec<Joiner> {
        self.joiners.lock().expect("no holder of this lock panics").clone()
    }
}

/// The first epoch of a new cluster, durable before anyone hears of it.
pub(crate) async fn found(
    env: &dfs_env::Env,
    store: &dfs_store::Store,
    data_dir: &dfs_store::disk::data_dir::DataDir,
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
    store.put_epoch(&state, &cert, &[]).await?;
    info!(cluster = ?state.cluster_id, "founded a new cluster");
    Ok((state, cert))
}

impl Node {
    /// Takes over a decided epoch: verified, then durable, then in force.
    pub(crate) async fn adopt(&self, cert: EpochCert) -> Result<(), Error> {
        let _one = self.layout.adopting.lock().await;
        let newest = self.layout.newest().clone();
        let Some(newest) = newest else { return Ok(()) };
        let previous = newest.cert.proposal.hash();
        if cert.proposal.generation > newest.state.generation {
            let loss = cert.proposal.loss();
            // Signed by those who may, which a stranger cannot make: only then anyone is told.
            let Ok(state) = loss.follow(&newest.state, previous, &cert) else { return Ok(()) };
            if self.is_told(&loss) {
                return self.put_in_force(state, cert, &[]).await;
            }
            self.layout.note_untold(Some(loss));
            return Ok(());
        }
        match newest.state.follow(previous, &cert) {
            Ok(state) => self.put_in_force(state, cert, &[]).await,
            Err(EpochError::NotNext) => Ok(()),
            Err(error) => {
                warn!(%error, epoch = cert.proposal.epoch, "an epoch is refused");
                Ok(())
            }
        }
    }

    /// What this node's operator said of members that are gone; nothing once one of them answers.
    pub(crate) fn told_loss(&self) -> Option<Loss> {
        let told = self.layout.told.lock().expect("no holder of this lock panics").clone();
        let (loss, until) = told?;
        let counts = self.env.mono() < until && !loss.lost.iter().any(|n| self.is_reachable(n));
        counts.then_some(loss)
    }

    fn is_told(&self, loss: &Loss) -> bool {
        self.told_loss().as_ref() == Some(loss)
    }

    /// Takes over a whole state, when there is none here or it is far ahead. `certs` are the voter
    /// changes that lead to it, and last the epoch that made it.
    async fn adopt_snapshot(
        &self,
        state: EpochState,
        mut certs: Vec<EpochCert>,
    ) -> Result<(), Error> {
        let _one = self.layout.adopting.lock().await;
        let ours = self.layout.current();
        let newer = ours
            .as_ref()
            .is_none_or(|ours| ours.cluster_id == state.cluster_id && ours.epoch < state.epoch);
        let Some(cert) = certs.pop().filter(|_| newer) else { return Ok(()) };
        certs.retain(|cert| ours.as_ref().is_none_or(|ours| cert.proposal.epoch > ours.epoch));
        // Whoever joins knows nothing yet but what founded the cluster: its id is the hash of that.
        let known = ours.as_ref().map_or((0, &[][..]), |ours| (ours.generation, &ours.voters));
        let knows = |node: &NodeId| ours.as_ref().is_none_or(|ours| ours.is_member(node));
        let trusts = |proposal: &EpochProposal| {
            let loss = proposal.loss();
            let trusts = ours.is_none() || self.is_told(&loss);
            if !trusts {
                self.layout.note_untold(Some(loss));
            }
            trusts
        };
        let all = [&certs[..], std::slice::from_ref(&cert)].concat();
        let proven = cert.proposal.epoch == state.epoch
            && cert.proposal.state_hash == state.hash()
            && voters_after(state.cluster_id, known, &all, knows, trusts).is_ok();
        if !proven {
            warn!(epoch = state.epoch, "a layout snapshot is refused: it is not proven");
            return Ok(());
        }
        if ours.is_none() && !self.joining.may_join(&state) {
            debug!(cluster = ?state.cluster_id, "bound to found with others: not joining yet");
            return Ok(());
        }
        self.put_in_force(state, cert, &certs).await
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
        self.put_in_force(state, cert, &[]).await
    }

    /// Held while a promise to a founder is made or taken back, so that it never crosses with
    /// founding or joining.
    pub(crate) async fn joining_lock(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.layout.adopting.lock().await
    }

    async fn put_in_force(
        &self,
        state: EpochState,
        cert: EpochCert,
        led: &[EpochCert],
    ) -> Result<(), Error> {
        self.store.put_epoch(&state, &cert, led).await?;
        let epoch = state.epoch;
        let was_member = self.joined().is_ok();
        if self.gains_partitions(&state) {
            // What was missing of them may have been forgotten while they were not this node's.
            self.repair.look_again();
        }
        self.tell_of_members(&state);
        let newest =
            Newest { state: Arc::new(state), cert: Arc::new(cert), since: self.env.mono() };
        *self.layout.newest() = Some(newest);
        self.layout.note_untold(None);
        self.joining.done();
        debug!(epoch, "a new layout is in force");
        if !was_member && let Ok(state) = self.joined() {
            info!(cluster = ?state.cluster_id, epoch, "joined");
        }
        self.network().update(|facts| facts.durable_epoch = epoch);
        self.facts_changed.notify_one();
        self.handoff.notify_one();
        self.sync.wake();
        Ok(())
    }

    /// Logs whose standing is another one than before.
    fn tell_of_members(&self, new: &EpochState) {
        let Some(old) = self.layout.current() else { return };
        for member in &new.members {
            let before = old.member(&member.node_id).map(|before| before.state);
            if before != Some(member.state) {
                info!(member = ?member.node_id, epoch = new.epoch, state = ?member.state, "the standing of a member changed");
            }
        }
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
        if let Some(state) = snapshot {
            return self.adopt_snapshot(*state, certs).await;
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
        let changes = self.store.voter_certs(from, VOTER_CHANGES_MAX).await?;
        let parse = |cert: Vec<u8>| EpochCert::from_canonical(cert).ok();
        let mut certs: Vec<EpochCert> = changes.into_iter().filter_map(parse).collect();
        certs.retain(|cert| cert.proposal.epoch < newest.state.epoch);
        certs.push(newest.cert.as_ref().clone());
        let snapshot = Some(Box::new(newest.state.as_ref().clone()));
        Ok(Response::Chain { snapshot, certs })
    }

    /// Asks to become a member until this node is one.
    pub(crate) async fn join(self: Arc<Self>) {
        while matches!(self.joined(), Err(Error::NotJoined)) {
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
        self.told(node, |info| info.durable_epoch).unwrap_or(0)
    }

    fn offer(&self, node: &NodeId) -> Option<(String, u64)> {
        let offer = |info: &NodeInfo| (info.zone.clone(), info.capacity);
        self.told(node, offer).filter(|(zone, _)| zone.len() <= ZONE_BYTES_MAX)
    }

    fn used(&self, node: &NodeId) -> u64 {
        if *node == self.id {
            return self.store.used();
        }
        self.told(node, |info| info.used).unwrap_or(0)
    }

    fn synced(&self, node: &NodeId, partition: Partition, prepare_epoch: u64) -> bool {
        self.told_of(node, |info| &info.synced, partition, prepare_epoch)
    }

    fn out_after(&self) -> Duration {
        self.layout.out_after
    }

    fn keeps_nothing(&self, node: &NodeId) -> bool {
        self.told(node, |info| info.clean.epoch).is_some_and(|at| at >= self.layout.epoch())
    }

    fn clean(&self, node: &NodeId, partition: Partition, changed: u64) -> bool {
        self.told_of(node, |info| &info.emptied, partition, changed)
    }

    fn bodies(&self, node: &NodeId, partition: Partition, prepare_epoch: u64) -> bool {
        self.told_of(node, |info| &info.bodies, partition, prepare_epoch)
    }
}

impl Node {
    fn told<T>(&self, node: &NodeId, what: impl FnOnce(&NodeInfo) -> T) -> Option<T> {
        self.network().with_info(node, what)
    }

    /// Whether a node said a thing of a partition since an epoch.
    fn told_of(
        &self,
        node: &NodeId,
        facts: impl FnOnce(&NodeInfo) -> &Vec<MoveFact>,
        partition: Partition,
        epoch: u64,
    ) -> bool {
        let covers = |info: &NodeInfo| facts(info).iter().any(|f| f.covers(partition, epoch));
        self.told(node, covers).unwrap_or(false)
    }
}

/// Nodes that may wait to be admitted.
const JOINERS_MAX: usize = 256;
/// Fetching epochs is small work; a peer that does not manage is not waited for.
pub(crate) const CHAIN_DEADLINE: Duration = Duration::from_secs(5);
/// Certificates in one answer; beyond this a snapshot is shorter.
const CHAIN_BYTES_MAX: usize = 128 * 1024;
/// Certificates in one answer, as many as a receiver takes.
const CHAIN_CERTS_MAX: u64 = 64;
/// Voter changes in one answer, beside the newest epoch. There is one for every voter that dies.
const VOTER_CHANGES_MAX: usize = 63;
/// How often a node asks to join.
const JOIN_EVERY: Duration = Duration::from_millis(500);
