//! Uses of blobs that a storage member tells of: taken in once the record says so too.
//!
//! Reference rows are not signed, so who holds some could make up any number, and fill the index
//! of every other replica with them. A record is signed: a row that is new here counts when a
//! quorum's record has a version that uses the blob. Those of an upload come before its record:
//! of a gateway they count as they are, of a storage member up to so many a day.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use dfs_core::hlc::Hlc;
use dfs_core::id::{NodeId, RecordKey};
use dfs_core::record::refs::{RefRow, Use};
use dfs_core::record::version::Record;
use parking_lot::Mutex;
use quick_cache::sync::Cache;
use tokio::time::Instant;
use tracing::debug;

use crate::config::Mode;
use crate::error::Error;
use crate::records::Records;

/// Tells which rows of a peer count.
pub(super) struct Vouching {
    records: Arc<Records>,
    /// Uses that no record had when it was looked for, and when that was.
    refused: Cache<Use, Instant>,
    /// Rows taken in before their record, by who told of them.
    early: Mutex<BTreeMap<NodeId, Early>>,
}

/// Rows of one member that came before their record.
#[derive(Debug, Clone, Copy)]
struct Early {
    since: Instant,
    rows: usize,
}

impl Vouching {
    pub(super) fn new(records: Arc<Records>) -> Self {
        Self { records, refused: Cache::new(REFUSED_MAX), early: Mutex::default() }
    }

    /// Which of the rows count: all of a gateway's, and of a storage member's those that are here
    /// already, that a record needs, or that wait for one. Reads each record of a new row by
    /// quorum, but not that of a row refused a moment ago.
    pub(super) async fn counting(
        &self,
        from: &NodeId,
        rows: &[RefRow],
    ) -> Result<Vec<bool>, Error> {
        let replica = &self.records.rpc().replica;
        if *from == replica.id || replica.joined()?.may_write(from) {
            return Ok(vec![true; rows.len()]);
        }
        let mut counting = replica.store.are_known(rows.iter().map(RefRow::of).collect()).await?;
        let now = replica.env.mono();
        let is_new = |(row, known): &(&RefRow, &bool)| !**known && !self.was_refused(row, now);
        let new = rows.iter().zip(&counting).filter(is_new).map(|(row, _)| row.key);
        let records = self.read(new.collect()).await?;
        let wall = Hlc::from_unix_ms(replica.env.wall_ms());
        for (row, counts) in rows.iter().zip(&mut counting).filter(|(_, counts)| !**counts) {
            let record = records.get(&row.key);
            *counts = record.is_some_and(|record| record.needs(&row.vid))
                || (row.hold_until > wall && self.is_early(from, now));
            if !*counts {
                debug!(peer = ?from, "a use of a blob that no record has is not taken over");
                self.refused.insert(row.of(), now);
            }
        }
        Ok(counting)
    }

    fn was_refused(&self, row: &RefRow, now: Instant) -> bool {
        let at = self.refused.get(&row.of());
        at.is_some_and(|at| now.saturating_duration_since(at) < REFUSED_FOR)
    }

    /// Whether one more row of this member may come before its record.
    fn is_early(&self, from: &NodeId, now: Instant) -> bool {
        let mut early = self.early.lock();
        early.retain(|_, early| now.saturating_duration_since(early.since) < EARLY_FOR);
        let early = early.entry(*from).or_insert(Early { since: now, rows: 0 });
        early.rows += 1;
        early.rows <= EARLY_MAX
    }

    async fn read(&self, mut keys: Vec<RecordKey>) -> Result<BTreeMap<RecordKey, Record>, Error> {
        keys.sort_unstable();
        keys.dedup();
        let mut records = BTreeMap::new();
        for keys in keys.chunks(KEYS_AT_ONCE) {
            let read = self.records.read_records(keys, Mode::Quorum).await?;
            records.extend(keys.iter().copied().zip(read.records));
        }
        Ok(records)
    }
}

/// Records read at once.
const KEYS_AT_ONCE: usize = 256;
/// Uses remembered as refused: about 10 MiB.
const REFUSED_MAX: usize = 65_536;
/// How long a refused use is not looked for again: its record may be about to be written.
const REFUSED_FOR: Duration = Duration::from_secs(30);
/// Rows of one member that may come before their record in [`EARLY_FOR`]: those of some uploads of
/// a gibibyte that were under way while their partitions moved.
const EARLY_MAX: usize = 4096;
/// How long they count against it.
const EARLY_FOR: Duration = Duration::from_secs(24 * 60 * 60);
