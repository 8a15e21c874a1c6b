//! What waits to be fetched, and which of it comes next.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use dfs_core::id::{BlobId, Partition, PartitionBits};
use dfs_core::meter::{Left, Meter};
use dfs_core::urgency::{Room, Urgency, most_urgent};
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
    fn forget(&mut self, id: &BlobId) {
        self.wanted.remove(id);
        for set in [&mut self.lost, &mut self.parked, &mut self.away] {
            set.remove(id);
        }
    }
}

#[derive(Debug, Clone, Copy)]
struct Want {
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
        let want =
            queue.wanted.entry(id).or_insert(Want { at, tries: 0, since: None, copies: None });
        want.at = match (want.at, at) {
            (Some(old), Some(new)) => Some(old.min(new)),
            _ => None,
        };
        if want.at.is_none() {
            // What failed until now need not fail for as long again: whoever wants it may have made
            // room, or brought it.
            want.tries = want.tries.min(1);
        }
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
        for want in queue.wanted.values_mut().filter(|want| want.tries > 0) {
            *want = Want { at: None, tries: 1, ..*want };
        }
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
        let missing = queue.wanted.keys().filter(to_be_had);
        queue.complete.then(|| missing.map(|id| id.partition(bits)).collect())
    }

    /// Who is in reach has changed, and with it how many copies each blob has.
    pub(crate) fn count_again(&self) {
        self.queue().wanted.values_mut().for_each(|want| want.copies = None);
    }

    /// Notes how many copies of these blobs are in reach.
    pub(super) fn counted(&self, ids: &[BlobId], copies: Vec<usize>) {
        let mut queue = self.queue();
        for (id, copies) in ids.iter().zip(copies) {
            if let Some(want) = queue.wanted.get_mut(id) {
                want.copies = Some(copies);
            }
        }
    }

    /// Takes the blobs whose time has come and that there is room for, most urgent first; and says
    /// when the next one's will.
    pub(super) fn take_due(&self, now: Instant, room: Room, busy: &BTreeSet<BlobId>) -> Due {
        let queue = self.queue();
        let mut due = Due { ids: Vec::new(), uncounted: Vec::new(), next: None, rescan: false };
        let mut waiting = 0;
        let wanted = queue.wanted.iter().filter(|(id, _)| !busy.contains(id));
        let ready = wanted.filter_map(|(id, want)| {
            if let Some(at) = want.at.filter(|at| *at > now) {
                due.next = Some(due.next.map_or(at, |next: Instant| next.min(at)));
                return None;
            }
            waiting += 1;
            if want.copies.is_none() && due.uncounted.len() < COUNTED_AT_ONCE {
                due.uncounted.push(*id);
            }
            Some((Urgency::of(want.copies), *id))
        });
        due.ids = most_urgent(ready, room);
        // Where all find a place their order does not matter.
        if waiting <= due.ids.len() {
            due.uncounted.clear();
        }
        due.rescan = !queue.complete && queue.wanted.len() < WANTED_MAX / 2;
        due
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
                    queue.wanted.remove(&id);
                }
                if let Some(want) = queue.wanted.get_mut(&id) {
                    let wait = RETRY_FIRST * 2u32.saturating_pow(want.tries.min(16));
                    let longest = match outcome {
                        Outcome::Full => RETRY_FULL_MAX,
                        _ => RETRY_MAX,
                    };
                    want.at = Some(now + wait.min(longest));
                    want.tries += 1;
                    want.copies = None;
                }
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
mod tests {
    use dfs_env::Env;

    use super::*;

    fn id(byte: u8) -> BlobId {
        BlobId::new([byte; 32])
    }

    fn room(count: usize) -> Room {
        Room { any: count, last_copies: count }
    }

    #[tokio::test]
    async fn what_only_a_lost_node_may_have_is_missing_and_holds_up_no_move() {
        let (now, bits) = (Env::real().mono(), PartitionBits::GENESIS);
        let repair = Repair::new(now);
        repair.look_begins();
        repair.look_ends();
        repair.want_now(id(7));
        let missing = || repair.missing_partitions(bits).unwrap().len();
        assert_eq!(missing(), 1);
        repair.settle(now, id(7), &Outcome::Away);
        assert_eq!((missing(), repair.queue_len(now)), (0, 1));
        repair.retry_all();
        assert_eq!(missing(), 1, "whoever came back may have it");
        repair.settle(now, id(7), &Outcome::Away);
        repair.settle(now, id(7), &Outcome::Later);
        assert_eq!(missing(), 1);
        repair.found(&id(7));
        assert_eq!((missing(), repair.queue_len(now)), (0, 0));
    }

    #[tokio::test]
    async fn a_full_disk_puts_off_nothing_for_long() {
        let (now, none) = (Env::real().mono(), BTreeSet::new());
        let repair = Repair::new(now);
        let next = |outcome: &Outcome| {
            repair.settle(now, id(7), outcome);
            repair.take_due(now, room(1), &none).next.unwrap() - now
        };
        // Seed 435: wanted anew with every comparison of rows while the disk was full, and then put
        // off for an hour.
        for _ in 0..20 {
            repair.want_now(id(7));
            assert!(next(&Outcome::Later) <= RETRY_FIRST * 2);
        }
        let waits: Vec<_> = (0..6).map(|_| next(&Outcome::Full).as_secs()).collect();
        assert_eq!(waits, [8, 16, 30, 30, 30, 30]);
        assert_eq!(
            next(&Outcome::Later),
            RETRY_FIRST * 256,
            "others are put off longer and longer"
        );
    }

    #[tokio::test]
    async fn what_has_one_copy_left_is_taken_before_what_was_wanted_first() {
        let (now, none) = (Env::real().mono(), BTreeSet::new());
        let repair = Repair::new(now);
        (0..6).for_each(|byte| repair.want_now(id(byte)));
        let due = repair.take_due(now, room(4), &none);
        assert_eq!((due.ids.len(), due.uncounted.len()), (4, 6));
        assert!(repair.take_due(now, room(6), &none).uncounted.is_empty(), "all find a place");
        repair.counted(&due.uncounted, vec![3, 2, 3, 0, 1, 2]);
        let taken = |count, busy: &BTreeSet<_>| repair.take_due(now, room(count), busy).ids;
        assert_eq!(taken(9, &none), [4, 1, 5, 0, 2, 3].map(id));
        assert_eq!(taken(2, &[id(4)].into()), [1, 5].map(id));
        // It failed: until it is due again, and counted again, others go first.
        repair.settle(now, id(4), &Outcome::Later);
        let due = repair.take_due(now, room(1), &none);
        assert_eq!((due.ids, due.next), (vec![id(1)], Some(now + RETRY_FIRST)));
        let due = repair.take_due(now + RETRY_FIRST, room(1), &none);
        assert_eq!((due.ids, due.uncounted), (vec![id(1)], vec![id(4)]));
        repair.count_again();
        assert_eq!(repair.take_due(now, room(1), &none).uncounted.len(), 5);
    }
}
