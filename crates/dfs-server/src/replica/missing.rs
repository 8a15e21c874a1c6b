//! The queue of blobs to fetch, shared by the tasks of a node: the decisions of
//! [`dfs_core::replica::missing`] behind a lock.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use dfs_core::id::{BlobId, Partition, PartitionBits};
use dfs_core::meter::{Left, Meter};
use dfs_core::replica::missing::MissingBlobs;
pub(crate) use dfs_core::replica::missing::Outcome;
use dfs_core::replica::urgency::Room;
use dfs_env::{Bug, bug};
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

/// The queue of blobs to fetch.
#[derive(Debug)]
pub(crate) struct Missing {
    queue: Mutex<MissingBlobs>,
    /// What was fetched lately.
    fetched: Mutex<Meter>,
    /// What the `Duration`s of both count from.
    origin: Instant,
    /// Nothing is fetched while this is set.
    paused: AtomicBool,
    pub(crate) wake: Notify,
}

/// What to do next; see [`Missing::take_due`].
pub(crate) struct Due {
    /// Blobs to fetch now, most urgent first.
    pub(crate) ids: Vec<BlobId>,
    /// Blobs that wait for a place and whose copies should be counted first.
    pub(crate) uncounted: Vec<BlobId>,
    /// When the next blob is due.
    pub(crate) next: Option<Instant>,
    /// Whether to look through the references for more.
    pub(crate) rescan: bool,
}

impl Missing {
    pub(crate) fn new(now: Instant) -> Self {
        let (queue, fetched) = (Mutex::default(), Mutex::default());
        let paused = AtomicBool::new(false);
        Self { queue, fetched, origin: now, paused, wake: Notify::new() }
    }

    pub(crate) fn pause(&self, paused: bool) {
        self.paused.store(paused, Ordering::Relaxed);
        self.wake.notify_one();
    }

    pub(crate) fn is_paused(&self) -> bool {
        self.paused.load(Ordering::Relaxed)
    }

    /// Notes that a blob of this many bytes was fetched.
    pub(crate) fn fetched(&self, now: Instant, bytes: u64) {
        self.fetched.lock().add(self.since_origin(now), bytes);
    }

    /// Returns the bytes fetched per second lately, and what is left when `pieces` are missing.
    pub(crate) fn outlook(&self, now: Instant, pieces: u64) -> (u64, Left) {
        let now = self.since_origin(now);
        let mut fetched = self.fetched.lock();
        (fetched.bytes_per_second(now), fetched.left(now, pieces))
    }

    /// Returns whether every reference was looked at: see [`MissingBlobs::knows_all`].
    pub(crate) fn knows_all(&self) -> bool {
        self.queue.lock().knows_all()
    }

    /// Adds a missing blob.
    pub(crate) fn want_now(&self, id: BlobId) {
        self.want(id, None);
        self.wake.notify_one();
    }

    /// Adds a blob that is expected to arrive by itself before `at`.
    pub(crate) fn want_later(&self, id: BlobId, at: Instant) {
        self.want(id, Some(at));
    }

    pub(crate) fn want(&self, id: BlobId, at: Option<Instant>) {
        self.queue.lock().want(id, at.map(|at| self.since_origin(at)));
    }

    /// Notes that every reference must be looked at before this node may say that nothing is
    /// missing.
    pub(crate) fn look_again(&self) {
        self.queue.lock().look_again();
        self.wake.notify_one();
    }

    /// Begins a look through the references. Returns the first blob whose references count.
    pub(crate) fn look_begins(&self) -> BlobId {
        self.queue.lock().look_begins()
    }

    /// Adds a missing blob that a look came upon; looks go in the order of ids. Returns whether the
    /// look should go on.
    pub(crate) fn look_found(&self, id: BlobId) -> bool {
        let goes_on = self.queue.lock().look_found(id);
        self.wake.notify_one();
        goes_on
    }

    /// Ends a look that came to the last reference, or that should not go on.
    pub(crate) fn look_ends(&self, now: Instant) {
        self.queue.lock().look_ends(self.since_origin(now));
    }

    /// Returns whether a blob is missing here.
    pub(crate) fn is_wanted(&self, id: &BlobId) -> bool {
        self.queue.lock().is_wanted(id)
    }

    /// Returns whether a blob may be waited for that is being brought.
    pub(crate) fn may_wait(&self, id: &BlobId) -> bool {
        self.queue.lock().may_wait(id)
    }

    /// Removes a blob that has arrived.
    pub(crate) fn found(&self, id: &BlobId) {
        self.queue.lock().found(id);
    }

    /// Makes all blobs due that failed before: a peer came back that may have them.
    pub(crate) fn retry_all(&self) {
        self.queue.lock().retry_all();
        self.wake.notify_one();
    }

    /// Returns how many blobs are missing and not just on their way.
    pub(crate) fn queue_len(&self, now: Instant) -> u64 {
        self.queue.lock().len(self.since_origin(now))
    }

    /// Returns how many blobs of existing files have no good copy: about, if they are very many;
    /// see [`MissingBlobs::lost_len`].
    pub(crate) fn lost_len(&self) -> u64 {
        self.queue.lock().lost_len()
    }

    /// Returns how many blobs only members may have that are away.
    pub(crate) fn away_len(&self) -> u64 {
        self.queue.lock().away_len()
    }

    /// Returns the partitions with missing blobs that can be had, or `None` while not all
    /// references were looked at.
    pub(crate) fn missing_partitions(&self, bits: PartitionBits) -> Option<BTreeSet<Partition>> {
        self.queue.lock().missing_partitions(bits)
    }

    /// Forgets how many copies each blob has: other peers are in reach now.
    pub(crate) fn count_again(&self) {
        self.queue.lock().count_again();
    }

    /// Notes how many copies of these blobs are in reach.
    pub(crate) fn counted(&self, ids: &[BlobId], copies: Vec<usize>) {
        self.queue.lock().counted(ids, copies);
    }

    /// Pops due blobs, most urgent first. Also returns when the next is due and, if `counts`, which
    /// blobs to count.
    pub(crate) fn take_due(
        &self,
        now: Instant,
        room: Room,
        busy: &BTreeSet<BlobId>,
        counts: bool,
    ) -> Due {
        let count_max = if counts { COUNTED_AT_ONCE } else { 0 };
        let due = self.queue.lock().take_due(self.since_origin(now), room, busy, count_max);
        let next = due.next.map(|next| self.origin + next);
        Due { ids: due.ids, uncounted: due.uncounted, next, rescan: due.rescan }
    }

    /// Notes the result of an attempt.
    pub(crate) fn settle(&self, now: Instant, id: BlobId, outcome: &Outcome) {
        let mut queue = self.queue.lock();
        queue.settle(self.since_origin(now), id, *outcome);
        if bug(Bug::RepairGivesUp) {
            queue.found(&id);
        }
    }

    fn since_origin(&self, at: Instant) -> Duration {
        at.saturating_duration_since(self.origin)
    }
}

/// Blobs whose copies are counted at once: one question to each replica.
const COUNTED_AT_ONCE: usize = dfs_p2p::KEYS_MAX;
