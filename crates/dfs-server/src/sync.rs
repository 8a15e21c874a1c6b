//! Rows that differ: whom to compare with, and pulling what is missing here.
//!
//! Two replicas compare one fingerprint for each partition. Where they differ each pulls the rows
//! it lacks; merging is a union, so it does not matter who begins or how often. The same pull
//! fills a node that a partition moves to.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;
use dfs_core::id::{NodeId, Partition, RecordKey};
use dfs_core::layout::epoch::{EpochState, Stage};
use dfs_core::node::member::ranges;
use dfs_core::record::refs::RefRow;
use dfs_core::replica::sync::{Root, Table};
use dfs_env::{Bug, bug};
use dfs_p2p::message::{Priority, Request, Response};
use dfs_store::WriteError;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::sync::Notify;
use tokio::time::Instant;
use tracing::{debug, warn};

use crate::coordinate::Ask;
use crate::error::Error;
use crate::node::Node;

/// Whom to compare rows with, and how far moves are.
#[derive(Debug, Default)]
pub(crate) struct Schedule {
    plans: Mutex<Plans>,
    wake: Notify,
    /// Something that peers are told of has changed.
    changed: Notify,
}

#[derive(Debug, Default)]
struct Plans {
    /// Peers that may hold something else than this node.
    owed: BTreeSet<NodeId>,
    /// Peers that know a newer layout.
    ahead: BTreeSet<NodeId>,
    /// When each peer was compared with last.
    last: BTreeMap<NodeId, Instant>,
    /// For each peer, when the last comparison that came to its end began, and of what.
    compared: BTreeMap<NodeId, (Instant, Vec<Partition>)>,
    /// For each move, by partition and prepare epoch, the sources that were pulled from.
    pulled: BTreeMap<(Partition, u64), BTreeSet<NodeId>>,
}

impl Schedule {
    fn plans(&self) -> MutexGuard<'_, Plans> {
        self.plans.lock().expect("no holder of this lock panics")
    }

    /// A peer may hold something else: compare soon.
    pub(crate) fn owe(&self, node: NodeId) {
        self.plans().owed.insert(node);
        self.wake.notify_one();
    }

    /// A peer knows a newer layout: fetch it.
    pub(crate) fn catch_up_from(&self, node: NodeId) {
        self.plans().ahead.insert(node);
        self.wake.notify_one();
    }

    /// Whether everything that a peer held of a partition at some time after `since` is here.
    pub(crate) fn compared_since(
        &self,
        node: &NodeId,
        partition: Partition,
        since: Instant,
    ) -> bool {
        let plans = self.plans();
        let compared = plans.compared.get(node);
        compared.is_some_and(|(began, all)| *began > since && all.contains(&partition))
    }

    /// Something changed that may give work.
    pub(crate) fn wake(&self) {
        self.wake.notify_one();
    }

    /// Something changed that peers are told of: they are, soon.
    pub(crate) fn tell(&self) {
        self.changed.notify_one();
    }

    async fn is_to_tell(&self, from: Instant) {
        tokio::time::sleep_until(from).await;
        self.changed.notified().await;
    }
}

/// The partitions that were brought together with one peer.
type Compared = Option<(Arc<EpochState>, Vec<Partition>)>;

impl Node {
    /// Compares and pulls until shutdown.
    pub(crate) async fn sync_loop(self: Arc<Self>) {
        let mut running = FuturesUnordered::new();
        let mut busy = BTreeSet::new();
        let mut look = tokio::time::interval(LOOK_EVERY);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut report_at = self.env.mono();
        loop {
            tokio::select! {
                biased;
                () = self.shutdown.cancelled() => return,
                Some((node, ended)) = running.next() => {
                    busy.remove(&node);
                    // A comparison that panicked is one that failed.
                    let ended: Result<Compared, tokio::task::JoinError> = ended;
                    self.note_compared(node, ended.unwrap_or_default());
                }
                () = self.sync.wake.notified() => {}
                () = self.sync.is_to_tell(report_at) => {}
                _ = look.tick() => {}
            }
            let ahead = std::mem::take(&mut self.sync.plans().ahead);
            for node in ahead {
                if let Err(error) = self.catch_up(&node).await {
                    debug!(%error, "a newer layout could not be stored");
                }
            }
            for node in self.due(&busy) {
                busy.insert(node);
                let compare = self.env.spawn("compare", self.clone().compare(node));
                running.push(async move { (node, compare.await) });
            }
            if self.env.mono() >= report_at {
                self.report();
                report_at = self.env.mono() + REPORTS_APART;
            } else {
                self.sync.tell();
            }
        }
    }

    /// Peers to compare with now.
    fn due(&self, busy: &BTreeSet<NodeId>) -> Vec<NodeId> {
        let Ok(state) = self.joined() else { return Vec::new() };
        let sources = self.move_sources(&state);
        let now = self.env.mono();
        let mut plans = self.sync.plans();
        let mut due = Vec::new();
        for member in state.present().filter(|member| member.node_id != self.id) {
            let node = member.node_id;
            if busy.contains(&node) || !self.network().is_connected(&node) {
                continue;
            }
            let since = plans.last.get(&node).map(|last| now - *last);
            let rested = since.is_none_or(|since| since >= COMPARE_APART);
            let asked = plans.owed.contains(&node) || sources.contains(&node);
            let routine = since.is_none_or(|since| since >= COMPARE_EVERY);
            if rested && (asked || routine) {
                plans.owed.remove(&node);
                plans.last.insert(node, now);
                due.push(node);
            }
        }
        due
    }

    /// Members to pull from for moves in which this node receives.
    fn move_sources(&self, state: &EpochState) -> BTreeSet<NodeId> {
        let plans = self.sync.plans();
        let mut sources = BTreeSet::new();
        for (partition, source, prepare_epoch) in self.incoming(state) {
            let pulled = plans.pulled.get(&(partition, prepare_epoch));
            if !pulled.is_some_and(|pulled| pulled.contains(&source)) {
                sources.insert(source);
            }
        }
        sources
    }

    /// For every moving partition that this node will hold: each source, and the move.
    fn incoming(&self, state: &EpochState) -> Vec<(Partition, NodeId, u64)> {
        let mut incoming = Vec::new();
        for (partition, row) in (0..=Partition::MAX).zip(&state.rows) {
            let receives = row.next.iter().any(|idx| state.node(*idx) == Some(self.id));
            if row.stage != Stage::Stable && receives {
                let sources = row.current.iter().filter_map(|idx| state.node(*idx));
                incoming.extend(
                    sources
                        .filter(|source| *source != self.id)
                        .map(|source| (partition, source, row.prepare_epoch)),
                );
            }
        }
        incoming
    }

    async fn compare(self: Arc<Self>, node: NodeId) -> Compared {
        match self.bring_up_to_date(&node).await {
            Ok(compared) => Some(compared),
            Err(error) => {
                debug!(peer = ?node, %error, "comparing rows failed");
                None
            }
        }
    }

    fn note_compared(&self, node: NodeId, compared: Compared) {
        let mut plans = self.sync.plans();
        let Some((state, partitions)) = compared else {
            // Again once it has rested, if it is still connected.
            plans.owed.insert(node);
            return;
        };
        if let Some(began) = plans.last.get(&node).copied() {
            plans.compared.insert(node, (began, partitions.clone()));
        }
        let brought: BTreeSet<Partition> = partitions.into_iter().collect();
        for (partition, source, prepare_epoch) in self.incoming(&state) {
            if source == node && brought.contains(&partition) {
                plans.pulled.entry((partition, prepare_epoch)).or_default().insert(node);
            }
        }
    }

    /// Pulls every row that a peer has and this node lacks, of the partitions both should hold.
    async fn bring_up_to_date(
        self: &Arc<Self>,
        node: &NodeId,
    ) -> Result<(Arc<EpochState>, Vec<Partition>), Error> {
        let state = self.joined()?;
        let theirs: BTreeSet<_> = self.partitions_of(&state, node).into_iter().collect();
        let mut shared = self.partitions_of(&state, &self.id);
        shared.retain(|partition| theirs.contains(partition));
        let mut incomplete = BTreeSet::new();
        for table in [Table::Records, Table::Refs] {
            for partitions in shared.chunks(ROOTS_IN_CALL_MAX) {
                let differ = self.differing_with(node, table, partitions, &state).await?;
                for partition in differ {
                    if bug(Bug::SyncSkipsPartitions) && partition % 2 == 1 {
                        continue;
                    }
                    let complete = match table {
                        Table::Records => self.pull_records(node, partition, &state).await?,
                        Table::Refs => self.pull_refs(node, partition, &state).await?,
                    };
                    if !complete {
                        incomplete.insert(partition);
                    }
                }
            }
        }
        shared.retain(|partition| !incomplete.contains(partition));
        Ok((state, shared))
    }

    /// The partitions whose fingerprints differ from a peer's.
    pub(crate) async fn differing_with(
        self: &Arc<Self>,
        node: &NodeId,
        table: Table,
        partitions: &[Partition],
        state: &EpochState,
    ) -> Result<Vec<Partition>, Error> {
        let ours = self.store.roots(table, state.bits).await?;
        let roots = partitions.iter().map(|p| (*p, ours[usize::from(*p)])).collect();
        self.differing_from(node, table, roots, state).await
    }

    /// The partitions whose fingerprints at a peer are not these.
    pub(crate) async fn differing_from(
        self: &Arc<Self>,
        node: &NodeId,
        table: Table,
        roots: Vec<(Partition, Root)>,
        state: &EpochState,
    ) -> Result<Vec<Partition>, Error> {
        let asked: Vec<Partition> = roots.iter().map(|(partition, _)| *partition).collect();
        // With the epoch, so that the peer has it on disk before it answers.
        let ask = Ask::new(Priority::Records, Request::SyncRoots { table, roots });
        match self.ask(node, state.epoch, ask).await {
            Ok((Response::Differing(differ), _)) => {
                Ok(differ.into_iter().filter(|p| asked.contains(p)).collect())
            }
            Ok(_) => Err(unexpected(node)),
            Err(error) => Err(Error::Unavailable(vec![(*node, error.to_string())])),
        }
    }

    async fn scan(
        self: &Arc<Self>,
        node: &NodeId,
        table: Table,
        partition: Partition,
        after: Bytes,
    ) -> Result<Page, Error> {
        let ask = Ask::new(Priority::Records, Request::SyncScan { table, partition, after });
        match self.ask(node, 0, ask).await {
            Ok((Response::Rows { hashes, refs, last, more }, _)) => {
                if more && hashes.is_empty() && refs.is_empty() {
                    return Err(unexpected(node));
                }
                Ok(Page { hashes, refs, next: more.then_some(last) })
            }
            Ok(_) => Err(unexpected(node)),
            Err(error) => Err(Error::Unavailable(vec![(*node, error.to_string())])),
        }
    }

    /// Pulls records; says whether all could be taken. One that cannot (a signature that does not
    /// verify, a damaged row here) does not keep the others away.
    async fn pull_records(
        self: &Arc<Self>,
        node: &NodeId,
        partition: Partition,
        state: &EpochState,
    ) -> Result<bool, Error> {
        let mut complete = true;
        let mut after = Some(Bytes::new());
        while let Some(from) = after {
            let page = self.scan(node, Table::Records, partition, from.clone()).await?;
            let keys: Vec<RecordKey> = page.hashes.iter().map(|(key, _)| *key).collect();
            if keys.iter().any(|key| key.partition(state.bits) != partition) {
                return Err(unexpected(node));
            }
            let ours = self.store.records(keys).await?;
            let rows = page.hashes.iter().zip(&ours);
            let lacking: Vec<RecordKey> = rows
                .filter(|((_, hash), ours)| ours.state_hash() != *hash)
                .map(|((key, _), _)| *key)
                .collect();
            for keys in lacking.chunks(RECORDS_IN_CALL_MAX) {
                if self.pull_these(node, keys).await.is_ok() {
                    continue;
                }
                for key in keys {
                    if let Err(error) = self.pull_these(node, &[*key]).await {
                        if !self.is_reachable(node) || self.store.has_failed() {
                            return Err(error);
                        }
                        warn!(peer = ?node, %error, "a record could not be taken over");
                        complete = false;
                    }
                }
            }
            after = next_after(&from, page.next, node)?;
        }
        Ok(complete)
    }

    async fn pull_these(self: &Arc<Self>, node: &NodeId, keys: &[RecordKey]) -> Result<(), Error> {
        let records = self.fetch_records(node, keys, 0).await?;
        self.store.merge_records(keys.iter().copied().zip(records).collect()).await?;
        Ok(())
    }

    async fn want_missing(&self, rows: &[RefRow]) -> Result<(), Error> {
        let held = self.store.has_blobs(rows.iter().map(|row| row.blob).collect()).await?;
        let missing = rows.iter().zip(held).filter(|(row, held)| !held && !row.dropped);
        missing.for_each(|(row, _)| self.repair.want_now(row.blob));
        Ok(())
    }

    async fn pull_refs(
        self: &Arc<Self>,
        node: &NodeId,
        partition: Partition,
        state: &EpochState,
    ) -> Result<bool, Error> {
        let mut complete = true;
        let mut after = Some(Bytes::new());
        while let Some(from) = after {
            let mut page = self.scan(node, Table::Refs, partition, from.clone()).await?;
            self.bound_holds(&mut page.refs);
            if page.refs.iter().any(|row| row.blob.partition(state.bits) != partition) {
                return Err(unexpected(node));
            }
            // Before the rows are the same as the peer's: else all would seem well for a moment.
            self.want_missing(&page.refs).await?;
            match self.store.merge_refs(page.refs.clone()).await {
                Err(WriteError::Damaged) => complete = false,
                other => {
                    other?;
                }
            }
            // A look that came between the two found no use of them yet.
            self.want_missing(&page.refs).await?;
            after = next_after(&from, page.next, node)?;
        }
        Ok(complete)
    }

    /// Publishes how this node is: space, repair, and how far its moves are.
    fn report(&self) {
        let Some(state) = self.layout.current() else { return };
        let missing = self.repair.missing_partitions(state.bits);
        let mut synced = Vec::new();
        {
            let mut plans = self.sync.plans();
            let moving = |partition: Partition, prepare_epoch: u64| {
                let row = state.rows.get(usize::from(partition));
                row.is_some_and(|row| row.prepare_epoch == prepare_epoch)
            };
            plans.pulled.retain(|(partition, prepare), _| moving(*partition, *prepare));
            for (partition, row) in (0..=Partition::MAX).zip(&state.rows) {
                let receives = row.next.iter().any(|idx| state.node(*idx) == Some(self.id));
                if row.stage == Stage::Stable || !receives {
                    continue;
                }
                let pulled = plans.pulled.get(&(partition, row.prepare_epoch));
                let is_source = |idx| {
                    let node = state.node(idx);
                    let pulled_from = |node| pulled.is_some_and(|pulled| pulled.contains(&node));
                    node.is_some_and(|node| node == self.id || pulled_from(node))
                };
                if bug(Bug::SyncedTooEarly) || row.has_sources(is_source) {
                    synced.push((partition, row.prepare_epoch));
                }
            }
        }
        let bodies = synced.iter().copied().filter(|(partition, _)| {
            missing.as_ref().is_some_and(|missing| !missing.contains(partition))
        });
        let bodies = ranges(bodies.collect::<Vec<_>>());
        let synced = ranges(synced);
        let emptied = self.emptied.lock().expect("no holder of this lock panics").clone();
        let strays = self.strays_seen.load(Ordering::Relaxed);
        // Whoever has not looked yet may miss something: peers must not call that well.
        let unknown = u64::from(!self.repair.knows_all());
        let queue = self.missing_here().saturating_add(strays).saturating_add(unknown);
        // Who has left looks for nothing any more.
        let lost = self.joined().map_or(0, |_| self.repair.lost_len());
        let (used, capacity) = (self.store.used(), self.store.capacity());
        self.network().update(|facts| {
            facts.used = used;
            facts.capacity = capacity;
            facts.repair_queue = queue;
            facts.lost = lost;
            facts.synced = synced;
            facts.bodies = bodies;
            facts.emptied = emptied;
            facts.clean = self.clean_to_tell(facts.clean);
        });
    }
}

struct Page {
    hashes: Vec<(RecordKey, [u8; 32])>,
    refs: Vec<RefRow>,
    next: Option<Bytes>,
}

/// Where the next page begins; a peer that does not move on would keep us busy for ever.
fn next_after(from: &Bytes, next: Option<Bytes>, node: &NodeId) -> Result<Option<Bytes>, Error> {
    match next {
        Some(next) if next <= *from => Err(unexpected(node)),
        other => Ok(other),
    }
}

fn unexpected(node: &NodeId) -> Error {
    Error::Unavailable(vec![(*node, "an unexpected answer".to_owned())])
}

/// How often the loop looks without being told.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// What this node says of itself is signed, sent to all, and looked at by every steward: not for
/// each blob that arrives.
const REPORTS_APART: Duration = Duration::from_millis(100);
/// The same peer is not compared with more often.
const COMPARE_APART: Duration = Duration::from_millis(500);
/// Every co-replica is compared with at least this often.
const COMPARE_EVERY: Duration = Duration::from_secs(30);
/// Fingerprints in one call: 50 bytes each, half a frame.
const ROOTS_IN_CALL_MAX: usize = 2048;
/// Records asked for at once.
const RECORDS_IN_CALL_MAX: usize = 256;
