//! Hybrid logical clock: stamps that follow the wall clock and still always rise.
//!
//! A stamp is 48 bits of milliseconds since 2020-01-01 UTC, then a 16-bit counter. Source of the
//! idea: Kulkarni et al., "Logical Physical Clocks" (2014).

use std::time::Duration;

/// A stamp. Larger is later, for one clock; between clocks only as far as they agree.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Hlc(pub u64);

impl Hlc {
    /// The stamp of a wall clock reading, with counter zero.
    pub fn from_unix_ms(unix_ms: u64) -> Self {
        Self(unix_ms.saturating_sub(EPOCH_UNIX_MS) << COUNTER_BITS)
    }

    /// The wall clock reading inside the stamp, in milliseconds since 1970.
    pub fn unix_ms(self) -> u64 {
        (self.0 >> COUNTER_BITS) + EPOCH_UNIX_MS
    }

    /// The next larger stamp.
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }

    /// Whether a version that a client makes now may carry this stamp.
    pub fn is_plausible(self, now_unix_ms: u64) -> bool {
        !self.is_ahead(now_unix_ms) && !self.is_behind(now_unix_ms)
    }

    /// Whether it is further ahead of the clock than a fresh stamp may be.
    pub fn is_ahead(self, now_unix_ms: u64) -> bool {
        // No stamp is of before 2020: clocks that agree on an earlier year give out the first ones.
        let now_unix_ms = now_unix_ms.max(EPOCH_UNIX_MS);
        self.unix_ms() > now_unix_ms.saturating_add(millis(AHEAD_MAX))
    }

    /// Whether it is further behind the clock than a fresh stamp may be.
    pub fn is_behind(self, now_unix_ms: u64) -> bool {
        self.unix_ms() < now_unix_ms.saturating_sub(millis(BEHIND_MAX))
    }
}

/// One process's clock. Its stamps strictly rise, also when the wall clock is set back.
#[derive(Debug, Default)]
pub struct Clock {
    last: Hlc,
}

impl Clock {
    /// Starts above `ceiling`, the highest stamp an earlier process may have given out.
    pub fn starting_after(ceiling: Hlc) -> Self {
        Self { last: ceiling }
    }

    /// The next stamp.
    pub fn tick(&mut self, now_unix_ms: u64) -> Hlc {
        self.last = Hlc::from_unix_ms(now_unix_ms).max(self.last.next());
        self.last
    }
}

pub(crate) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

const COUNTER_BITS: u32 = 16;
/// 2020-01-01T00:00:00Z: no clock that was ever set shows an earlier time.
pub const EPOCH_UNIX_MS: u64 = 1_577_836_800_000;
/// How far a writer's clock may run ahead: a stamp beyond it would win against every honest edit
/// until the clocks catch up.
pub const AHEAD_MAX: Duration = Duration::from_secs(5 * 60);
/// How old a fresh write's stamp may be: half a day covers a laptop that slept.
pub const BEHIND_MAX: Duration = Duration::from_secs(12 * 60 * 60);
