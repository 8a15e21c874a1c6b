//! What the clocks of peers read, measured with pings.
//!
//! A reading is kept against this node's clock that never jumps: when its wall clock does, the next
//! comparison shows it, without another ping.

use std::collections::VecDeque;
use std::future::Future;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::Instant;

/// What the wall clock of a peer read, and when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClockReading {
    /// The reading, in milliseconds since 1970.
    unix_ms: u64,
    /// When, give or take `within`.
    at: Instant,
    /// Half of the round trip in which it was told.
    within: Duration,
}

impl ClockReading {
    /// What the peer's clock reads at this moment, unless it has jumped since it was asked.
    pub fn now(&self, now: Instant) -> u64 {
        let since = now.saturating_duration_since(self.at);
        self.unix_ms.saturating_add(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }

    /// How far the reading may be from the truth.
    pub fn within(&self) -> Duration {
        self.within
    }
}

/// What a peer has told of its clock: nothing, if it is of before clocks were told.
pub type ClockTold = Option<ClockReading>;

/// The pings of one connection, and what they showed.
#[derive(Debug, Default)]
pub(crate) struct Measured {
    asked: Mutex<Asked>,
    /// Nothing before the first answer.
    newest: watch::Sender<Option<ClockTold>>,
}

#[derive(Debug, Default)]
struct Asked {
    last: u64,
    /// Pings without an answer, and when they were sent.
    open: VecDeque<(u64, Instant)>,
}

impl Measured {
    /// The number of the next ping, which is sent now.
    pub(crate) fn ask(&self, now: Instant) -> u64 {
        let mut asked = self.asked.lock();
        asked.last = asked.last.wrapping_add(1) | OF_CLOCKS;
        if asked.open.len() >= OPEN_MAX {
            asked.open.pop_front();
        }
        let nonce = asked.last;
        asked.open.push_back((nonce, now));
        nonce
    }

    /// Takes in an answer. One that was not asked for says nothing; a peer of before clocks were
    /// told answers without a reading.
    pub(crate) fn heard(&self, now: Instant, nonce: u64, unix_ms: u64) {
        let mut asked = self.asked.lock();
        let Some(place) = asked.open.iter().position(|(open, _)| *open == nonce) else { return };
        // Answers come in the order of the questions.
        let Some((_, sent)) = asked.open.drain(..=place).next_back() else { return };
        drop(asked);
        let within = now.saturating_duration_since(sent) / 2;
        let reading = ClockReading { unix_ms, at: sent + within, within };
        self.newest.send_replace(Some((unix_ms > 0).then_some(reading)));
    }

    /// Whether the peer's clock, which it says shows this, has jumped since it was asked. What is
    /// said unasked may have been long on its way, so it is only a reason to ask; and none while an
    /// answer may be near.
    pub(crate) fn has_jumped(&self, now: Instant, unix_ms: u64) -> bool {
        let Some(Some(reading)) = self.told_last().filter(|_| unix_ms > 0) else { return false };
        let asked = self.asked.lock().open.back().map(|(_, sent)| *sent);
        let is_due = asked.is_none_or(|sent| now.saturating_duration_since(sent) >= ASK_APART);
        is_due && reading.now(now).abs_diff(unix_ms) >= JUMP_MIN_MS
    }

    /// What the peer told last, once it has answered.
    pub(crate) fn told_last(&self) -> Option<ClockTold> {
        *self.newest.borrow()
    }

    /// Waits until the peer answers anew.
    pub(crate) fn told(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut newest = self.newest.subscribe();
        async move {
            // A connection that ends tells nothing more, and whoever waits has a limit.
            if newest.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }
}

/// Pings without an answer that are remembered: those of a quarter of a minute, and some that were
/// sent because someone waits.
const OPEN_MAX: usize = 16;

/// In the number of each ping that asks for a clock, and of none that counts bytes on their way.
const OF_CLOCKS: u64 = 1 << 63;
/// Of a clock that moves so much it is asked at once: far below what anything is decided by.
const JUMP_MIN_MS: u64 = 10_000;
/// A peer makes this node ask it no more often than this while it does not answer.
const ASK_APART: Duration = Duration::from_millis(500);

#[cfg(test)]
mod tests {
    use dfs_env::{Env, MemoryNet};

    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn start() -> Instant {
        Env::in_memory(0, MemoryNet::default()).mono()
    }

    #[tokio::test]
    async fn a_clock_is_read_in_the_middle_of_the_round_trip() {
        let (measured, start) = (Measured::default(), start());
        assert_eq!(measured.told_last(), None);
        let nonce = measured.ask(start);
        measured.heard(start + 80 * MS, nonce, 5000);
        let reading = measured.told_last().unwrap().unwrap();
        assert_eq!(reading.within(), 40 * MS);
        assert_eq!(reading.now(start + 140 * MS), 5100);
    }

    #[tokio::test]
    async fn what_was_not_asked_says_nothing() {
        let (measured, start) = (Measured::default(), start());
        let nonce = measured.ask(start);
        measured.heard(start, nonce + 1, 5000);
        assert_eq!(measured.told_last(), None);
        measured.heard(start, nonce, 0);
        assert_eq!(measured.told_last(), Some(None));
        // It was answered, though with nothing.
        measured.heard(start, nonce, 5000);
        assert_eq!(measured.told_last(), Some(None));
    }

    #[tokio::test]
    async fn unanswered_pings_are_forgotten_the_oldest_first() {
        let (measured, start) = (Measured::default(), start());
        let first = measured.ask(start);
        let last = (0..OPEN_MAX).map(|_| measured.ask(start)).last().unwrap();
        measured.heard(start, first, 5000);
        assert_eq!(measured.told_last(), None);
        measured.heard(start, last, 6000);
        assert_eq!(measured.told_last().unwrap().unwrap().now(start), 6000);
    }

    #[tokio::test]
    async fn whoever_waits_hears_of_the_next_reading() {
        let (measured, start) = (Measured::default(), start());
        let nonce = measured.ask(start);
        measured.heard(start, nonce, 5000);
        let told = measured.told();
        let nonce = measured.ask(start);
        measured.heard(start, nonce, 6000);
        told.await;
        assert_eq!(measured.told_last().unwrap().unwrap().now(start), 6000);
    }

    #[tokio::test]
    async fn a_peer_that_says_its_clock_has_jumped_is_asked_so_often() {
        let (measured, start) = (Measured::default(), start());
        assert!(!measured.has_jumped(start, 50_000), "nothing is known yet");
        let nonce = measured.ask(start);
        measured.heard(start, nonce, 1_000);
        assert!(!measured.has_jumped(start, 0) && !measured.has_jumped(start, 9_000));
        assert!(measured.has_jumped(start, 50_000));
        measured.ask(start);
        assert!(!measured.has_jumped(start + ASK_APART / 2, 50_000));
        assert!(measured.has_jumped(start + ASK_APART, 50_000));
    }
}
