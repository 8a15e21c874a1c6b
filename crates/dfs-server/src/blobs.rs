//! Storing a blob on its replicas, and fetching one from whoever has it.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use dfs_core::id::{BlobId, NodeId};
use dfs_core::layout::epoch::EpochState;
use dfs_core::quorum::{Tally, Verdict};
use dfs_core::record::refs::RefRow;
use dfs_env::{Bug, bug};
use dfs_p2p::CallError;
use dfs_p2p::message::{Code, Priority, Request, Response};
use dfs_store::ReadError;
use dfs_store::blob::BLOB_BYTES_MAX;
use dfs_store::blob::Blob;
use dfs_store::pages::PageWalk;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::sync::Semaphore;
use tracing::{debug, warn};

use crate::config::Mode;
use crate::coordinate::{Ask, AskError, Step, StepError, failed};
use crate::error::Error;
use crate::node::Node;

/// How far one upload lets slow replicas fall behind.
#[derive(Debug)]
pub(crate) struct Lag {
    /// Blobs that a slow replica may still owe when the upload goes on.
    permits: Arc<Semaphore>,
    /// Replicas that this upload no longer waits for or sends to.
    behind: Mutex<BTreeSet<NodeId>>,
}

impl Default for Lag {
    fn default() -> Self {
        Self { permits: Arc::new(Semaphore::new(LAG_BLOBS_MAX)), behind: Mutex::default() }
    }
}

impl Lag {
    fn is_behind(&self, node: &NodeId) -> bool {
        self.behind.lock().expect("no holder of this lock panics").contains(node)
    }

    fn leave_behind(&self, nodes: impl IntoIterator<Item = NodeId>) {
        self.behind.lock().expect("no holder of this lock panics").extend(nodes);
    }
}

/// Where a stored blob is durable.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Copies {
    pub(crate) durable: usize,
    pub(crate) wanted: usize,
}

type Sent = (NodeId, Result<(), AskError>);

impl Node {
    /// Stores a blob: first the reference that protects it, then the bytes, each durable on
    /// enough replicas before this returns.
    pub(crate) async fn store_blob(
        self: &Arc<Self>,
        blob: Blob,
        row: RefRow,
        lag: &Arc<Lag>,
        mode: Mode,
    ) -> Result<Copies, Error> {
        let stored =
            self.with_layout(|state| self.store_attempt(blob.clone(), row, lag, mode, state)).await;
        match stored {
            // No replica is in reach. One copy here is better than none; they get it once they are
            // back.
            Err(Error::Unavailable(_)) if !self.is_quorum(mode, &*self.joined()?) => {
                self.store.add_refs(vec![row]).await?;
                self.store.put_blob(blob.id, blob.bytes).await?;
                let state = self.joined()?;
                let sets = state.write_sets(blob.id.partition(state.bits));
                let wanted = sets.iter().map(Vec::len).max().unwrap_or(0);
                Ok(Copies { durable: 1, wanted })
            }
            stored => stored,
        }
    }

    async fn store_attempt(
        self: &Arc<Self>,
        blob: Blob,
        row: RefRow,
        lag: &Arc<Lag>,
        mode: Mode,
        state: Arc<EpochState>,
    ) -> Result<Copies, StepError> {
        let needs_quorum = self.is_quorum(mode, &state);
        let needed =
            if needs_quorum { Tally::<NodeId>::write_majority } else { Tally::<NodeId>::any };
        let sets = state.write_sets(blob.id.partition(state.bits));
        let add = Ask::new(Priority::Records, Request::RefAdd(vec![row]));
        let step = Step::write(sets.clone(), state.epoch, needs_quorum);
        let noted = self.step(step, |_| Ok(add.clone())).await?;
        let mut tally = Tally::new(sets, needed);
        let mut sending = FuturesUnordered::new();
        let mut failures = Vec::new();
        let mut held_back = Vec::new();
        for node in tally.nodes() {
            let answer = noted.answers.iter().find(|(who, ..)| *who == node);
            match answer {
                Some((_, Response::Held(held), _)) if held == &[true] => {
                    tally.ack(&node);
                }
                // Who did not note the reference in time may not keep the blob either; the row
                // reaches it later, and it fetches the blob then.
                _ if lag.is_behind(&node) => held_back.push(node),
                _ => sending.push(self.clone().send_blob(node, state.epoch, blob.clone())),
            }
        }
        loop {
            match tally.verdict() {
                Verdict::Reached if needs_quorum || sending.is_empty() => break,
                Verdict::Impossible => return Err(failed(failures)),
                Verdict::Reached | Verdict::Pending => {}
            }
            let Some((node, result)) = sending.next().await else {
                // The others are not enough: a slow replica is better than none.
                if held_back.is_empty() {
                    return Err(failed(failures));
                }
                let slow = held_back.drain(..);
                sending.extend(
                    slow.map(|node| self.clone().send_blob(node, state.epoch, blob.clone())),
                );
                continue;
            };
            match result {
                Ok(()) => {
                    tally.ack(&node);
                }
                Err(error) if error.code() == Some(Code::StaleEpoch) => {
                    return Err(StepError::Stale);
                }
                Err(error) => {
                    debug!(peer = ?node, %error, "a replica did not take a blob");
                    if matches!(error, AskError::Call(CallError::Deadline)) {
                        lag.leave_behind([node]);
                    }
                    self.sync.owe(node);
                    failures.push((node, error));
                    tally.fail(&node);
                }
            }
        }
        let copies = Copies { durable: tally.acked().len(), wanted: tally.wanted() };
        self.let_lag(sending, &tally, lag).await;
        Ok(copies)
    }

    async fn send_blob(self: Arc<Self>, node: NodeId, epoch: u64, blob: Blob) -> Sent {
        let ask = Ask {
            body: blob.bytes,
            deadline: BLOB_DEADLINE,
            ..Ask::new(Priority::Chunks, Request::ChunkPut(blob.id))
        };
        let result = self.ask_again(&node, epoch, ask).await;
        (node, result.map(|_| ()))
    }

    /// Asks, and asks again while the node says that it is too busy.
    async fn ask_again(
        self: &Arc<Self>,
        node: &NodeId,
        epoch: u64,
        ask: Ask,
    ) -> Result<(Response, Bytes), AskError> {
        let mut tries = 0;
        loop {
            let result = self.ask(node, epoch, ask.clone()).await;
            let Err(AskError::Refused(refusal)) = &result else { return result };
            let Some(wait) = refusal.retry_after.filter(|_| tries < OVERLOADED_TRIES) else {
                return result;
            };
            tries += 1;
            self.env.sleep(wait.min(OVERLOADED_WAIT_MAX) * tries).await;
        }
    }

    /// Lets slow replicas finish in the background, a few blobs at most; beyond that the upload
    /// goes on without them, and comparing rows brings them up to date.
    async fn let_lag<F>(
        self: &Arc<Self>,
        mut sending: FuturesUnordered<F>,
        tally: &Tally<NodeId>,
        lag: &Arc<Lag>,
    ) where
        F: Future<Output = Sent> + Send + 'static,
    {
        if sending.is_empty() {
            return;
        }
        let waited = self.env.sleep(LAG_WAIT);
        tokio::pin!(waited);
        let permit = loop {
            tokio::select! {
                biased;
                permit = lag.permits.clone().acquire_owned() => break permit.ok(),
                sent = sending.next() => {
                    self.note_sent(sent);
                    if sending.is_empty() {
                        return;
                    }
                }
                () = &mut waited => break None,
            }
        };
        let Some(permit) = permit else {
            let slow: Vec<_> = tally.nodes().difference(tally.acked()).copied().collect();
            warn!(peers = ?slow, "an upload goes on without slow replicas");
            slow.iter().for_each(|node| self.sync.owe(*node));
            lag.leave_behind(slow);
            return;
        };
        let this = self.clone();
        self.finish_later(Box::pin(async move {
            while let Some(sent) = sending.next().await {
                this.note_sent(Some(sent));
            }
            drop(permit);
        }));
    }

    fn note_sent(&self, sent: Option<Sent>) {
        if let Some((node, Err(error))) = sent {
            debug!(peer = ?node, %error, "a replica did not take a blob");
            self.sync.owe(node);
        }
    }

    /// A verified blob, from this disk or whichever peer has it.
    ///
    /// A peer that lacks it, sends something else or is silent costs a bounded delay.
    pub(crate) async fn fetch_blob(self: &Arc<Self>, id: BlobId) -> Result<Bytes, Error> {
        let _waited = self.foreground.begin();
        Ok(self.find_blob(id, Priority::Chunks).await?.bytes)
    }

    /// The same, whether or not someone waits for it.
    pub(crate) async fn find_blob(
        self: &Arc<Self>,
        id: BlobId,
        priority: Priority,
    ) -> Result<Blob, Error> {
        let mut here = None;
        match self.store.get_blob(id).await {
            Ok(blob) => return Ok(blob),
            Err(ReadError::Corrupt(_)) => self.repair.want_now(id),
            Err(ReadError::NotHeld(_)) => {}
            Err(error) => {
                debug!(blob = ?id, %error, "a blob could not be read here");
                here = Some(error.to_string());
            }
        }
        let state = self.joined()?;
        match (self.fetch_remote(id, &state, priority).await, here) {
            // This disk may still have it, and only could not be asked.
            (Err(Error::Lost(_)), Some(why)) => Err(Error::Unavailable(vec![(self.id, why)])),
            (fetched, _) => fetched,
        }
    }

    /// A verified blob from a peer.
    pub(crate) async fn fetch_remote(
        self: &Arc<Self>,
        id: BlobId,
        state: &Arc<EpochState>,
        priority: Priority,
    ) -> Result<Blob, Error> {
        let replicas = state.holders(id.partition(state.bits));
        let mut candidates: Vec<NodeId> =
            replicas.iter().copied().filter(|node| *node != self.id).collect();
        candidates.sort_by_key(|node| !self.is_reachable(node));
        let others = state.present().map(|member| member.node_id);
        let others = others
            .filter(|node| *node != self.id && !replicas.contains(node) && self.is_reachable(node));
        candidates.extend(others.take(STRANGERS_ASKED_MAX));
        if bug(Bug::FetchAsksOne) {
            candidates.truncate(1);
        }
        // A second copy on its way takes from the line what the first one needs.
        let hedge_after = match priority {
            Priority::Background => BLOB_DEADLINE / 2,
            _ => HEDGE_AFTER,
        };
        let mut candidates = candidates.into_iter();
        let mut asking = FuturesUnordered::new();
        let mut unanswered = Vec::new();
        loop {
            let hedge = self.env.sleep(hedge_after);
            if asking.is_empty() {
                match candidates.next() {
                    Some(node) => asking.push(self.clone().get_blob_from(node, id, priority)),
                    None => break,
                }
            }
            let (node, result) = tokio::select! {
                biased;
                Some(answered) = asking.next() => answered,
                () = hedge => {
                    if let Some(node) = candidates.next() {
                        asking.push(self.clone().get_blob_from(node, id, priority));
                    }
                    continue;
                }
            };
            match result {
                Ok(blob) => return Ok(blob),
                Err(error) if says_no(&error) => {
                    debug!(blob = ?id, peer = ?node, %error, "a peer has no good copy");
                }
                Err(error) => unanswered.push((node, error.to_string())),
            }
        }
        unanswered.retain(|(node, _)| replicas.contains(node));
        if unanswered.is_empty() {
            Err(Error::Lost(format!("blob {id}")))
        } else {
            Err(Error::Unavailable(unanswered))
        }
    }

    async fn get_blob_from(
        self: Arc<Self>,
        node: NodeId,
        id: BlobId,
        priority: Priority,
    ) -> (NodeId, Result<Blob, AskError>) {
        let ask = Ask {
            answer_bytes_max: BLOB_BYTES_MAX,
            deadline: BLOB_DEADLINE,
            ..Ask::new(priority, Request::ChunkGet(id))
        };
        let result = match self.ask_again(&node, 0, ask).await {
            Err(error) => Err(error),
            Ok((_, bytes)) => match self.env.offload(move || Blob::checked(id, bytes)).await {
                Some(blob) => Ok(blob),
                None => {
                    warn!(peer = ?node, blob = ?id, "a peer sent other bytes than asked for");
                    let report = Ask::new(Priority::Background, Request::ReportCorrupt(id));
                    let _ = self.ask(&node, 0, report).await;
                    let why = "it sent other bytes";
                    Err(dfs_p2p::message::Refusal::new(Code::Corrupt, why).into())
                }
            },
        };
        (node, result)
    }

    /// Counts the copies of every blob of a version, its reference pages included.
    pub(crate) async fn copies_of(
        self: &Arc<Self>,
        refs_root: BlobId,
        state: &Arc<EpochState>,
    ) -> Result<Vec<(BlobId, usize)>, Error> {
        let counts = self.count_copies(&[refs_root], state).await;
        let mut copies: Vec<_> = std::iter::zip([refs_root], counts).collect();
        let mut walk = PageWalk::from(refs_root);
        while let Some(at) = walk.next_page() {
            let ids = walk.enter(at, &self.fetch_blob(at.id).await?);
            let ids = ids.map_err(|_| Error::Unverified("a reference page".to_owned()))?;
            let counts = self.count_copies(&ids, state).await;
            copies.extend(ids.into_iter().zip(counts));
        }
        Ok(copies)
    }

    /// For each blob, how many of its replicas hold it durably now.
    pub(crate) async fn count_copies(
        self: &Arc<Self>,
        ids: &[BlobId],
        state: &Arc<EpochState>,
    ) -> Vec<usize> {
        let mut counts = vec![0; ids.len()];
        let nodes: BTreeSet<NodeId> =
            ids.iter().flat_map(|id| state.holders(id.partition(state.bits))).collect();
        for node in nodes.into_iter().filter(|node| self.is_reachable(node)) {
            let on_node = |id: &BlobId| state.is_replica(id.partition(state.bits), &node);
            let places: Vec<_> = (0..ids.len()).filter(|at| on_node(&ids[*at])).collect();
            for places in places.chunks(dfs_p2p::KEYS_MAX) {
                let asked = places.iter().map(|at| ids[*at]).collect();
                let ask = Ask::new(Priority::Records, Request::ChunkHas(asked));
                let Ok((Response::Held(held), _)) = self.ask(&node, 0, ask).await else { break };
                for (at, _) in places.iter().zip(held).filter(|(_, held)| *held) {
                    counts[*at] += 1;
                }
            }
        }
        counts
    }
}

/// Whether a peer said that it has no good copy, rather than that it could not look.
fn says_no(error: &AskError) -> bool {
    matches!(error.code(), Some(Code::NotFound | Code::Corrupt | Code::NotReplica))
}

/// Blobs that slow replicas may owe one upload: half the window again.
const LAG_BLOBS_MAX: usize = 2;
/// How long an upload waits for a slow replica before it goes on without it.
const LAG_WAIT: Duration = Duration::from_secs(2);
/// A blob of 1 MiB at 100 KiB/s, when it has the line for itself.
const BLOB_DEADLINE: Duration = Duration::from_secs(10);
/// How often a busy replica is asked again.
const OVERLOADED_TRIES: u32 = 20;
/// The longest wait that a busy replica may ask for.
const OVERLOADED_WAIT_MAX: Duration = Duration::from_millis(500);
/// How long the first peer may take before a second one is asked as well, where someone waits.
const HEDGE_AFTER: Duration = Duration::from_millis(250);
/// Members asked for a blob that are not its replicas.
const STRANGERS_ASKED_MAX: usize = 16;
