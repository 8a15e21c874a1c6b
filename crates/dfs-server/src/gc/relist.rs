//! The other direction of the audit: blobs that a version needs, and no reference row says so.
//!
//! Rows are noted before the version that uses them, and compared between replicas, so none should
//! ever be missing. Where one is, all replicas lost it, and they would throw the blob away: it is
//! noted anew, and a blob that is gone already is found to be missing.

use std::collections::BTreeMap;
use std::sync::Arc;

use dfs_core::id::{BlobId, Partition, RecordKey, Vid};
use dfs_core::layout::epoch::Stage;
use dfs_core::record::version::Record;
use dfs_core::replica::sync::Table;
use tracing::debug;

use super::evidence::Evidence;
use crate::blobs::{Blobs, note_uses};
use crate::config::Grace;
use crate::error::Error;
use crate::replica::rows::RowWalk;
use crate::replica::{Replica, millis};

/// Which partitions are looked at in which round, so that each is once in `claim_every`.
#[derive(Debug)]
struct Turns {
    rounds: u64,
    next: u64,
}

impl Turns {
    /// Goes on about where an earlier start of the node was.
    fn new(grace: &Grace, wall_ms: u64) -> Self {
        let every = millis(grace.audit_every).max(1);
        // An odd number: a node that runs at the same hours of each day has all turns too.
        Self { rounds: (millis(grace.claim_every) / every) | 1, next: wall_ms / every }
    }

    fn has(&self, partition: Partition) -> bool {
        u64::from(partition) % self.rounds == self.next % self.rounds
    }

    fn end_round(&mut self) {
        self.next = self.next.wrapping_add(1);
    }
}

/// Notes uses anew.
pub(super) struct Relist {
    replica: Arc<Replica>,
    blobs: Arc<Blobs>,
    evidence: Arc<Evidence>,
    turns: Turns,
}

impl Relist {
    pub(super) fn new(replica: Arc<Replica>, blobs: Arc<Blobs>, evidence: Arc<Evidence>) -> Self {
        let turns = Turns::new(&replica.grace, replica.unix_ms());
        Self { replica, blobs, evidence, turns }
    }

    /// Notes every use that versions have of blobs anew, for the partitions whose turn it is and
    /// that this node asks for. A row that counts stays as it is, one whose use had ended counts
    /// again. Where replicas do not answer the round ends, and they have their turn again in the
    /// next.
    pub(super) async fn relist(&mut self) -> Result<(), Error> {
        let state = self.replica.joined()?;
        let roots = self.replica.store.roots(Table::Records, state.bits).await?;
        for partition in self.replica.partitions(&state) {
            let is_empty = roots.get(usize::from(partition)).is_none_or(|root| root.count == 0);
            let waits = state.row(partition).stage != Stage::Stable;
            if is_empty
                || waits
                || !self.turns.has(partition)
                || !self.evidence.asks_for(partition, &state)
            {
                continue;
            }
            let mut walk = RowWalk::of(partition, state.bits);
            while let Some(page) = walk.next_rested(&self.replica).await? {
                for (key, record) in page {
                    if self.replica.shutdown.is_cancelled() {
                        return Ok(());
                    }
                    self.relist_record(key, &record).await?;
                }
            }
        }
        self.turns.end_round();
        Ok(())
    }

    async fn relist_record(&self, key: RecordKey, record: &Record) -> Result<(), Error> {
        for (vid, root) in with_blobs(record) {
            match note_uses(&self.blobs, key, vid, root).await {
                // What lists the others is gone itself; that is known now.
                Err(error @ (Error::Lost(_) | Error::Unverified(_))) => {
                    debug!(?key, %vid, %error, "the uses of a version could not be noted anew");
                }
                other => other?,
            }
        }
        Ok(())
    }
}

/// The versions of a record that blobs are referenced under, and their top reference pages.
fn with_blobs(record: &Record) -> BTreeMap<Vid, BlobId> {
    let heads = record.heads().map(|head| (head.vid, head.refs_root));
    let retained = record.heads().flat_map(|head| &head.retained);
    let all = heads.chain(retained.map(|old| (old.vid, old.refs_root)));
    all.filter_map(|(vid, root)| Some((vid, root?))).collect()
}
