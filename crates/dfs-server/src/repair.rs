//! Blobs that should be here and are not: found out, fetched, or reported as lost.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use dfs_core::hlc::Hlc;
use dfs_core::id::{BlobId, Partition, PartitionBits};
use dfs_env::{Bug, bug};
use dfs_p2p::message::Priority;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::sync::Notify;
use tokio::time::Instant;
use tracing::{debug, error, info, warn};

use crate::config::Mode;
use crate::error::Error;
use crate::node::Node;

/// The queue of blobs to fetch.
#[derive(Debug, Default)]
pub(crate) struct Repair {
    queue: Mutex<Queue>,
    wake: Notify,
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
enum Outcome {
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

    fn want(&self, id: BlobId, at: Option<Instant>) {
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
    fn take_due(&self, now: Instant, count: usize, busy: &BTreeSet<BlobId>) -> Due {
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

    fn settle(&self, now: Instant, id: BlobId, outcome: &Outcome) {
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

struct Due {
    ids: Vec<BlobId>,
    next: Option<Instant>,
    rescan: bool,
}

impl Node {
    /// Fetches what is missing until shutdown.
    pub(crate) async fn repair_loop(self: Arc<Self>) {
        let mut running = FuturesUnordered::new();
        let mut busy = BTreeSet::new();
        let mut look_from = self.env.mono();
        loop {
            let now = self.env.mono();
            self.store.take_set_aside().into_iter().for_each(|id| self.repair.want(id, None));
            let room = FETCHES_MAX - busy.len();
            let due = self.repair.take_due(now, room, &busy);
            if due.rescan && now >= look_from && self.joined().is_ok() {
                match self.find_missing().await {
                    Ok(()) => continue,
                    Err(error) => error!(%error, "references could not be read"),
                }
                // What was found before the error wakes this loop at once: it must not spin.
                look_from = self.env.mono() + LOOK_EVERY;
            }
            for id in due.ids {
                busy.insert(id);
                let attempt = self.env.spawn("repair", self.clone().attempt(id));
                running.push(async move { (id, attempt.await) });
            }
            let next = due.next.unwrap_or(now + LOOK_EVERY).min(now + LOOK_EVERY);
            tokio::select! {
                biased;
                () = self.shutdown.cancelled() => return,
                Some((id, ended)) = running.next() => {
                    busy.remove(&id);
                    // An attempt that panicked is one that failed.
                    let outcome = ended.unwrap_or(Outcome::Later);
                    if matches!(outcome, Outcome::Lost) {
                        warn!(blob = ?id, "no replica has a good copy of a blob that is needed");
                    }
                    self.repair.settle(self.env.mono(), id, &outcome);
                    self.sync.wake();
                }
                () = self.repair.wake.notified() => {}
                () = tokio::time::sleep_until(next) => {}
            }
        }
    }

    /// Looks through every reference for blobs that are not on this disk.
    async fn find_missing(self: &Arc<Self>) -> Result<(), Error> {
        let state = self.joined()?;
        self.repair.queue().overflowed = false;
        let mut missing = 0u64;
        for partition in self.partitions_of(&state, &self.id) {
            let mut after = Vec::new();
            loop {
                let rows = self.store.scan_refs(partition, state.bits, after, ROWS_IN_SCAN).await?;
                let Some(last) = rows.last() else { break };
                after = dfs_store::store::ref_row(&last.blob, &last.vid);
                let ids = rows.iter().map(|row| row.blob).collect();
                let held = self.store.has_blobs(ids).await?;
                for (row, _) in rows.iter().zip(held).filter(|(row, held)| !held && !row.dropped) {
                    missing += 1;
                    self.repair.want_now(row.blob);
                }
            }
        }
        {
            let mut queue = self.repair.queue();
            queue.complete = !queue.overflowed;
        }
        if missing > 0 {
            info!(blobs = missing, "blobs are missing here and will be fetched");
        }
        Ok(())
    }

    async fn attempt(self: Arc<Self>, id: BlobId) -> Outcome {
        match self.try_repair(id).await {
            Ok(outcome) => outcome,
            Err(error) => {
                debug!(blob = ?id, %error, "a blob could not be repaired yet");
                Outcome::Later
            }
        }
    }

    async fn try_repair(self: &Arc<Self>, id: BlobId) -> Result<Outcome, Error> {
        let state = self.joined()?;
        let is_ours = state.is_replica(id.partition(state.bits), &self.id);
        if !is_ours || self.store.has_blob(id).await? {
            return Ok(Outcome::Settled);
        }
        // It may lie here, unknown to the index, and not yet be come upon.
        if self.store.adopt(id).await? {
            return Ok(Outcome::Settled);
        }
        match self.fetch_remote(id, &state, Priority::Background).await {
            Ok(bytes) => {
                self.store.restore_blob(id, bytes).await?;
                metrics::counter!("dfs_repaired_blobs_total").increment(1);
                Ok(Outcome::Settled)
            }
            Err(Error::Lost(_)) => self.judge_lost(id).await,
            Err(error) => Err(error),
        }
    }

    /// No replica has the blob. That is a loss only if a version that exists needs it.
    async fn judge_lost(self: &Arc<Self>, id: BlobId) -> Result<Outcome, Error> {
        let now = Hlc::from_unix_ms(self.env.wall_ms());
        let mut outcome = Outcome::Unneeded;
        for row in self.store.refs_of(id, USES_LOOKED_AT_MAX).await? {
            if row.dropped {
                continue;
            }
            let (record, _) = self.read_record(row.key, Mode::Quorum).await?;
            if record.refers_to(&row.vid) {
                return Ok(Outcome::Lost);
            }
            if row.hold_until > now {
                outcome = Outcome::Unnamed;
            }
        }
        Ok(outcome)
    }
}

/// Blobs that wait at once; what does not fit is found again by looking through the references.
const WANTED_MAX: usize = 65_536;
/// A blob that follows its reference takes less; one that takes longer is told of as missing.
const ON_ITS_WAY: Duration = Duration::from_secs(1);
/// Fetches under way at once: enough to fill a line, few enough to leave room for users.
const FETCHES_MAX: usize = 4;
/// The first wait after a failed attempt.
const RETRY_FIRST: Duration = Duration::from_secs(2);
/// The longest wait between attempts.
const RETRY_MAX: Duration = Duration::from_secs(64 * 60);
/// How often the loop looks without being told.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Rows read at once when looking through all of them.
const ROWS_IN_SCAN: usize = 1024;
/// Uses of one blob that are looked at to judge a loss: each costs a quorum read.
const USES_LOOKED_AT_MAX: usize = 4096;
