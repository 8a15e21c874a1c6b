//! Capacity: what this node offers, and when it stops taking more.

use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};

use dfs_env::{DiskSpace, Env};

/// What is being stored: data gives way before the records that free it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    Blob,
    Record,
}

/// Keeps count of the bytes of blobs, and refuses what would not fit.
#[derive(Debug)]
pub(crate) struct Space {
    root: PathBuf,
    /// What the user offers; `None` offers a share of what is free.
    wanted: Option<u64>,
    capacity: AtomicU64,
    used: AtomicU64,
}

impl Space {
    /// `wanted` of `None` offers [`OFFERED_PERCENT`] of what is free or used already.
    pub(crate) fn new(
        env: &Env,
        root: PathBuf,
        wanted: Option<u64>,
        used: u64,
    ) -> io::Result<Self> {
        let disk = env.fs().space(&root)?;
        let (capacity, used) = (AtomicU64::new(wanted.unwrap_or(0)), AtomicU64::new(used));
        let space = Self { root, wanted, capacity, used };
        space.follow(disk);
        Ok(space)
    }

    pub(crate) fn capacity(&self) -> u64 {
        self.capacity.load(Ordering::Relaxed)
    }

    /// Follows the disk where the offer is a share of it: a node that started on a full disk offers
    /// more once there is room. Small changes are let go, for every change is told to all peers.
    fn follow(&self, disk: DiskSpace) {
        if self.wanted.is_some() {
            return;
        }
        let offered = disk.free.saturating_add(self.used()) / 100 * OFFERED_PERCENT;
        let now = self.capacity();
        if offered.abs_diff(now) > now / FOLLOWED_PART {
            self.capacity.store(offered, Ordering::Relaxed);
        }
    }

    pub(crate) fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    pub(crate) fn add(&self, len: u64) {
        self.used.fetch_add(len, Ordering::Relaxed);
    }

    pub(crate) fn remove(&self, len: u64) {
        let less = |used: u64| Some(used.saturating_sub(len));
        let _ = self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
    }

    /// Whether `len` more bytes may be stored. One system call.
    pub(crate) fn admits(&self, env: &Env, purpose: Purpose, len: u64) -> io::Result<bool> {
        let disk = env.fs().space(&self.root)?;
        self.follow(disk);
        Ok(admits(self.capacity(), self.used(), disk, purpose, len))
    }
}

fn admits(capacity: u64, used: u64, disk: DiskSpace, purpose: Purpose, len: u64) -> bool {
    let (percent, reserve) = match purpose {
        Purpose::Blob => (SOFT_PERCENT, SOFT_RESERVE_BYTES),
        Purpose::Record => (HARD_PERCENT, HARD_RESERVE_BYTES),
    };
    // On a small disk the reserve shrinks with it, or nothing could ever be stored there.
    let reserve = reserve.min(disk.total / 100 * RESERVE_PERCENT_MAX);
    let within_offer =
        purpose == Purpose::Record || used.saturating_add(len) <= capacity / 100 * percent;
    within_offer && disk.free >= reserve.saturating_add(len)
}

/// What a node offers unless told otherwise.
const OFFERED_PERCENT: u64 = 80;
/// An offer follows the disk once it is off by more than this part of itself.
const FOLLOWED_PART: u64 = 8;
/// Blobs are refused beyond this share of the offer, so that moves and repair have room.
const SOFT_PERCENT: u64 = 90;
/// Records are always small; they stop only when the disk itself is nearly full.
const HARD_PERCENT: u64 = 98;
/// Free space on the disk below which no blob is taken.
const SOFT_RESERVE_BYTES: u64 = 1 << 30;
/// Free space on the disk below which nothing is taken.
const HARD_RESERVE_BYTES: u64 = 256 << 20;
/// The most of a disk that the reserves may take up.
const RESERVE_PERCENT_MAX: u64 = 5;

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    #[track_caller]
    fn check(used: u64, free: u64, purpose: Purpose, expected: bool) {
        let disk = DiskSpace { total: 1000 * GIB, free };
        assert_eq!(admits(100 * GIB, used, disk, purpose, GIB), expected);
    }

    #[test]
    fn blobs_stop_at_the_offer_and_records_at_the_disk() {
        check(0, 500 * GIB, Purpose::Blob, true);
        check(89 * GIB, 500 * GIB, Purpose::Blob, true);
        check(90 * GIB, 500 * GIB, Purpose::Blob, false);
        check(90 * GIB, 500 * GIB, Purpose::Record, true);
        check(0, GIB, Purpose::Blob, false);
        check(0, GIB, Purpose::Record, false);
        check(0, GIB + HARD_RESERVE_BYTES, Purpose::Record, true);
    }

    #[test]
    fn a_small_disk_can_be_used() {
        let disk = DiskSpace { total: 64 << 20, free: 60 << 20 };
        assert!(admits(48 << 20, 0, disk, Purpose::Blob, 1 << 20));
    }
}
