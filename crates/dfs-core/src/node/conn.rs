//! Which connection to a peer stays, and when to dial again.

use std::cmp::Ordering;
use std::time::Duration;

use crate::id::NodeId;

/// What both ends know about a connection once the greetings are exchanged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConnFacts {
    /// The node that dialled.
    pub dialler: NodeId,
    /// The boot of the peer: its counter and random bits.
    pub peer_incarnation: u64,
    /// How many dials the dialler had begun before this one.
    pub dial: u64,
}

/// Whether `new` takes the place of `old`, another connection of the same class to the same peer.
///
/// Both ends apply this rule to the same two connections and keep the same one: a connection to a
/// restarted peer replaces one to its former incarnation; of two dialled by both sides the smaller
/// id's stays; of two dialled by one side the later one stays, because that side may have given the
/// earlier one up. Both ends know the number of a dial, so it does not matter which of two dials
/// under way at once arrives first.
pub fn replaces(new: ConnFacts, old: ConnFacts) -> bool {
    if new.peer_incarnation != old.peer_incarnation {
        return true;
    }
    match new.dialler.cmp(&old.dialler) {
        Ordering::Less => true,
        Ordering::Equal => new.dial >= old.dial,
        Ordering::Greater => false,
    }
}

/// Waiting times between attempts: doubling with jitter up to a cap, for ever.
#[derive(Debug, Clone)]
pub struct Backoff {
    failures: u32,
    cap: Duration,
}

impl Backoff {
    /// Starts at [`BACKOFF_FIRST`] and never waits much longer than `cap`.
    pub fn new(cap: Duration) -> Self {
        Self { failures: 0, cap }
    }

    /// Notes a failure and says how long to wait; `random` spreads callers by 30 % both ways.
    pub fn after_failure(&mut self, random: u32) -> Duration {
        let doubled = BACKOFF_FIRST.saturating_mul(1 << self.failures.min(16));
        self.failures = self.failures.saturating_add(1);
        let percent = 70 + random % 61;
        doubled.min(self.cap) * percent / 100
    }

    /// Notes a success: the next wait is the shortest again.
    pub fn reset(&mut self) {
        self.failures = 0;
    }
}

/// The first wait: soon enough that nodes started together meet within a second.
pub const BACKOFF_FIRST: Duration = Duration::from_millis(500);
