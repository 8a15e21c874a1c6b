//! Whose wall clock is wrong, by how much, and what a node whose own is must not do.
//!
//! No node can tell by itself. Clocks that lie close together and are more than half of all, this
//! node's own counted, are right; the others are off by their distance to these. With two nodes
//! that differ nobody can tell which of them is.

use std::fmt;
use std::time::Duration;

use crate::hlc::{AHEAD_MAX, BEHIND_MAX, millis};

/// How far a clock is ahead of another, in milliseconds; negative when it is behind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ahead(pub i64);

impl Ahead {
    /// How far one reading is ahead of another, both in milliseconds since 1970.
    pub fn of(reading_ms: u64, other_ms: u64) -> Self {
        let by = i64::try_from(reading_ms.abs_diff(other_ms)).unwrap_or(i64::MAX);
        Self(if reading_ms >= other_ms { by } else { -by })
    }

    /// The other way round.
    #[must_use]
    pub fn reversed(self) -> Self {
        Self(self.0.saturating_neg())
    }

    /// How far this clock is ahead of a third, of which the other is so far ahead.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }

    /// The same with whose clock it is compared to: "5 min ahead of …", "13 h behind …".
    pub fn than(self, whose: impl fmt::Display) -> String {
        let of = if self.0 < 0 { "" } else { " of" };
        format!("{self}{of} {whose}")
    }

    fn is_beyond(self, ahead: Duration, behind: Duration) -> bool {
        let signed = |limit| i64::try_from(millis(limit)).unwrap_or(i64::MAX);
        self.0 > signed(ahead) || self.0 < -signed(behind)
    }
}

impl fmt::Display for Ahead {
    /// As a person says it: the two largest units, and the direction.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.unsigned_abs().saturating_add(500) / 1000;
        let parts = [
            (seconds / 86_400, "day"),
            (seconds / 3600 % 24, "h"),
            (seconds / 60 % 60, "min"),
            (seconds % 60, "s"),
        ];
        let first = parts.iter().position(|(count, _)| *count > 0).unwrap_or(parts.len() - 1);
        let shown = parts.iter().skip(first).take(2).enumerate();
        for (at, (count, unit)) in shown.filter(|(at, (count, _))| *at == 0 || *count > 0) {
            let space = if at == 0 { "" } else { " " };
            let plural = if *unit == "day" && *count != 1 { "s" } else { "" };
            write!(f, "{space}{count} {unit}{plural}")?;
        }
        f.write_str(if self.0 < 0 { " behind" } else { " ahead" })
    }
}

/// What comparing clocks showed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Compared<N> {
    /// How far each peer's clock is ahead of this node's.
    peers: Vec<(N, Ahead)>,
    /// How far the clocks that are right are ahead of this node's, if it can be told.
    right: Option<Ahead>,
}

impl<N> Default for Compared<N> {
    fn default() -> Self {
        Self { peers: Vec::new(), right: Some(Ahead(0)) }
    }
}

/// Why this node must give no stamp to a new version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WrongClock<N> {
    /// Its clock is so far ahead of those that are right.
    Own(Ahead),
    /// Most peers find so, and nobody can tell who is right: this is how far this node's clock is
    /// ahead of the one named.
    Either(N, Ahead),
}

impl<N: Copy + Ord> Compared<N> {
    /// Compares; `peers` says how far the clock of each is ahead of this node's. `O(n log n)`.
    pub fn new(mut peers: Vec<(N, Ahead)>) -> Self {
        peers.sort_unstable_by_key(|(node, _)| *node);
        let mut clocks: Vec<Ahead> = peers.iter().map(|(_, ahead)| *ahead).collect();
        clocks.push(Ahead(0));
        clocks.sort_unstable();
        let group = largest_group(&clocks);
        let is_majority = group.len() * 2 > clocks.len();
        let right = is_majority.then(|| group[(group.len() - 1) / 2]);
        Self { peers, right }
    }

    /// How far each peer's clock is ahead of this node's, in order of ids.
    pub fn peers(&self) -> &[(N, Ahead)] {
        &self.peers
    }

    /// Whether a peer, with this node more than half of those that were asked, bears this node's
    /// clock out. Alone it is neither borne out nor contradicted.
    pub fn is_borne_out(&self) -> bool {
        !self.peers.is_empty() && self.right.is_some()
    }

    /// How far this node's clock is ahead of those that are right; `None` when it cannot be told.
    pub fn own(&self) -> Option<Ahead> {
        self.right.map(Ahead::reversed)
    }

    /// What to add to this node's clock to get the time, as far as it is known to be off.
    pub fn correction(&self) -> Ahead {
        let right = self.right.unwrap_or_default();
        if is_off(right) { right } else { Ahead(0) }
    }

    /// This node's clock, if it is known to be off.
    pub fn own_off(&self) -> Option<Ahead> {
        self.own().filter(|ahead| is_off(*ahead))
    }

    /// Peers whose clocks are known to be off, and how far they are ahead of those that are right.
    pub fn peers_off(&self) -> impl Iterator<Item = (N, Ahead)> {
        let own = self.own();
        let off =
            self.peers.iter().filter_map(move |(node, ahead)| Some((*node, ahead.plus(own?))));
        off.filter(|(_, ahead)| is_off(*ahead))
    }

    /// The peer whose clock is furthest from this node's, when clocks differ and it cannot be told
    /// which are right; and how far that is ahead.
    pub fn undecided(&self) -> Option<(N, Ahead)> {
        let off = self.peers.iter().copied().filter(|(_, ahead)| is_off(*ahead));
        let furthest = off.max_by_key(|(_, ahead)| ahead.0.unsigned_abs());
        furthest.filter(|_| self.right.is_none())
    }

    /// Whether a version may get its stamp from this node's clock: replicas whose clocks are right
    /// would refuse it, or it would win against every honest edit.
    ///
    /// # Errors
    /// [`WrongClock`] says how far the clock is off.
    pub fn may_stamp(&self) -> Result<(), WrongClock<N>> {
        let is_refused =
            |own: Ahead| own.is_beyond(AHEAD_MAX - STAMP_MARGIN, BEHIND_MAX - STAMP_MARGIN);
        if let Some(own) = self.own() {
            return if is_refused(own) { Err(WrongClock::Own(own)) } else { Ok(()) };
        }
        let by = |(node, ahead): &(N, Ahead)| (*node, ahead.reversed());
        let mut off: Vec<_> =
            self.peers.iter().map(by).filter(|(_, own)| is_refused(*own)).collect();
        if off.len() * 2 <= self.peers.len() {
            return Ok(());
        }
        off.sort_unstable_by_key(|(_, own)| *own);
        let (node, own) = off[(off.len() - 1) / 2];
        Err(WrongClock::Either(node, own))
    }
}

/// Whether a clock that is so far ahead of the right ones counts as off.
fn is_off(ahead: Ahead) -> bool {
    ahead.is_beyond(OFF_FROM, OFF_FROM)
}

/// Of clocks in order, the most that lie within [`OFF_FROM`]; of as many the closest, then the
/// first.
fn largest_group(clocks: &[Ahead]) -> &[Ahead] {
    let mut best = &clocks[..0];
    let spread = |group: &[Ahead]| match group {
        [first, .., last] => last.0.abs_diff(first.0),
        _ => 0,
    };
    let mut from = 0;
    for to in 1..=clocks.len() {
        while spread(&clocks[from..to]) > millis(OFF_FROM) {
            from += 1;
        }
        let group = &clocks[from..to];
        let is_closer = || group.len() == best.len() && spread(group) < spread(best);
        if group.len() > best.len() || is_closer() {
            best = group;
        }
    }
    best
}

/// A clock that is off by more is called wrong: far more than a network or a busy machine makes of
/// it, far less than what does harm.
pub const OFF_FROM: Duration = Duration::from_secs(2 * 60);
/// A node stops to give out stamps so long before replicas refuse them, which read their own
/// clocks, later.
const STAMP_MARGIN: Duration = Duration::from_secs(30);
