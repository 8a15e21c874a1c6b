//! What waits to be fetched, and which of it comes next.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use dfs_core::id::{BlobId, Partition, PartitionBits};
use dfs_core::meter::{Left, Meter};
use dfs_core::replica::urgency::{Room, Urgency, that_fit};
use dfs_env::{Bug, bug};
use tokio::sync::Notify;
use tokio::time::Instant;

/// The queue of blobs to fetch.
#[derive(Debug)]
pub(crate) struct Repair {
    queue: Mutex<Queue>,
    /// What was fetched lately, and what its `Duration`s count from.
    fetched: Mutex<Meter>,
    origin: Instant,
    /// Nothing is fetched until someone says so.
    paused: AtomicBool,
    pub(super) wake: Notify,
}

#[derive(Debug, Default)]
struct Queue {
    wanted: BTreeMap<BlobId, Want>,
    /// Those of them that may be fetched now, most urgent first.
    ready: BTreeSet<(Urgency, BlobId)>,
    /// The others, by when they may.
    later: BTreeSet<(Instant, BlobId)>,
    /// Blobs of existing files of which no replica has a good copy.
    lost: BTreeSet<BlobId>,
    /// Blobs of uploads that no version names yet, and that no replica has: nobody waits for them.
    parked: BTreeSet<BlobId>,
    /// Blobs of existing files that nobody in reach has, but perhaps someone who is away.
    away: BTreeSet<BlobId>,
    /// Whether every reference was looked at since the last time the queue was too short.
    complete: bool,
    /// Whether the queue was too short since that look began.
    overflowed: bool,
}

impl Queue {
    /// Changes what is known of a blob, if it is wanted.
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

    /// Makes ready what has waited for its time.
    fn ripen(&mut self, now: Instant) {
        while let Some((_, id)) = self.later.first().copied().filter(|(at, _)| *at <= now) {
            self.change(id, |want| want.at = None);
        }
    }

    fn drop_want(&mut self, id: &BlobId) {
        if let Some(want) = self.wanted.remove(id) {
            self.unplace(*id, &want);
        }
    }

    fn forget(&mut self, id: &BlobId) {
        self.drop_want(id);
        for set in [&mut self.lost, &mut self.parked, &mut self.away] {
            set.remove(id);
        }
    }
}

#[derive(Debug, Clone, Copy)]
struct Want {
    /// When it may be fetched; `None` is now.
    at: Option<Instant>,
    tries: u32,
    /// When it was first counted.
    since: Option<Instant>,
    /// Copies in reach, once they were counted.
    copies: Option<usize>,
}

/// What became of one attempt.
pub(super) enum Outcome {
    /// The blob is here, or nobody needs it here.
    Settled,
    /// No replica has it, and no file needs it yet: an upload under way, or one never finished.
    Unnamed,
    /// The same, and too old to be still under way.
    Unneeded,
    /// No replica has a good copy, and a file needs it.
    Lost,
    /// A file needs it, and whoever may have it is away.
    Away,
    /// Someone who may have it did not answer.
    Later,
    /// This disk has no room for it.
    Full,
}

impl Repair {
    pub(crate) fn new(now: Instant) -> Self {
        let (queue, fetched) = (Mutex::default(), Mutex::default());
        let paused = AtomicBool::new(false);
        Self { queue, fetched, origin: now, paused, wake: Notify::new() }
    }

    pub(super) fn pause(&self, paused: bool) {
        self.paused.store(paused, Ordering::Relaxed);
        self.wake.notify_one();
    }

    pub(crate) fn is_paused(&self) -> bool {
        self.paused.load(Ordering::Relaxed)
    }

    /// A blob of so many bytes was fetched.
    pub(super) fn fetched(&self, now: Instant, bytes: u64) {
        let mut fetched = self.fetched.lock().expect("no holder of this lock panics");
        fetched.add(now - self.origin, bytes);
    }

    /// Bytes a second fetched lately, and what is left of so many pieces.
    pub(crate) fn outlook(&self, now: Instant, pieces: u64) -> (u64, Left) {
        let mut fetched = self.fetched.lock().expect("no holder of this lock panics");
        let now = now - self.origin;
        (fetched.bytes_per_second(now), fetched.left(now, pieces))
    }

    /// Whether every reference was looked at: what is missing is in the queue.
    pub(crate) fn knows_all(&self) -> bool {
        self.queue().complete
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().expect("no holder of this lock panics")
    }

    /// A blob is missing.
    pub(crate) fn want_now(&self, id: BlobId) {
        self.want(id, None);
        self.wake.notify_one();
    }

    /// A blob is expected to arrive by itself before `at`.
    pub(crate) fn want_later(&self, id: BlobId, at: Instant) {
        self.want(id, Some(at));
    }

    /// Every reference must be looked at anew before this node may say that nothing is missing.
    pub(crate) fn look_again(&self) {
        let mut queue = self.queue();
        queue.complete = false;
        // A look that is under way began too early to count.
        queue.overflowed = true;
        drop(queue);
        self.wake.notify_one();
    }

    /// A look through every reference begins.
    pub(super) fn look_begins(&self) {
        self.queue().overflowed = false;
    }

    /// It has come to its end.
    pub(super) fn look_ends(&self) {
        let mut queue = self.queue();
        queue.complete = !queue.overflowed;
    }

    pub(super) fn want(&self, id: BlobId, at: Option<Instant>) {
        let mut queue = self.queue();
        if queue.wanted.len() >= WANTED_MAX && !queue.wanted.contains_key(&id) {
            queue.complete = false;
            queue.overflowed = true;
            return;
        }
        // Someone needs it now, whatever was found out before.
        queue.parked.remove(&id);
        queue.away.remove(&id);
        if !queue.wanted.contains_key(&id) {
            let want = Want { at, tries: 0, since: None, copies: None };
            queue.place(id, &want);
            queue.wanted.insert(id, want);
            return;
        }
        queue.change(id, |want| match (want.at, at) {
            (Some(old), Some(new)) => want.at = Some(old.min(new)),
            (_, Some(_)) => {}
            // What failed until now need not fail for as long again: whoever wants it may have made
            // room, or brought it.
            (_, None) => (want.at, want.tries) = (None, want.tries.min(1)),
        });
    }

    /// A blob has arrived.
    pub(crate) fn found(&self, id: &BlobId) {
        let mut queue = self.queue();
        queue.forget(id);
    }

    /// A peer came back: it may have what was missing.
    pub(crate) fn retry_all(&self) {
        let mut queue = self.queue();
        queue.away.clear();
        queue.change_all(|want| {
            if want.tries > 0 {
                (want.at, want.tries) = (None, 1);
            }
        });
        drop(queue);
        self.wake.notify_one();
    }

    /// Blobs that are missing and not just on their way.
    pub(crate) fn queue_len(&self, now: Instant) -> u64 {
        let mut queue = self.queue();
        let Queue { wanted, parked, .. } = &mut *queue;
        let mut missing = 0;
        for (id, want) in wanted {
            let waited = now - *want.since.get_or_insert(now);
            let due = want.at.is_none_or(|at| at <= now) || waited >= ON_ITS_WAY;
            missing += u64::from((due || want.tries > 0) && !parked.contains(id));
        }
        missing
    }

    /// Blobs of existing files of which no good copy is known.
    pub(crate) fn lost_len(&self) -> u64 {
        self.queue().lost.len() as u64
    }

    /// Blobs that nobody in reach has, but perhaps someone who is away.
    pub(super) fn away_len(&self) -> u64 {
        self.queue().away.len() as u64
    }

    /// The partitions with blobs that are missing here and can be had; `None` while not all
    /// references were looked at. What nobody in reach has does not hold up a move: who is away
    /// stays a former holder, and is asked once it is back.
    pub(crate) fn missing_partitions(&self, bits: PartitionBits) -> Option<BTreeSet<Partition>> {
        let queue = self.queue();
        let nowhere = [&queue.lost, &queue.parked, &queue.away];
        let to_be_had = |id: &&BlobId| !nowhere.iter().any(|set| set.contains(id));
        let mut missing = BTreeSet::new();
        let mut from = Some([0; 32]);
        // One blob of a partition is enough.
        while let Some(first) = from {
            let rest = queue.wanted.range(BlobId::new(first)..).map(|(id, _)| id);
            let Some(id) = rest.into_iter().find(to_be_had) else { break };
            let partition = id.partition(bits);
            missing.insert(partition);
            from = partition.checked_add(1).and_then(|next| bits.first_of(next));
        }
        queue.complete.then_some(missing)
    }

    /// Who is in reach has changed, and with it how many copies each blob has.
    pub(crate) fn count_again(&self) {
        self.queue().change_all(|want| want.copies = None);
    }

    /// Notes how many copies of these blobs are in reach.
    pub(super) fn counted(&self, ids: &[BlobId], copies: Vec<usize>) {
        let mut queue = self.queue();
        for (id, copies) in ids.iter().zip(copies) {
            queue.change(*id, |want| want.copies = Some(copies));
        }
    }

    /// Takes the blobs whose time has come and that there is room for, most urgent first; and says
    /// when the next one's will, and of which the copies should be counted, if that is asked.
    pub(super) fn take_due(
        &self,
        now: Instant,
        room: Room,
        busy: &BTreeSet<BlobId>,
        counts: bool,
    ) -> Due {
        let mut queue = self.queue();
        queue.ripen(now);
        let waiting = || queue.ready.iter().copied().filter(|(_, id)| !busy.contains(id));
        let ids: Vec<_> = that_fit(waiting(), room).collect();
        let is_uncounted = |(urgency, _): &(Urgency, BlobId)| *urgency == Urgency::Uncounted;
        let first = (Urgency::Uncounted, BlobId::new([0; 32]));
        let uncounted = queue.ready.range(first..).take_while(|one| is_uncounted(one));
        let uncounted = uncounted.map(|(_, id)| *id).filter(|id| !busy.contains(id));
        // Where all find a place their order does not matter.
        let counts = counts && waiting().nth(ids.len()).is_some();
        let uncounted = uncounted.take(if counts { COUNTED_AT_ONCE } else { 0 }).collect();
        Due {
            ids,
            uncounted,
            next: queue.later.first().map(|(at, _)| *at),
            rescan: !queue.complete && queue.wanted.len() < WANTED_MAX / 2,
        }
    }

    pub(super) fn settle(&self, now: Instant, id: BlobId, outcome: &Outcome) {
        let mut queue = self.queue();
        match outcome {
            Outcome::Settled | Outcome::Unneeded => {
                queue.forget(&id);
            }
            // It arrived while it was looked for.
            _ if !queue.wanted.contains_key(&id) => {}
            Outcome::Lost | Outcome::Unnamed | Outcome::Away | Outcome::Later | Outcome::Full => {
                queue.parked.remove(&id);
                queue.away.remove(&id);
                match outcome {
                    Outcome::Lost => queue.lost.insert(id),
                    Outcome::Unnamed => queue.parked.insert(id),
                    Outcome::Away => queue.away.insert(id),
                    _ => false,
                };
                if bug(Bug::RepairGivesUp) {
                    queue.drop_want(&id);
                }
                queue.change(id, |want| {
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
}

pub(super) struct Due {
    pub(super) ids: Vec<BlobId>,
    /// Blobs that wait for a place, and whose copies should be counted first.
    pub(super) uncounted: Vec<BlobId>,
    pub(super) next: Option<Instant>,
    pub(super) rescan: bool,
}

/// Blobs that wait at once; what does not fit is found again by looking through the references.
const WANTED_MAX: usize = 65_536;
/// Blobs whose copies are counted at once: one question to each replica.
const COUNTED_AT_ONCE: usize = dfs_p2p::KEYS_MAX;
/// A blob that follows its reference takes less; one that takes longer is told of as missing.
const ON_ITS_WAY: Duration = Duration::from_secs(1);
/// The first wait after a failed attempt.
const RETRY_FIRST: Duration = Duration::from_secs(2);
/// The longest wait between attempts.
const RETRY_MAX: Duration = Duration::from_secs(64 * 60);
/// The same where only room is missing: nobody tells when there is some again.
const RETRY_FULL_MAX: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests;
