//! How fast a transfer goes and how long the rest takes: from the last seconds, so that one that
//! stands still is seen to.

use std::collections::VecDeque;
use std::fmt;
use std::time::{Duration, Instant};

use indicatif::style::ProgressTracker;
use indicatif::{HumanDuration, ProgressState};

use crate::cli::output::size;

/// What was transferred when, in the last seconds.
#[derive(Debug, Clone, Default)]
pub(super) struct Recent {
    seen: VecDeque<(Instant, u64)>,
    /// When it moved last.
    moved: Option<Instant>,
    total: Option<u64>,
}

impl Recent {
    fn note(&mut self, now: Instant, bytes: u64) {
        let before = self.seen.back().map(|(_, bytes)| *bytes);
        if before != Some(bytes) || self.moved.is_none() {
            self.moved = Some(now);
        }
        // The oldest that is kept lies just outside, so that the speed is that of a whole span.
        while self.seen.get(1).is_some_and(|(at, _)| now - *at >= SPAN) {
            self.seen.pop_front();
        }
        match self.seen.back() {
            Some((at, _)) if now - *at < STEP => {}
            _ => self.seen.push_back((now, bytes)),
        }
    }

    fn text(&self, now: Instant, bytes: u64) -> String {
        let still = self.moved.map_or(Duration::ZERO, |moved| now - moved);
        if still >= STILL_MIN {
            return format!("nothing moved for {} s", still.as_secs());
        }
        let Some((first, before)) = self.seen.front() else { return String::new() };
        let millis = u64::try_from((now - *first).as_millis()).unwrap_or(u64::MAX).max(1);
        let rate = (bytes - before).saturating_mul(1000) / millis;
        let left = self.total.and_then(|total| total.saturating_sub(bytes).checked_div(rate));
        match left {
            Some(left) => {
                format!("{}/s {} left", size(rate), HumanDuration(Duration::from_secs(left)))
            }
            None => format!("{}/s", size(rate)),
        }
    }
}

/// A bar's part that is drawn from it.
#[derive(Debug, Clone, Default)]
pub(super) struct Speed {
    recent: Recent,
    shown: String,
}

impl ProgressTracker for Speed {
    fn clone_box(&self) -> Box<dyn ProgressTracker> {
        Box::new(self.clone())
    }

    fn tick(&mut self, state: &ProgressState, now: Instant) {
        self.recent.total = state.len();
        self.recent.note(now, state.pos());
        self.shown = self.recent.text(now, state.pos());
    }

    fn reset(&mut self, _: &ProgressState, _: Instant) {
        *self = Self::default();
    }

    fn write(&self, _: &ProgressState, out: &mut dyn fmt::Write) {
        // A terminal that takes nothing shows nothing.
        let _ = out.write_str(&self.shown);
    }
}

/// How often a bar is drawn when nothing moves.
pub(super) const DRAWN_EVERY: Duration = Duration::from_millis(500);
/// The speed shown is that of so long.
const SPAN: Duration = Duration::from_secs(5);
/// Between what is remembered.
const STEP: Duration = Duration::from_millis(200);
/// From then on it is said that nothing moves.
const STILL_MIN: Duration = Duration::from_secs(3);

#[cfg(test)]
mod tests {
    use super::*;

    /// What is shown after so many MiB at so many milliseconds each.
    #[track_caller]
    fn check(total: Option<u64>, moved: &[(u64, u64)], expected: &str) {
        const MIB: u64 = 1024 * 1024;
        let began = dfs_env::Env::real().mono().into_std();
        let mut recent = Recent { total: total.map(|total| total * MIB), ..Recent::default() };
        let mut shown = String::new();
        for (millis, mib) in moved {
            let now = began + Duration::from_millis(*millis);
            recent.note(now, mib * MIB);
            shown = recent.text(now, mib * MIB);
        }
        assert_eq!(shown, expected);
    }

    #[test]
    fn the_speed_is_that_of_the_last_seconds_and_a_stall_is_said() {
        check(None, &[(0, 0), (1000, 10)], "10.0 MiB/s");
        check(Some(110), &[(0, 0), (1000, 10)], "10.0 MiB/s 10 seconds left");
        // A thousand fast seconds count no more after five slow ones.
        let slow: Vec<_> =
            (0..8).map(|second| (1_000_000 + second * 1000, 50_000 + second)).collect();
        check(Some(50_070), &[&[(0, 0)], &slow[..]].concat(), "1.0 MiB/s 63 seconds left");
        check(Some(110), &[(0, 0), (1000, 10), (2000, 10), (9000, 10)], "nothing moved for 8 s");
        check(Some(110), &[(0, 0), (9000, 0)], "nothing moved for 9 s");
        let stalled = [(0, 0), (5000, 0), (9000, 0), (10_000, 5)];
        check(Some(110), &stalled, "1.0 MiB/s 2 minutes left");
    }
}
