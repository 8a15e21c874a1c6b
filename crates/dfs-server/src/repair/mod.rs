//! Blobs that should be here and are not: found out, fetched, or reported as lost.

use std::sync::Arc;
use std::time::Duration;

use dfs_core::hlc::Hlc;
use dfs_core::id::{BlobId, NodeId};
use dfs_core::layout::epoch::MemberState;
use dfs_core::record::refs::RefRow;
use dfs_core::replica::urgency::{Room, Window};
use dfs_env::TaskMap;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tracing::{debug, error, info, warn};

use crate::blobs::Blobs;
use crate::config::Mode;
use crate::error::Error;
use crate::records::Records;
use crate::replica::Replica;
use crate::replica::missing::Outcome;
use crate::replica::rows::RowWalk;

mod control;

pub use self::control::{RepairState, RepairView};

/// Fetches what this disk lacks.
pub(crate) struct Repair {
    replica: Arc<Replica>,
    records: Arc<Records>,
    blobs: Arc<Blobs>,
}

impl Repair {
    pub(crate) fn new(records: Arc<Records>, blobs: Arc<Blobs>, replica: Arc<Replica>) -> Self {
        Self { replica, records, blobs }
    }

    /// Fetches what is missing until shutdown.
    pub(crate) async fn run(self: Arc<Self>) {
        let mut running = TaskMap::new(&self.replica.env, "repair");
        // One question at a time.
        let mut counting = FuturesUnordered::new();
        let mut window = Window::default();
        let mut look_from = self.replica.env.mono();
        loop {
            let now = self.replica.env.mono();
            self.want_what_was_set_aside();
            let (users_wait, paused) =
                (self.replica.load.is_busy(), self.replica.missing.is_paused());
            let room = Room::beside(window, running.len(), users_wait, paused);
            let due = self.replica.missing.take_due(now, room, running.keys(), counting.is_empty());
            if due.rescan && now >= look_from && self.replica.joined().is_ok() {
                match self.find_missing().await {
                    Ok(()) => {
                        self.replica.wakes.publish.notify_one();
                        continue;
                    }
                    Err(error) => error!(%error, "references could not be read"),
                }
                // What was found before the error wakes this loop at once: it must not spin.
                look_from = self.replica.env.mono() + LOOK_EVERY;
            }
            if !due.uncounted.is_empty() && self.replica.joined().is_ok() {
                counting.push(
                    self.replica.env.spawn("count", self.clone().count_wanted(due.uncounted)),
                );
            }
            for id in due.ids {
                running.spawn(id, self.clone().attempt(id));
            }
            let next = due.next.unwrap_or(now + LOOK_EVERY).min(now + LOOK_EVERY);
            tokio::select! {
                biased;
                () = self.replica.shutdown.cancelled() => return,
                Some((id, ended)) = running.join_next() => {
                    // An attempt that panicked is one that failed.
                    let (outcome, took) = ended.unwrap_or((Outcome::Later, Duration::ZERO));
                    match outcome {
                        Outcome::Settled => window.came(took),
                        Outcome::Later => window.failed(),
                        Outcome::Lost => {
                            warn!(blob = ?id, "no replica has a good copy of a needed blob");
                        }
                        _ => {}
                    }
                    self.replica.missing.settle(self.replica.env.mono(), id, &outcome);
                    self.replica.wakes.publish.notify_one();
                }
                Some(_) = counting.next() => {}
                () = self.replica.missing.wake.notified() => {}
                () = self.replica.env.sleep_until(next) => {}
            }
        }
    }

    fn want_what_was_set_aside(&self) {
        let set_aside = self.replica.store.set_aside();
        set_aside.iter().for_each(|id| self.replica.missing.want(*id, None));
        self.replica.store.asked_for(&set_aside);
    }

    /// Looks through the references for blobs that are not on this disk, from where the look before
    /// was cut off, until the queue takes no more.
    async fn find_missing(&self) -> Result<(), Error> {
        let (store, missing) = (&self.replica.store, &self.replica.missing);
        let state = self.replica.joined()?;
        let first = missing.look_begins().partition(state.bits);
        let mut found = 0u64;
        let partitions = self.replica.partitions(&state).into_iter();
        'look: for partition in partitions.filter(|partition| *partition >= first) {
            let mut walk = RowWalk::of(partition, state.bits);
            while let Some(rows) = walk.next::<RefRow>(store).await? {
                let held = store.has_blobs(rows.iter().map(|row| row.blob).collect()).await?;
                for (row, _) in rows.iter().zip(held).filter(|(row, held)| !held && !row.dropped) {
                    if !missing.look_found(row.blob) {
                        break 'look;
                    }
                    found += 1;
                }
            }
        }
        missing.look_ends(self.replica.env.mono());
        if found > 0 {
            info!(blobs = found, "blobs are missing here and will be fetched");
        }
        Ok(())
    }

    /// Finds out how many copies there are of blobs that are missing here.
    async fn count_wanted(self: Arc<Self>, ids: Vec<BlobId>) {
        if let Ok(state) = self.replica.joined() {
            let copies = self.blobs.count_copies(&ids, &state).await;
            self.replica.missing.counted(&ids, copies);
        }
    }

    /// Tries to get a blob; how that ended, and how long it took.
    async fn attempt(self: Arc<Self>, id: BlobId) -> (Outcome, Duration) {
        let began = self.replica.env.mono();
        let outcome = self.outcome(id).await;
        (outcome, self.replica.env.mono() - began)
    }

    async fn outcome(&self, id: BlobId) -> Outcome {
        match self.try_repair(id).await {
            Ok(outcome) => outcome,
            Err(Error::NoSpace) => {
                debug!(blob = ?id, "there is no room for a blob that should be here");
                Outcome::Full
            }
            Err(error) => {
                debug!(blob = ?id, %error, "a blob could not be repaired yet");
                Outcome::Later
            }
        }
    }

    async fn try_repair(&self, id: BlobId) -> Result<Outcome, Error> {
        let state = self.replica.joined()?;
        let is_ours = state.is_replica(id.partition(state.bits), &self.replica.id);
        if !is_ours || self.replica.store.has_blob(id).await? {
            return Ok(Outcome::Settled);
        }
        // It may lie here, unknown to the index, and not yet be come upon.
        if self.replica.store.adopt(id).await? {
            return Ok(Outcome::Settled);
        }
        // Before it is fetched in vain.
        if !self.replica.store.has_room().await {
            return Ok(Outcome::Full);
        }
        match self.blobs.fetch_for_disk(id, &state).await {
            Ok(None) => Ok(Outcome::Arriving),
            Ok(Some(blob)) => {
                let len = blob.bytes.len() as u64;
                self.replica.missing.fetched(self.replica.env.mono(), len);
                metrics::counter!("dfs_repaired_blobs_total").increment(1);
                metrics::counter!("dfs_repair_bytes_total").increment(len);
                Ok(Outcome::Settled)
            }
            Err(Error::Lost(_)) => self.judge_lost(id).await,
            // Whoever else may have it is away, and may know of a use that nobody here knows of.
            // One that is out holds up nobody with what no file needs.
            Err(Error::Unavailable(away))
                if !away.iter().any(|(n, _)| self.replica.is_reachable(n)) =>
            {
                let is_out = |node: &NodeId| {
                    state.member(node).is_some_and(|member| member.state == MemberState::Out)
                };
                if !away.iter().all(|(node, _)| is_out(node)) {
                    return Ok(Outcome::Away);
                }
                match self.judge_lost(id).await? {
                    Outcome::Lost => Ok(Outcome::Away),
                    _ => Ok(Outcome::Unnamed),
                }
            }
            Err(error) => Err(error),
        }
    }

    /// No replica has the blob. That is a loss only if a version that exists needs it.
    async fn judge_lost(&self, id: BlobId) -> Result<Outcome, Error> {
        let now = Hlc::from_unix_ms(self.replica.unix_ms());
        let mut outcome = Outcome::Unneeded;
        let mut after = None;
        loop {
            let page = self.replica.store.refs_of(id, after, USES_AT_ONCE).await?;
            after = page.last().map(RefRow::of);
            for row in page.iter().filter(|row| !row.dropped) {
                let (record, _) = self.records.read_record(row.key, Mode::Quorum).await?;
                if record.refers_to(&row.vid) {
                    return Ok(Outcome::Lost);
                }
                if row.hold_until > now {
                    outcome = Outcome::Unnamed;
                }
            }
            if page.len() < USES_AT_ONCE {
                return Ok(outcome);
            }
        }
    }
}

/// How often the loop looks without being told.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Uses of one blob that are read at once to judge a loss: each costs a quorum read.
const USES_AT_ONCE: usize = 64;
