//! Capacity: what this node offers, and when it stops taking more: blobs first, then rows.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use dfs_env::{DiskSpace, Env};
use parking_lot::Mutex;
use tokio::time::Instant;

/// What is being stored: data gives way before the records that free it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd)]
pub(crate) enum Purpose {
    /// A blob that could as well be stored elsewhere.
    Blob,
    /// A blob that this node should hold already: repair, and moves.
    Restored,
    /// New records and reference rows.
    Record,
    /// What lets others go, tombstones and promises, and rows that replicas have: without them
    /// nothing could be read or deleted.
    Release,
}

/// What is to be stored.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Need {
    purpose: Purpose,
    bytes: u64,
    /// Whether it takes files of its own.
    in_files: bool,
}

impl Need {
    /// Something for this purpose, of whatever length.
    pub(crate) fn any(purpose: Purpose) -> Self {
        Self { purpose, bytes: 0, in_files: purpose < Purpose::Record }
    }

    /// A blob in a file of its own.
    pub(crate) fn file(purpose: Purpose, bytes: u64) -> Self {
        Self { bytes, ..Self::any(purpose) }
    }

    /// A blob in the index.
    pub(crate) fn packed(purpose: Purpose, bytes: u64) -> Self {
        Self { purpose, bytes, in_files: false }
    }

    /// Its place among what may be refused.
    fn place(self) -> usize {
        2 * self.purpose as usize + usize::from(self.in_files)
    }

    /// Files and directories that storing it may make: its own, and the two that it lies in.
    fn files(self) -> u64 {
        if self.in_files && self.bytes > 0 { FILES_OF_BLOB } else { 0 }
    }
}

/// Why a node takes no new blobs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shortage {
    /// What it offers is used up.
    Offer,
    /// The disk has too few free bytes.
    Bytes,
    /// The disk has room for too few more files (inodes).
    Files,
}

/// Keeps count of what the store takes, and refuses what would not fit.
#[derive(Debug)]
pub(crate) struct Space {
    root: PathBuf,
    /// Bytes of rows when the store was opened: what the index takes of the disk, until they are
    /// counted.
    rows_at_first: AtomicI64,
    rows_grown: Arc<AtomicI64>,
    /// What the user offers; `None` offers a share of what is free.
    wanted: Option<u64>,
    capacity: AtomicU64,
    /// What the cluster lets this node hold.
    cap: AtomicU64,
    /// Bytes of blobs.
    used: AtomicU64,
    seen: Mutex<Seen>,
    /// Held while the file system is asked, so that it is asked once for all who wait.
    asking: Mutex<()>,
    /// For each purpose, with and without files, whether it was refused last: it is admitted again
    /// only with room to spare.
    refusing: [AtomicBool; 8],
}

/// The last look at the disk.
#[derive(Debug, Clone, Copy)]
struct Seen {
    disk: DiskSpace,
    at: Instant,
    /// Bytes admitted since, which that look does not count.
    admitted: u64,
    /// Files as well.
    admitted_files: u64,
}

impl Seen {
    fn new(disk: DiskSpace, at: Instant) -> Self {
        Self { disk, at, admitted: 0, admitted_files: 0 }
    }

    /// The disk with what was admitted since.
    fn left(&self) -> DiskSpace {
        DiskSpace {
            free: self.disk.free.saturating_sub(self.admitted),
            files_free: self.disk.files_free.saturating_sub(self.admitted_files),
            ..self.disk
        }
    }
}

impl Space {
    /// Blocks on the disk. `wanted` of `None` offers [`OFFERED_PERCENT`] of what is free or used
    /// already. `rows` are bytes of rows there are at first, and by how many they grow from then.
    pub(crate) fn new(
        env: &Env,
        root: PathBuf,
        wanted: Option<u64>,
        used: u64,
        rows: (u64, Arc<AtomicI64>),
    ) -> io::Result<Self> {
        let (at, disk) = (env.mono(), env.fs().space(&root)?);
        let space = Self {
            root,
            rows_at_first: AtomicI64::new(rows.0.try_into().unwrap_or(i64::MAX)),
            rows_grown: rows.1,
            wanted,
            capacity: AtomicU64::new(wanted.unwrap_or(0)),
            cap: AtomicU64::new(u64::MAX),
            used: AtomicU64::new(used),
            seen: Mutex::new(Seen::new(disk, at)),
            asking: Mutex::new(()),
            refusing: Default::default(),
        };
        space.follow(disk);
        Ok(space)
    }

    pub(crate) fn capacity(&self) -> u64 {
        self.capacity.load(Ordering::Relaxed).min(self.cap.load(Ordering::Relaxed))
    }

    /// The data directory whose disk it is.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// Offers no more than this from now on.
    pub(crate) fn limit(&self, cap: u64) {
        self.cap.store(cap, Ordering::Relaxed);
    }

    /// Follows the disk where the offer is a share of it: a node that started on a full disk offers
    /// more once there is room. Small changes are ignored, because every change is sent to all
    /// peers.
    fn follow(&self, disk: DiskSpace) {
        if self.wanted.is_some() {
            return;
        }
        let offered = disk.free.saturating_add(self.held()) / 100 * OFFERED_PERCENT;
        let now = self.capacity.load(Ordering::Relaxed);
        if offered.abs_diff(now) > now / FOLLOWED_PART {
            self.capacity.store(offered, Ordering::Relaxed);
        }
    }

    pub(crate) fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    /// Bytes of blobs, and of records and reference rows.
    pub(crate) fn held(&self) -> u64 {
        let rows = self.rows_at_first.load(Ordering::Relaxed).saturating_add(self.rows_grown());
        self.used().saturating_add(rows.try_into().unwrap_or(0))
    }

    /// Bytes by which rows have grown since the store was opened.
    pub(crate) fn rows_grown(&self) -> i64 {
        self.rows_grown.load(Ordering::Relaxed)
    }

    /// Corrects what rows took when the store was opened: they were counted.
    pub(crate) fn set_rows_at_first(&self, bytes: i64) {
        self.rows_at_first.store(bytes, Ordering::Relaxed);
    }

    pub(crate) fn add(&self, len: u64) {
        self.used.fetch_add(len, Ordering::Relaxed);
    }

    pub(crate) fn remove(&self, len: u64) {
        let less = |used: u64| Some(used.saturating_sub(len));
        let _ = self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
    }

    /// Returns whether so much more may be stored; if so, it counts as stored from then on. May
    /// block on the disk, which is asked again once the last look is older than [`LOOK_KEPT`].
    ///
    /// A refusal lasts until there is a margin below the watermark: a node at the edge would
    /// otherwise take one blob and refuse the next, and each change is sent to all peers.
    pub(crate) fn admits(&self, env: &Env, need: Need) -> io::Result<bool> {
        self.look(env)?;
        Ok(self.judge(need))
    }

    /// The same without asking the disk; `None` when it has to be asked.
    pub(crate) fn admits_as_seen(&self, env: &Env, need: Need) -> Option<bool> {
        let age = env.mono().saturating_duration_since(self.seen.lock().at);
        (age < LOOK_KEPT).then(|| self.judge(need))
    }

    fn judge(&self, need: Need) -> bool {
        let mut seen = self.seen.lock();
        let disk = seen.left();
        let refusing = &self.refusing[need.place()];
        let margin = refusing.load(Ordering::Relaxed);
        let short = shortage(self.capacity(), self.held(), disk, need, margin);
        let fits = short.is_none();
        refusing.store(!fits, Ordering::Relaxed);
        if fits {
            seen.admitted = seen.admitted.saturating_add(need.bytes);
            seen.admitted_files = seen.admitted_files.saturating_add(need.files());
        }
        fits
    }

    /// Asks the file system what is free, unless someone else does just now: a disk that does not
    /// answer holds up one who asks, and no more.
    pub(crate) fn look_if_nobody_does(&self, env: &Env) -> io::Result<()> {
        let Some(_asking) = self.asking.try_lock() else { return Ok(()) };
        self.look_now(env)
    }

    /// What there was room for at the last look, and why no new blob is taken, if none is.
    pub(crate) fn seen(&self) -> (DiskSpace, Option<Shortage>) {
        let disk = self.seen.lock().left();
        let need = Need::any(Purpose::Blob);
        let margin = self.refusing[need.place()].load(Ordering::Relaxed);
        let short = shortage(self.capacity(), self.held(), disk, need, margin);
        (disk, short)
    }

    /// Asks the file system what is free, unless that was done just now.
    fn look(&self, env: &Env) -> io::Result<()> {
        let _asking = self.asking.lock();
        let now = env.mono();
        if now.saturating_duration_since(self.seen.lock().at) < LOOK_KEPT {
            return Ok(());
        }
        self.look_now(env)
    }

    fn look_now(&self, env: &Env) -> io::Result<()> {
        let (now, disk) = (env.mono(), env.fs().space(&self.root)?);
        self.follow(disk);
        *self.seen.lock() = Seen::new(disk, now);
        Ok(())
    }
}

/// Bytes up to which an offer of so many takes new blobs.
pub(crate) fn new_blobs_up_to(capacity: u64) -> u64 {
    (capacity / 100).saturating_mul(SOFT_PERCENT)
}

/// What keeps so much more from staying below the watermark of its purpose; with `margin`, well
/// below.
fn shortage(
    capacity: u64,
    used: u64,
    disk: DiskSpace,
    need: Need,
    margin: bool,
) -> Option<Shortage> {
    let (purpose, len) = (need.purpose, need.bytes);
    let (percent, kept_free, kept_files, kept_percent) = match purpose {
        Purpose::Blob => (SOFT_PERCENT, SOFT_FREE_BYTES, SOFT_FREE_FILES, SOFT_FREE_PERCENT),
        Purpose::Restored => (HARD_PERCENT, HARD_FREE_BYTES, HARD_FREE_FILES, HARD_FREE_PERCENT),
        Purpose::Record => (ROWS_PERCENT, LAST_FREE_BYTES, 0, LAST_FREE_PERCENT),
        // Only the disk itself sets them a limit.
        Purpose::Release => (u64::MAX, LAST_FREE_BYTES, 0, LAST_FREE_PERCENT),
    };
    let kept_files = kept_files.min(disk.files_total / 100 * kept_percent);
    let kept_files = if margin { 2 * kept_files } else { kept_files };
    // On a small disk what is kept free shrinks with it, or nothing could ever be stored there.
    let kept_free = kept_free.min(disk.total / 100 * kept_percent);
    let (percent, kept_free) = match margin {
        // The margin of a large offer is no more than what is kept free anyway.
        true => (
            percent.saturating_sub(MARGIN_PERCENT),
            kept_free + kept_free.min(capacity / 100 * MARGIN_PERCENT),
        ),
        false => (percent, kept_free),
    };
    let within_offer = purpose == Purpose::Release
        || used.saturating_add(len) <= (capacity / 100).saturating_mul(percent);
    let has_files = disk.files_total == 0
        || !need.in_files
        || disk.files_free >= kept_files.max(FILES_OF_BLOB) + need.files();
    match () {
        () if disk.free < kept_free.saturating_add(len) => Some(Shortage::Bytes),
        () if !has_files => Some(Shortage::Files),
        () if !within_offer => Some(Shortage::Offer),
        () => None,
    }
}

/// See [`Need::files`].
const FILES_OF_BLOB: u64 = 3;
/// How long a look at the disk is valid: a busy node asks at most a hundred times a second, and
/// other programs write far less than [`LAST_FREE_BYTES`] in that time.
pub(crate) const LOOK_KEPT: Duration = Duration::from_millis(10);
/// What a node offers unless told otherwise.
const OFFERED_PERCENT: u64 = 80;
/// An offer follows the disk once it is off by more than this part of itself.
const FOLLOWED_PART: u64 = 8;
/// The soft watermark: new blobs are refused beyond this share of the offer, so that moves and
/// repair have room.
const SOFT_PERCENT: u64 = 90;
/// The hard watermark: no blob at all beyond this share.
const HARD_PERCENT: u64 = 98;
/// No new name and no new use of a blob beyond this share.
const ROWS_PERCENT: u64 = 100;
/// A refusal ends this far below the watermark, in percent of the offer.
const MARGIN_PERCENT: u64 = 2;
/// Free space on the disk below which no new blob is taken.
const SOFT_FREE_BYTES: u64 = 1 << 30;
/// Free space below which no blob is taken; what is left is for records and tombstones.
const HARD_FREE_BYTES: u64 = 256 << 20;
/// Free space below which nothing is taken: more than the largest commit of the index writes, for
/// an index that meets a full disk in a commit accepts nothing more until it is opened again.
const LAST_FREE_BYTES: u64 = 64 << 20;
/// Files that there can be beyond what is there, below which no new blob is taken, and below which
/// none at all: what is left is for what the node itself writes anew, and for other programs.
const SOFT_FREE_FILES: u64 = 16 * 1024;
const HARD_FREE_FILES: u64 = 4 * 1024;
/// The most of a small disk that each of the three may keep free.
const SOFT_FREE_PERCENT: u64 = 5;
const HARD_FREE_PERCENT: u64 = 3;
const LAST_FREE_PERCENT: u64 = 1;

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    const MIB: u64 = 1 << 20;

    fn empty_disk() -> (dfs_env::MemoryFs, Env) {
        let fs = dfs_env::MemoryFs::default();
        let env = Env::with_disk(1, dfs_env::MemoryNet::default(), fs.clone());
        (fs, env)
    }

    /// What offers 100 GiB on it, and holds so many bytes of blobs.
    fn space_of(env: &Env, used: u64) -> Space {
        Space::new(env, "/".into(), Some(100 * GIB), used, (0, Arc::default())).unwrap()
    }

    fn disk(free: u64) -> DiskSpace {
        DiskSpace { total: 1000 * GIB, free, ..DiskSpace::default() }
    }

    fn fits(
        capacity: u64,
        used: u64,
        disk: DiskSpace,
        purpose: Purpose,
        len: u64,
        margin: bool,
    ) -> bool {
        shortage(capacity, used, disk, Need::file(purpose, len), margin).is_none()
    }

    #[track_caller]
    fn check(used: u64, free: u64, expected: [bool; 4]) {
        let purposes = [Purpose::Blob, Purpose::Restored, Purpose::Record, Purpose::Release];
        let found = purposes.map(|purpose| fits(100 * GIB, used, disk(free), purpose, MIB, false));
        assert_eq!(found, expected, "{used} used, {free} free");
    }

    #[test]
    fn new_blobs_stop_first_then_all_blobs_then_records_then_what_releases_others() {
        check(0, 500 * GIB, [true, true, true, true]);
        check(90 * GIB - MIB, 500 * GIB, [true, true, true, true]);
        check(90 * GIB, 500 * GIB, [false, true, true, true]);
        check(98 * GIB - MIB, 500 * GIB, [false, true, true, true]);
        check(98 * GIB, 500 * GIB, [false, false, true, true]);
        check(100 * GIB - MIB, 500 * GIB, [false, false, true, true]);
        check(100 * GIB, 500 * GIB, [false, false, false, true]);
        check(0, GIB + MIB, [true, true, true, true]);
        check(0, GIB, [false, true, true, true]);
        check(0, 256 * MIB, [false, false, true, true]);
        check(0, 65 * MIB, [false, false, true, true]);
        check(0, 64 * MIB, [false, false, false, false]);
    }

    #[track_caller]
    fn check_again(purpose: Purpose, used: u64, free: u64, expected: bool) {
        assert_eq!(fits(100 * GIB, used, disk(free), purpose, MIB, true), expected);
    }

    #[test]
    fn a_refusal_ends_only_well_below_the_watermark() {
        check_again(Purpose::Blob, 90 * GIB - MIB, 500 * GIB, false);
        check_again(Purpose::Blob, 88 * GIB, 500 * GIB, false);
        check_again(Purpose::Blob, 88 * GIB - MIB, 500 * GIB, true);
        check_again(Purpose::Blob, 0, GIB + MIB, false);
        check_again(Purpose::Blob, 0, 2 * GIB + MIB, true);
        check_again(Purpose::Restored, 96 * GIB, 500 * GIB, false);
        check_again(Purpose::Restored, 96 * GIB - MIB, 500 * GIB, true);
        check_again(Purpose::Record, 98 * GIB, 500 * GIB, false);
        check_again(Purpose::Record, 98 * GIB - MIB, 500 * GIB, true);
        check_again(Purpose::Release, 100 * GIB, 65 * MIB, false);
        check_again(Purpose::Release, 100 * GIB, 129 * MIB, true);
    }

    #[test]
    fn a_node_at_the_edge_does_not_change_its_mind() {
        let (_, env) = empty_disk();
        let space = space_of(&env, 89 * GIB);
        let admits = || space.admits(&env, Need::file(Purpose::Blob, MIB)).unwrap();
        assert!(admits());
        space.add(GIB);
        assert!(!admits());
        space.remove(GIB);
        assert!(!admits(), "one blob less is no reason");
        space.remove(2 * GIB);
        assert!(admits());
        space.add(2 * GIB);
        assert!(admits(), "and then up to the watermark again");
    }

    #[test]
    fn rows_count_as_they_grow_and_once_they_are_counted() {
        let (_, env) = empty_disk();
        let grown = Arc::<AtomicI64>::default();
        let rows = (10 * GIB, grown.clone());
        let space = Space::new(&env, "/".into(), Some(100 * GIB), 85 * GIB, rows).unwrap();
        let admits = |purpose| space.admits(&env, Need::any(purpose)).unwrap();
        assert!(!admits(Purpose::Blob) && admits(Purpose::Record));
        grown.fetch_add(6 << 30, Ordering::Relaxed);
        assert!(!admits(Purpose::Record) && admits(Purpose::Release));
        // The file of the index had room for more rows than there were.
        space.set_rows_at_first(0);
        assert_eq!(space.held(), 91 * GIB);
        assert!(admits(Purpose::Record));
        grown.fetch_sub(4 << 30, Ordering::Relaxed);
        assert!(admits(Purpose::Blob));
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_admitted_counts_until_the_disk_is_asked_again() {
        let (fs, env) = empty_disk();
        fs.set_room(Some(4 * GIB));
        let space = space_of(&env, 0);
        let admits = |len| space.admits(&env, Need::file(Purpose::Blob, len)).unwrap();
        // Another GiB is kept free.
        assert!(admits(2 * GIB));
        assert!(!admits(2 * GIB), "the disk does not have that as well");
        fs.set_room(Some(9 * GIB));
        assert!(!admits(GIB), "it is not asked again at once");
        tokio::time::advance(LOOK_KEPT).await;
        assert!(admits(2 * GIB));
        fs.set_room(Some(0));
        tokio::time::advance(LOOK_KEPT).await;
        assert!(!admits(0));
    }

    #[test]
    fn a_small_disk_can_be_used() {
        let disk = DiskSpace { total: 64 << 20, free: 60 << 20, ..DiskSpace::default() };
        assert!(fits(48 << 20, 0, disk, Purpose::Blob, 1 << 20, false));
        assert!(fits(48 << 20, 0, disk, Purpose::Blob, 1 << 20, true));
    }

    #[test]
    fn a_disk_short_of_files_takes_what_needs_none() {
        let disk = DiskSpace { files_total: 1 << 20, files_free: 0, ..disk(500 * GIB) };
        let short = |need| shortage(100 * GIB, 0, disk, need, false);
        assert_eq!(short(Need::file(Purpose::Blob, MIB)), Some(Shortage::Files));
        assert_eq!(short(Need::file(Purpose::Restored, MIB)), Some(Shortage::Files));
        assert_eq!(short(Need::any(Purpose::Blob)), Some(Shortage::Files));
        assert_eq!(short(Need::packed(Purpose::Blob, MIB)), None);
        assert_eq!(short(Need::any(Purpose::Record)), None);
    }

    #[test]
    fn a_disk_short_of_files_is_full_as_one_short_of_bytes_is() {
        let disk =
            |total, free| DiskSpace { files_total: total, files_free: free, ..disk(500 * GIB) };
        for (total, free, expected) in [
            // Some file systems make them as they are needed.
            (0, 0, [true, true, true]),
            (1 << 20, 16 * 1024 + 3, [true, true, true]),
            (1 << 20, 16 * 1024 + 2, [false, true, true]),
            (1 << 20, 4 * 1024 + 3, [false, true, true]),
            (1 << 20, 4 * 1024 + 2, [false, false, true]),
            (1 << 20, 0, [false, false, true]),
            // A small disk keeps less.
            (2000, 103, [true, true, true]),
            (2000, 102, [false, true, true]),
            (2000, 62, [false, false, true]),
            (10, 5, [false, false, true]),
        ] {
            let purposes = [Purpose::Blob, Purpose::Restored, Purpose::Record];
            let found =
                purposes.map(|purpose| fits(100 * GIB, 0, disk(total, free), purpose, MIB, false));
            assert_eq!(found, expected, "{free} of {total}");
        }
        let short = |disk| shortage(100 * GIB, 0, disk, Need::file(Purpose::Blob, MIB), false);
        assert_eq!(short(disk(2000, 5)), Some(Shortage::Files));
        assert_eq!(short(DiskSpace { free: GIB, ..disk(2000, 5) }), Some(Shortage::Bytes));
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_seen_names_what_is_short_and_follows_the_disk() {
        let (fs, env) = empty_disk();
        let space = space_of(&env, 0);
        let seen = || {
            space.look_if_nobody_does(&env).unwrap();
            space.seen().1
        };
        assert_eq!(seen(), None);
        fs.set_files(1 << 20, 10);
        assert_eq!(seen(), Some(Shortage::Files));
        fs.set_room(Some(MIB));
        assert_eq!(seen(), Some(Shortage::Bytes));
        fs.set_room(None);
        fs.set_files(1 << 20, 1 << 19);
        assert_eq!(seen(), None);
        space.add(95 * GIB);
        assert_eq!(seen(), Some(Shortage::Offer));
    }
}
