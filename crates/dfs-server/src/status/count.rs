//! How many files there are: counted in the background, never by who asks.

use std::sync::Arc;
use std::time::Duration;

use dfs_core::layout::epoch::EpochState;
use dfs_core::record::version::Kind;
use dfs_core::replica::sync::Table;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tracing::debug;

use crate::config::Mode;
use crate::error::Error;
use crate::names::Names;
use crate::names::open::{count_conflicts, open_entry};
use crate::records::ScanReach;
use crate::replica::Replica;

/// What a count found.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Counted {
    pub(super) files: u64,
    pub(super) bytes: u64,
    /// Names with versions that wait for a decision.
    pub(super) conflicts: u64,
}

/// A count, and what it was a count of.
#[derive(Debug, Clone, Copy)]
struct KnownCount {
    counted: Counted,
    /// Of the records here when it began.
    fingerprint: [u8; 32],
    at: Instant,
}

/// Counts the files of the vault again when they may have changed.
pub(crate) struct Counter {
    replica: Arc<Replica>,
    /// On a node that has a vault's key.
    names: Option<Arc<Names>>,
    known: watch::Sender<Option<KnownCount>>,
    wake: Notify,
}

impl Counter {
    pub(crate) fn new(replica: Arc<Replica>, names: Option<Arc<Names>>) -> Self {
        Self { replica, names, known: watch::Sender::new(None), wake: Notify::new() }
    }

    /// Counts when asked, until shutdown. A count walks the whole tree, so that the next one waits
    /// [`RESTS`] times as long as the last one took.
    pub(crate) async fn run(self: Arc<Self>) {
        let Some(names) = &self.names else { return self.replica.shutdown.cancelled().await };
        loop {
            tokio::select! {
                biased;
                () = self.replica.shutdown.cancelled() => return,
                () = self.wake.notified() => {}
            }
            let began = self.replica.env.mono();
            match self.count(names).await {
                Ok(known) => {
                    self.known.send_replace(Some(known));
                }
                Err(error) => debug!(%error, "files could not be counted"),
            }
            let rest = (self.replica.env.mono() - began) * RESTS;
            tokio::select! {
                biased;
                () = self.replica.shutdown.cancelled() => return,
                () = self.replica.env.sleep(rest.max(REST_MIN)) => {}
            }
        }
    }

    /// The last count. Waits [`WAIT_MAX`] at most for a new one where records have changed since.
    pub(super) async fn counted(&self, state: &EpochState) -> Counted {
        let mut known = self.known.subscribe();
        let last = *known.borrow_and_update();
        if self.names.is_none() || self.is_current(last, state).await {
            return last.map(|last| last.counted).unwrap_or_default();
        }
        self.wake.notify_one();
        let waited = self.replica.env.sleep(WAIT_MAX);
        tokio::select! {
            biased;
            _ = known.changed() => {}
            () = waited => {}
        }
        let newest = *known.borrow();
        newest.map(|newest| newest.counted).unwrap_or_default()
    }

    async fn is_current(&self, last: Option<KnownCount>, state: &EpochState) -> bool {
        let Some(last) = last else { return false };
        let Ok(fingerprint) = self.fingerprint(state).await else { return true };
        // On a node that holds every record the fingerprint says it all.
        let holds_all = self.replica.partitions(state).len() == state.bits.count();
        let age = self.replica.env.mono() - last.at;
        fingerprint == last.fingerprint && (holds_all || age < RECOUNT_AFTER)
    }

    async fn fingerprint(&self, state: &EpochState) -> Result<[u8; 32], Error> {
        let mut hasher = blake3::Hasher::new();
        for root in self.replica.store.roots(Table::Records, state.bits).await? {
            hasher.update(&root.sum);
        }
        Ok(*hasher.finalize().as_bytes())
    }

    async fn count(&self, names: &Names) -> Result<KnownCount, Error> {
        let state = self.replica.joined()?;
        let at = self.replica.env.mono();
        let fingerprint = self.fingerprint(&state).await?;
        let mut counted = Counted::default();
        let keys = &names.keys;
        let mut dirs = vec![keys.root_dir()];
        while let Some(dir) = dirs.pop() {
            let (vault, reach) = (keys.vault, ScanReach::Enough);
            let records = names.records.scan_dir(vault, dir, Mode::Available, reach).await?;
            for (key, record) in records {
                let live = record.winner().filter(|version| version.kind == Kind::Live);
                let Some(version) = live else { continue };
                let entry = open_entry(keys, &key, version)?;
                counted.conflicts += u64::from(count_conflicts(keys, &key, &record)? > 0);
                if let Some(dir) = entry.dir() {
                    dirs.push(dir);
                    continue;
                }
                counted.files += 1;
                counted.bytes = counted.bytes.saturating_add(entry.bytes());
            }
        }
        Ok(KnownCount { counted, fingerprint, at })
    }
}

/// A count takes a tenth of the time at most, however large the tree.
const RESTS: u32 = 9;
/// The least time between two counts: that of a small tree takes milliseconds.
const REST_MIN: Duration = Duration::from_millis(50);
/// How long who asks waits for a count: that of some thousand files is done then.
const WAIT_MAX: Duration = Duration::from_millis(500);
/// How old a count may be on a node that does not hold every record.
const RECOUNT_AFTER: Duration = Duration::from_secs(10);
