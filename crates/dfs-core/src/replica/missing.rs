//! The blobs that are missing on this disk, and which of them to fetch next.
//!
//! Time is a `Duration` since any moment that stays the same.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::urgency::{Room, Urgency, that_fit};
use crate::id::{BlobId, Partition, PartitionBits};

/// The queue of blobs to fetch.
#[derive(Debug, Default)]
pub struct MissingBlobs {
    wanted: BTreeMap<BlobId, Want>,
    /// Wanted blobs that may be fetched now, most urgent first.
    ready: BTreeSet<(Urgency, BlobId)>,
    /// The other wanted blobs, by when they may be fetched.
    later: BTreeSet<(Duration, BlobId)>,
    /// Blobs of existing files of which no replica has a good copy.
    lost: BTreeSet<BlobId>,
    /// Blobs of uploads that no version names yet and no replica has.
    parked: BTreeSet<BlobId>,
    /// Blobs of existing files that only members may have that are away.
    away: BTreeSet<BlobId>,
    /// Whether every reference was looked at since the last time the queue was too short.
    complete: bool,
    /// Whether the queue was too short since that look began.
    overflowed: bool,
}

#[derive(Debug, Clone, Copy)]
struct Want {
    /// When it may be fetched; `None` is now.
    at: Option<Duration>,
    /// Attempts that failed.
    tries: u32,
    /// When it was first counted as missing or on its way.
    since: Option<Duration>,
    /// Copies in reach, once they were counted.
    copies: Option<usize>,
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

impl MissingBlobs {
    /// Returns whether every reference was looked at: what is missing is in the queue.
    pub fn knows_all(&self) -> bool {
        self.complete
    }

    /// Notes that every reference must be looked at before nothing may be said to be missing.
    pub fn look_again(&mut self) {
        self.complete = false;
        // A look that is under way began too early to count.
        self.overflowed = true;
    }

    /// Begins a look through every reference.
    pub fn look_begins(&mut self) {
        self.overflowed = false;
    }

    /// Ends a look that came to the last reference.
    pub fn look_ends(&mut self) {
        self.complete = !self.overflowed;
    }

    /// Adds a missing blob. One that is expected to arrive by itself is not fetched before `at`.
    pub fn want(&mut self, id: BlobId, at: Option<Duration>) {
        if self.wanted.len() >= WANTED_MAX && !self.wanted.contains_key(&id) {
            self.complete = false;
            self.overflowed = true;
            return;
        }
        // It is needed now, whatever earlier attempts found.
        self.parked.remove(&id);
        self.away.remove(&id);
        if !self.wanted.contains_key(&id) {
            let want = Want { at, tries: 0, since: None, copies: None };
            self.place(id, &want);
            self.wanted.insert(id, want);
            return;
        }
        self.change(id, |want| match (want.at, at) {
            (Some(old), Some(new)) => want.at = Some(old.min(new)),
            (_, Some(_)) => {}
            // What failed until now need not fail for as long again: there may be room now, or
            // another node may have brought it.
            (_, None) => (want.at, want.tries) = (None, want.tries.min(1)),
        });
    }

    /// Removes a blob that has arrived.
    pub fn found(&mut self, id: &BlobId) {
        self.drop_want(id);
        for set in [&mut self.lost, &mut self.parked, &mut self.away] {
            set.remove(id);
        }
    }

    /// Makes all blobs due that failed before: a peer came back that may have them.
    pub fn retry_all(&mut self) {
        self.away.clear();
        self.change_all(|want| {
            if want.tries > 0 {
                (want.at, want.tries) = (None, 1);
            }
        });
    }

    /// Returns how many blobs are missing and not just on their way.
    pub fn len(&mut self, now: Duration) -> u64 {
        let mut missing = 0;
        for (id, want) in &mut self.wanted {
            let waited = now.saturating_sub(*want.since.get_or_insert(now));
            let due = want.at.is_none_or(|at| at <= now) || waited >= ON_ITS_WAY;
            missing += u64::from((due || want.tries > 0) && !self.parked.contains(id));
        }
        missing
    }

    /// Returns how many blobs of existing files have no good copy.
    pub fn lost_len(&self) -> u64 {
        self.lost.len() as u64
    }

    /// Returns how many blobs only members may have that are away.
    pub fn away_len(&self) -> u64 {
        self.away.len() as u64
    }

    /// Returns the partitions with missing blobs that can be had, or `None` while not all references
    /// were looked at. A blob that cannot be had does not hold up a move: a member that is away
    /// stays a former holder and is asked once it is back.
    pub fn missing_partitions(&self, bits: PartitionBits) -> Option<BTreeSet<Partition>> {
        let nowhere = [&self.lost, &self.parked, &self.away];
        let to_be_had = |id: &&BlobId| !nowhere.iter().any(|set| set.contains(id));
        let mut missing = BTreeSet::new();
        let mut from = Some([0; 32]);
        // One blob of a partition is enough.
        while let Some(first) = from {
            let rest = self.wanted.range(BlobId::new(first)..).map(|(id, _)| id);
            let Some(id) = rest.into_iter().find(to_be_had) else { break };
            let partition = id.partition(bits);
            missing.insert(partition);
            from = partition.checked_add(1).and_then(|next| bits.first_of(next));
        }
        self.complete.then_some(missing)
    }

    /// Forgets how many copies each blob has: other peers are in reach now.
    pub fn count_again(&mut self) {
        self.change_all(|want| want.copies = None);
    }

    /// Notes how many copies of these blobs are in reach.
    pub fn counted(&mut self, ids: &[BlobId], copies: Vec<usize>) {
        for (id, copies) in ids.iter().zip(copies) {
            self.change(*id, |want| want.copies = Some(copies));
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
        self.ripen(now);
        let waiting = || self.ready.iter().copied().filter(|(_, id)| !busy.contains(id));
        let ids: Vec<_> = that_fit(waiting(), room).collect();
        let is_uncounted = |(urgency, _): &(Urgency, BlobId)| *urgency == Urgency::Uncounted;
        let first = (Urgency::Uncounted, BlobId::new([0; 32]));
        let uncounted = self.ready.range(first..).take_while(|one| is_uncounted(one));
        let uncounted = uncounted.map(|(_, id)| *id).filter(|id| !busy.contains(id));
        // Where all find a place their order does not matter.
        let count_max = if waiting().nth(ids.len()).is_some() { count_max } else { 0 };
        let uncounted = uncounted.take(count_max).collect();
        Due {
            ids,
            uncounted,
            next: self.later.first().map(|(at, _)| *at),
            rescan: !self.complete && self.wanted.len() < WANTED_MAX / 2,
        }
    }

    /// Notes the result of an attempt.
    pub fn settle(&mut self, now: Duration, id: BlobId, outcome: Outcome) {
        match outcome {
            Outcome::Settled | Outcome::Unneeded => self.found(&id),
            // It arrived while it was looked for.
            _ if !self.wanted.contains_key(&id) => {}
            Outcome::Lost | Outcome::Unnamed | Outcome::Away | Outcome::Later | Outcome::Full => {
                self.parked.remove(&id);
                self.away.remove(&id);
                match outcome {
                    Outcome::Lost => self.lost.insert(id),
                    Outcome::Unnamed => self.parked.insert(id),
                    Outcome::Away => self.away.insert(id),
                    _ => false,
                };
                self.change(id, |want| {
                    let wait = RETRY_FIRST * 2u32.saturating_pow(want.tries.min(16));
                    let longest = match outcome {
                        Outcome::Full => RETRY_FULL_MAX,
                        _ => RETRY_MAX,
                    };
                    want.at = Some(now + wait.min(longest));
                    want.tries += 1;
                    want.copies = None;
                });
            }
        }
    }

    /// Makes ready what has waited for its time.
    fn ripen(&mut self, now: Duration) {
        while let Some((_, id)) = self.later.first().copied().filter(|(at, _)| *at <= now) {
            self.change(id, |want| want.at = None);
        }
    }

    /// Changes a wanted blob and its place in the order.
    fn change(&mut self, id: BlobId, change: impl FnOnce(&mut Want)) {
        let Some(want) = self.wanted.get_mut(&id) else { return };
        let before = *want;
        change(want);
        let after = *want;
        self.unplace(id, &before);
        self.place(id, &after);
    }

    fn change_all(&mut self, change: impl FnMut(&mut Want)) {
        self.wanted.values_mut().for_each(change);
        self.ready.clear();
        self.later.clear();
        let wanted = std::mem::take(&mut self.wanted);
        wanted.iter().for_each(|(id, want)| self.place(*id, want));
        self.wanted = wanted;
    }

    fn place(&mut self, id: BlobId, want: &Want) {
        match want.at {
            None => self.ready.insert((Urgency::of(want.copies), id)),
            Some(at) => self.later.insert((at, id)),
        };
    }

    fn unplace(&mut self, id: BlobId, want: &Want) {
        match want.at {
            None => self.ready.remove(&(Urgency::of(want.copies), id)),
            Some(at) => self.later.remove(&(at, id)),
        };
    }

    fn drop_want(&mut self, id: &BlobId) {
        if let Some(want) = self.wanted.remove(id) {
            self.unplace(*id, &want);
        }
    }
}

/// Blobs that wait at once; what does not fit is found again by looking through the references.
const WANTED_MAX: usize = 65_536;
/// A blob that follows its reference takes less; one that takes longer is told of as missing.
const ON_ITS_WAY: Duration = Duration::from_secs(1);
/// The first wait after a failed attempt.
const RETRY_FIRST: Duration = Duration::from_secs(2);
/// The longest wait between attempts.
const RETRY_MAX: Duration = Duration::from_secs(64 * 60);
/// The same where only room is missing: nothing tells when there is some again.
const RETRY_FULL_MAX: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests;
