//! What waits to be fetched, and which of it comes next.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use dfs_core::id::{BlobId, Partition, PartitionBits};
use dfs_env::{Bug, bug};
use tokio::sync::Notify;
use tokio::time::Instant;

/// The queue of blobs to fetch.
#[derive(Debug, Default)]
pub(crate) struct Repair {
    queue: Mutex<Queue>,
    pub(super) wake: Notify,
}

#[derive(Debug, Default)]
struct Queue {
    wanted: BTreeMap<BlobId, Want>,
    /// Blobs of existing files of which no replica has a good copy.
    lost: BTreeSet<BlobId>,
    /// Blobs of uploads that no version names yet, and that no replica has: nobody waits for them.
    parked: BTreeSet<BlobId>,
    /// Whether every reference was looked at since the last time the queue was too short.
    complete: bool,
    /// Whether the queue was too short since that look began.
    overflowed: bool,
}

#[derive(Debug, Clone, Copy)]
struct Want {
    at: Option<Instant>,
    tries: u32,
    /// When it was first counted.
    since: Option<Instant>,
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
    /// Someone who may have it did not answer.
    Later,
}

impl Repair {
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
        let want = queue.wanted.entry(id).or_insert(Want { at, tries: 0, since: None });
        want.at = match (want.at, at) {
            (Some(old), Some(new)) => Some(old.min(new)),
            _ => None,
        };
    }

    /// A blob has arrived.
    pub(crate) fn found(&self, id: &BlobId) {
        let mut queue = self.queue();
        queue.wanted.remove(id);
        queue.lost.remove(id);
        queue.parked.remove(id);
    }

    /// A peer came back: it may have what was missing.
    pub(crate) fn retry_all(&self) {
        let mut queue = self.queue();
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

    /// The partitions with blobs that are missing here and can be had; `None` while not all
    /// references were looked at. What no replica has does not hold up a move.
    pub(crate) fn missing_partitions(&self, bits: PartitionBits) -> Option<BTreeSet<Partition>> {
        let queue = self.queue();
        let to_be_had = |id: &&BlobId| !queue.lost.contains(id) && !queue.parked.contains(id);
        let missing = queue.wanted.keys().filter(to_be_had);
        queue.complete.then(|| missing.map(|id| id.partition(bits)).collect())
    }

    /// Takes up to `count` blobs whose time has come; and when the next one's will.
    pub(super) fn take_due(&self, now: Instant, count: usize, busy: &BTreeSet<BlobId>) -> Due {
        let queue = self.queue();
        let mut due = Due { ids: Vec::new(), next: None, rescan: false };
        for (id, want) in queue.wanted.iter().filter(|(id, _)| !busy.contains(id)) {
            match want.at {
                Some(at) if at > now => {
                    due.next = Some(due.next.map_or(at, |next: Instant| next.min(at)));
                }
                _ if due.ids.len() < count => due.ids.push(*id),
                _ => {}
            }
        }
        due.rescan = !queue.complete && queue.wanted.len() < WANTED_MAX / 2;
        due
    }

    pub(super) fn settle(&self, now: Instant, id: BlobId, outcome: &Outcome) {
        let mut queue = self.queue();
        match outcome {
            Outcome::Settled | Outcome::Unneeded => {
                queue.wanted.remove(&id);
                queue.lost.remove(&id);
                queue.parked.remove(&id);
            }
            // It arrived while it was looked for.
            _ if !queue.wanted.contains_key(&id) => {}
            Outcome::Lost | Outcome::Unnamed | Outcome::Later => {
                if matches!(outcome, Outcome::Lost) {
                    queue.lost.insert(id);
                }
                if matches!(outcome, Outcome::Unnamed) {
                    queue.parked.insert(id);
                } else {
                    queue.parked.remove(&id);
                }
                if bug(Bug::RepairGivesUp) {
                    queue.wanted.remove(&id);
                }
                if let Some(want) = queue.wanted.get_mut(&id) {
                    let wait = RETRY_FIRST * 2u32.saturating_pow(want.tries.min(16));
                    want.at = Some(now + wait.min(RETRY_MAX));
                    want.tries += 1;
                }
            }
        }
    }
}

pub(super) struct Due {
    pub(super) ids: Vec<BlobId>,
    pub(super) next: Option<Instant>,
    pub(super) rescan: bool,
}

/// Blobs that wait at once; what does not fit is found again by looking through the references.
const WANTED_MAX: usize = 65_536;
/// A blob that follows its reference takes less; one that takes longer is told of as missing.
const ON_ITS_WAY: Duration = Duration::from_secs(1);
/// The first wait after a failed attempt.
const RETRY_FIRST: Duration = Duration::from_secs(2);
/// The longest wait between attempts.
const RETRY_MAX: Duration = Duration::from_secs(64 * 60);
