//! How fast something goes, measured over its last seconds, and how long the rest will take.

use std::collections::VecDeque;
use std::time::Duration;

/// Counts what was done in each of the last [`SECONDS`] seconds.
#[derive(Debug, Clone, Default)]
pub struct Meter {
    /// Seconds in which something was done, and what; oldest first.
    done: VecDeque<(u64, Work)>,
    /// All that was done, with what is long ago counting less and less.
    all: Work,
    /// The seconds that it took; a long rest is none of them.
    seconds: u64,
    /// When something was done last.
    last: Option<u64>,
}

/// An amount of work, or work a second.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Work {
    /// Pieces.
    pub items: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// What is left of some work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Left {
    /// Bytes, from the size of the pieces done before; `None` while none was done.
    pub bytes: Option<u64>,
    /// How long it will take as fast as until now; `None` while nothing was done lately.
    pub time: Option<Duration>,
}

impl Meter {
    /// Counts a piece. `now` counts from any moment that stays the same.
    pub fn add(&mut self, now: Duration, bytes: u64) {
        let second = now.as_secs();
        let last = self.last;
        self.seconds += last.map_or(1, |last| second.saturating_sub(last).min(SECONDS));
        self.last = Some(second);
        self.forget(second);
        self.all.items += 1;
        self.all.bytes = self.all.bytes.saturating_add(bytes);
        if self.seconds > REMEMBERED && self.all.items > 1 {
            self.seconds /= 2;
            self.all = Work { items: self.all.items / 2, bytes: self.all.bytes / 2 };
        }
        match self.done.back_mut() {
            Some((last, work)) if *last == second => {
                *work = Work { items: work.items + 1, bytes: work.bytes.saturating_add(bytes) };
            }
            _ => self.done.push_back((second, Work { items: 1, bytes })),
        }
    }

    /// What was done in the last seconds.
    pub fn lately(&mut self, now: Duration) -> Work {
        self.forget(now.as_secs());
        self.done.iter().fold(Work::default(), |sum, (_, work)| Work {
            items: sum.items + work.items,
            bytes: sum.bytes.saturating_add(work.bytes),
        })
    }

    /// Bytes a second.
    pub fn bytes_per_second(&mut self, now: Duration) -> u64 {
        self.lately(now).bytes / self.span(now)
    }

    /// What `items` pieces more will take. The last pieces are often small ones: it goes by all
    /// that were done.
    pub fn left(&mut self, now: Duration, items: u64) -> Left {
        let still = self.last.map_or(0, |last| now.as_secs().saturating_sub(last));
        let took = self.seconds.saturating_add(still);
        let time = items.saturating_mul(took).checked_div(self.all.items);
        let goes_on = self.lately(now).items > 0;
        Left {
            bytes: self
                .all
                .bytes
                .checked_div(self.all.items)
                .map(|each| each.saturating_mul(items)),
            time: time.filter(|_| goes_on).map(Duration::from_secs),
        }
    }

    fn forget(&mut self, second: u64) {
        while self.done.front().is_some_and(|(at, _)| at + SECONDS <= second) {
            self.done.pop_front();
        }
    }

    /// Seconds that the counts stand for: fewer than all when it began in between.
    fn span(&self, now: Duration) -> u64 {
        self.done.front().map_or(1, |(first, _)| now.as_secs().saturating_sub(*first) + 1)
    }
}

/// Seconds of work after which what came before counts half.
const REMEMBERED: u64 = 300;
/// Long enough to even out single pieces, short enough to follow what happens.
pub const SECONDS: u64 = 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(done: &[(u64, u64)], now: u64, rate: u64, left: (Option<u64>, Option<u64>)) {
        let mut meter = Meter::default();
        for (second, bytes) in done {
            meter.add(Duration::from_secs(*second), *bytes);
        }
        let now = Duration::from_secs(now);
        assert_eq!(meter.bytes_per_second(now), rate);
        let expected = Left { bytes: left.0, time: left.1.map(Duration::from_secs) };
        assert_eq!(meter.left(now, 100), expected);
    }

    #[test]
    fn the_last_seconds_say_how_long_the_rest_takes() {
        check(&[], 0, 0, (None, None));
        check(&[(5, 1000)], 5, 1000, (Some(100_000), Some(100)));
        check(&[(0, 300), (0, 100), (1, 200)], 1, 300, (Some(20_000), Some(66)));
        // It stands still: the speed falls, and what is old is forgotten.
        check(&[(0, 1000)], 9, 100, (Some(100_000), Some(1000)));
        check(&[(0, 1000)], 10, 0, (Some(100_000), None));
        check(&[(0, 9), (20, 91)], 20, 91, (Some(5000), Some(550)));
        check(&[(0, u64::MAX), (0, u64::MAX)], 0, u64::MAX, (Some(u64::MAX), Some(50)));
    }

    #[test]
    fn the_last_small_pieces_do_not_stand_for_the_rest() {
        let mut meter = Meter::default();
        for second in 0..60 {
            (0..8).for_each(|_| meter.add(Duration::from_secs(second), 1 << 20));
        }
        (60..70).for_each(|second| meter.add(Duration::from_secs(second), 200));
        let left = meter.left(Duration::from_secs(70), 26);
        assert!(left.bytes.is_some_and(|bytes| bytes > 25 << 20), "{left:?}");
        assert!(left.time.is_some_and(|time| time < Duration::from_secs(6)), "{left:?}");
        // What was long ago is forgotten in time.
        (70..9000).for_each(|second| meter.add(Duration::from_secs(second), 200));
        let left = meter.left(Duration::from_secs(9000), 26);
        assert!(left.bytes.is_some_and(|bytes| bytes < 26 * 300), "{left:?}");
    }

    #[test]
    fn it_keeps_no_more_than_its_seconds() {
        let mut meter = Meter::default();
        (0..1000).for_each(|second| meter.add(Duration::from_secs(second), 1));
        assert_eq!(meter.done.len() as u64, SECONDS);
    }
}
