//! The steward: what this node proposes while it is a voter, and who asked it to be let in.

use std::sync::Arc;
use std::time::Duration;

use dfs_core::id::{NodeId, VaultId};
use dfs_core::layout::epoch::{EpochOp, EpochState, NO_CAP, Role};
use dfs_core::layout::steward::{Joiner, plan};
use dfs_core::layout::voters::turn;
use dfs_core::node::member::NodeInfo;
use dfs_env::{Bug, bug};
use dfs_p2p::Caller;
use dfs_p2p::message::{Code, Refusal, Response};
use parking_lot::Mutex;
use tracing::warn;

use super::facts::NodeFacts;
use super::{Proposals, Reachability};
use crate::chain::ZONE_BYTES_MAX;
use crate::replica::Replica;
use crate::replica::layout::Newest;

/// Proposes layouts that follow from facts.
pub(crate) struct Steward {
    replica: Arc<Replica>,
    proposals: Arc<Proposals>,
    reach: Arc<Reachability>,
    joiners: Mutex<Vec<Joiner>>,
    /// Whose files this node reads and writes.
    vault: Option<VaultId>,
    /// See [`crate::Config::out_after`].
    out_after: Duration,
}

/// Something to propose that waits for its turn: for which epoch, and since when.
type Waiting = Option<(u64, tokio::time::Instant)>;

impl Steward {
    pub(crate) fn new(
        replica: Arc<Replica>,
        proposals: Arc<Proposals>,
        reach: Arc<Reachability>,
        vault: Option<VaultId>,
        out_after: Duration,
    ) -> Self {
        Self { replica, proposals, reach, joiners: Mutex::default(), vault, out_after }
    }

    fn facts(&self) -> NodeFacts<'_> {
        NodeFacts { replica: &self.replica, reach: &self.reach, out_after: self.out_after }
    }

    /// Proposes epochs while this node is a voter, until shutdown. The first live voter proposes at
    /// once, the others only what stays undone.
    pub(crate) async fn run(self: Arc<Self>) {
        let mut waiting: Waiting = None;
        loop {
            tokio::select! {
                biased;
                () = self.replica.shutdown.cancelled() => return,
                () = self.replica.wakes.steward.notified() => {}
                () = self.replica.env.sleep(self.until_next_look(&waiting)) => {}
            }
            if self.replica.retirement.why().is_some() {
                return;
            }
            let Some((newest, ops)) = self.to_propose(&mut waiting) else { continue };
            match self.proposals.decide(&newest, ops).await {
                Ok(true) => waiting = None,
                Ok(false) => self.replica.env.sleep(self.proposals.backoff()).await,
                Err(error) => {
                    warn!(%error, "an epoch could not be decided");
                    self.replica.env.sleep(self.proposals.backoff()).await;
                }
            }
        }
    }

    /// When to look next without being told: what was learned too soon after the newest epoch
    /// waits no longer than it must.
    fn until_next_look(&self, waiting: &Waiting) -> Duration {
        let newest = self.replica.layout.newest();
        let rest = |newest: &Newest| EPOCHS_APART.saturating_sub(newest.since.elapsed());
        let otherwise = if waiting.is_some() { STEWARD_EVERY } else { STEWARD_IDLE };
        newest.as_ref().map(rest).filter(|rest| !rest.is_zero()).unwrap_or(otherwise)
    }

    /// What this node should propose now, if anything.
    fn to_propose(&self, waiting: &mut Waiting) -> Option<(Newest, Vec<EpochOp>)> {
        let newest = self.replica.layout.newest()?;
        let waited = newest.since.elapsed();
        let turn = match turn(&newest.state, &self.replica.id, &self.facts()) {
            None if self.stands_in(&newest.state) => Duration::ZERO,
            turn => turn?,
        };
        // Before its turn a voter only looks now and then whether something stays undone.
        let looks = waited.as_millis() / LOOK_EVERY.as_millis();
        let now = self.replica.env.mono();
        if waited < EPOCHS_APART || (!turn.is_zero() && waiting.is_none() && looks == 0) {
            return None;
        }
        let ops = match &newest.state {
            state if state.admins.is_empty() => self.govern(state),
            state if self.is_to_name(state) => self.name_vault(),
            state => plan(state, &self.joiners.lock(), waited, &self.facts()),
        };
        if ops.is_empty() {
            *waiting = None;
            return None;
        }
        let since = match *waiting {
            Some((epoch, since)) if epoch == newest.state.epoch => since,
            _ => now,
        };
        *waiting = Some((newest.state.epoch, since));
        (now - since >= turn).then_some((newest, ops))
    }

    /// What gives a cluster of the time before admins its first: the vault of this node, if it has
    /// one. Whoever was a member is one still.
    fn govern(&self, state: &EpochState) -> Vec<EpochOp> {
        let admin_of = |node: &NodeId| self.replica.net().admin_of(node);
        let Some(admin) = admin_of(&self.replica.id) else { return Vec::new() };
        let (gateways, others): (Vec<NodeId>, Vec<NodeId>) = state
            .present()
            .map(|member| member.node_id)
            .partition(|node| admin_of(node) == Some(admin));
        let is_gateway = |node: &&NodeId| gateways.contains(node);
        let mut voters: Vec<NodeId> = state.voters.iter().filter(is_gateway).copied().collect();
        if voters.is_empty() {
            voters.push(self.replica.id);
        }
        if voters.len().is_multiple_of(2) {
            voters.pop();
        }
        let role = |role| move |node: NodeId| EpochOp::SetRole { node, role, cap: NO_CAP };
        let mut ops = vec![EpochOp::SetAdmins(vec![admin])];
        ops.extend(gateways.iter().copied().map(role(Role::Gateway)));
        // Before the others: a voter stays a gateway.
        ops.push(EpochOp::SetVoters(voters));
        ops.extend(others.into_iter().map(role(Role::Storage)));
        ops.extend(self.name_vault());
        ops
    }

    /// Whether a cluster of the time before vaults were named can be given the one it is for.
    fn is_to_name(&self, state: &EpochState) -> bool {
        state.vaults.is_empty() && self.vault.is_some()
    }

    /// The vault of this node, if it has one, becomes whose files the cluster is for.
    fn name_vault(&self) -> Vec<EpochOp> {
        self.vault.map(|vault| EpochOp::SetVaults(vec![vault])).into_iter().collect()
    }

    /// Whether this node proposes although it is no voter, for no voter in reach can: in a cluster
    /// of the time before admins, or where voters run without the key of their vault.
    fn stands_in(&self, state: &EpochState) -> bool {
        let has_admin = |node: &NodeId| {
            let admin = self.replica.net().admin_of(node);
            admin.is_some_and(|admin| state.admins.is_empty() || state.admins.contains(&admin))
        };
        let id = &self.replica.id;
        let may = if state.admins.is_empty() { state.is_member(id) } else { state.is_gateway(id) };
        may && has_admin(id) && !state.voters.iter().any(has_admin)
    }

    /// Answers a node that asks to become a member.
    pub(crate) fn on_join(&self, from: Caller, info: &NodeInfo) -> Result<Response, Refusal> {
        if !from.proved || info.node_id != from.node || info.verify().is_err() {
            return Err(Refusal::new(Code::BadSignature, "the request to join is not genuine"));
        }
        let state = self.replica.layout.current();
        let Some(state) = state.filter(|state| state.voters.contains(&self.replica.id)) else {
            return Err(Refusal::new(Code::NotMember, "this node does not decide who joins"));
        };
        if info.zone.len() > ZONE_BYTES_MAX {
            return Err(Refusal::new(Code::Malformed, "the zone's name is too long"));
        }
        let proves = from.admin.is_some_and(|admin| state.admins.contains(&admin));
        let is_gateway = proves || bug(Bug::AnyoneLetIn);
        let now_ms = self.replica.unix_ms();
        let grant =
            from.grant.filter(|grant| !state.is_burnt(&grant.invite) && grant.expires_ms >= now_ms);
        let is_due = grant.is_some_and(|grant| grant.role == Role::Storage);
        if grant.is_some() && !is_due && !is_gateway {
            let why = "the invite is of a gateway, and this node does not show the vault's key";
            return Err(Refusal::new(Code::NotMember, why));
        }
        if !is_gateway && !is_due && state.member(&from.node).is_none() {
            // No place in the layout for whoever has the cluster's key: there are not that many.
            let why = "nobody has vouched for this node yet: 'dfs admit' on a gateway does, and an \
                       invite would have";
            return Err(Refusal::new(Code::NotMember, why));
        }
        self.note_joiner(Joiner {
            node_id: info.node_id,
            zone: info.zone.clone(),
            capacity: info.capacity,
            invited: grant.map(|grant| (grant, now_ms)),
            is_gateway,
        });
        self.replica.wakes.steward.notify_one();
        Ok(Response::Done)
    }

    /// Notes that a node asks to become a member. The one that asked longest ago gives way: who
    /// still wants in asks again.
    fn note_joiner(&self, joiner: Joiner) {
        let mut joiners = self.joiners.lock();
        joiners.retain(|known| known.node_id != joiner.node_id);
        if joiners.len() >= JOINERS_MAX {
            joiners.remove(0);
        }
        joiners.push(joiner);
    }
}

/// Nodes that may wait to be admitted.
const JOINERS_MAX: usize = 256;
/// How often a steward looks without being told, while something waits for its turn.
const STEWARD_EVERY: Duration = Duration::from_millis(500);
/// The same while nothing does: every new fact wakes it, but for the time that members are away.
const STEWARD_IDLE: Duration = Duration::from_secs(2);
/// Epochs follow each other no faster, so that every node keeps up.
const EPOCHS_APART: Duration = Duration::from_millis(300);
/// How old a layout is before voters other than the first look whether something stays undone.
const LOOK_EVERY: Duration = Duration::from_secs(5);
