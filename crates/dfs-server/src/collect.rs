//! Blobs that nobody wants: given up after a time, and the rounds in which everything that may be
//! forgotten is looked through.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use dfs_core::id::{BlobId, NodeId, Partition};
use dfs_core::layout::epoch::{EpochState, Stage};
use dfs_env::{Bug, bug};
use dfs_p2p::message::Request;
use tokio::time::Instant;
use tracing::{debug, info};

use crate::audit::Unnamed;
use crate::claims::Turns;
use crate::client::Client;
use crate::error::Error;
use crate::node::Node;
use crate::purge::Resting;
use crate::views::Collected;

/// Blobs on this disk that no row here wants, and since when.
#[derive(Debug, Default)]
pub(crate) struct Unwanted(Mutex<Marks>);

#[derive(Debug, Default)]
struct Marks {
    since: BTreeMap<BlobId, (Instant, u64)>,
    round: u64,
}

impl Unwanted {
    fn marks(&self) -> MutexGuard<'_, Marks> {
        self.0.lock().expect("no holder of this lock panics")
    }

    /// Someone stores the blob anew, or is about to note a use: it counts as wanted again.
    pub(crate) fn spare(&self, id: &BlobId) {
        self.marks().since.remove(id);
    }

    /// Since when nobody wants the blob: from now on, if somebody did till now. `None` when there is
    /// no room to remember.
    fn note(&self, id: BlobId, now: Instant) -> Option<Instant> {
        let mut marks = self.marks();
        let round = marks.round;
        if marks.since.len() >= MARKS_MAX && !marks.since.contains_key(&id) {
            return None;
        }
        let mark = marks.since.entry(id).or_insert((now, round));
        mark.1 = round;
        Some(mark.0)
    }

    /// Whether nobody has wanted the blob since.
    fn is_since(&self, id: &BlobId, since: Instant) -> bool {
        self.marks().since.get(id).is_some_and(|mark| mark.0 == since)
    }

    /// Forgets what was wanted in the round that ends.
    fn end_round(&self) {
        let mut marks = self.marks();
        let this = marks.round;
        marks.since.retain(|_, (_, round)| *round == this);
        marks.round += 1;
    }
}

impl Client {
    /// What this node has given up since it started, because nobody needs it.
    ///
    /// # Panics
    /// Never: no holder of its locks does.
    pub fn collected(&self) -> Collected {
        *self.0.collected.lock().expect("no holder of this lock panics")
    }
}

/// A blob that nobody has wanted for long enough, and since when.
type Due = (BlobId, Instant);

impl Node {
    /// Looks for what may be forgotten until shutdown.
    pub(crate) async fn collect_loop(self: Arc<Self>) {
        let (mut unnamed, mut resting) = (Unnamed::default(), Resting::default());
        let mut turns = Turns::new(&self.grace, self.env.wall_ms());
        // The nodes of a cluster that starts do not all look at once.
        let mut wait = self.share_of(self.grace.audit_every);
        loop {
            tokio::select! {
                biased;
                () = self.shutdown.cancelled() => return,
                () = self.env.sleep(wait) => {}
            }
            wait = self.grace.audit_every;
            if self.joined().is_ok()
                && let Err(error) = self.look_through(&mut unnamed, &mut resting, &mut turns).await
            {
                debug!(%error, "what may be forgotten could not be looked through");
            }
        }
    }

    /// One round: first tombstones, then the uses that end with them, then blobs, then uses that
    /// nobody noted.
    async fn look_through(
        self: &Arc<Self>,
        unnamed: &mut Unnamed,
        resting: &mut Resting,
        turns: &mut Turns,
    ) -> Result<(), Error> {
        let tombstones = self.purge_tombstones(resting).await? as u64;
        let (uses, forgotten) = self.audit_refs(unnamed).await?;
        let (blobs, bytes) = self.collect_blobs().await?;
        if tombstones > 0 || uses > 0 || forgotten > 0 || blobs > 0 {
            info!(tombstones, uses, forgotten, blobs, bytes, "what nobody needs is given up");
        }
        self.count(&Collected { looks: 1, tombstones, uses: uses as u64, blobs, bytes });
        self.claim_blobs(turns).await
    }

    fn count(&self, more: &Collected) {
        metrics::counter!("dfs_purged_tombstones_total").increment(more.tombstones);
        metrics::counter!("dfs_ended_references_total").increment(more.uses);
        metrics::counter!("dfs_collected_blobs_total").increment(more.blobs);
        metrics::counter!("dfs_collected_bytes_total").increment(more.bytes);
        let mut all = self.collected.lock().expect("no holder of this lock panics");
        all.looks += more.looks;
        all.tombstones += more.tombstones;
        all.uses += more.uses;
        all.blobs += more.blobs;
        all.bytes += more.bytes;
    }

    /// Gives up blobs that nobody has wanted for long enough; says how many, and their bytes.
    async fn collect_blobs(self: &Arc<Self>) -> Result<(u64, u64), Error> {
        let state = self.joined()?;
        if bug(Bug::NothingCollected) {
            return Ok((0, 0));
        }
        let (mut blobs, mut bytes) = (0, 0);
        let mut after = None;
        loop {
            let page = self.store.unused(after, BLOBS_AT_ONCE).await?;
            let now = self.env.mono();
            let since = page.ids.into_iter().filter_map(|id| {
                let since = self.unwanted.note(id, now)?;
                (now - since >= self.grace.collect_after).then_some((id, since))
            });
            for (id, since) in self.given_up(since.collect(), &state).await {
                if self.layout.epoch() != state.epoch {
                    return Ok((blobs, bytes)); // Who wants what may be another question now.
                }
                let still = || self.unwanted.is_since(&id, since);
                if let Some(len) = self.store.collect(id, still).await? {
                    debug!(blob = ?id, "a blob that nobody wants is gone");
                    self.unwanted.spare(&id);
                    (blobs, bytes) = (blobs + 1, bytes + len);
                }
            }
            after = page.last;
            if after.is_none() {
                break;
            }
            self.rest(true).await?;
        }
        self.unwanted.end_round();
        Ok((blobs, bytes))
    }

    /// Those of some unwanted blobs that may go now.
    async fn given_up(self: &Arc<Self>, due: Vec<Due>, state: &Arc<EpochState>) -> Vec<Due> {
        let (mut given_up, mut others) = (Vec::new(), BTreeMap::<Vec<NodeId>, Vec<Due>>::new());
        for (id, since) in due {
            let partition = id.partition(state.bits);
            if state.row(partition).stage != Stage::Stable {
                continue;
            }
            if !state.is_replica(partition, &self.id) {
                others.entry(state.read_set(partition)).or_default().push((id, since));
            } else if self.knows_all_uses(partition, since, state) {
                given_up.push((id, since));
            }
        }
        for (replicas, due) in others {
            given_up.extend(self.nobody_needs(&replicas, due, state).await);
        }
        given_up
    }

    /// Whether every use that a replica knew of at `since` is known here. If not, it will be soon. All
    /// replicas, not a majority: in available mode one that is away now may alone have noted a use
    /// of what was sent here.
    fn knows_all_uses(&self, partition: Partition, since: Instant, state: &EpochState) -> bool {
        let others = state.read_set(partition).into_iter().filter(|node| *node != self.id);
        let unknown: Vec<NodeId> =
            others.filter(|node| !self.sync.compared_since(node, partition, since)).collect();
        for node in &unknown {
            self.sync.owe(*node);
        }
        unknown.is_empty()
    }

    /// Those of some blobs on the same other nodes that each of these holds or does not want. One
    /// that wants a blob and lacks it fetches it from here.
    async fn nobody_needs(
        self: &Arc<Self>,
        replicas: &[NodeId],
        mut due: Vec<Due>,
        state: &Arc<EpochState>,
    ) -> Vec<Due> {
        for node in replicas {
            let asked = Request::ChunksNeeded(due.iter().map(|(id, _)| *id).collect());
            let told = self.ask_of_each(node, asked, due.len(), state).await;
            let Some(told) = told else { return Vec::new() };
            let mut told = told.into_iter();
            due.retain(|_| told.next() == Some(false));
        }
        due
    }
}

/// Blobs looked at in one go.
const BLOBS_AT_ONCE: usize = 1024;
/// Blobs remembered from round to round as unwanted: 8 MiB of memory, 64 GiB of disk. Those beyond
/// have their turn when these are gone.
const MARKS_MAX: usize = 65_536;
