//! References: which version uses which blobs, noted where the blobs are, contents untouched.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use dfs_core::hlc::Hlc;
use dfs_core::id::{BlobId, NodeId, RecordKey, Vid};
use dfs_core::layout::epoch::EpochState;
use dfs_core::quorum::{Tally, Verdict};
use dfs_core::record::refs::RefRow;
use dfs_p2p::message::{Priority, Request, Response};
use dfs_store::pages::PageWalk;

use super::{Blobs, Copies, Lag};
use crate::config::Mode;
use crate::error::Error;
use crate::replica::{Replica, millis};
use crate::rpc::{Ask, StepError};

/// What came of making the blobs of one version those of another too.
pub(crate) struct ContentUses {
    /// Of the least replicated blob.
    pub(crate) copies: Option<Copies>,
    /// Until when the references count before a version names them.
    pub(crate) held_until: Hlc,
}

/// One version taking over the blobs of another, or claiming its own again.
struct Uses {
    blobs: Arc<Blobs>,
    key: RecordKey,
    vid: Vid,
    mode: Mode,
    hlc: Hlc,
    hold_until: Hlc,
    /// Whether someone waits: then a blob that too few replicas hold is brought to them.
    priority: Priority,
    lag: Arc<Lag>,
    /// Of the least replicated blob so far.
    copies: Option<Copies>,
}

/// Where one blob is held, and whether that is enough.
type Holding = (Copies, Verdict);

/// Makes everything below a reference page content of the version `vid`: a row for every blob, on
/// as many replicas that hold it as an upload would need. From then on the version that it was
/// content of may go.
pub(crate) async fn reuse(
    blobs: &Arc<Blobs>,
    key: RecordKey,
    vid: Vid,
    root: BlobId,
    mode: Mode,
) -> Result<ContentUses, Error> {
    let (hlc, hold_until) = (blobs.replica.tick(), hold_until(&blobs.replica));
    let (blobs, lag, priority) = (blobs.clone(), Arc::default(), Priority::Chunks);
    let mut uses = Uses { blobs, key, vid, mode, hlc, hold_until, priority, lag, copies: None };
    uses.refer_tree(root).await?;
    Ok(ContentUses { copies: uses.copies, held_until: hold_until })
}

/// Notes a row for everything below a reference page of a version, as old as can be: one that is
/// there and counts stays as it is. Who lacks the blob of a row fetches it.
pub(crate) async fn note_uses(
    blobs: &Arc<Blobs>,
    key: RecordKey,
    vid: Vid,
    root: BlobId,
) -> Result<(), Error> {
    let (hlc, hold_until) = (Hlc::default(), Hlc::default());
    let (blobs, lag, mode) = (blobs.clone(), Arc::default(), Mode::Quorum);
    let priority = Priority::Background;
    let mut uses = Uses { blobs, key, vid, mode, hlc, hold_until, priority, lag, copies: None };
    uses.refer_tree(root).await
}

/// Until when references count that are made now and that no version names yet.
pub(crate) fn hold_until(replica: &Replica) -> Hlc {
    let hold = millis(replica.grace.hold);
    Hlc::from_unix_ms(replica.unix_ms().saturating_add(hold))
}

/// Cuts what peers ask for: no blob is held here for ever that no version names.
pub(crate) fn bound_holds(replica: &Replica, rows: &mut [RefRow]) {
    let longest = millis(replica.grace.hold.max(HOLD_MAX));
    let latest = Hlc::from_unix_ms(replica.unix_ms().saturating_add(longest));
    rows.iter_mut().for_each(|row| row.hold_until = row.hold_until.min(latest));
}

impl Uses {
    /// Notes everything below a reference page, and the page itself.
    async fn refer_tree(&mut self, root: BlobId) -> Result<(), Error> {
        self.refer(vec![root]).await?;
        let mut walk = PageWalk::from(root);
        while let Some(at) = walk.next_page() {
            let blob = self.blobs.find_blob(at.id, self.priority).await?;
            let ids = walk.enter(at, &blob.bytes);
            self.refer(ids.map_err(|_| Error::Unverified("a reference page".to_owned()))?).await?;
        }
        Ok(())
    }

    /// Notes a row for each blob. A blob that too few of those replicas hold is brought to them.
    async fn refer(&mut self, ids: Vec<BlobId>) -> Result<(), Error> {
        let rows: Vec<_> = ids.iter().map(|id| self.row(*id)).collect();
        let blobs = self.blobs.clone();
        let holding = blobs.rpc.with_layout(|state| self.note_rows(&rows, state)).await?;
        for (row, (copies, verdict)) in rows.iter().zip(holding) {
            let copies = match verdict {
                Verdict::Reached => copies,
                _ if self.priority == Priority::Background => copies,
                Verdict::Pending | Verdict::Impossible => {
                    let blob = blobs.find_blob(row.blob, self.priority).await?;
                    blobs.store_blob(blob, *row, &self.lag, self.mode).await?
                }
            };
            if self.copies.is_none_or(|fewest| copies.durable < fewest.durable) {
                self.copies = Some(copies);
            }
        }
        Ok(())
    }

    /// Notes rows and asks who holds their blobs; the answers are in the order of the rows.
    async fn note_rows(
        &self,
        rows: &[RefRow],
        state: Arc<EpochState>,
    ) -> Result<Vec<Holding>, StepError> {
        let needs_quorum = self.blobs.replica.is_quorum(self.mode, &state);
        let needed =
            if needs_quorum { Tally::<NodeId>::write_majority } else { Tally::<NodeId>::any };
        // Rows on the same replicas travel together.
        let mut groups: BTreeMap<Vec<Vec<NodeId>>, Vec<usize>> = BTreeMap::new();
        for (at, row) in rows.iter().enumerate() {
            let sets = state.write_sets(row.blob.partition(state.bits));
            groups.entry(sets).or_default().push(at);
        }
        let nobody = Copies { durable: 0, wanted: 0 };
        let mut holding = vec![(nobody, Verdict::Pending); rows.len()];
        for (sets, places) in groups {
            let together: Vec<_> = places.iter().map(|at| rows[*at]).collect();
            let add = Ask::new(Priority::Records, Request::RefAdd(together));
            let noted =
                self.blobs.rpc.ask_all(sets.clone(), state.epoch, needs_quorum, &add).await?;
            for (nth, at) in places.into_iter().enumerate() {
                let mut tally = Tally::new(sets.clone(), needed);
                for (node, response) in &noted.answers {
                    if matches!(response, Response::Held(held) if held.get(nth) == Some(&true)) {
                        tally.ack(node);
                    }
                }
                let copies = Copies { durable: tally.acked().len(), wanted: tally.wanted() };
                holding[at] = (copies, tally.verdict());
            }
        }
        Ok(holding)
    }

    fn row(&self, blob: BlobId) -> RefRow {
        let Self { vid, key, hlc, hold_until, .. } = *self;
        RefRow { blob, vid, key, hlc, dropped: false, hold_until }
    }
}

/// The longest that a reference counts before a version names it, whatever its writer asks for.
const HOLD_MAX: Duration = Duration::from_secs(30 * 24 * 60 * 60);
