//! Missing blobs by id, and in the orders in which they are asked for.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::{ON_ITS_WAY, Outcome, RETRY_FIRST, RETRY_FULL_MAX, RETRY_MAX};
use crate::id::{BlobId, Partition, PartitionBits};
use crate::replica::urgency::Urgency;

/// What is known of one missing blob.
#[derive(Debug, Clone, Copy)]
pub(super) struct Want {
    /// When it may be fetched; `None` is now.
    pub(super) at: Option<Duration>,
    /// Attempts that failed.
    pub(super) tries: u32,
    /// How often it was found to be on its way when it was to be fetched.
    pub(super) waits: u32,
    /// When it was first counted as missing or on its way.
    since: Option<Duration>,
    /// It was on its way for too long.
    is_late: bool,
    /// Copies in reach, once they were counted.
    pub(super) copies: Option<usize>,
    /// A file needs it and no replica had a good copy.
    pub(super) is_lost: bool,
    pub(super) reach: WantState,
    /// The round of looks that came upon it, if it did so for the first time.
    pub(super) round: Option<u64>,
}

/// Where a missing blob may be, as the last attempt found out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum WantState {
    /// A member in reach may have it.
    Perhaps,
    /// No version names it yet, and no replica has it.
    Unnamed,
    /// Only members may have it that are away.
    Away,
}

/// Whether a blob may be on its way to this node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Arrival {
    /// It may, and was not counted yet.
    Uncounted,
    /// It may until then, and counts as missing afterwards.
    Until(Duration),
    /// It counts as missing. It stays so until it is here.
    Overdue,
}

impl Want {
    pub(super) fn new(at: Option<Duration>, round: Option<u64>) -> Self {
        let (since, copies, reach) = (None, None, WantState::Perhaps);
        Self { at, tries: 0, waits: 0, since, is_late: false, copies, is_lost: false, reach, round }
    }

    /// Returns whether an attempt may succeed before anything else happens.
    pub(super) fn can_be_had(&self) -> bool {
        !self.is_lost && self.reach == WantState::Perhaps
    }

    fn arrival(&self) -> Arrival {
        match (self.at, self.since) {
            _ if self.is_late || self.tries > 0 => Arrival::Overdue,
            (None, _) => Arrival::Overdue,
            (Some(_), None) => Arrival::Uncounted,
            (Some(at), Some(since)) => Arrival::Until(at.min(since + ON_ITS_WAY)),
        }
    }

    /// Notes that it is needed now, whatever earlier attempts found.
    pub(super) fn ask_anew(&mut self, at: Option<Duration>) {
        self.reach = WantState::Perhaps;
        match (self.at, at) {
            (Some(old), Some(new)) => self.at = Some(old.min(new)),
            (_, Some(_)) => {}
            // What failed until now need not fail for as long again: there may be room now, or
            // another node may have brought it.
            (_, None) => (self.at, self.tries) = (None, self.tries.min(1)),
        }
    }

    /// Notes that a member is bringing it: it is to be fetched later, if it is not here then. It
    /// goes on counting as missing, if it did.
    pub(super) fn is_brought(&mut self, at: Duration) {
        self.is_late |= self.at.is_none();
        self.at = Some(at);
        self.waits += 1;
    }

    /// Notes that an attempt failed.
    pub(super) fn failed(&mut self, now: Duration, outcome: Outcome) {
        self.is_lost |= outcome == Outcome::Lost;
        self.reach = match outcome {
            Outcome::Unnamed => WantState::Unnamed,
            Outcome::Away => WantState::Away,
            _ => WantState::Perhaps,
        };
        let wait = RETRY_FIRST * 2u32.saturating_pow(self.tries.min(16));
        let longest = if outcome == Outcome::Full { RETRY_FULL_MAX } else { RETRY_MAX };
        self.at = Some(now + wait.min(longest));
        self.tries += 1;
        self.copies = None;
    }
}

/// Keeps every missing blob in exactly the orders and counts that fit what is known of it.
#[derive(Debug, Default)]
pub(super) struct Wants {
    by_id: BTreeMap<BlobId, Want>,
    /// Blobs that may be fetched now, most urgent first.
    ready: BTreeSet<(Urgency, BlobId)>,
    /// The others, by when they may be fetched.
    later: BTreeSet<(Duration, BlobId)>,
    /// Blobs that can be had.
    to_be_had: BTreeSet<BlobId>,
    /// Blobs that may be on their way and were not counted yet.
    new: BTreeSet<BlobId>,
    /// Blobs that may be on their way, by when they count as missing.
    expected: BTreeSet<(Duration, BlobId)>,
    /// Blobs that count as missing.
    overdue: usize,
    lost: usize,
    away: usize,
}

impl Wants {
    pub(super) fn get(&self, id: &BlobId) -> Option<&Want> {
        self.by_id.get(id)
    }

    pub(super) fn insert(&mut self, id: BlobId, want: Want) {
        self.remove(&id);
        self.by_id.insert(id, want);
        self.place(id, &want);
    }

    pub(super) fn remove(&mut self, id: &BlobId) -> Option<Want> {
        let want = self.by_id.remove(id)?;
        self.unplace(*id, &want);
        Some(want)
    }

    /// Changes a blob if it is here.
    pub(super) fn change(&mut self, id: BlobId, change: impl FnOnce(&mut Want)) {
        let Some(want) = self.by_id.get_mut(&id) else { return };
        let before = *want;
        change(want);
        let after = *want;
        self.unplace(id, &before);
        self.place(id, &after);
    }

    pub(super) fn change_all(&mut self, change: impl FnMut(&mut Want)) {
        let mut by_id = std::mem::take(self).by_id;
        by_id.values_mut().for_each(change);
        by_id.iter().for_each(|(id, want)| self.place(*id, want));
        self.by_id = by_id;
    }

    /// Makes ready what has waited for its time.
    pub(super) fn ripen(&mut self, now: Duration) {
        while let Some((_, id)) = self.later.first().copied().filter(|(at, _)| *at <= now) {
            self.change(id, |want| want.at = None);
        }
    }

    /// Returns the blobs that may be fetched now, most urgent first.
    pub(super) fn ready(&self) -> impl Iterator<Item = (Urgency, BlobId)> {
        self.ready.iter().copied()
    }

    /// Returns the blobs that may be fetched now and whose copies were not counted.
    pub(super) fn uncounted(&self) -> impl Iterator<Item = BlobId> {
        let from = (Urgency::Uncounted, BlobId::new([0; 32]));
        let is_uncounted = |(urgency, _): &&(Urgency, BlobId)| *urgency == Urgency::Uncounted;
        self.ready.range(from..).take_while(is_uncounted).map(|(_, id)| *id)
    }

    /// Returns when the next blob is due that is not ready yet.
    pub(super) fn next_due(&self) -> Option<Duration> {
        self.later.first().map(|(at, _)| *at)
    }

    /// Returns how many blobs are missing and not just on their way. `O(log n)` for each blob that
    /// was added, or became overdue, since the last time.
    pub(super) fn missing(&mut self, now: Duration) -> usize {
        for id in std::mem::take(&mut self.new) {
            self.change(id, |want| want.since = Some(now));
        }
        while let Some((_, id)) = self.expected.first().copied().filter(|(at, _)| *at <= now) {
            self.change(id, |want| want.is_late = true);
        }
        self.overdue
    }

    pub(super) fn can_be_had_len(&self) -> usize {
        self.to_be_had.len()
    }

    pub(super) fn out_of_reach_len(&self) -> usize {
        self.by_id.len() - self.to_be_had.len()
    }

    pub(super) fn lost_len(&self) -> usize {
        self.lost
    }

    pub(super) fn away_len(&self) -> usize {
        self.away
    }

    /// Returns the partitions of the blobs that can be had. `O(p log n)` for `p` of them.
    pub(super) fn partitions(&self, bits: PartitionBits) -> BTreeSet<Partition> {
        let mut partitions = BTreeSet::new();
        let mut from = Some([0; 32]);
        // One blob of a partition is enough.
        while let Some(first) = from {
            let Some(id) = self.to_be_had.range(BlobId::new(first)..).next() else { break };
            let partition = id.partition(bits);
            partitions.insert(partition);
            from = partition.checked_add(1).and_then(|next| bits.first_of(next));
        }
        partitions
    }

    fn place(&mut self, id: BlobId, want: &Want) {
        match want.at {
            None => self.ready.insert((Urgency::of(want.copies), id)),
            Some(at) => self.later.insert((at, id)),
        };
        if want.can_be_had() {
            self.to_be_had.insert(id);
        }
        match want.arrival() {
            Arrival::Uncounted => drop(self.new.insert(id)),
            Arrival::Until(at) => drop(self.expected.insert((at, id))),
            Arrival::Overdue => self.overdue += usize::from(want.reach != WantState::Unnamed),
        }
        self.lost += usize::from(want.is_lost);
        self.away += usize::from(want.reach == WantState::Away);
    }

    fn unplace(&mut self, id: BlobId, want: &Want) {
        match want.at {
            None => self.ready.remove(&(Urgency::of(want.copies), id)),
            Some(at) => self.later.remove(&(at, id)),
        };
        if want.can_be_had() {
            self.to_be_had.remove(&id);
        }
        match want.arrival() {
            Arrival::Uncounted => drop(self.new.remove(&id)),
            Arrival::Until(at) => drop(self.expected.remove(&(at, id))),
            Arrival::Overdue => self.overdue -= usize::from(want.reach != WantState::Unnamed),
        }
        self.lost -= usize::from(want.is_lost);
        self.away -= usize::from(want.reach == WantState::Away);
    }
}

#[cfg(test)]
impl Wants {
    /// Panics unless all orders and counts fit what is known of the blobs.
    pub(super) fn check(&self) {
        let mut fresh = Self::default();
        self.by_id.iter().for_each(|(id, want)| fresh.place(*id, want));
        assert_eq!(self.ready, fresh.ready);
        assert_eq!(self.later, fresh.later);
        assert_eq!(self.to_be_had, fresh.to_be_had);
        assert_eq!((&self.new, &self.expected), (&fresh.new, &fresh.expected));
        let counts = |wants: &Self| (wants.overdue, wants.lost, wants.away);
        assert_eq!(counts(self), counts(&fresh));
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&BlobId, &Want)> {
        self.by_id.iter()
    }

    pub(super) fn len(&self) -> usize {
        self.by_id.len()
    }
}
