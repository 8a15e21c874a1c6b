//! Uses of blobs that a storage member tells of: taken in once the record says so too.
//!
//! Reference rows are not signed, so who holds some could make up any number, and fill the index
//! of every other replica with them. A record is signed: a row that is new here counts when a
//! quorum's record has a version with that many blobs. Those of an upload come before its record,
//! and those of one that was given up have none: of a gateway they count as they are, of a storage
//! member up to so many a day. They end as every use ends.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use dfs_core::hlc::Hlc;
use dfs_core::id::{NodeId, RecordKey, Vid};
use dfs_core::record::refs::{RefRow, Use};
use dfs_core::record::version::Record;
use dfs_env::{Bug, bug};
use parking_lot::Mutex;
use quick_cache::sync::Cache;
use tokio::time::Instant;
use tracing::debug;

use crate::blobs::hold_until;
use crate::config::Mode;
use crate::error::Error;
use crate::records::Records;

/// Tells which rows of a peer count.
pub(super) struct Vouching {
    records: Arc<Records>,
    /// Uses that no record had when it was looked for, and when that was.
    refused: Cache<Use, Instant>,
    /// How many rows of a version were taken in.
    taken: Cache<(RecordKey, Vid), u32>,
    /// What was done for nothing, by whose word.
    early: Mutex<BTreeMap<NodeId, Early>>,
}

/// What was done for one member for nothing.
#[derive(Debug, Clone, Copy)]
struct Early {
    since: Instant,
    /// Rows taken in that no record names.
    rows: usize,
    /// Until when records that were read in vain keep others from being read.
    vain_until: Instant,
}

impl Early {
    fn at(now: Instant) -> Self {
        Self { since: now, rows: 0, vain_until: now }
    }
}

impl Vouching {
    pub(super) fn new(records: Arc<Records>) -> Self {
        let (refused, taken) = (Cache::new(REFUSED_MAX), Cache::new(TAKEN_MAX));
        Self { records, refused, taken, early: Mutex::default() }
    }

    /// What is to be done with each row. All of a gateway's count; of a storage member's those that
    /// count here already, those that a record needs, and some more. What they say of holds is cut
    /// to what is usual.
    ///
    /// Reads each record of a new row by quorum, but not that of a row refused a moment ago.
    pub(super) async fn judge(
        &self,
        from: &NodeId,
        rows: &mut [RefRow],
    ) -> Result<Vec<Verdict>, Error> {
        let replica = &self.records.rpc().replica;
        let state = replica.joined()?;
        if *from == replica.id || state.may_write(from) || bug(Bug::MadeUpUsesCount) {
            return Ok(vec![Verdict::Counts; rows.len()]);
        }
        let uses: Vec<Use> = rows.iter().map(RefRow::of).collect();
        let known = replica.store.are_known(uses.clone()).await?;
        let ended = replica.store.are_dropped(uses).await?;
        let now = replica.env.mono();
        let is_ours =
            |row: &RefRow| state.may_bring(from, &row.key.vault) || bug(Bug::AnyVaultKept);
        let is_new = |(row, ended): &(&RefRow, &bool)| {
            **ended && is_ours(row) && !self.was_refused(row, now)
        };
        let mut new: Vec<_> =
            rows.iter().zip(&ended).filter(is_new).map(|(row, _)| row.key).collect();
        new.sort_unstable();
        new.dedup();
        // The others have their turn when the member comes again.
        new.truncate(self.reads_left(from, now));
        let records = self.read(new).await;
        let mut in_vain = records.keys().copied().collect::<BTreeSet<_>>();
        let mut verdicts = Vec::with_capacity(rows.len());
        for ((row, known), ended) in rows.iter_mut().zip(known).zip(ended) {
            let record = records.get(&row.key);
            // A hold is for whoever writes to ask for.
            row.hold_until = if ended { row.hold_until.min(hold_until(replica)) } else { NO_HOLD };
            verdicts.push(match record {
                _ if !is_ours(row) => Verdict::Foreign,
                _ if !ended => Verdict::Counts,
                Some(record) if self.is_used(row, record) => {
                    in_vain.remove(&row.key);
                    Verdict::Counts
                }
                _ if known => Verdict::Ended,
                Some(_) if self.is_early(from, now) => Verdict::Counts,
                Some(_) => {
                    debug!(peer = ?from, "a use of a blob that no record has is not taken over");
                    self.refused.insert(row.of(), now);
                    Verdict::Refused
                }
                None => Verdict::Refused,
            });
        }
        self.note_vain(from, now, in_vain.len());
        Ok(verdicts)
    }

    /// How many records may be read for a member now.
    fn reads_left(&self, from: &NodeId, now: Instant) -> usize {
        let early = self.early.lock();
        let until = early.get(from).map_or(now, |early| early.vain_until.max(now));
        let left = VAIN_AT_ONCE.saturating_sub(until - now).as_millis() / VAIN_EVERY.as_millis();
        usize::try_from(left).unwrap_or(usize::MAX)
    }

    /// Notes that so many records were read for a member that have none of the uses it told of.
    fn note_vain(&self, from: &NodeId, now: Instant, reads: usize) {
        if reads > 0 {
            let mut early = self.early.lock();
            let early = early.entry(*from).or_insert_with(|| Early::at(now));
            let reads = u32::try_from(reads).unwrap_or(u32::MAX);
            early.vain_until = early.vain_until.max(now) + VAIN_EVERY.saturating_mul(reads);
        }
    }

    /// Whether a version of the record uses so many blobs that this may be one of them.
    fn is_used(&self, row: &RefRow, record: &Record) -> bool {
        let Some(blobs) = record.blobs_of(&row.vid) else { return false };
        let of = (row.key, row.vid);
        let taken = self.taken.get(&of).unwrap_or_default().saturating_add(1);
        self.taken.insert(of, taken);
        taken <= blobs.saturating_mul(TAKEN_PART).saturating_add(TAKEN_MIN)
    }

    fn was_refused(&self, row: &RefRow, now: Instant) -> bool {
        let at = self.refused.get(&row.of());
        at.is_some_and(|at| now.saturating_duration_since(at) < REFUSED_FOR)
    }

    /// Whether one more row of this member may come that no record names.
    fn is_early(&self, from: &NodeId, now: Instant) -> bool {
        let mut early = self.early.lock();
        early.retain(|_, early| now.saturating_duration_since(early.since) < EARLY_FOR);
        let early = early.entry(*from).or_insert_with(|| Early::at(now));
        early.rows += 1;
        early.rows <= EARLY_MAX
    }

    /// Those of the records that can be read now.
    async fn read(&self, keys: Vec<RecordKey>) -> BTreeMap<RecordKey, Record> {
        let mut records = BTreeMap::new();
        for keys in keys.chunks(KEYS_AT_ONCE) {
            match self.records.read_records(keys, Mode::Quorum).await {
                Ok(read) => records.extend(keys.iter().copied().zip(read.records)),
                Err(error) => debug!(%error, "records of uses could not be read"),
            }
        }
        records
    }
}

/// What is to be done with a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is taken over.
    Counts,
    /// Its use has ended here, and nothing says that it goes on.
    Ended,
    /// It is of a vault that the cluster is not for.
    Foreign,
    /// Not now: it has no record, or that cannot be read.
    Refused,
}

const NO_HOLD: Hlc = Hlc(0);
/// Of the blobs that a version uses, rows of storage members that count: twice as many, for rows
/// that have ended come again, and a little more for its pages.
const TAKEN_PART: u32 = 2;
const TAKEN_MIN: u32 = 16;
/// Versions whose rows are counted: about 8 MiB.
const TAKEN_MAX: usize = 65_536;
/// Records read at once.
const KEYS_AT_ONCE: usize = 256;
/// Uses remembered as refused: about 10 MiB.
const REFUSED_MAX: usize = 65_536;
/// How long a refused use is not looked for again: its record may be about to be written.
const REFUSED_FOR: Duration = Duration::from_secs(30);
/// Rows of one member that no record need name in [`EARLY_FOR`]: those of some uploads of a
/// gibibyte that were under way, or were given up, while it alone of two had them.
const EARLY_MAX: usize = 4096;
/// Records read for one member that have none of the uses it told of: so many at once as its rows
/// that no record need name, and four a second from then on. What has its record costs nothing of
/// this, so that an honest member is never slowed down for long.
const VAIN_EVERY: Duration = Duration::from_millis(250);
const VAIN_AT_ONCE: Duration = Duration::from_millis(250 * EARLY_MAX as u64);
/// How long they count against it.
const EARLY_FOR: Duration = Duration::from_secs(24 * 60 * 60);
