//! How bytes move on one connection: how many the peer has got, and since when nothing has moved.
//!
//! Pure: times are handed in, as durations since the connection began. Among the bytes that leave,
//! marks are put, pings whose number says how many went before; a mark that comes back tells that
//! the peer has got these. What lies in a buffer on the way is not taken for delivered.

use std::time::Duration;

/// The bytes of one connection.
#[derive(Debug, Default)]
pub(crate) struct Flow {
    now: Duration,
    /// Bytes that were given to the line, of bodies and of what goes before them.
    sent: u64,
    /// How many of them the peer has got.
    got: u64,
    /// When that was known last.
    got_at: Duration,
    /// The mark on its way: what went before it.
    mark: Option<u64>,
    /// When the last one left.
    marked_at: Duration,
    /// When a frame of some size came, or a part of it.
    received_at: Option<Duration>,
    arriving: Burst,
}

/// Bytes that came without a long gap.
#[derive(Debug, Default)]
struct Burst {
    began: Duration,
    bytes: u64,
    /// Bytes a second of the last one that was long enough to tell.
    rate: Option<u64>,
}

impl Flow {
    /// Notes what time it is.
    pub(crate) fn set_time(&mut self, now: Duration) {
        self.now = self.now.max(now);
    }

    pub(crate) fn now(&self) -> Duration {
        self.now
    }

    /// Notes bytes given to the line. Returns where they end.
    pub(crate) fn on_sent(&mut self, bytes: usize) -> u64 {
        self.sent += bytes as u64;
        self.sent
    }

    /// The mark to send now, if one is due. One is on its way at a time; `is_last` says that
    /// nothing follows.
    pub(crate) fn mark_due(&mut self, is_last: bool) -> Option<u64> {
        let unmarked = self.sent - self.got;
        let is_due = if is_last {
            unmarked >= LAST_MARK_BYTES
        } else {
            unmarked >= MARK_BYTES && self.now - self.marked_at >= MARKS_APART
        };
        if self.mark.is_some() || !is_due {
            return None;
        }
        self.mark = Some(self.sent);
        self.marked_at = self.now;
        self.mark
    }

    /// Takes in a mark that came back. Returns whether it is the one on its way.
    pub(crate) fn on_mark(&mut self, nonce: u64) -> bool {
        if nonce == 0 || self.mark != Some(nonce) {
            return false;
        }
        self.mark = None;
        (self.got, self.got_at) = (nonce, self.now);
        true
    }

    /// Notes bytes that came. Small frames do not count: a peer whose disk hangs still gossips.
    pub(crate) fn on_received(&mut self, bytes: usize) {
        if bytes < BULK_BYTES {
            return;
        }
        let gap = self.received_at.map_or(Duration::MAX, |at| self.now - at);
        self.received_at = Some(self.now);
        self.arriving.add(self.now, gap, bytes as u64);
    }

    /// Notes that a frame of which so much is here is not complete yet.
    pub(crate) fn on_partial(&mut self, at: Duration, bytes: usize) {
        if bytes >= BULK_BYTES {
            self.received_at = self.received_at.max(Some(at.min(self.now)));
        }
    }

    /// Bytes that the peer is known to have got.
    pub(crate) fn got(&self) -> u64 {
        self.got
    }

    pub(crate) fn got_at(&self) -> Duration {
        self.got_at
    }

    /// When the last content came; the beginning while none did.
    pub(crate) fn received_at(&self) -> Duration {
        self.received_at.unwrap_or_default()
    }

    /// Whether content came in the last `within`, or, from a slow peer, in the time in which its
    /// next piece may be expected.
    pub(crate) fn has_brought(&self, within: Duration) -> bool {
        let piece = self.arriving.rate.map_or(Duration::ZERO, |rate| {
            Duration::from_millis(EXPECTED_BYTES * 1000 / rate.max(1)).min(EXPECTED_MAX)
        });
        self.received_at.is_some_and(|at| self.now - at <= within.max(piece))
    }

    /// Bytes a second that last came from the peer; `None` while too few did.
    pub(crate) fn arrival_rate(&self) -> Option<u64> {
        self.arriving.rate
    }
}

impl Burst {
    fn add(&mut self, now: Duration, gap: Duration, bytes: u64) {
        if gap > BURST_GAP {
            // Its first frame took a time that nobody knows.
            (self.began, self.bytes) = (now, 0);
            return;
        }
        self.bytes += bytes;
        let took = now - self.began;
        if self.bytes >= RATE_BYTES {
            let nanos = took.as_nanos().max(1);
            let rate = u128::from(self.bytes) * 1_000_000_000 / nanos;
            self.rate = Some(u64::try_from(rate).unwrap_or(u64::MAX));
            if took >= BURST_MAX {
                (self.began, self.bytes) = (now, 0);
            }
        }
    }
}

/// Bytes between two marks at least: at 64 kbit/s one still comes back within a deadline.
const MARK_BYTES: u64 = 64 * 1024;
/// The same where nothing follows; fewer are not worth a mark.
const LAST_MARK_BYTES: u64 = 16 * 1024;
/// Time between two marks at least, so that they cost a fast line nothing.
const MARKS_APART: Duration = Duration::from_millis(20);
/// From this size on a frame carries content, rows or a layout, and is progress.
pub(crate) const BULK_BYTES: usize = 4 * 1024;
/// After such a gap what comes belongs to something else.
const BURST_GAP: Duration = Duration::from_secs(1);
/// Bytes from which on a speed means something.
const RATE_BYTES: u64 = 128 * 1024;
/// From a slow peer the next bytes are expected in the time that it takes for so many: its line may
/// carry some for others in between.
const EXPECTED_BYTES: u64 = 128 * 1024;
/// However slow a peer is, after so long it is silent.
const EXPECTED_MAX: Duration = Duration::from_secs(5);
/// A speed is that of the last seconds.
const BURST_MAX: Duration = Duration::from_secs(4);

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn one_mark_is_on_its_way_and_tells_what_has_arrived() {
        let mut flow = Flow::default();
        flow.on_sent(100);
        assert_eq!(flow.mark_due(true), None, "too little for a mark");
        flow.on_sent(200_000);
        assert_eq!(flow.mark_due(false), None, "too soon");
        flow.set_time(MARKS_APART);
        assert_eq!(flow.mark_due(false), Some(200_100));
        flow.on_sent(900_000);
        flow.set_time(MARKS_APART * 9);
        assert_eq!(flow.mark_due(false), None, "one is on its way");
        for other in [0, 7, 1_100_100] {
            assert!(!flow.on_mark(other), "{other}");
        }
        assert_eq!((flow.got(), flow.got_at()), (0, Duration::ZERO));
        assert!(flow.on_mark(200_100));
        assert!(!flow.on_mark(200_100), "it came back already");
        assert_eq!((flow.got(), flow.got_at()), (200_100, MARKS_APART * 9));
        assert_eq!(flow.mark_due(true), Some(1_100_100));
    }

    #[test]
    fn only_frames_of_some_size_are_progress() {
        let mut flow = Flow::default();
        flow.set_time(MS * 7);
        flow.on_received(BULK_BYTES - 1);
        flow.on_partial(MS * 7, BULK_BYTES - 1);
        assert!(!flow.has_brought(MS * 900));
        assert_eq!(flow.received_at(), Duration::ZERO);
        flow.on_received(BULK_BYTES);
        assert_eq!(flow.received_at(), MS * 7);
        flow.set_time(MS * 90);
        flow.on_partial(MS * 50, BULK_BYTES);
        assert_eq!(flow.received_at(), MS * 50);
        assert!(flow.has_brought(MS * 40) && !flow.has_brought(MS * 39));
        // A clock that goes back changes nothing.
        flow.set_time(MS);
        assert_eq!(flow.now(), MS * 90);
    }

    #[test]
    fn a_speed_is_told_from_what_came_without_a_gap() {
        let mut flow = Flow::default();
        let slice = 64 * 1024;
        let mut at = Duration::from_secs(60);
        for _ in 0..100 {
            flow.set_time(at);
            flow.on_received(slice);
            at += MS * 100;
        }
        let rate = flow.arrival_rate().unwrap();
        assert!((600_000..700_000).contains(&rate), "{rate}");
        // At that speed nobody is silent who sent nothing for a moment.
        flow.set_time(at + MS * 50);
        assert!(flow.has_brought(MS));
        flow.set_time(at + MS * 300);
        assert!(!flow.has_brought(MS));
        // A pause is no slow time.
        at += Duration::from_secs(100);
        for _ in 0..100 {
            flow.set_time(at);
            flow.on_received(slice);
            at += MS;
        }
        let rate = flow.arrival_rate().unwrap();
        assert!(rate > 60_000_000, "{rate}");
    }
}
