//! Reading one's own disk back: when a pass begins, how far it is, and how fast it may read.
//!
//! A pass checks the sums of the index first, then every blob in the order of the disk. The order
//! is the same in each, so two readings of one blob are as far apart as the beginnings of two
//! passes, and the length of one: [`EVERY`] and [`PASS_MAX`] together are the fourteen days that
//! are promised.

use std::time::Duration;

use crate::codec::{Canonical, DecodeError, Reader, Writer};
use crate::hlc::millis;
use crate::id::{BlobId, NodeId};

/// What a node keeps of its scrub across restarts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scrub {
    /// Whether someone asked it to rest.
    pub paused: bool,
    /// When the next pass begins by itself, in milliseconds since 1970.
    pub due_ms: u64,
    /// Passes begun so far; also tells one from another.
    pub passes: u64,
    /// The pass under way.
    pub pass: Option<Pass>,
    /// The last one that came to its end.
    pub last: Option<Ended>,
}

/// A pass under way.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pass {
    /// When it began, in milliseconds since 1970.
    pub began_ms: u64,
    /// Whether someone asked for it: it reads as fast as the disk gives.
    pub hurried: bool,
    /// Whether the sums of the index were checked.
    pub sums_done: bool,
    /// The last blob that was read.
    pub after: Option<BlobId>,
    /// What it found so far.
    pub found: Found,
}

/// What a pass found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Found {
    /// Blobs read that are as they should be.
    pub good: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Blobs whose file is gone, or is not what it should be.
    pub bad: u64,
    /// Blobs that the disk could not read now.
    pub unread: u64,
    /// Sums of the index that were not those of their rows.
    pub sums: u64,
    /// Rows of the index that do not decode.
    pub rows: u64,
}

/// A pass that came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ended {
    /// When, in milliseconds since 1970.
    pub at_ms: u64,
    /// What it found.
    pub found: Found,
}

/// What to do now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ScrubStep {
    /// Nothing, until so much time has passed or someone asks.
    Wait(Duration),
    /// Begin a pass.
    Begin,
    /// Go on with the one under way.
    GoOn,
}

impl Scrub {
    /// A new node's: what it holds was written just now, so the first pass comes some time within
    /// [`EVERY`]. Nodes that begin together do not all read their disks at the same time.
    pub fn of(node: &NodeId, now_ms: u64) -> Self {
        let spread = node.as_bytes().first_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes));
        let due_ms = now_ms.saturating_add(spread % millis(EVERY));
        Self { paused: false, due_ms, passes: 0, pass: None, last: None }
    }

    /// What to do now.
    pub fn step(&self, now_ms: u64) -> ScrubStep {
        if self.paused {
            return ScrubStep::Wait(EVERY);
        }
        if self.pass.is_some() {
            return ScrubStep::GoOn;
        }
        let left = self.due_ms.saturating_sub(now_ms);
        match left {
            0 => ScrubStep::Begin,
            // A clock that was set back must not put it off for ever.
            left if left > millis(EVERY) => ScrubStep::Begin,
            left => ScrubStep::Wait(Duration::from_millis(left)),
        }
    }

    /// Begins a pass, in place of one under way. One that someone asked for also ends a pause.
    pub fn begin(&mut self, now_ms: u64, hurried: bool) {
        self.paused &= !hurried;
        self.passes = self.passes.saturating_add(1);
        self.pass = Some(Pass { began_ms: now_ms, hurried, ..Pass::default() });
    }

    /// Ends the pass of this number, unless another has taken its place.
    pub fn end(&mut self, number: u64, now_ms: u64) {
        if let Some(pass) = self.pass.take_if(|_| number == self.passes) {
            self.last = Some(Ended { at_ms: now_ms, found: pass.found });
            let next = pass.began_ms.saturating_add(millis(EVERY));
            // What could not be read may be readable soon, and should not be called so for a week.
            let soon = now_ms.saturating_add(millis(DAY));
            let next = if pass.found.unread > 0 { next.min(soon) } else { next };
            self.due_ms = next.max(now_ms);
        }
    }

    /// The pass of this number, while it is the one under way, at rest or not.
    pub fn under_way(&mut self, number: u64) -> Option<&mut Pass> {
        self.pass.as_mut().filter(|_| number == self.passes)
    }

    /// Whether the pass of this number may go on.
    pub fn goes_on(&self, number: u64) -> bool {
        !self.paused && self.pass.is_some() && number == self.passes
    }
}

impl Pass {
    /// Bytes a second to read so that the `left` ones are done in time: the longer it was held up,
    /// the faster it goes on. `None` is as fast as the disk gives.
    pub fn rate(&self, left: u64, now_ms: u64) -> Option<u64> {
        if self.hurried {
            return None;
        }
        let gone = Duration::from_millis(now_ms.saturating_sub(self.began_ms));
        let time = PASS_MAX.saturating_sub(gone).max(TIME_MIN);
        Some((left / time.as_secs()).max(RATE_MIN))
    }
}

/// Lets bytes through at a rate: a token bucket that holds one second of it.
#[derive(Debug, Clone, Copy, Default)]
pub struct Pace {
    /// When what was let through so far has been paid for.
    paid: Duration,
}

impl Pace {
    /// How long to wait after `bytes` more at `rate` bytes a second. `now` counts from any moment
    /// that stays the same.
    pub fn take(&mut self, now: Duration, bytes: u64, rate: Option<u64>) -> Duration {
        let Some(rate) = rate else { return Duration::ZERO };
        let nanos = u128::from(bytes) * 1_000_000_000 / u128::from(rate.max(1));
        let cost = Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
        self.paid = self.paid.max(now.saturating_sub(BURST)).saturating_add(cost);
        self.paid.saturating_sub(now)
    }
}

impl Canonical for Scrub {
    fn encode(&self, out: &mut Writer) {
        out.u8(FORMAT);
        out.u8(u8::from(self.paused));
        out.u64(self.due_ms);
        out.u64(self.passes);
        out.u8(u8::from(self.pass.is_some()));
        if let Some(pass) = &self.pass {
            out.u64(pass.began_ms);
            out.u8(u8::from(pass.hurried));
            out.u8(u8::from(pass.sums_done));
            out.u8(u8::from(pass.after.is_some()));
            if let Some(after) = &pass.after {
                after.encode(out);
            }
            pass.found.encode(out);
        }
        out.u8(u8::from(self.last.is_some()));
        if let Some(last) = &self.last {
            out.u64(last.at_ms);
            last.found.encode(out);
        }
    }

    fn decode(input: &mut Reader) -> Result<Self, DecodeError> {
        match input.u8()? {
            FORMAT => {}
            other => return Err(DecodeError::UnknownVersion(other)),
        }
        let (paused, due_ms, passes) = (flag(input)?, input.u64()?, input.u64()?);
        let pass = match flag(input)? {
            false => None,
            true => Some(Pass {
                began_ms: input.u64()?,
                hurried: flag(input)?,
                sums_done: flag(input)?,
                after: if flag(input)? { Some(BlobId::decode(input)?) } else { None },
                found: Found::decode(input)?,
            }),
        };
        let last = match flag(input)? {
            false => None,
            true => Some(Ended { at_ms: input.u64()?, found: Found::decode(input)? }),
        };
        Ok(Self { paused, due_ms, passes, pass, last })
    }
}

impl Canonical for Found {
    fn encode(&self, out: &mut Writer) {
        let Self { good, bytes, bad, unread, sums, rows } = *self;
        [good, bytes, bad, unread, sums, rows].into_iter().for_each(|count| out.u64(count));
    }

    fn decode(input: &mut Reader) -> Result<Self, DecodeError> {
        Ok(Self {
            good: input.u64()?,
            bytes: input.u64()?,
            bad: input.u64()?,
            unread: input.u64()?,
            sums: input.u64()?,
            rows: input.u64()?,
        })
    }
}

fn flag(input: &mut Reader) -> Result<bool, DecodeError> {
    match input.u8()? {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(DecodeError::Invalid("flag")),
    }
}

const FORMAT: u8 = 1;
const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// From the beginning of one pass to that of the next.
pub const EVERY: Duration = DAY.saturating_mul(7);
/// How long a pass may take; the rate is raised so that it does not take longer.
pub const PASS_MAX: Duration = DAY.saturating_mul(7);
/// Bytes a second at least: a tenth of what a hard disk reads, and 1 TiB in 18 hours.
pub const RATE_MIN: u64 = 16 << 20;
/// A pass that is late is spread over this time all the same: the disk has other work too.
const TIME_MIN: Duration = Duration::from_secs(60 * 60);
/// What a pause for the sake of others may be made up for in one go.
const BURST: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_800_000_000_000;
    const WEEK: u64 = 7 * 24 * 60 * 60 * 1000;

    fn fresh() -> Scrub {
        Scrub { due_ms: NOW + WEEK, ..Scrub::of(&NodeId::new([0; 32]), NOW) }
    }

    #[test]
    fn a_step_is_taken_when_it_is_due_and_nobody_asked_for_rest() {
        let under_way = Scrub { pass: Some(Pass::default()), ..fresh() };
        let cases = [
            (fresh(), NOW, ScrubStep::Wait(EVERY)),
            (fresh(), NOW + WEEK - 1, ScrubStep::Wait(Duration::from_millis(1))),
            (fresh(), NOW + WEEK, ScrubStep::Begin),
            (fresh(), NOW + 9 * WEEK, ScrubStep::Begin),
            (fresh(), NOW - 1, ScrubStep::Begin),
            (Scrub { paused: true, ..fresh() }, NOW + WEEK, ScrubStep::Wait(EVERY)),
            (under_way.clone(), NOW, ScrubStep::GoOn),
            (Scrub { paused: true, ..under_way }, NOW, ScrubStep::Wait(EVERY)),
        ];
        for (scrub, now, expected) in cases {
            assert_eq!(scrub.step(now), expected, "{scrub:?} at {now}");
        }
    }

    #[test]
    fn first_passes_are_spread_over_the_first_week() {
        for byte in [0, 1, 0x80, 0xff] {
            let due = Scrub::of(&NodeId::new([byte; 32]), NOW).due_ms;
            assert!((NOW..NOW + WEEK).contains(&due), "{byte}: {due}");
        }
    }

    #[test]
    fn a_pass_that_was_replaced_does_not_end_the_one_that_took_its_place() {
        let mut scrub = fresh();
        scrub.paused = true;
        scrub.begin(NOW, false);
        assert!(scrub.under_way(1).is_some() && !scrub.goes_on(1));
        scrub.begin(NOW, true);
        assert!(scrub.goes_on(2) && !scrub.goes_on(1) && scrub.under_way(1).is_none());
        scrub.end(1, NOW);
        assert!(scrub.pass.is_some());
        scrub.end(2, NOW + WEEK / 2);
        assert_eq!((scrub.due_ms, scrub.pass.clone()), (NOW + WEEK, None));
        scrub.begin(NOW, false);
        scrub.end(3, NOW + 2 * WEEK);
        assert_eq!(scrub.step(NOW + 2 * WEEK), ScrubStep::Begin, "a slow one is followed at once");
        scrub.begin(NOW, false);
        scrub.under_way(4).unwrap().found.unread = 1;
        scrub.end(4, NOW);
        assert_eq!(scrub.due_ms, NOW + WEEK / 7, "one that could not read all is repeated soon");
    }

    #[test]
    fn the_rate_is_raised_when_the_time_would_not_do() {
        let week = PASS_MAX.as_secs();
        let cases = [
            (false, 0, 0, Some(RATE_MIN)),
            (false, RATE_MIN * week, 0, Some(RATE_MIN)),
            (false, 3 * RATE_MIN * week, 0, Some(3 * RATE_MIN)),
            (false, 2 * RATE_MIN * week, WEEK / 2, Some(4 * RATE_MIN)),
            // Late, and with a clock that was set back.
            (false, 3600 * 2 * RATE_MIN, 2 * WEEK, Some(2 * RATE_MIN)),
            (true, u64::MAX, 0, None),
        ];
        for (hurried, left, gone, expected) in cases {
            let pass = Pass { began_ms: NOW, hurried, ..Pass::default() };
            assert_eq!(pass.rate(left, NOW + gone), expected, "{left} left after {gone} ms");
        }
        let pass = Pass { began_ms: NOW, ..Pass::default() };
        assert_eq!(pass.rate(0, 0), Some(RATE_MIN));
    }

    #[test]
    fn bytes_pass_at_the_rate_after_a_burst() {
        let mut pace = Pace::default();
        let start = Duration::from_secs(100);
        // One second may be made up for, then each byte is waited for.
        assert_eq!(pace.take(start, 1000, Some(1000)), Duration::ZERO);
        assert_eq!(pace.take(start, 500, Some(1000)), Duration::from_millis(500));
        assert_eq!(pace.take(start, 500, Some(1000)), Duration::from_secs(1));
        assert_eq!(pace.take(start, u64::MAX, None), Duration::ZERO);
        assert_eq!(pace.take(start + Duration::from_secs(9), 1000, Some(1000)), Duration::ZERO);
    }

    #[test]
    fn it_is_read_back_as_it_was_kept() {
        let found = Found { good: 1, bytes: 2, bad: 3, unread: 4, sums: 5, rows: 6 };
        let after = Some(BlobId::new([7; 32]));
        let pass = Pass { began_ms: 8, hurried: true, sums_done: true, after, found };
        let last = Some(Ended { at_ms: 9, found });
        let full = Scrub { paused: true, pass: Some(pass), last, ..fresh() };
        for scrub in [fresh(), full] {
            let bytes = scrub.to_canonical();
            assert_eq!(Scrub::from_canonical(bytes.clone()), Ok(scrub));
            for cut in 0..bytes.len() {
                assert!(Scrub::from_canonical(bytes[..cut].to_vec()).is_err());
            }
        }
        let newer = Scrub::from_canonical(vec![2]);
        assert_eq!(newer, Err(DecodeError::UnknownVersion(2)));
    }
}
