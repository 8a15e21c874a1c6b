//! What this node publishes of itself: space, repair, and how far its moves are.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use dfs_core::id::Partition;
use dfs_core::layout::epoch::{EpochState, Stage};
use dfs_core::node::member::ranges;
use dfs_env::{Bug, bug};

use super::Handoff;
use crate::replica::Replica;

/// Keeps the signed info of this node up to date.
pub(crate) struct Publisher {
    replica: Arc<Replica>,
    handoff: Arc<Handoff>,
}

impl Publisher {
    pub(crate) fn new(replica: Arc<Replica>, handoff: Arc<Handoff>) -> Self {
        Self { replica, handoff }
    }

    /// Publishes what changed until shutdown.
    pub(crate) async fn run(self: Arc<Self>) {
        let mut looked = None;
        loop {
            let now = self.replica.env.mono();
            if looked.is_none_or(|looked| looked + DISK_EVERY <= now) {
                looked = Some(now);
                // A disk that does not answer must not keep this node silent.
                let look = self.replica.store.look_at_disk();
                let _ = self.replica.env.timeout(DISK_LOOK_MAX, look).await;
            }
            self.publish();
            let rested = self.replica.env.sleep(PUBLISHED_APART);
            tokio::select! {
                biased;
                () = self.replica.shutdown.cancelled() => return,
                () = rested => {}
            }
            tokio::select! {
                biased;
                () = self.replica.shutdown.cancelled() => return,
                () = self.replica.wakes.publish.notified() => {}
                () = self.replica.env.sleep(LOOK_EVERY) => {}
            }
        }
    }

    fn publish(&self) {
        let replica = &self.replica;
        let Some(state) = replica.layout.current() else { return };
        // Before it is known what was pulled: a row that comes in between is looked for then.
        let missing = replica.missing.missing_partitions(state.bits);
        let synced = self.synced(&state);
        let is_here =
            |partition: &Partition| missing.as_ref().is_some_and(|m| !m.contains(partition));
        let bodies = synced.iter().copied().filter(|(partition, _)| is_here(partition));
        let bodies = ranges(bodies.collect::<Vec<_>>());
        let synced = ranges(synced);
        let emptied = self.handoff.emptied();
        // Whoever has not looked yet may miss something: peers must not call that well.
        let unknown = u64::from(!replica.missing.knows_all());
        let queue = replica.missing_here();
        let queue = queue.saturating_add(self.handoff.foreign_seen()).saturating_add(unknown);
        // Who has left looks for nothing any more.
        let lost = replica.joined().map_or(0, |_| replica.missing.lost_len());
        let (used, capacity) = (replica.store.held(), replica.store.capacity());
        replica.net().update(|facts| {
            facts.used = used;
            facts.capacity = capacity;
            facts.repair_queue = queue;
            facts.lost = lost;
            facts.synced = synced;
            facts.bodies = bodies;
            facts.emptied = emptied;
            facts.clean = self.handoff.clean_to_tell(facts.clean);
        });
    }

    /// The moves to this node of which every row is here, each with the epoch that prepared it.
    fn synced(&self, state: &EpochState) -> Vec<(Partition, u64)> {
        let (id, owed) = (self.replica.id, &self.replica.owed);
        owed.keep_moves(|(partition, prepare_epoch)| {
            let row = state.rows.get(usize::from(*partition));
            row.is_some_and(|row| row.prepare_epoch == *prepare_epoch)
        });
        let mut synced = Vec::new();
        for (partition, row) in (0..=Partition::MAX).zip(&state.rows) {
            let receives = row.next.iter().any(|idx| state.node(*idx) == Some(id));
            if row.stage == Stage::Stable || !receives {
                continue;
            }
            let pulled: BTreeSet<_> = owed.pulled(&(partition, row.prepare_epoch));
            let is_source =
                |idx| state.node(idx).is_some_and(|node| node == id || pulled.contains(&node));
            if bug(Bug::SyncedTooEarly) || state.has_sources(row, is_source) {
                synced.push((partition, row.prepare_epoch));
            }
        }
        synced
    }
}

/// What this node says of itself is signed, sent to all, and looked at by every steward: not for
/// each blob that arrives.
const PUBLISHED_APART: Duration = Duration::from_millis(100);
/// How often it is looked what the disk has room for, where nothing is stored.
const DISK_EVERY: Duration = Duration::from_secs(2);
/// How long a look at the disk is waited for.
const DISK_LOOK_MAX: Duration = Duration::from_millis(200);
/// How often this node looks without being told.
const LOOK_EVERY: Duration = Duration::from_millis(500);
