//! Tombstones that are no longer needed: forgotten by all replicas of a record.

use std::sync::Arc;

use dfs_core::id::{NodeId, Partition, RecordKey};
use dfs_core::layout::epoch::{EpochState, Stage};
use dfs_core::record::version::Record;
use dfs_core::replica::marks::Marks;
use dfs_core::replica::purge::{lone_tombstone, may_purge};
use dfs_core::replica::sync::Table;
use dfs_p2p::message::Request;
use tokio::time::Instant;
use tracing::debug;

use super::evidence::{Evidence, Evident, KeyedHash, Published};
use crate::error::Error;
use crate::replica::rows::RowWalk;
use crate::replica::{Replica, millis};

/// Purges tombstones.
pub(super) struct Tombstones {
    replica: Arc<Replica>,
    evidence: Arc<Evidence>,
    /// Tombstones that remember conditional writes: the state they are in, and since when.
    resting: Marks<RecordKey, ([u8; 32], Instant)>,
}

impl Tombstones {
    pub(super) fn new(replica: Arc<Replica>, evidence: Arc<Evidence>) -> Self {
        Self { replica, evidence, resting: Marks::new(RESTING_MAX) }
    }

    /// Purges the old tombstones of partitions for which it is this node's turn; says how many.
    pub(crate) async fn purge_old(&mut self) -> Result<usize, Error> {
        let state = self.replica.joined()?;
        let published = self.evidence.published(&state);
        let roots = self.replica.store.roots(Table::Records, state.bits).await?;
        let mut purged = 0;
        for partition in self.replica.partitions(&state) {
            let row = state.row(partition);
            let is_empty = roots.get(usize::from(partition)).is_none_or(|root| root.count == 0);
            let waits = row.stage != Stage::Stable || !row.former.is_empty();
            if is_empty || waits || !self.evidence.asks_for(partition, &state) {
                continue;
            }
            let mut walk = RowWalk::of(partition, state.bits);
            while let Some(page) = walk.next_rested(&self.replica).await? {
                let old = self.old_tombstones(page);
                if !old.is_empty() {
                    purged += self.purge(partition, old, &published, &state).await?;
                }
            }
        }
        self.resting.end_round();
        Ok(purged)
    }

    fn old_tombstones(&self, page: Vec<(RecordKey, Record)>) -> Vec<(RecordKey, Record)> {
        let oldest = self.replica.unix_ms().saturating_sub(millis(self.replica.grace.purge_age()));
        let is_old = |record: &Record| {
            lone_tombstone(record).is_some_and(|dead| dead.hlc.unix_ms() <= oldest)
        };
        page.into_iter().filter(|(_, record)| is_old(record)).collect()
    }

    async fn purge(
        &mut self,
        partition: Partition,
        old: Vec<(RecordKey, Record)>,
        published: &Published,
        state: &Arc<EpochState>,
    ) -> Result<usize, Error> {
        let set: Vec<NodeId> = state.read_set(partition);
        let hashes: Vec<_> = old.iter().map(|(key, record)| (*key, record.state_hash())).collect();
        let confirmed = self.evidence.confirmed(&set, &hashes, state).await;
        let (now, age) = (self.replica.env.mono(), self.replica.grace.purge_age());
        let mut settled = Vec::new();
        for (((_, record), hash), confirmed) in old.iter().zip(hashes).zip(&confirmed) {
            let at_rest = record.is_conditional()
                && now - self.at_rest_since(hash, now) > self.replica.grace.settle();
            let known = Evident { published, confirmed: Some(confirmed), at_rest };
            let stamp = record.hlc_max();
            if !self.evidence.has_all_before(partition, stamp, state) {
                debug!(key = ?hash.0, "a tombstone stays until rows were compared");
                continue;
            }
            match may_purge(record, partition, state, self.replica.unix_ms(), age, &known) {
                Ok(()) => settled.push(hash),
                Err(why) => debug!(key = ?hash.0, %why, "a tombstone stays for now"),
            }
        }
        if settled.is_empty() {
            return Ok(0);
        }
        // One that does not hear of it keeps the tombstone, and gives it back to the others.
        for node in set.iter().filter(|node| **node != self.replica.id) {
            let asked = Request::RecordsForget(settled.clone());
            if self.evidence.ask_of_each(node, asked, settled.len(), state).await.is_none() {
                return Ok(0);
            }
        }
        Ok(self.replica.store.purge_records(settled).await?)
    }

    /// Since when the record is in this state, as far as it is remembered.
    fn at_rest_since(&mut self, (key, hash): KeyedHash, now: Instant) -> Instant {
        let known = self.resting.note(key, (hash, now));
        match known {
            Some((state, _)) if state != hash => {
                self.resting.clear(&key);
                self.resting.note(key, (hash, now));
                now
            }
            Some((_, since)) => since,
            None => now,
        }
    }
}

/// Tombstones remembered from round to round: 8 MiB. Those beyond have their turn later.
const RESTING_MAX: usize = 65_536;
