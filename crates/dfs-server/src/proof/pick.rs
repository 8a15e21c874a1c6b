//! Which blobs members are asked to show: found in the reference rows of this node, or of a replica
//! where this node holds none.

use bytes::Bytes;
use dfs_core::id::{BlobId, DirId, NodeId, Partition, RecordKey, Tag, VaultId, Vid};
use dfs_core::layout::epoch::{EpochState, MemberIdx, Row, Stage};
use dfs_core::record::refs::{RefRow, Use};
use dfs_core::replica::possession::BLOBS_AT_ONCE;
use dfs_core::replica::sync::Table;
use dfs_p2p::message::{Priority, Request, Response};
use dfs_store::disk::store::ref_row;

use super::{Prover, challenge};
use crate::error::Error;
use crate::rpc::Ask;

/// Blobs to ask for, all of one partition.
pub(super) struct Picked {
    pub(super) partition: Partition,
    /// Some use of each; none when nothing was found up to here.
    pub(super) uses: Vec<Use>,
    /// Where the look at every blob is with them.
    pub(super) upto: BlobId,
}

impl Prover {
    /// Some blobs that a member should hold, after a random point in the order of ids.
    pub(super) async fn pick_random(
        &self,
        state: &EpochState,
        node: &NodeId,
    ) -> Result<Option<Picked>, Error> {
        let counts = self.replica.store.roots(Table::Refs, state.bits).await?;
        let is_here = |partition: &Partition| self.is_here(state, *partition);
        let mut candidates: Vec<Partition> = (0..=Partition::MAX)
            .take(state.rows.len())
            .filter(|partition| challenge::judged(state, *partition).contains(node))
            .filter(|at| !is_here(at) || counts[usize::from(*at)].count > 0)
            .collect();
        for tried in 0..PARTITIONS_TRIED {
            // What other replicas list may be nothing; after a while only what is known here.
            if tried == PARTITIONS_TRIED / 2 {
                candidates.retain(is_here);
            }
            let Some(at) = self.below(candidates.len()) else { break };
            let partition = candidates.swap_remove(at);
            let point = self.random_point(state, partition);
            let mut uses = self.uses_after(state, partition, before(point), Some(node)).await?;
            if uses.is_empty() {
                uses = self.uses_after(state, partition, Vec::new(), Some(node)).await?;
            }
            if let Some(last) = uses.last() {
                return Ok(Some(Picked { partition, upto: last.blob, uses }));
            }
        }
        Ok(None)
    }

    /// The blobs that follow one in the order of ids, of what this gateway looks after: partitions
    /// that it holds itself, and those that no gateway holds. `None` after the last.
    pub(super) async fn pick_after(
        &self,
        state: &EpochState,
        after: Option<BlobId>,
    ) -> Result<Option<Picked>, Error> {
        let counts = self.replica.store.roots(Table::Refs, state.bits).await?;
        let first = after.map_or(0, |id| id.partition(state.bits));
        let mut asked = 0;
        for (partition, count) in (0..=Partition::MAX).zip(&counts).skip(usize::from(first)) {
            let is_here = self.is_here(state, partition);
            let is_left_out = match is_here {
                true => count.count == 0,
                false => has_gateway(state, state.row(partition)),
            };
            if is_left_out || challenge::judged(state, partition).is_empty() {
                continue;
            }
            let from = after.filter(|_| partition == first).map(behind).unwrap_or_default();
            let uses = self.uses_after(state, partition, from, None).await?;
            if let Some(last) = uses.last() {
                return Ok(Some(Picked { partition, upto: last.blob, uses }));
            }
            asked += usize::from(!is_here);
            if asked >= LISTS_ASKED {
                return Ok(Some(Picked { partition, upto: last_of(state, partition), uses }));
            }
        }
        Ok(None)
    }

    /// About how many blobs the look at every blob comes by.
    pub(super) async fn covered_blobs(&self, state: &EpochState) -> Result<u64, Error> {
        let counts = self.replica.store.roots(Table::Refs, state.bits).await?;
        let here = (0..=Partition::MAX).zip(counts).filter(|(at, _)| self.is_here(state, *at));
        Ok(here.fold(0, |sum, (_, root)| sum.saturating_add(root.count)))
    }

    /// A few blobs of a partition that are used, after a row key, each with one of its uses.
    async fn uses_after(
        &self,
        state: &EpochState,
        partition: Partition,
        after: Vec<u8>,
        not: Option<&NodeId>,
    ) -> Result<Vec<Use>, Error> {
        let rows = match self.is_here(state, partition) {
            true => self.replica.store.scan_refs(partition, state.bits, after, ROWS_READ).await?,
            false => self.listed_after(state, partition, after, not).await,
        };
        let mut uses: Vec<Use> = Vec::with_capacity(BLOBS_AT_ONCE);
        for row in rows.iter().filter(|row| !row.dropped) {
            let is_new = uses.last().is_none_or(|last| last.blob < row.blob);
            if is_new && row.blob.partition(state.bits) == partition {
                uses.push(row.of());
            }
        }
        uses.truncate(BLOBS_AT_ONCE);
        Ok(uses)
    }

    /// The same as some replica lists them; nothing when it does not answer.
    async fn listed_after(
        &self,
        state: &EpochState,
        partition: Partition,
        after: Vec<u8>,
        not: Option<&NodeId>,
    ) -> Vec<RefRow> {
        let mut replicas = state.read_set(partition);
        replicas.retain(|node| Some(node) != not && self.replica.is_reachable(node));
        let gateways = replicas.iter().filter(|node| state.is_gateway(node)).count();
        if gateways > 0 {
            replicas.retain(|node| state.is_gateway(node));
        }
        let Some(at) = self.below(replicas.len()) else { return Vec::new() };
        let after = Bytes::from(after);
        let scan = Request::SyncScan { table: Table::Refs, partition, after };
        let asked = self.rpc.ask(&replicas[at], 0, Ask::new(Priority::Background, scan));
        match asked.await {
            Ok((Response::Rows { refs, .. }, _)) => refs,
            _ => Vec::new(),
        }
    }

    /// Whether this node's own rows say what the replicas of a partition should hold.
    fn is_here(&self, state: &EpochState, partition: Partition) -> bool {
        let row = state.row(partition);
        let is_own = |idx: &MemberIdx| state.node(*idx) == Some(self.replica.id);
        row.stage == Stage::Stable && row.current.iter().any(is_own)
    }

    fn random_point(&self, state: &EpochState, partition: Partition) -> BlobId {
        let mut id: [u8; 32] = self.replica.env.random();
        let shift = 16 - state.bits.get();
        let low = u16::from_be_bytes([id[0], id[1]]) & ((1 << shift) - 1);
        id[..2].copy_from_slice(&((partition << shift) | low).to_be_bytes());
        BlobId::new(id)
    }

    /// A random number below another.
    fn below(&self, count: usize) -> Option<usize> {
        let random = usize::try_from(u32::from_le_bytes(self.replica.env.random())).unwrap_or(0);
        random.checked_rem(count)
    }
}

fn has_gateway(state: &EpochState, row: &Row) -> bool {
    row.current.iter().any(|idx| state.node(*idx).is_some_and(|node| state.is_gateway(&node)))
}

/// The row key that all rows of a blob come after.
fn before(blob: BlobId) -> Vec<u8> {
    key_with(blob, 0)
}

/// The row key that all rows of a blob come before.
fn behind(blob: BlobId) -> Vec<u8> {
    key_with(blob, 0xff)
}

fn key_with(blob: BlobId, fill: u8) -> Vec<u8> {
    let id = [fill; 16];
    let key = RecordKey { vault: VaultId::new(id), dir: DirId::new(id), tag: Tag::new(id) };
    ref_row(&Use { blob, vid: Vid::new(id), key })
}

/// The last id there could be in a partition.
fn last_of(state: &EpochState, partition: Partition) -> BlobId {
    let mut id = [0xff; 32];
    let shift = 16 - state.bits.get();
    let last = (partition << shift) | ((1 << shift) - 1);
    id[..2].copy_from_slice(&last.to_be_bytes());
    BlobId::new(id)
}

/// Rows read to find a few blobs: most have one use.
const ROWS_READ: usize = 64;
/// Partitions of which a random one is tried when another turned out to be empty.
const PARTITIONS_TRIED: usize = 8;
/// Lists of other replicas that may be empty before the look at every blob rests.
const LISTS_ASKED: usize = 8;
