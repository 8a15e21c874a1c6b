//! Blobs that should be here and are not: found out, fetched, or reported as lost.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use dfs_core::hlc::Hlc;
use dfs_core::id::{BlobId, NodeId};
use dfs_core::layout::epoch::MemberState;
use dfs_core::replica::urgency::{Room, Window};
use dfs_p2p::message::Priority;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tracing::{debug, error, info, warn};

use self::queue::Outcome;
pub(crate) use self::queue::Repair;
use crate::config::Mode;
use crate::error::Error;
use crate::node::Node;

mod control;
mod queue;

impl Node {
    /// Blobs that are missing here, those included that nobody has asked for again yet.
    pub(crate) fn missing_here(&self) -> u64 {
        let queued = self.repair.queue_len(self.env.mono());
        queued.saturating_add(self.store.set_aside_count())
    }

    /// Fetches what is missing until shutdown.
    pub(crate) async fn repair_loop(self: Arc<Self>) {
        let mut running = FuturesUnordered::new();
        let mut busy = BTreeSet::new();
        // One question at a time.
        let mut counting = FuturesUnordered::new();
        let mut window = Window::default();
        let mut look_from = self.env.mono();
        loop {
            let now = self.env.mono();
            self.store.take_set_aside().into_iter().for_each(|id| self.repair.want(id, None));
            let (users_wait, paused) = (self.foreground.is_busy(), self.repair.is_paused());
            let room = Room::beside(window, busy.len(), users_wait, paused);
            let due = self.repair.take_due(now, room, &busy, counting.is_empty());
            if due.rescan && now >= look_from && self.joined().is_ok() {
                match self.find_missing().await {
                    Ok(()) => {
                        self.sync.tell();
                        continue;
                    }
                    Err(error) => error!(%error, "references could not be read"),
                }
                // What was found before the error wakes this loop at once: it must not spin.
                look_from = self.env.mono() + LOOK_EVERY;
            }
            if !due.uncounted.is_empty() && self.joined().is_ok() {
                counting.push(self.env.spawn("count", self.clone().count_wanted(due.uncounted)));
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
                    match outcome {
                        Outcome::Settled => window.came(),
                        Outcome::Later => window.failed(),
                        Outcome::Lost => {
                            warn!(blob = ?id, "no replica has a good copy of a blob that is needed");
                        }
                        _ => {}
                    }
                    self.repair.settle(self.env.mono(), id, &outcome);
                    self.sync.tell();
                }
                Some(_) = counting.next() => {}
                () = self.repair.wake.notified() => {}
                () = tokio::time::sleep_until(next) => {}
            }
        }
    }

    /// Looks through the references for blobs that are not on this disk, from where the look before
    /// was cut off, until the queue takes no more.
    async fn find_missing(self: &Arc<Self>) -> Result<(), Error> {
        let state = self.joined()?;
        let first = self.repair.look_begins().partition(state.bits);
        let mut missing = 0u64;
        let partitions = self.partitions_of(&state, &self.id).into_iter();
        'look: for partition in partitions.filter(|partition| *partition >= first) {
            let mut after = Vec::new();
            loop {
                let rows = self.store.scan_refs(partition, state.bits, after, ROWS_IN_SCAN).await?;
                let Some(last) = rows.last() else { break };
                after = dfs_store::disk::store::ref_row(&last.blob, &last.vid);
                let ids = rows.iter().map(|row| row.blob).collect();
                let held = self.store.has_blobs(ids).await?;
                for (row, _) in rows.iter().zip(held).filter(|(row, held)| !held && !row.dropped) {
                    if !self.repair.look_found(row.blob) {
                        break 'look;
                    }
                    missing += 1;
                }
            }
        }
        self.repair.look_ends(self.env.mono());
        if missing > 0 {
            info!(blobs = missing, "blobs are missing here and will be fetched");
        }
        Ok(())
    }

    /// Finds out how many copies there are of blobs that are missing here.
    async fn count_wanted(self: Arc<Self>, ids: Vec<BlobId>) {
        if let Ok(state) = self.joined() {
            let copies = self.count_copies(&ids, &state).await;
            self.repair.counted(&ids, copies);
        }
    }

    async fn attempt(self: Arc<Self>, id: BlobId) -> Outcome {
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
        // Before it is fetched in vain.
        if !self.store.has_room().await {
            return Ok(Outcome::Full);
        }
        match self.fetch_remote(id, &state, Priority::Background).await {
            Ok(blob) => {
                let len = blob.bytes.len() as u64;
                self.store.restore_blob(blob).await?;
                self.repair.fetched(self.env.mono(), len);
                metrics::counter!("dfs_repaired_blobs_total").increment(1);
                metrics::counter!("dfs_repair_bytes_total").increment(len);
                Ok(Outcome::Settled)
            }
            Err(Error::Lost(_)) => self.judge_lost(id).await,
            // Whoever else may have it is away, and may know of a use that nobody here knows of. One
            // that is out holds up nobody with what no file needs.
            Err(Error::Unavailable(away)) if !away.iter().any(|(n, _)| self.is_reachable(n)) => {
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

/// How often the loop looks without being told.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Rows read at once when looking through all of them.
const ROWS_IN_SCAN: usize = 1024;
/// Uses of one blob that are looked at to judge a loss: each costs a quorum read.
const USES_LOOKED_AT_MAX: usize = 4096;
