//! Rows that other nodes should hold: kept here while none of those was in reach, or left over from
//! a move. They are given to their replicas, and forgotten here once a majority has them: each row
//! that was given, or all rows of a partition that were compared with theirs. What comes in after
//! that, only this node may have, and it stays.
//!
//! Until then they protect what only this node may have: a write in available mode on the smaller
//! side of a split, or a row that a move did not carry over.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use dfs_core::id::{NodeId, Partition, RecordKey};
use dfs_core::layout::epoch::{EpochState, Row, Stage};
use dfs_core::node::member::{Clean, MoveFact, ranges};
use dfs_core::quorum::Tally;
use dfs_core::record::refs::RefRow;
use dfs_core::record::version::Record;
use dfs_core::replica::sync::{Root, Table};
use dfs_env::{Bug, bug};
use dfs_p2p::message::{Priority, Request};
use parking_lot::Mutex;
use tracing::{debug, info};

use super::RowSync;
use crate::blobs::{Blobs, Lag};
use crate::config::Mode;
use crate::error::Error;
use crate::records::Records;
use crate::replica::Replica;
use crate::replica::rows::RowWalk;
use crate::rpc::{Ask, Rpc};

/// Gives away the rows that other nodes should hold.
pub(crate) struct Handoff {
    replica: Arc<Replica>,
    rpc: Arc<Rpc>,
    records: Arc<Records>,
    blobs: Arc<Blobs>,
    sync: Arc<RowSync>,
    /// How many rows here were other nodes' at the last look.
    foreign_seen: AtomicU64,
    /// Partitions that this node once held and has nothing of any more.
    emptied: Mutex<Vec<MoveFact>>,
    /// When there was a look that found no foreign row, and at which epoch.
    clean: Mutex<Clean>,
}

impl Handoff {
    pub(crate) fn new(
        rpc: Arc<Rpc>,
        records: Arc<Records>,
        blobs: Arc<Blobs>,
        sync: Arc<RowSync>,
    ) -> Self {
        Self {
            replica: rpc.replica.clone(),
            rpc,
            records,
            blobs,
            sync,
            foreign_seen: AtomicU64::new(0),
            emptied: Mutex::default(),
            clean: Mutex::default(),
        }
    }

    /// Gives rows to their replicas until shutdown.
    pub(crate) async fn run(self: Arc<Self>) {
        loop {
            tokio::select! {
                biased;
                () = self.replica.shutdown.cancelled() => return,
                () = self.replica.wakes.handoff.notified() => {}
                () = self.replica.env.sleep(LOOK_EVERY.min(self.replica.grace.tell_every())) => {}
            }
            match self.hand_over().await {
                Ok(0) => {}
                Ok(rows) => info!(rows, "rows of other nodes were handed over"),
                Err(error) => debug!(%error, "rows of other nodes could not be handed over yet"),
            }
            self.note_emptied().await;
            if let Ok(state) = self.replica.joined() {
                self.look_for_foreign(&state).await;
            }
        }
    }

    /// Notes how many rows here are other nodes', and when there were none.
    async fn look_for_foreign(&self, state: &EpochState) {
        // Before the look: what comes in during it may be missed.
        let at = self.replica.now();
        let Ok(rows) = self.foreign_rows(state).await else { return };
        let clean = if rows == 0 { Clean { at, epoch: state.epoch } } else { Clean::default() };
        *self.clean.lock() = clean;
        if self.foreign_seen.swap(rows, Ordering::Relaxed) != rows {
            self.replica.wakes.publish.notify_one();
        }
    }

    /// How many rows here were other nodes' at the last look.
    pub(crate) fn foreign_seen(&self) -> u64 {
        self.foreign_seen.load(Ordering::Relaxed)
    }

    /// Partitions that this node once held and has nothing of any more.
    pub(crate) fn emptied(&self) -> Vec<MoveFact> {
        self.emptied.lock().clone()
    }

    /// What to tell of the last look.
    pub(crate) fn clean_to_tell(&self, told: Clean) -> Clean {
        let clean = *self.clean.lock();
        clean.to_tell(told, self.replica.grace.tell_every())
    }

    /// How many rows here are other nodes'.
    pub(crate) async fn foreign_rows(&self, state: &EpochState) -> Result<u64, Error> {
        let mut count = 0u64;
        for table in [Table::Records, Table::Refs] {
            for (partition, root) in (0..=Partition::MAX).zip(self.roots(table, state).await?) {
                if !state.is_replica(partition, &self.replica.id) {
                    count = count.saturating_add(root.count);
                }
            }
        }
        Ok(count)
    }

    /// Notes the partitions that this node once held and has no row of.
    async fn note_emptied(&self) {
        let Ok(state) = self.replica.joined() else { return };
        let own = state.member(&self.replica.id).map(|member| member.idx);
        let is_former = |row: &Row| own.is_some_and(|own| row.former.contains(&own));
        let mut emptied = Vec::new();
        if state.rows.iter().any(is_former) {
            let records = self.roots(Table::Records, &state).await;
            let refs = self.roots(Table::Refs, &state).await;
            let (Ok(records), Ok(refs)) = (records, refs) else { return };
            let counts = records.iter().zip(&refs).map(|(a, b)| a.count.saturating_add(b.count));
            for ((partition, row), rows) in (0..=Partition::MAX).zip(&state.rows).zip(counts) {
                if is_former(row) && rows == 0 {
                    emptied.push((partition, row.changed));
                }
            }
        }
        let emptied = ranges(emptied);
        let mut known = self.emptied.lock();
        if *known != emptied {
            *known = emptied;
            self.replica.wakes.publish.notify_one();
        }
    }

    async fn roots(&self, table: Table, state: &EpochState) -> Result<Vec<Root>, Error> {
        Ok(self.replica.store.roots(table, state.bits).await?)
    }

    async fn hand_over(&self) -> Result<usize, Error> {
        let state = self.replica.joined()?;
        let mut handed = 0;
        // References first, so that no record names blobs that nobody protects. Those of a storage
        // member count only once a record has them.
        let by_gateway = [Table::Refs, Table::Records];
        let by_storage = [Table::Records, Table::Refs];
        let order = if state.may_write(&self.replica.id) { by_gateway } else { by_storage };
        for table in order {
            for (partition, root) in (0..=Partition::MAX).zip(self.roots(table, &state).await?) {
                let is_ours = state.is_replica(partition, &self.replica.id);
                if root.count == 0 || is_ours || state.row(partition).stage != Stage::Stable {
                    continue;
                }
                let known = bug(Bug::HandoffForgetsAtOnce)
                    || self.is_known(table, partition, root, &state).await?;
                if self.replica.layout.epoch() != state.epoch {
                    return Ok(handed); // Whose rows these are may be another question now.
                }
                let known = known.then_some(root);
                handed += match table {
                    Table::Refs => self.hand_refs(partition, known, &state).await?,
                    Table::Records => self.hand_records(partition, known, &state).await?,
                };
            }
        }
        Ok(handed)
    }

    /// Whether a majority of the partition's replicas holds exactly the rows that this root is of,
    /// a gateway among them where there are any: two others could say so and hold nothing.
    async fn is_known(
        &self,
        table: Table,
        partition: Partition,
        root: Root,
        state: &Arc<EpochState>,
    ) -> Result<bool, Error> {
        let replicas = state.read_set(partition);
        let (mut same, mut trusted) = (0, false);
        for node in replicas.iter().filter(|node| self.replica.is_reachable(node)) {
            let asked = vec![(partition, root)];
            let (differ, _) = self.sync.differing_from(node, table, asked, state).await?;
            if differ.is_empty() {
                same += 1;
                trusted |= state.is_gateway(node);
            } else if state.is_gateway(node) {
                return Ok(false);
            }
        }
        let needs_gateway = replicas.iter().any(|node| state.is_gateway(node));
        let is_majority = same >= Tally::<NodeId>::write_majority(replicas.len());
        Ok(is_majority && (trusted || !needs_gateway))
    }

    async fn hand_refs(
        &self,
        partition: Partition,
        mut known: Option<Root>,
        state: &Arc<EpochState>,
    ) -> Result<usize, Error> {
        let store = &self.replica.store;
        let (mut walk, mut handed) = (RowWalk::of(partition, state.bits), 0);
        while let Some(rows) = walk.next::<RefRow>(store).await? {
            if self.replica.layout.epoch() != state.epoch {
                return Ok(handed); // They may be this node's own by now.
            }
            let Some(root) = known else {
                // Those whose use has ended are only forgotten: their replicas find out themselves.
                for row in rows.iter().filter(|row| !row.dropped) {
                    self.hand_ref(*row, state).await?;
                }
                handed += store.forget_refs(rows).await?;
                continue;
            };
            let count = rows.len();
            known = store.forget_known_refs(partition, root, rows).await?;
            if known.is_none() {
                // A row came in that was not compared: they are compared anew in the next round.
                return Ok(handed);
            }
            handed += count;
        }
        Ok(handed)
    }

    /// Gives a reference row to its replicas, with the blob when it is here.
    async fn hand_ref(&self, row: RefRow, state: &Arc<EpochState>) -> Result<(), Error> {
        if let Ok(blob) = self.replica.store.get_blob(row.blob).await {
            self.blobs.store_blob(blob, row, &Arc::new(Lag::default()), Mode::Quorum).await?;
            return Ok(());
        }
        let add = Ask::new(Priority::Background, Request::RefAdd(vec![row]));
        let sets = state.write_sets(row.blob.partition(state.bits));
        self.rpc.ask_all(sets, state.epoch, true, &add).await?;
        Ok(())
    }

    /// Gives the records of a partition to their replicas, unless these are known to have all that
    /// a root is of, and forgets them.
    async fn hand_records(
        &self,
        partition: Partition,
        mut known: Option<Root>,
        state: &Arc<EpochState>,
    ) -> Result<usize, Error> {
        let store = &self.replica.store;
        let (mut walk, mut handed) = (RowWalk::of(partition, state.bits), 0);
        while let Some(rows) = walk.next::<(RecordKey, Record)>(store).await? {
            if self.replica.layout.epoch() != state.epoch {
                return Ok(handed);
            }
            let hashes: Vec<_> =
                rows.iter().map(|(key, record)| (*key, record.state_hash())).collect();
            let Some(root) = known else {
                self.records.write_back(rows, true, state).await?;
                handed += store.forget_records(hashes).await?;
                continue;
            };
            let count = hashes.len();
            known = store.forget_known_records(partition, root, hashes).await?;
            if known.is_none() {
                return Ok(handed);
            }
            handed += count;
        }
        Ok(handed)
    }
}

/// How often a node looks for rows of others without being told.
const LOOK_EVERY: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests;
