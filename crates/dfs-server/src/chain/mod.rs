//! The chain of epochs as this node knows it: adopting what was decided, catching up, joining.
//!
//! Only here a layout comes into force: verified, then durable, then seen by all others.

use std::sync::Arc;

use dfs_core::id::{AdminId, ClusterId, NodeId, Partition, VaultId};
use dfs_core::layout::epoch::{
    Deciders, EpochCert, EpochError, EpochOp, EpochProposal, EpochState, Loss, Member, MemberState,
    NO_CAP, Role, deciders_after,
};
use dfs_env::{Bug, Env, bug};
use dfs_store::Store;
use dfs_store::disk::data_dir::DataDir;
use ed25519_dalek::SigningKey;
use parking_lot::Mutex;
use tokio::time::Instant;
use tracing::{debug, info, warn};

use crate::error::{Error, StartServerError};
use crate::replica::Replica;
use crate::replica::layout::Newest;

mod catch_up;
mod form;
mod join;

pub(crate) use self::form::Joining;
pub use self::join::ZONE_BYTES_MAX;

/// Takes over layouts, and brings this node into a cluster.
pub(crate) struct Chain {
    replica: Arc<Replica>,
    data_dir: DataDir,
    joining: Joining,
    /// Signs the first epoch, if this node founds; a node without a vault does not.
    governor: Option<Governor>,
    /// The cluster that this node was invited into.
    invited_into: Option<ClusterId>,
    /// One adoption at a time, so that none overtakes another on its way to the disk.
    adopting: tokio::sync::Mutex<()>,
    /// Members that are gone for ever, as this node's operator says, and until when that counts.
    operator_loss: Mutex<Option<(Loss, Instant)>>,
    /// Members that others went on without, of which this node's operator said nothing.
    foreign_loss: Mutex<Option<Loss>>,
}

/// The vault of this node, as far as it governs a cluster.
#[derive(Clone)]
pub(crate) struct Governor {
    /// Signs every layout.
    pub(crate) admin: SigningKey,
    /// Whose files the cluster is for.
    pub(crate) vault: VaultId,
}

/// The first epoch of a new cluster, durable before anyone hears of it.
pub(crate) async fn found(
    env: &Env,
    store: &Store,
    data_dir: &DataDir,
    zone: &str,
    governor: &Governor,
) -> Result<(EpochState, EpochCert), StartServerError> {
    let key = data_dir.node_key();
    let member = Member {
        node_id: NodeId::new(key.verifying_key().to_bytes()),
        idx: 0,
        zone: zone.to_owned(),
        capacity: store.capacity(),
        state: MemberState::Active,
        role: Role::Gateway,
        cap: NO_CAP,
    };
    let (state, cert) =
        EpochState::genesis(member, env.random(), key, &governor.admin, governor.vault);
    store.put_epoch(&state, &cert, &[]).await?;
    info!(cluster = ?state.cluster_id, "founded a new cluster");
    Ok((state, cert))
}

impl Chain {
    pub(crate) fn new(
        replica: Arc<Replica>,
        data_dir: DataDir,
        joining: Joining,
        governor: Option<Governor>,
        invited_into: Option<ClusterId>,
    ) -> Self {
        Self {
            replica,
            data_dir,
            joining,
            governor,
            invited_into,
            adopting: tokio::sync::Mutex::default(),
            operator_loss: Mutex::default(),
            foreign_loss: Mutex::default(),
        }
    }

    pub(crate) fn replica(&self) -> &Arc<Replica> {
        &self.replica
    }

    /// The directory that this node locks and whose key it signs with.
    pub(crate) fn data_dir(&self) -> &DataDir {
        &self.data_dir
    }

    /// Why the node is in no cluster yet.
    pub(crate) fn why_not_joined(&self) -> String {
        self.joining.why()
    }

    /// Waits until this node must not go on, and returns why.
    pub(crate) async fn given_up(&self) -> String {
        self.joining.given_up().await
    }

    /// Takes the word of this node's operator that members are gone.
    pub(crate) fn take_operator_loss(&self, loss: Loss, until: Instant) {
        *self.operator_loss.lock() = Some((loss, until));
    }

    /// What this node's operator said of members that are gone; `None` once one of them answers.
    pub(crate) fn operator_loss(&self) -> Option<Loss> {
        let (loss, until) = self.operator_loss.lock().clone()?;
        let answers = |node| self.replica.is_reachable(node);
        let counts = self.replica.env.mono() < until && !loss.lost.iter().any(answers);
        counts.then_some(loss)
    }

    /// Whether this node goes on without the members lost: its own operator said so, or it only
    /// stores for others and follows who governs, for at many such machines there is no operator.
    fn goes_on_without(&self, loss: &Loss, ours: &EpochState) -> bool {
        let follows = !ours.admins.is_empty() && !ours.is_gateway(&self.replica.id);
        follows || self.operator_loss().as_ref() == Some(loss)
    }

    /// Members that others went on without, of which this node's operator said nothing.
    pub(crate) fn foreign_loss(&self) -> Option<Loss> {
        self.foreign_loss.lock().clone()
    }

    fn note_foreign_loss(&self, loss: Option<Loss>) {
        let mut known = self.foreign_loss.lock();
        if *known != loss
            && let Some(loss) = &loss
        {
            warn!(lost = ?loss.lost, "others went on by hand without members this node counts on");
        }
        *known = loss;
    }

    /// Takes over a decided epoch: verified, then durable, then in force.
    pub(crate) async fn adopt(&self, cert: EpochCert) -> Result<(), Error> {
        let _one = self.adopting.lock().await;
        let newest = self.replica.layout.newest();
        let Some(newest) = newest else { return Ok(()) };
        let previous = newest.cert.proposal.hash();
        if cert.proposal.generation > newest.state.generation {
            let loss = cert.proposal.loss();
            // Signed by those who may, which a stranger cannot make: only then anyone is told.
            let Ok(state) = loss.follow(&newest.state, previous, &cert) else { return Ok(()) };
            if self.goes_on_without(&loss, &newest.state) {
                return self.put_in_force(state, cert, &[]).await;
            }
            self.note_foreign_loss(Some(loss));
            return Ok(());
        }
        match newest.state.follow(previous, &cert) {
            Ok(state) => self.put_in_force(state, cert, &[]).await,
            Err(EpochError::NotNext) => Ok(()),
            Err(EpochError::NotAuthorized) if bug(Bug::UnsignedEpochTaken) => {
                let ops = cert.proposal.ops.clone();
                let applied = newest.state.propose(previous, ops, self.replica.id);
                let Ok((state, _)) = applied else { return Ok(()) };
                self.put_in_force(state, cert, &[]).await
            }
            Err(error) => {
                warn!(%error, epoch = cert.proposal.epoch, "an epoch is refused");
                Ok(())
            }
        }
    }

    /// Takes over a whole state, when there is none here or it is far ahead. `certs` are the voter
    /// changes that lead to it, and last the epoch that made it.
    async fn adopt_snapshot(
        &self,
        state: EpochState,
        mut certs: Vec<EpochCert>,
    ) -> Result<(), Error> {
        let _one = self.adopting.lock().await;
        let ours = self.replica.layout.current();
        let newer = ours
            .as_ref()
            .is_none_or(|ours| ours.cluster_id == state.cluster_id && ours.epoch < state.epoch);
        let Some(cert) = certs.pop().filter(|_| newer) else { return Ok(()) };
        certs.retain(|cert| ours.as_ref().is_none_or(|ours| cert.proposal.epoch > ours.epoch));
        // Whoever joins knows nothing yet but what founded the cluster: its id is the hash of that.
        let known = ours.as_ref().map_or_else(Deciders::none, |ours| ours.deciders());
        let knows = |node: &NodeId| ours.as_ref().is_none_or(|ours| ours.is_member(node));
        let trusts = |proposal: &EpochProposal| {
            let loss = proposal.loss();
            let trusts = ours.as_ref().is_none_or(|ours| self.goes_on_without(&loss, ours));
            if !trusts {
                self.note_foreign_loss(Some(loss));
            }
            trusts
        };
        let all = [&certs[..], std::slice::from_ref(&cert)].concat();
        let proven = cert.proposal.epoch == state.epoch
            && cert.proposal.state_hash == state.hash()
            && deciders_after(state.cluster_id, known, &all, knows, trusts).is_ok();
        if !proven {
            warn!(epoch = state.epoch, "a layout snapshot is refused: it is not proven");
            return Ok(());
        }
        if ours.is_none()
            && let Err(why) = self.may_be_governed(&state, &all)
        {
            self.joining.tell(why.to_owned());
            return Ok(());
        }
        if ours.is_none() && !self.joining.may_join(&state) {
            debug!(cluster = ?state.cluster_id, "bound to found with others: not joining yet");
            return Ok(());
        }
        self.put_in_force(state, cert, &certs).await
    }

    /// Whether this node may join a cluster with these admins: a gateway only one that its vault
    /// governs, so that nobody leads it into another.
    ///
    /// That its own admin is named says nothing, for its id is no secret: it has to have signed
    /// what named the first admins.
    fn may_be_governed(&self, state: &EpochState, certs: &[EpochCert]) -> Result<(), &'static str> {
        let own = self.governor.as_ref().map(|governor| AdminId::of(&governor.admin));
        let mut signed = certs.iter().filter_map(|cert| cert.proposal.authority.as_ref());
        let first = signed.next().map(|authority| authority.admin);
        match own {
            _ if self.invited_into.is_some_and(|cluster| cluster != state.cluster_id) => {
                Err("the cluster there is not the one that this node was invited into")
            }
            _ if bug(Bug::AnyClusterJoined) => Ok(()),
            _ if state.admins.is_empty() => {
                Err("the cluster is being upgraded, and has no admin yet")
            }
            Some(own) if !state.admins.contains(&own) || first != Some(own) => {
                Err("the cluster is governed by another vault than that of this node")
            }
            _ => Ok(()),
        }
    }

    /// Founds a cluster, unless this node is in one or may not found any more.
    pub(crate) async fn found_now(&self) -> Result<(), Error> {
        let _one = self.adopting.lock().await;
        let Some(governor) = &self.governor else { return Ok(()) };
        if self.replica.layout.current().is_some() || !self.joining.begin_founding() {
            return Ok(());
        }
        let zone = self.replica.net().own_info().zone;
        let (env, store) = (&self.replica.env, &self.replica.store);
        let founded = found(env, store, &self.data_dir, &zone, governor).await;
        let (state, cert) = founded.map_err(|error| Error::Store(Box::new(error)))?;
        self.put_in_force(state, cert, &[]).await
    }

    async fn put_in_force(
        &self,
        state: EpochState,
        cert: EpochCert,
        led: &[EpochCert],
    ) -> Result<(), Error> {
        let uncertain = self.uncertain(&state, &cert);
        if !uncertain.is_empty() {
            self.replica.store.clear_floors(uncertain).await?;
        }
        self.replica.store.put_epoch(&state, &cert, led).await?;
        let epoch = state.epoch;
        let was_member = self.replica.joined().is_ok();
        let gains = self.gains_partitions(&state);
        if gains {
            // What was missing of them may have been forgotten while they were not this node's.
            self.replica.missing.look_again();
        }
        self.tell_of_members(&state);
        self.replica.keep_to_cap(&state);
        let newest =
            Newest { state: Arc::new(state), cert: Arc::new(cert), since: self.replica.env.mono() };
        self.replica.layout.set(newest);
        if gains {
            // A look that began before went through the old partitions.
            self.replica.missing.look_again();
        }
        self.note_foreign_loss(None);
        self.joining.done();
        debug!(epoch, "a new layout is in force");
        if !was_member && let Ok(state) = self.replica.joined() {
            info!(cluster = ?state.cluster_id, epoch, "joined");
        }
        self.replica.net().update(|facts| facts.durable_epoch = epoch);
        self.replica.wakes.steward.notify_one();
        self.replica.wakes.handoff.notify_one();
        self.replica.owed.wake.notify_one();
        Ok(())
    }

    /// Partitions that went on by hand, without members that may have had what nobody else has:
    /// what is not here may count all the same.
    fn uncertain(&self, state: &EpochState, cert: &EpochCert) -> Vec<Partition> {
        let is_next = |old: &EpochState| {
            old.generation == state.generation && old.epoch.saturating_add(1) == state.epoch
        };
        if !self.replica.layout.current().is_some_and(|old| is_next(&old)) {
            // Of epochs in between nothing is known.
            return (0..=Partition::MAX).take(state.rows.len()).collect();
        }
        let forced = cert.proposal.ops.iter().filter_map(|op| match op {
            EpochOp::Force(partition) => Some(*partition),
            _ => None,
        });
        forced.collect()
    }

    /// Logs whose standing is another one than before.
    fn tell_of_members(&self, new: &EpochState) {
        let Some(old) = self.replica.layout.current() else { return };
        for member in &new.members {
            let before = old.member(&member.node_id).map(|before| before.state);
            if before != Some(member.state) {
                let (id, state, epoch) = (member.node_id, member.state, new.epoch);
                info!(member = ?id, epoch, ?state, "the standing of a member changed");
            }
        }
    }

    fn gains_partitions(&self, new: &EpochState) -> bool {
        let id = &self.replica.id;
        let old = self.replica.layout.current();
        let had = |partition| old.as_ref().is_some_and(|old| old.is_replica(partition, id));
        new.partitions_of(id).into_iter().any(|partition| !had(partition))
    }
}
