//! What `status` and `peers` say: computed from what this node verified or was told just now.

use std::sync::Arc;

use dfs_core::id::{NodeId, Partition, hex};
use dfs_core::layout::epoch::{EpochState, MemberState};
use dfs_core::layout::voters::limiting_zone;
use dfs_core::replica::sync::Table;
use dfs_p2p::Peer;
use dfs_store::WriteError;

pub(crate) use self::behind::Behind;
use self::count::Counter;
use self::judge::{judge, went_on_without};
pub use self::outlook::{Copying, CostName, NextFailure};
pub use self::types::{ClockOwner, Doubt, Health, Level, NotReady, PeerState, PeerView, Remedy};
use crate::chain::Chain;
use crate::config::Mode;
use crate::disk::Scrubber;
use crate::error::Error;
use crate::layout::Reachability;
use crate::replica::Replica;
use crate::sync::Handoff;

mod behind;
pub(crate) mod count;
mod disks;
mod doubts;
mod drains;
mod judge;
mod outlook;
mod peers;
mod ready;
mod types;

/// Looks at all parts of a node to say how it is.
pub(crate) struct Status {
    pub(crate) replica: Arc<Replica>,
    pub(crate) chain: Arc<Chain>,
    pub(crate) handoff: Arc<Handoff>,
    pub(crate) scrub: Arc<Scrubber>,
    pub(crate) reach: Arc<Reachability>,
    pub(crate) counter: Arc<Counter>,
    pub(crate) behind: Arc<Behind>,
}

impl Status {
    /// Notes that the vault's key was written down and read back.
    pub(crate) async fn note_key_backup(&self) -> Result<(), WriteError> {
        self.replica.store.put_state(KEY_BACKUP, vec![1]).await
    }

    /// How the cluster is, seen from here.
    pub(crate) async fn health(&self) -> Result<Health, Error> {
        let key_backup = self.replica.store.state(KEY_BACKUP).await?.is_some();
        let Ok(state) = self.replica.joined() else {
            let NotReady { reason, remedy } = self.not_joined();
            return Ok(Health {
                cluster: String::new(),
                epoch: self.replica.layout.epoch(),
                health: Level::Degraded,
                message: reason,
                remedy,
                nodes: 1,
                alive: 1,
                files: 0,
                bytes: 0,
                under_replicated: 0,
                unrecoverable: 0,
                repair_queue: 0,
                copying: None,
                repair_paused: self.replica.missing.is_paused(),
                next_failure: NextFailure::alone(),
                unreadable: 0,
                moving: 0,
                voters: Vec::new(),
                limiting_zone: None,
                unvouched: Vec::new(),
                doubts: Vec::new(),
                clocks: Vec::new(),
                drains: Vec::new(),
                disks: self.own_disk().into_iter().map(|said| said.text).collect(),
                clock_ahead_ms: None,
                conflicts: 0,
                key_backup,
            });
        };
        let nodes = state.active().count();
        let down: Vec<NodeId> = state
            .active()
            .map(|member| member.node_id)
            .filter(|member| !self.replica.is_reachable(member))
            .collect();
        // Both wait a moment for what is new, and then say what is known.
        let (counted, behind) =
            tokio::join!(self.counter.counted(&state), self.behind.partitions(&state, &down));
        let told_by_peers = self
            .replica
            .net()
            .peers()
            .iter()
            // What one said before it was lost is no work for anyone.
            .filter(|peer| is_heard(&state, &peer.info.node_id))
            .fold(0u64, |sum, peer| sum.saturating_add(peer.info.repair_queue));
        let missing_here = self.replica.missing_here();
        let repair_queue = missing_here.saturating_add(told_by_peers);
        let (bytes_per_second, left) =
            self.replica.missing.outlook(self.replica.env.mono(), missing_here);
        let is_missing = repair_queue > 0 || !self.replica.missing.knows_all();
        let by_majority = self.replica.is_quorum(Mode::Default, &state);
        let scrubbed = self.scrub.view();
        let behind = behind.saturating_add(self.handoff.foreign_rows(&state).await?);
        let pieces_down = self.pieces_on(&state, &down).await?;
        let mut health = Health {
            cluster: hex(&state.cluster_id.as_bytes()[..8]),
            epoch: state.epoch,
            health: Level::Ok,
            message: String::new(),
            remedy: None,
            nodes,
            alive: nodes - down.len(),
            files: counted.files,
            bytes: counted.bytes,
            under_replicated: repair_queue.saturating_add(behind).saturating_add(pieces_down),
            unrecoverable: self.lost(&state),
            repair_queue,
            copying: Copying::new(missing_here, bytes_per_second, left),
            repair_paused: self.replica.missing.is_paused(),
            next_failure: NextFailure::of(&state, &down, is_missing, by_majority),
            unreadable: scrubbed.unread.saturating_add(scrubbed.rows_damaged),
            moving: state.moving(),
            voters: state.voters.iter().map(NodeId::short).collect(),
            limiting_zone: limiting_zone(&state).map(|(zone, _)| zone),
            unvouched: self.unvouched(&state),
            doubts: self.doubts(&state),
            clocks: Vec::new(),
            drains: Vec::new(),
            disks: Vec::new(),
            clock_ahead_ms: self.replica.clocks().own().map(|ahead| ahead.0),
            conflicts: counted.conflicts,
            key_backup,
        };
        let failed = disks::failed(&self.replica.store.disk());
        let has_failed = failed.is_some();
        (health.health, health.message, health.remedy) = judge(&health, &state, &down, failed);
        if !has_failed {
            health.remedy = health.remedy.or_else(|| self.dialled_in_vain(&state));
        }
        if let Some(loss) = self.chain.foreign_loss() {
            let (message, remedy) = went_on_without(&loss, &self.replica.id);
            (health.health, health.message) = (health.health.max(Level::AtRisk), message);
            health.remedy = Some(remedy);
        }
        if health.health == Level::Ok && !self.replica.missing.knows_all() {
            let message = "this node looks for what it should hold and does not".to_owned();
            (health.health, health.message) = (Level::Degraded, message);
        }
        if self.replica.has_no_room(LEAST_BYTES, 1, Mode::Default, &state) {
            health.message.push_str("; the nodes are full and take no new files");
            health.remedy.get_or_insert(Remedy::MakeRoom);
        }
        drains::say(&drains::seen_from(&self.replica, &state), &mut health);
        self.say_disks(&mut health, &state);
        self.say_clocks(&mut health);
        Ok(health)
    }

    /// Says whose clock is wrong, after anything worse.
    fn say_clocks(&self, health: &mut Health) {
        let notes = self.clock_notes();
        health.clocks = notes.iter().map(|note| note.reason.clone()).collect();
        let Some(NotReady { reason, remedy }) = notes.into_iter().next() else { return };
        if health.health == Level::Ok {
            (health.health, health.message, health.remedy) = (Level::Degraded, reason, remedy);
            return;
        }
        health.message = format!("{}; {reason}", health.message);
        health.remedy = health.remedy.take().or(remedy);
    }

    /// Nodes in reach that wait for someone to vouch for them.
    fn unvouched(&self, state: &EpochState) -> Vec<String> {
        let waits = |peer: &Peer| {
            let node = &peer.info.node_id;
            let member = state.member(node);
            let counts = member.is_some_and(|member| state.is_vouched(member));
            peer.down_for.is_none() && !counts && !self.replica.proves_admin(state, node)
        };
        if state.admins.is_empty() {
            return Vec::new();
        }
        let peers = self.replica.net().peers();
        let waiting = peers.iter().filter(|peer| waits(peer));
        waiting.map(|peer| peer.info.node_id.short()).take(UNVOUCHED_SHOWN).collect()
    }

    /// Pieces that are lost, as whoever in reach knows of most of them says: the same piece is
    /// looked for by all its replicas.
    fn lost(&self, state: &EpochState) -> u64 {
        let peers = self.replica.net().peers();
        let heard =
            peers.iter().map(|peer| &peer.info).filter(|info| is_heard(state, &info.node_id));
        let in_reach = heard.filter(|info| self.replica.is_reachable(&info.node_id));
        in_reach.map(|info| info.lost).fold(self.replica.missing.lost_len(), u64::max)
    }

    /// Rows known here that members which are away should hold as well.
    async fn pieces_on(&self, state: &EpochState, down: &[NodeId]) -> Result<u64, Error> {
        if down.is_empty() {
            return Ok(0);
        }
        let mut pieces = 0;
        for table in [Table::Records, Table::Refs] {
            let roots = self.replica.store.roots(table, state.bits).await?;
            for (partition, root) in (0..=Partition::MAX).zip(roots) {
                if down.iter().any(|away| state.is_replica(partition, away)) {
                    pieces = u64::saturating_add(pieces, root.count);
                }
            }
        }
        Ok(pieces)
    }
}

/// Whether what a node says of its pieces counts: it has some to look after.
fn is_heard(state: &EpochState, node: &NodeId) -> bool {
    let member = state.member(node).filter(|member| state.is_vouched(member));
    member.is_some_and(|member| matches!(member.state, MemberState::Active | MemberState::Draining))
}

/// Nodes that wait to be let in and are named: whoever has the cluster's key can send many.
const UNVOUCHED_SHOWN: usize = 8;
/// The note that the vault's key was written down and read back.
const KEY_BACKUP: &str = "key-backup";
/// A content that is smaller than this one may have a place in what is left.
const LEAST_BYTES: u64 = 1024 * 1024;
