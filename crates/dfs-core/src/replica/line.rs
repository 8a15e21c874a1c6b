//! How full the line of a node is: what comes in now, against the most that came in lately.
//!
//! Who waits for content asks a second node only where that can help. While the line carries as
//! much as it can, a second copy takes from it what the first one needs.

use std::time::Duration;

/// One direction of a node's line, as far as it is looked at.
#[derive(Debug, Clone, Default)]
pub struct Line {
    /// The last look, and the bytes that there had ever been.
    last: Option<(Duration, u64)>,
    /// Bytes a second between the last two looks; 0 where they lay too far apart.
    rate: u64,
    /// The highest rate, which fades.
    best: u64,
}

impl Line {
    /// Notes how many bytes there have ever been.
    pub fn note(&mut self, now: Duration, total: u64) {
        let Some((at, before)) = self.last else {
            self.last = Some((now, total));
            return;
        };
        let took = now.saturating_sub(at);
        let millis = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        // Few pieces come in a short time over a slow line: their number says little.
        let expected = (self.best / 1000).saturating_mul(millis);
        if took < LOOKS_APART_MIN || (took < LOOKS_APART && expected < TELLING_BYTES) {
            return;
        }
        self.last = Some((now, total));
        if took > LOOKS_APART_MAX {
            self.rate = 0;
            return;
        }
        let millis = u128::from(millis);
        let rate = u128::from(total.saturating_sub(before)) * 1000 / millis;
        self.rate = u64::try_from(rate).unwrap_or(u64::MAX);
        let faded = u128::from(self.best) * millis / FADES_IN.as_millis();
        let faded = u64::try_from(faded).unwrap_or(u64::MAX);
        self.best = self.best.saturating_sub(faded).max(self.rate);
    }

    /// Whether it carries about as much as it can, as far as this was seen. A trickle fills no
    /// line.
    pub fn is_full(&self) -> bool {
        self.rate >= TRICKLE_BYTES && self.rate >= self.best / 2
    }
}

/// Looks that are closer tell of single pieces.
const LOOKS_APART_MIN: Duration = Duration::from_millis(200);
/// The same on a line that carries less than [`TELLING_BYTES`] in that time.
const LOOKS_APART: Duration = Duration::from_secs(1);
/// Eight pieces of 16 KiB, as which what comes is seen.
const TELLING_BYTES: u64 = 128 * 1024;
/// Between looks that are further apart the line may have been idle.
const LOOKS_APART_MAX: Duration = Duration::from_secs(6);
/// A line that became slower is judged by what it was for about so long.
const FADES_IN: Duration = Duration::from_secs(60);
/// Bytes a second that any line carries which is worth to have: 256 kbit/s.
const TRICKLE_BYTES: u64 = 32 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    const KIB: u64 = 1024;

    /// Looks every second at a line that carries so many bytes a second.
    #[track_caller]
    fn check(rates: &[u64], full: bool) {
        let (mut line, mut at, mut total) = (Line::default(), Duration::from_secs(9), 77);
        line.note(at, total);
        for rate in rates {
            at += LOOKS_APART;
            total += rate;
            line.note(at, total);
        }
        assert_eq!(line.is_full(), full, "{rates:?}");
    }

    #[test]
    fn a_line_is_full_when_it_carries_about_what_it_can() {
        check(&[], false);
        check(&[0], false);
        check(&[600 * KIB], true);
        check(&[600 * KIB, 500 * KIB, 700 * KIB], true);
        check(&[600 * KIB, 200 * KIB], false);
        check(&[600 * KIB, 0], false);
        check(&[KIB, KIB, KIB], false);
        check(&[900_000 * KIB, 600 * KIB], false);
        // It became slower for good.
        check(&[vec![900_000 * KIB], vec![600 * KIB; 2000]].concat(), true);
    }

    #[test]
    fn single_pieces_of_a_slow_line_do_not_make_it_look_idle() {
        // 125 KB a second in pieces of 16 KiB, looked at four times a second.
        let (mut line, mut total) = (Line::default(), 0);
        for quarter in 0..100u32 {
            total += if quarter % 2 == 0 { 16 * KIB } else { 46 * KIB };
            line.note(Duration::from_millis(250) * quarter, total);
            assert_eq!(line.is_full(), quarter >= 4, "{quarter}");
        }
        // A fast one that stands still is seen to at once.
        let mut line = Line::default();
        for quarter in 0..10u32 {
            line.note(Duration::from_millis(250) * quarter, u64::from(quarter) * 50_000 * KIB);
        }
        assert!(line.is_full());
        line.note(Duration::from_millis(2500), 450_000 * KIB);
        assert!(!line.is_full());
    }

    #[test]
    fn looks_too_close_or_too_far_apart_tell_nothing() {
        let s = Duration::from_secs;
        let mut line = Line::default();
        line.note(s(1), 0);
        line.note(s(1) + LOOKS_APART_MIN / 2, 900 * KIB);
        assert!(!line.is_full());
        line.note(s(2), 900 * KIB);
        assert!(line.is_full());
        line.note(s(60), 90_000_000 * KIB);
        assert!(!line.is_full());
        // A count that goes back is no rate.
        line.note(s(61), 5);
        assert!(!line.is_full());
    }
}
