//! A version with blobs that are stored already: references are noted, contents stay where they are.

use std::collections::BTreeMap;
use std::sync::Arc;

use dfs_core::hlc::Hlc;
use dfs_core::id::{BlobId, NodeId, RecordKey, Vid};
use dfs_core::layout::epoch::EpochState;
use dfs_core::quorum::{Tally, Verdict};
use dfs_core::record::refs::RefRow;
use dfs_p2p::message::{Priority, Request, Response};
use dfs_store::pages::PageWalk;

use crate::blobs::{Copies, Lag};
use crate::client::FileRef;
use crate::config::Mode;
use crate::coordinate::{Ask, Step, StepError};
use crate::error::Error;
use crate::node::Node;
use crate::upload::Uploaded;
use dfs_store::vault::entry::EntryNode;

/// One version taking over the blobs of another, or claiming its own again.
struct Reuse {
    node: Arc<Node>,
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

impl Node {
    /// Makes the content of `old` content of the version `vid`: a row for every blob, on as many
    /// replicas that hold it as an upload would need. From then on the old version may go.
    pub(crate) async fn reuse(
        self: &Arc<Self>,
        key: RecordKey,
        vid: Vid,
        old: &FileRef,
        mode: Mode,
    ) -> Result<Uploaded, Error> {
        let mut reused = Uploaded {
            node: old.entry.node.clone(),
            bytes: old.bytes(),
            refs_root: None,
            blobs: old.blobs,
            bytes_stored: old.bytes_stored,
            copies: None,
            held_until: None,
        };
        if let EntryNode::Chunked { .. } = old.entry.node {
            let unlisted = || Error::Unverified("a version without a reference page".to_owned());
            let root = old.refs_root.ok_or_else(unlisted)?;
            let (hlc, hold_until) = (self.tick(), self.hold_until());
            let node = self.clone();
            let lag = Arc::default();
            let priority = Priority::Chunks;
            let mut reuse =
                Reuse { node, key, vid, mode, hlc, hold_until, priority, lag, copies: None };
            reuse.refer_tree(root).await?;
            (reused.refs_root, reused.copies) = (Some(root), reuse.copies);
            reused.held_until = Some(hold_until);
        }
        Ok(reused)
    }

    /// Notes a row for everything below a reference page of a version, as old as can be: one that is
    /// there and counts stays as it is. Who lacks the blob of a row fetches it.
    pub(crate) async fn note_uses(
        self: &Arc<Self>,
        key: RecordKey,
        vid: Vid,
        root: BlobId,
    ) -> Result<(), Error> {
        let (hlc, hold_until) = (Hlc::default(), Hlc::default());
        let (node, lag, mode) = (self.clone(), Arc::default(), Mode::Quorum);
        let priority = Priority::Background;
        let mut uses = Reuse { node, key, vid, mode, hlc, hold_until, priority, lag, copies: None };
        uses.refer_tree(root).await
    }

    /// Notes rows and asks who holds their blobs; the answers are in the order of the rows.
    async fn note_rows(
        self: &Arc<Self>,
        rows: &[RefRow],
        mode: Mode,
        state: Arc<EpochState>,
    ) -> Result<Vec<Holding>, StepError> {
        let needs_quorum = self.is_quorum(mode, &state);
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
            let step = Step::write(sets.clone(), state.epoch, needs_quorum);
            let noted = self.step(step, |_| Ok(add.clone())).await?;
            for (nth, at) in places.into_iter().enumerate() {
                let mut tally = Tally::new(sets.clone(), needed);
                for (node, response, _) in &noted.answers {
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
}

impl Reuse {
    /// Notes everything below a reference page, and the page itself.
    async fn refer_tree(&mut self, root: BlobId) -> Result<(), Error> {
        self.refer(vec![root]).await?;
        let mut walk = PageWalk::from(root);
        while let Some(at) = walk.next_page() {
            let blob = self.node.find_blob(at.id, self.priority).await?;
            let ids = walk.enter(at, &blob.bytes);
            self.refer(ids.map_err(|_| Error::Unverified("a reference page".to_owned()))?).await?;
        }
        Ok(())
    }

    /// Notes a row for each blob. A blob that too few of those replicas hold is brought to them.
    async fn refer(&mut self, ids: Vec<BlobId>) -> Result<(), Error> {
        let rows: Vec<_> = ids.iter().map(|id| self.row(*id)).collect();
        let (node, mode) = (self.node.clone(), self.mode);
        let holding = node.with_layout(|state| node.note_rows(&rows, mode, state)).await?;
        for (row, (copies, verdict)) in rows.iter().zip(holding) {
            let copies = match verdict {
                Verdict::Reached => copies,
                _ if self.priority == Priority::Background => copies,
                Verdict::Pending | Verdict::Impossible => {
                    let blob = node.find_blob(row.blob, self.priority).await?;
                    node.store_blob(blob, *row, &self.lag, mode).await?
                }
            };
            if self.copies.is_none_or(|fewest| copies.durable < fewest.durable) {
                self.copies = Some(copies);
            }
        }
        Ok(())
    }

    fn row(&self, blob: BlobId) -> RefRow {
        let Self { vid, key, hlc, hold_until, .. } = *self;
        RefRow { blob, vid, key, hlc, dropped: false, hold_until }
    }
}
