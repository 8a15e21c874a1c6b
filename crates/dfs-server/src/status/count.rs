//! How many files there are: counted in the background, never by who asks.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use dfs_core::id::DirId;
use dfs_core::layout::epoch::EpochState;
use dfs_core::replica::dir_changes::ChangeMark;
use dfs_core::replica::listing::Totals;
use futures_util::{StreamExt, TryStreamExt, stream};
use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tracing::debug;

use crate::config::Mode;
use crate::error::Error;
use crate::names::Names;
use crate::replica::Replica;

/// A count, and what it was a count of.
#[derive(Debug, Clone, Copy)]
struct KnownCount {
    counted: Totals,
    /// Where this node's log of changes stood when it began.
    mark: ChangeMark,
    at: Instant,
}

/// What each directory of the tree adds up to, and the directories in it.
type Tree = BTreeMap<DirId, (Totals, Vec<DirId>)>;

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

    /// Counts when asked, until shutdown: what has changed where this node holds every record, and
    /// all directories elsewhere. The next count waits [`RESTS`] times as long as the last one
    /// took, or [`REST_MAX`].
    pub(crate) async fn run(self: Arc<Self>) {
        let Some(names) = &self.names else { return self.replica.shutdown.cancelled().await };
        let mut tree = Tree::new();
        loop {
            tokio::select! {
                biased;
                () = self.replica.shutdown.cancelled() => return,
                () = self.wake.notified() => {}
            }
            let began = self.replica.env.mono();
            match self.count(names, &mut tree).await {
                Ok(known) => {
                    self.known.send_replace(Some(known));
                }
                Err(error) => debug!(%error, "files could not be counted"),
            }
            let rest = ((self.replica.env.mono() - began) * RESTS).min(REST_MAX);
            tokio::select! {
                biased;
                () = self.replica.shutdown.cancelled() => return,
                () = self.replica.env.sleep(rest.max(REST_MIN)) => {}
            }
        }
    }

    /// The last count. Waits [`WAIT_MAX`] at most for a new one where names have changed since.
    pub(super) async fn counted(&self, state: &EpochState) -> Totals {
        let mut known = self.known.subscribe();
        let last = *known.borrow_and_update();
        if self.names.is_none() || self.is_current(last, state) {
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

    fn is_current(&self, last: Option<KnownCount>, state: &EpochState) -> bool {
        let Some(last) = last else { return false };
        let changed = self.replica.store.changed_dirs(last.mark);
        let age = self.replica.env.mono() - last.at;
        let is_unchanged = changed.is_some_and(|changed| changed.is_empty());
        is_unchanged && (self.holds_all(state) || age < RECOUNT_AFTER)
    }

    fn holds_all(&self, state: &EpochState) -> bool {
        self.replica.partitions(state).len() == state.bits.count()
    }

    async fn count(&self, names: &Arc<Names>, tree: &mut Tree) -> Result<KnownCount, Error> {
        let state = self.replica.joined()?;
        let (at, store) = (self.replica.env.mono(), &self.replica.store);
        let mark = store.change_mark();
        let last = *self.known.borrow();
        let changed = last.and_then(|last| store.changed_dirs(last.mark));
        match changed.filter(|_| self.holds_all(&state)) {
            Some(changed) => changed.iter().for_each(|(_, dir)| {
                tree.remove(dir);
            }),
            None => tree.clear(),
        }
        let mut counted = Totals::default();
        let (mut level, mut seen) = (vec![names.keys.root_dir()], BTreeSet::new());
        while !level.is_empty() {
            level.retain(|dir| seen.insert(*dir));
            let is_unknown = |dir: &DirId| !tree.contains_key(dir);
            let unknown: Vec<_> = level.iter().copied().filter(is_unknown).collect();
            let look = |dir: DirId| async move {
                Ok::<_, Error>((dir, names.listings.summary(dir, Mode::Available).await?))
            };
            let looks = stream::iter(unknown).map(look).buffer_unordered(LOOKS_AT_ONCE);
            let looked: Vec<_> = looks.try_collect().await?;
            tree.extend(looked);
            let found = level.iter().filter_map(|dir| tree.get(dir));
            level = found
                .flat_map(|(totals, dirs)| {
                    counted.join(*totals);
                    dirs.iter().copied()
                })
                .collect();
        }
        tree.retain(|dir, _| seen.contains(dir));
        Ok(KnownCount { counted, mark, at })
    }
}

/// A count takes a tenth of the time, unless directories are so large that they take seconds.
const RESTS: u32 = 9;
/// The least time between two counts: one of a few changed names takes milliseconds.
const REST_MIN: Duration = Duration::from_millis(20);
/// The longest rest: only the first count of a large tree is long, and those after it are not.
const REST_MAX: Duration = Duration::from_secs(1);
/// How long who asks waits for a count: that of some thousand changed names is done then.
const WAIT_MAX: Duration = Duration::from_millis(100);
/// How old a count may be on a node that does not hold every record.
const RECOUNT_AFTER: Duration = Duration::from_secs(10);
/// Directories looked at together.
const LOOKS_AT_ONCE: usize = 8;
