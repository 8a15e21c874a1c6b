//! Directories in order, as this node last knew them: a listing costs what has changed, and what it
//! shows.
//!
//! In memory, bounded, and never a source of truth: before anything is shown, a quorum says what
//! has changed since. Why that shows every acknowledged write: [`dfs_core::replica::dir_view`].

use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use dfs_core::id::{DirId, NodeId};
use dfs_core::layout::epoch::EpochState;
use dfs_core::replica::dir_view::DirView;
use dfs_core::replica::listing::{ListedName, Listing, Totals};
use dfs_core::replica::listing_log::{ListingLog, ListingMark, NameChange};
use dfs_store::vault::keys::VaultKeys;
use parking_lot::Mutex;
use quick_cache::Weighter;
use quick_cache::unsync::Cache;
use tokio::time::Instant;

use crate::config::Mode;
use crate::error::Error;
use crate::records::Records;
use crate::replica::Replica;
use crate::rpc::StepError;

/// The directories that this node knows, of as many names as fit.
pub(crate) struct Listings {
    pub(super) replica: Arc<Replica>,
    pub(super) records: Arc<Records>,
    pub(super) keys: Arc<VaultKeys>,
    known: Mutex<Cache<DirId, Known, ByNames>>,
    /// Numbers what is asked, and each look at replicas.
    order: AtomicU64,
}

/// A directory, and what it weighed last.
#[derive(Clone, Default)]
struct Known {
    viewed: Slot,
    names: usize,
}

type Slot = Arc<tokio::sync::Mutex<Viewed>>;

/// One directory.
#[derive(Default)]
struct Viewed {
    view: DirView<NodeId>,
    last: Option<Look>,
    /// When it was last asked for what has changed: that is noted for a while after.
    watched: Option<Instant>,
}

/// What has changed in a directory.
pub(crate) struct DirChanged {
    /// Where the log of it stands.
    pub(crate) mark: ListingMark,
    /// Each change, in their order; `None` where that is not known.
    pub(crate) names: Option<Vec<NameChange>>,
}

/// A look at the replicas of a directory.
#[derive(Debug, Clone, Copy)]
struct Look {
    /// When it began, in the order of [`Listings::order`].
    began: u64,
    by_quorum: bool,
    guarded: bool,
}

/// What is shown of a directory.
#[derive(Debug, Clone)]
pub(crate) struct Shown<T> {
    pub(crate) what: T,
    /// Whether the gateways among the replicas would have told of what others hid.
    pub(crate) guarded: bool,
}

#[derive(Clone)]
struct ByNames;

impl Weighter<DirId, Known> for ByNames {
    fn weight(&self, _: &DirId, known: &Known) -> u64 {
        (known.names + EMPTY_DIR_NAMES) as u64
    }
}

impl Listings {
    pub(super) fn new(records: Arc<Records>, keys: Arc<VaultKeys>) -> Self {
        let known = Cache::with_weighter(DIRS_EXPECTED, NAMES_MAX, ByNames);
        let (known, order) = (Mutex::new(known), AtomicU64::new(0));
        Self { replica: records.rpc().replica.clone(), records, keys, known, order }
    }

    fn slot(&self, dir: DirId) -> Slot {
        let mut all = self.known.lock();
        if let Some(known) = all.get(&dir) {
            return known.viewed.clone();
        }
        let known = Known::default();
        all.insert(dir, known.clone());
        known.viewed
    }

    /// Weighs a directory again: others make room for it.
    fn weigh(&self, dir: DirId, viewed: &Slot, names: usize) {
        let mut all = self.known.lock();
        if all.get(&dir).is_none_or(|known| known.names != names) {
            all.insert(dir, Known { viewed: viewed.clone(), names });
        }
    }

    fn next(&self) -> u64 {
        self.order.fetch_add(1, Ordering::Relaxed)
    }

    /// A part of a directory, in order: at most `limit` names from `from` on that begin with
    /// `prefix`, and whether more follow. One round trip where nothing has changed.
    pub(crate) async fn page(
        &self,
        dir: DirId,
        from: Bound<&str>,
        prefix: &str,
        limit: usize,
        mode: Mode,
    ) -> Result<Shown<(Vec<ListedName>, bool)>, Error> {
        self.list(dir, mode, |viewed| viewed.listing().page(from, prefix, limit)).await
    }

    /// The directories in one, in order, as [`Listings::page`], and what all its names add up to.
    pub(crate) async fn dirs_page(
        &self,
        dir: DirId,
        from: Bound<&str>,
        limit: usize,
        mode: Mode,
    ) -> Result<Shown<(Totals, (Vec<ListedName>, bool))>, Error> {
        let show = |viewed: &mut Viewed| {
            (viewed.listing().totals(), viewed.listing().dirs_page(from, limit))
        };
        self.list(dir, mode, show).await
    }

    /// What a directory adds up to, and the directories in it.
    pub(crate) async fn summary(
        &self,
        dir: DirId,
        mode: Mode,
    ) -> Result<(Totals, Vec<DirId>), Error> {
        let show =
            |viewed: &mut Viewed| (viewed.listing().totals(), viewed.listing().dirs().collect());
        Ok(self.list(dir, mode, show).await?.what)
    }

    /// What has changed in a directory since a mark. What changes is noted for a minute, so that
    /// whoever asks again by then is told of it. One round trip, and many who ask at once share it.
    pub(crate) async fn changes(
        &self,
        dir: DirId,
        since: Option<ListingMark>,
        mode: Mode,
    ) -> Result<DirChanged, Error> {
        let (fresh, now) = (self.replica.env.random_u64(), self.replica.env.mono());
        let show = |viewed: &mut Viewed| viewed.changes(since, fresh, now);
        Ok(self.list(dir, mode, show).await?.what)
    }

    /// Shows a directory as a quorum knows it. Whoever asks while others wait shares what the next
    /// look finds, so that many at once cost two looks.
    async fn list<T>(
        &self,
        dir: DirId,
        mode: Mode,
        show: impl Fn(&mut Viewed) -> T,
    ) -> Result<Shown<T>, Error> {
        let (asked, slot) = (self.next(), self.slot(dir));
        let attempt = |state| self.list_attempt(dir, &slot, asked, mode, &show, state);
        self.records.rpc().with_layout(attempt).await
    }

    async fn list_attempt<T>(
        &self,
        dir: DirId,
        slot: &Slot,
        asked: u64,
        mode: Mode,
        show: &impl Fn(&mut Viewed) -> T,
        state: Arc<EpochState>,
    ) -> Result<Shown<T>, StepError> {
        let by_quorum = self.replica.is_quorum(mode, &state);
        let mut viewed = slot.lock().await;
        let newest = viewed.last.filter(|look| look.began > asked && look.by_quorum >= by_quorum);
        let look = match newest {
            Some(look) => look,
            None => {
                let began = self.next();
                let guarded = self.refresh(&mut viewed.view, dir, mode, &state).await?;
                Look { began, by_quorum, guarded }
            }
        };
        viewed.last = Some(look);
        viewed.stop_unwatched(self.replica.env.mono());
        self.weigh(dir, slot, viewed.listing().len());
        Ok(Shown { what: show(&mut viewed), guarded: look.guarded })
    }
}

impl Viewed {
    fn listing(&self) -> &Listing {
        self.view.listing()
    }

    fn changes(&mut self, since: Option<ListingMark>, fresh: u64, now: Instant) -> DirChanged {
        self.watched = Some(now);
        if self.view.log().is_none() {
            self.view.keep_log(Some(ListingLog::new(fresh)));
        }
        let log = self.view.log();
        let mark = log.map_or(ListingMark { log: fresh, at: 0 }, ListingLog::mark);
        let names = log.zip(since).and_then(|(log, since)| log.since(since));
        DirChanged { mark, names: names.map(|names| names.cloned().collect()) }
    }

    /// Notes no changes any more once nobody has asked for them for a while.
    fn stop_unwatched(&mut self, now: Instant) {
        if self.watched.is_none_or(|watched| now > watched + NOTED_FOR) {
            self.view.keep_log(None);
        }
    }
}

/// How long it is noted what changes in a directory that nobody asks for any more: a client whose
/// connection broke is back by then.
const NOTED_FOR: Duration = Duration::from_secs(60);
/// Names kept in memory over all directories: about 128 MiB of ordinary ones.
const NAMES_MAX: u64 = 1_000_000;
/// What a directory costs beside its names, counted in names.
const EMPTY_DIR_NAMES: usize = 8;
/// Directories that a vault is expected to have; more only cost a resize.
const DIRS_EXPECTED: usize = 1_024;
