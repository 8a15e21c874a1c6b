//! Pulling the rows of one partition that a peer has and this node lacks.

use bytes::Bytes;
use dfs_core::id::{NodeId, Partition, RecordKey};
use dfs_core::layout::epoch::EpochState;
use dfs_core::record::refs::RefRow;
use dfs_core::replica::sync::Table;
use dfs_env::{Bug, bug};
use dfs_p2p::message::{Priority, Request, Response};
use dfs_store::WriteError;
use tracing::warn;

use super::RowSync;
use super::vouch::Verdict;
use crate::blobs::bound_holds;
use crate::error::Error;
use crate::rpc::Ask;

impl RowSync {
    async fn scan(
        &self,
        node: &NodeId,
        table: Table,
        partition: Partition,
        after: Bytes,
    ) -> Result<Page, Error> {
        let ask = Ask::new(Priority::Records, Request::SyncScan { table, partition, after });
        match self.rpc.ask(node, 0, ask).await {
            Ok((Response::Rows { hashes, refs, last, more }, _)) => {
                if more && hashes.is_empty() && refs.is_empty() {
                    return Err(unexpected(node));
                }
                Ok(Page { hashes, refs, next: more.then_some(last) })
            }
            Ok(_) => Err(unexpected(node)),
            Err(error) => Err(Error::failed(node, error.to_string())),
        }
    }

    /// Pulls records; says whether all could be taken. One that cannot (a signature that does not
    /// verify, a damaged row here) does not keep the others away.
    pub(super) async fn pull_records(
        &self,
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
            let ours = self.replica.store.record_hashes(keys, usize::MAX).await?;
            let rows = page.hashes.iter().zip(&ours);
            // Of a vault that the cluster is not for nothing is missing.
            let is_kept =
                |key: &RecordKey| state.may_bring(node, &key.vault) || bug(Bug::AnyVaultKept);
            let lacking = rows.filter(|((key, hash), ours)| *ours != hash && is_kept(key));
            let lacking: Vec<RecordKey> = lacking.map(|((key, _), _)| *key).collect();
            for keys in lacking.chunks(RECORDS_IN_CALL_MAX) {
                if let Ok(all) = self.pull_these(node, keys, state).await {
                    complete &= all;
                    continue;
                }
                for key in keys {
                    match self.pull_these(node, &[*key], state).await {
                        Ok(all) => complete &= all,
                        Err(error) => {
                            if !self.replica.is_reachable(node) || self.replica.store.has_failed() {
                                return Err(error);
                            }
                            warn!(peer = ?node, %error, "a record could not be taken over");
                            complete = false;
                        }
                    }
                }
            }
            after = next_after(&from, page.next, node)?;
        }
        Ok(complete)
    }

    /// Says whether all could be taken now. What was deleted long ago is not taken, and nothing is
    /// missing without it.
    async fn pull_these(
        &self,
        node: &NodeId,
        keys: &[RecordKey],
        state: &EpochState,
    ) -> Result<bool, Error> {
        let records = self.records.fetch_records(node, keys, 0).await?;
        let records = keys.iter().copied().zip(records).collect();
        let (waiting, records) = self.records.purged.sift(node, records, state).await?;
        match self.replica.store.merge_records(records).await {
            Ok(_) | Err(WriteError::Purged) => Ok(waiting.is_empty()),
            Err(error) => Err(error.into()),
        }
    }

    async fn want_missing(&self, rows: &[RefRow]) -> Result<(), Error> {
        let held = self.replica.store.has_blobs(rows.iter().map(|row| row.blob).collect()).await?;
        let missing = rows.iter().zip(held).filter(|(row, held)| !held && !row.dropped);
        missing.for_each(|(row, _)| self.replica.missing.want_now(row.blob));
        Ok(())
    }

    pub(super) async fn pull_refs(
        &self,
        node: &NodeId,
        partition: Partition,
        state: &EpochState,
    ) -> Result<bool, Error> {
        let mut complete = true;
        let mut after = Some(Bytes::new());
        while let Some(from) = after {
            let mut page = self.scan(node, Table::Refs, partition, from.clone()).await?;
            bound_holds(&self.replica, &mut page.refs);
            if page.refs.iter().any(|row| row.blob.partition(state.bits) != partition) {
                return Err(unexpected(node));
            }
            let verdicts = self.vouching.judge(node, &mut page.refs).await?;
            complete &= !verdicts.contains(&Verdict::Refused);
            let mut verdicts = verdicts.into_iter();
            page.refs.retain(|_| verdicts.next() == Some(Verdict::Counts));
            // Before the rows are the same as the peer's: else all would seem well for a moment.
            self.want_missing(&page.refs).await?;
            match self.replica.store.merge_refs(page.refs.clone()).await {
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

pub(super) fn unexpected(node: &NodeId) -> Error {
    Error::failed(node, "an unexpected answer")
}

/// Records asked for at once.
const RECORDS_IN_CALL_MAX: usize = 256;
