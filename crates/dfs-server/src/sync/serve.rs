//! Answering peers that compare their rows with those here.

use bytes::Bytes;
use dfs_core::id::{NodeId, Partition};
use dfs_core::layout::epoch::EpochState;
use dfs_core::record::refs::RefRow;
use dfs_core::replica::sync::{Root, Table, differing};
use dfs_p2p::Caller;
use dfs_p2p::message::{Code, Refusal, Response};
use dfs_store::disk::store::{Page, PageLimit, record_row, ref_row};

use super::RowSync;
use super::vouch::Verdict;
use crate::rpc::answer::{OTHER_VAULT, Told, done, read_refused, refusal};

impl RowSync {
    /// Which rows that a peer brings count; the use of the others has ended here. Where one is
    /// refused, all are: the peer keeps them, and tries again.
    pub(crate) async fn counting(
        &self,
        from: &NodeId,
        rows: &mut [RefRow],
    ) -> Result<Vec<bool>, Refusal> {
        let verdicts = self.vouching.judge(from, rows).await;
        let verdicts = verdicts.map_err(|error| refusal(Code::Internal, error.to_string()))?;
        if verdicts.contains(&Verdict::Refused) {
            return Err(refusal(Code::NotFound, "no record has this use of a blob"));
        }
        if verdicts.contains(&Verdict::Foreign) {
            return Err(refusal(Code::NotMember, OTHER_VAULT));
        }
        Ok(verdicts.into_iter().map(|verdict| verdict == Verdict::Counts).collect())
    }

    /// Answers which partitions differ from a peer's.
    pub(crate) async fn on_roots(
        &self,
        state: &EpochState,
        from: Caller,
        table: Table,
        roots: Vec<(Partition, Root)>,
    ) -> Told {
        // Before the roots: what is here then is what they speak of.
        let asked: Vec<Partition> = match table {
            Table::Records => roots.iter().map(|(partition, _)| *partition).collect(),
            Table::Refs => Vec::new(),
        };
        let known = self.replica.store.floors(asked.clone()).await.map_err(read_refused)?;
        let floors = asked.into_iter().zip(known).filter_map(|(of, floor)| Some((of, floor?)));
        let floors = floors.filter(|(of, _)| state.is_replica(*of, &self.replica.id)).collect();
        let ours = self.replica.store.roots(table, state.bits).await.map_err(read_refused)?;
        let mut differ = differing(&ours, &roots);
        differ.retain(|partition| state.is_replica(*partition, &self.replica.id));
        if !differ.is_empty() && from.node != self.replica.id {
            self.replica.owed.owe(from.node);
        }
        done(Response::Differing { partitions: differ, floors })
    }

    /// Answers a page of a partition's rows: hashes of records, or whole reference rows.
    pub(crate) async fn on_scan(
        &self,
        state: &EpochState,
        table: Table,
        partition: Partition,
        after: Bytes,
    ) -> Told {
        if usize::from(partition) >= state.bits.count() {
            return Err(refusal(Code::Malformed, "no such partition"));
        }
        let after = after.to_vec();
        let bits = state.bits;
        let limit = SYNC_ROWS_MAX;
        let response = match table {
            Table::Records => {
                let limit = PageLimit::of_rows(limit);
                let page = self.replica.store.scan_record_hashes(partition, bits, after, limit);
                let Page { rows, more } = page.await.map_err(read_refused)?;
                let last = rows.last().map(|(key, _)| record_row(key));
                Response::Rows {
                    more,
                    hashes: rows,
                    refs: Vec::new(),
                    last: last.unwrap_or_default().into(),
                }
            }
            Table::Refs => {
                let rows = self.replica.store.scan_refs(partition, bits, after, limit).await;
                let rows = rows.map_err(read_refused)?;
                let last = rows.last().map(|row| ref_row(&row.of()));
                Response::Rows {
                    hashes: Vec::new(),
                    more: rows.len() == limit,
                    refs: rows,
                    last: last.unwrap_or_default().into(),
                }
            }
        };
        done(response)
    }
}

/// Rows of one page of a comparison: 90 to 150 bytes each.
const SYNC_ROWS_MAX: usize = 1000;
