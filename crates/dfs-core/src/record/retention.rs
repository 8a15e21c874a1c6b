//! Which earlier versions of a name a new one keeps reachable.
//!
//! The writer decides, when it writes: replicas keep what its version names and never prune by
//! themselves, so they cannot disagree about history.

use std::cmp::Reverse;

use crate::hlc::{EPOCH_UNIX_MS, Hlc};
use crate::id::Vid;
use crate::record::version::RETAINED_MAX;

/// A version that could be kept, as far as the decision needs to know it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Earlier {
    /// The version.
    pub vid: Vid,
    /// Its stamp.
    pub hlc: Hlc,
    /// When another took its place, in milliseconds since 1970, or [`UNKNOWN_MS`]; `None` when the
    /// version that is being written does.
    pub replaced_ms: Option<u64>,
}

/// What to note as the moment at which a version was replaced: `now_ms`, by a clock that others
/// bear out, or [`UNKNOWN_MS`].
///
/// What a wrong clock said would be old too soon. So the count begins when someone who knows the
/// time writes the name: later than the replacement, never before. A clock that shows a time of
/// before 2020 was never set.
pub fn replaced_at(now_ms: Option<u64>) -> u64 {
    now_ms.filter(|ms| is_time(*ms)).unwrap_or(UNKNOWN_MS)
}

/// What a later version notes instead of what was noted before.
pub fn noted_again(replaced_ms: u64, now_ms: Option<u64>) -> u64 {
    if replaced_ms != UNKNOWN_MS && is_time(replaced_ms) {
        return replaced_ms;
    }
    replaced_at(now_ms)
}

fn is_time(ms: u64) -> bool {
    ms >= EPOCH_UNIX_MS
}

/// The versions to keep, newest first: all that are replaced now, conflict losers among them, and
/// of the older ones as many as make [`VERSIONS_KEPT`] and were replaced within `kept_for_ms`, as a
/// rule [`KEPT_FOR_MS`].
///
/// Age counts from the replacement: someone who spoils a file of last year has the same month to
/// notice. Without `now_ms`, which is by a clock that others bear out, nothing is old. Nor is what
/// was replaced before it was made, or at a time that is not known. `O(n log n)`.
pub fn kept(mut earlier: Vec<Earlier>, now_ms: Option<u64>, kept_for_ms: u64) -> Vec<Earlier> {
    earlier.sort_unstable_by_key(|version| Reverse((version.hlc, version.vid)));
    let replaced_now = earlier.iter().filter(|version| version.replaced_ms.is_none()).count();
    let mut older_left = VERSIONS_KEPT.saturating_sub(replaced_now);
    let is_young = |version: &Earlier, ms: u64| {
        let since = ms.max(version.hlc.unix_ms());
        !is_time(ms) || now_ms.is_none_or(|now_ms| since.saturating_add(kept_for_ms) >= now_ms)
    };
    earlier.retain(|version| match version.replaced_ms {
        None => true,
        Some(ms) => {
            let keep = older_left > 0 && is_young(version, ms);
            older_left -= usize::from(keep);
            keep
        }
    });
    // Reached only when more heads than a record may retain lose at once: the oldest go.
    earlier.truncate(RETAINED_MAX);
    earlier
}

/// Stands where it is not known when a version was replaced; to a program of before, a time that
/// has not come.
pub const UNKNOWN_MS: u64 = u64::MAX;
/// Versions kept beside the one shown: a day's work on one document, and a record that stays small.
pub const VERSIONS_KEPT: usize = 10;
/// How long a version is kept after it was replaced, in milliseconds: 30 days, so that a mistake
/// made before a holiday can be undone after it.
pub const KEPT_FOR_MS: u64 = 30 * 24 * 60 * 60 * 1000;
