//! The blobs that are missing on this disk, and which of them to fetch next.
//!
//! Blobs come from events, and from looks through all references: those that were missed, or for
//! which there was no place, are found again by the next look. A blob that cannot be had takes no
//! place from one that can: both have their own bound. Those beyond are only counted, and found
//! again by a new round of looks when a peer comes back, or after a while.
//!
//! Time is a `Duration` since any moment that stays the same.

use std::collections::BTreeSet;
use std::time::Duration;

use self::looks::Looks;
use self::wants::{Want, WantState, Wants};
use super::urgency::{Room, that_fit};
use crate::id::{BlobId, Partition, PartitionBits};

mod looks;
mod wants;

/// The queue of blobs to fetch.
#[derive(Debug)]
pub struct MissingBlobs {
    limits: Limits,
    wants: Wants,
    looks: Looks,
    /// When the last round of looks came to its end.
    round_ended: Duration,
    /// Blobs that cannot be had, beyond those that are remembered.
    beyond: Beyond,
}

#[derive(Debug, Clone, Copy)]
struct Limits {
    /// Blobs that can be had.
    wanted: usize,
    /// Blobs that a look fills the queue up to, so that events still find places.
    looked: usize,
    /// Blobs that cannot be had.
    out_of_reach: usize,
}

/// Blobs that are not remembered by id.
#[derive(Debug, Default)]
struct Beyond {
    /// Whether there are any, counted or not.
    any: bool,
    /// Whether a peer came back since that may have some of them.
    retry: bool,
    /// Those that the looks of this round came upon: each is counted once.
    missing: u64,
    lost: u64,
    away: u64,
}

/// The result of one attempt to fetch a blob.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The blob is here, or is not needed here.
    Settled,
    /// No replica has it and no file needs it yet: its upload is under way or was never finished.
    Unnamed,
    /// The same, and too old to be still under way.
    Unneeded,
    /// No replica has a good copy, and a file needs it.
    Lost,
    /// A file needs it, and all members that may have it are away.
    Away,
    /// A member that may have it did not answer.
    Later,
    /// A member is bringing it just now.
    Arriving,
    /// This disk has no room for it.
    Full,
}

/// What to do next; see [`MissingBlobs::take_due`].
#[derive(Debug)]
pub struct Due {
    /// Blobs to fetch now, most urgent first.
    pub ids: Vec<BlobId>,
    /// Blobs that wait for a place and whose copies should be counted first.
    pub uncounted: Vec<BlobId>,
    /// When the next blob is due.
    pub next: Option<Duration>,
    /// Whether to look through the references for more.
    pub rescan: bool,
}

impl Default for MissingBlobs {
    fn default() -> Self {
        Self::new(LIMITS)
    }
}

impl MissingBlobs {
    fn new(limits: Limits) -> Self {
        let (wants, looks) = (Wants::default(), Looks::default());
        let (round_ended, beyond) = (Duration::ZERO, Beyond::default());
        Self { limits, wants, looks, round_ended, beyond }
    }

    /// Returns whether every reference was looked at: what is missing is in the queue, but for
    /// blobs that could not be had and are too many to be remembered.
    pub fn knows_all(&self) -> bool {
        self.looks.are_done()
    }

    /// Notes that every reference must be looked at before nothing may be said to be missing.
    pub fn look_again(&mut self) {
        self.looks.start_over();
        self.beyond = Beyond::default();
    }

    /// Begins a look through the references. Returns the first blob whose references count.
    pub fn look_begins(&mut self) -> BlobId {
        self.looks.begin()
    }

    /// Adds a missing blob that a look came upon; looks go in the order of ids. Returns whether the
    /// look should go on: there is no place for more otherwise.
    pub fn look_found(&mut self, id: BlobId) -> bool {
        if self.looks.take(id) {
            let has_place = self.wants.get(&id).is_some_and(Want::can_be_had);
            if has_place || self.wants.can_be_had_len() < self.limits.looked {
                self.add(id, None, self.looks.first_round(id));
            } else {
                self.looks.cut_off(id);
            }
        }
        self.looks.goes_beyond(id)
    }

    /// Ends a look that came to the last reference, or that should not go on.
    pub fn look_ends(&mut self, now: Duration) {
        self.looks.end();
        if self.looks.are_done() {
            self.round_ended = now;
        }
    }

    /// Adds a missing blob. One that is expected to arrive by itself is not fetched before `at`.
    pub fn want(&mut self, id: BlobId, at: Option<Duration>) {
        let is_full = self.wants.can_be_had_len() >= self.limits.wanted;
        if is_full && self.wants.get(&id).is_none() {
            self.looks.cut_off(id);
        } else {
            self.add(id, at, None);
        }
    }

    fn add(&mut self, id: BlobId, at: Option<Duration>, round: Option<u64>) {
        if self.wants.get(&id).is_none() {
            self.wants.insert(id, Want::new(at, round));
        } else {
            self.wants.change(id, |want| {
                want.ask_anew(at);
                want.round = round.or(want.round);
            });
        }
    }

    /// Returns whether a blob is missing, as far as those are remembered that are.
    pub fn is_wanted(&self, id: &BlobId) -> bool {
        self.wants.get(id).is_some()
    }

    /// Returns whether a blob may be waited for that is being brought. A member that brings it for
    /// ever must not keep it from being fetched.
    pub fn may_wait(&self, id: &BlobId) -> bool {
        self.wants.get(id).is_none_or(|want| want.waits < ARRIVALS_MAX)
    }

    /// Removes a blob that has arrived.
    pub fn found(&mut self, id: &BlobId) {
        self.wants.remove(id);
    }

    /// Makes all blobs due that failed before: a peer came back that may have them.
    pub fn retry_all(&mut self) {
        self.beyond.retry = self.beyond.any;
        self.wants.change_all(|want| {
            if want.reach == WantState::Away {
                want.reach = WantState::Perhaps;
            }
            if want.tries > 0 {
                (want.at, want.tries) = (None, 1);
            }
        });
    }

    /// Returns how many blobs are missing and not just on their way; see [`Self::lost_len`] for
    /// what that does not count.
    pub fn len(&mut self, now: Duration) -> u64 {
        self.wants.missing(now) as u64 + self.beyond.missing
    }

    /// Returns how many blobs of existing files have no good copy.
    ///
    /// Of very many, those that are not remembered are counted as the last round of looks came upon
    /// them. There may be more: a round that is under way has not come to all, and those that were
    /// lost since are not counted. What arrived since without being asked for still is.
    pub fn lost_len(&self) -> u64 {
        self.wants.lost_len() as u64 + self.beyond.lost
    }

    /// Returns how many blobs only members may have that are away; counted like the lost ones.
    pub fn away_len(&self) -> u64 {
        self.wants.away_len() as u64 + self.beyond.away
    }

    /// Returns the partitions with missing blobs that can be had, or `None` while not all
    /// references were looked at. A blob that cannot be had does not hold up a move: a member that
    /// is away stays a former holder and is asked once it is back.
    pub fn missing_partitions(&self, bits: PartitionBits) -> Option<BTreeSet<Partition>> {
        self.knows_all().then(|| self.wants.partitions(bits))
    }

    /// Forgets how many copies each blob has: other peers are in reach now.
    pub fn count_again(&mut self) {
        self.wants.change_all(|want| want.copies = None);
    }

    /// Notes how many copies of these blobs are in reach.
    pub fn counted(&mut self, ids: &[BlobId], copies: Vec<usize>) {
        for (id, copies) in ids.iter().zip(copies) {
            self.wants.change(*id, |want| want.copies = Some(copies));
        }
    }

    /// Pops due blobs that fit into `room` and are not `busy`, most urgent first. Also returns when
    /// the next is due and up to `count_max` blobs to count.
    pub fn take_due(
        &mut self,
        now: Duration,
        room: Room,
        busy: &BTreeSet<BlobId>,
        count_max: usize,
    ) -> Due {
        self.wants.ripen(now);
        let waiting = || self.wants.ready().filter(|(_, id)| !busy.contains(id));
        let ids: Vec<_> = that_fit(waiting(), room).collect();
        // Where all find a place their order does not matter.
        let count_max = if waiting().nth(ids.len()).is_some() { count_max } else { 0 };
        let uncounted = self.wants.uncounted().filter(|id| !busy.contains(id));
        let uncounted = uncounted.take(count_max).collect();
        let rescan = self.rescan(now);
        Due { ids, uncounted, next: self.wants.next_due(), rescan }
    }

    /// Returns whether a look should begin. Begins a new round for the sake of blobs that are not
    /// remembered.
    fn rescan(&mut self, now: Duration) -> bool {
        if self.wants.can_be_had_len() >= self.limits.wanted / 2 {
            return false;
        }
        let apart = if self.beyond.retry { ROUNDS_APART } else { RETRY_MAX };
        if self.knows_all() && self.beyond.any && now >= self.round_ended + apart {
            self.look_again();
        }
        !self.knows_all()
    }

    /// Notes the result of an attempt.
    pub fn settle(&mut self, now: Duration, id: BlobId, outcome: Outcome) {
        match outcome {
            Outcome::Arriving => self.wants.change(id, |want| want.is_brought(now + ARRIVING)),
            Outcome::Settled | Outcome::Unneeded => self.found(&id),
            Outcome::Lost | Outcome::Unnamed | Outcome::Away | Outcome::Later | Outcome::Full => {
                // It may have arrived while it was looked for: then it is not here.
                self.wants.change(id, |want| want.failed(now, outcome));
                if self.wants.out_of_reach_len() > self.limits.out_of_reach {
                    self.forget(&id);
                }
            }
        }
    }

    /// Forgets a blob that cannot be had.
    fn forget(&mut self, id: &BlobId) {
        let Some(want) = self.wants.remove(id) else { return };
        self.beyond.any = true;
        // Only once in a round, and not if it may have been counted before.
        if want.round == Some(self.looks.round()) {
            self.beyond.missing += u64::from(want.reach != WantState::Unnamed);
            self.beyond.lost += u64::from(want.is_lost);
            self.beyond.away += u64::from(want.reach == WantState::Away);
        }
    }
}

/// Together 24 MiB of memory at most, 88 GiB of data; a look finds again what is beyond. Those out
/// of reach are less than half of the others: when peers come back, all of them become wanted, and
/// that must not keep a look from beginning.
const LIMITS: Limits = Limits { wanted: 65_536, looked: 57_344, out_of_reach: 24_576 };
/// A blob that follows its reference takes less; one that takes longer is told of as missing.
const ON_ITS_WAY: Duration = Duration::from_secs(1);
/// When to look again for a blob that was just being brought.
const ARRIVING: Duration = Duration::from_secs(2);
/// How often: together a minute, in which a line of 1 Mbit/s brings seven.
const ARRIVALS_MAX: u32 = 30;
/// The first wait after a failed attempt.
const RETRY_FIRST: Duration = Duration::from_secs(2);
/// The longest wait between attempts.
const RETRY_MAX: Duration = Duration::from_secs(64 * 60);
/// The same where only room is missing: nothing tells when there is some again.
const RETRY_FULL_MAX: Duration = Duration::from_secs(30);
/// Between the end of a round of looks and one for peers that came back: so long moves can be
/// finished even if peers come and go all the time.
const ROUNDS_APART: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests;
