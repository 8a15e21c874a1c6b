//! Tombstones that are no longer needed: forgotten by all replicas of a record.

use std::collections::BTreeMap;
use std::sync::Arc;

use dfs_core::id::{NodeId, Partition, RecordKey};
use dfs_core::layout::epoch::{EpochState, Stage};
use dfs_core::record::version::Record;
use dfs_core::replica::purge::{lone_tombstone, may_purge};
use dfs_core::replica::sync::Table;
use dfs_p2p::message::{Refusal, Request};
use tokio::time::Instant;
use tracing::debug;

use crate::confirm::{KeyedHash, Known, Published, RecordPages};
use crate::error::Error;
use crate::handler::{read_refused, write_refused};
use crate::node::{Node, millis};

/// Tombstones that remember conditional writes, since when they are as they are, and in which round
/// they were met last.
#[derive(Debug, Default)]
pub(crate) struct Resting {
    since: BTreeMap<RecordKey, Rest>,
    round: u64,
}

#[derive(Debug)]
struct Rest {
    hash: [u8; 32],
    since: Instant,
    round: u64,
}

impl Resting {
    /// Since when the record is in this state, as far as it is remembered.
    fn note(&mut self, (key, hash): KeyedHash, now: Instant) -> Instant {
        let round = self.round;
        if self.since.len() >= RESTING_MAX && !self.since.contains_key(&key) {
            return now;
        }
        let rest = self.since.entry(key).or_insert(Rest { hash, since: now, round });
        if rest.hash != hash {
            *rest = Rest { hash, since: now, round };
        }
        rest.round = round;
        rest.since
    }

    fn end_round(&mut self) {
        let this = self.round;
        self.since.retain(|_, rest| rest.round == this);
        self.round += 1;
    }
}

impl Node {
    /// Purges the old tombstones of partitions for which it is this node's turn; says how many.
    pub(crate) async fn purge_tombstones(
        self: &Arc<Self>,
        resting: &mut Resting,
    ) -> Result<usize, Error> {
        let state = self.joined()?;
        let published = self.published(&state);
        let roots = self.store.roots(Table::Records, state.bits).await?;
        let mut purged = 0;
        for partition in self.partitions_of(&state, &self.id) {
            let row = state.row(partition);
            let is_empty = roots.get(usize::from(partition)).is_none_or(|root| root.count == 0);
            let waits = row.stage != Stage::Stable || !row.former.is_empty();
            if is_empty || waits || !self.asks_for(partition, &state) {
                continue;
            }
            let mut pages = RecordPages::of(partition);
            while let Some(page) = self.next_records(&mut pages, &state).await? {
                let old = self.old_tombstones(page);
                if !old.is_empty() {
                    purged += self.purge(partition, old, resting, &published, &state).await?;
                }
            }
        }
        resting.end_round();
        Ok(purged)
    }

    fn old_tombstones(&self, page: Vec<(RecordKey, Record)>) -> Vec<(RecordKey, Record)> {
        let oldest = self.env.wall_ms().saturating_sub(millis(self.grace.purge_age()));
        let is_old = |record: &Record| {
            lone_tombstone(record).is_some_and(|dead| dead.hlc.unix_ms() <= oldest)
        };
        page.into_iter().filter(|(_, record)| is_old(record)).collect()
    }

    async fn purge(
        self: &Arc<Self>,
        partition: Partition,
        old: Vec<(RecordKey, Record)>,
        resting: &mut Resting,
        published: &Published,
        state: &Arc<EpochState>,
    ) -> Result<usize, Error> {
        let set: Vec<NodeId> = state.read_set(partition);
        let hashes: Vec<_> = old.iter().map(|(key, record)| (*key, record.state_hash())).collect();
        let confirmed = self.confirmed(&set, &hashes, state).await;
        let (now, age) = (self.env.mono(), self.grace.purge_age());
        let mut settled = Vec::new();
        for (((_, record), hash), confirmed) in old.iter().zip(hashes).zip(&confirmed) {
            let at_rest =
                record.is_conditional() && now - resting.note(hash, now) > self.grace.settle();
            let known = Known { published, confirmed: Some(confirmed), at_rest };
            match may_purge(record, partition, state, self.env.wall_ms(), age, &known) {
                Ok(()) => settled.push(hash),
                Err(why) => debug!(key = ?hash.0, %why, "a tombstone stays for now"),
            }
        }
        if settled.is_empty() {
            return Ok(0);
        }
        // One that does not hear of it keeps the tombstone, and gives it back to the others.
        for node in set.iter().filter(|node| **node != self.id) {
            let asked = Request::RecordsForget(settled.clone());
            if self.ask_of_each(node, asked, settled.len(), state).await.is_none() {
                return Ok(0);
            }
        }
        Ok(self.store.forget_records(settled).await?)
    }

    /// Forgets tombstones for another replica, which says that all confirm them. What can be checked
    /// here is: nobody has this node forget what is not an old tombstone. Says which are gone.
    pub(crate) async fn forget_tombstones(
        self: &Arc<Self>,
        asked: Vec<KeyedHash>,
        state: &Arc<EpochState>,
    ) -> Result<Vec<bool>, Refusal> {
        let published = self.published(state);
        let known = Known { published: &published, confirmed: None, at_rest: true };
        let (now, age) = (self.env.wall_ms(), self.grace.purge_age());
        let keys: Vec<_> = asked.iter().map(|(key, _)| *key).collect();
        let records = self.store.records(keys.clone()).await.map_err(read_refused)?;
        let allowed = |((key, _), record): &(&KeyedHash, Record)| {
            let partition = key.partition(state.bits);
            may_purge(record, partition, state, now, age, &known).is_ok()
        };
        let allowed: Vec<_> =
            asked.iter().zip(records).filter(allowed).map(|(hash, _)| *hash).collect();
        self.store.forget_records(allowed).await.map_err(write_refused)?;
        let left = self.store.records(keys).await.map_err(read_refused)?;
        Ok(left.iter().map(Record::is_empty).collect())
    }
}

/// Tombstones remembered from round to round: 8 MiB. Those beyond have their turn later.
const RESTING_MAX: usize = 65_536;
