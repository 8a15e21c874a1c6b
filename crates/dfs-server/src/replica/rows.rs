//! Walking through the rows of one partition on this disk, a page at a time.

use std::time::Duration;

use dfs_core::id::{Partition, PartitionBits, RecordKey};
use dfs_core::record::refs::RefRow;
use dfs_core::record::version::Record;
use dfs_store::disk::store::{Page, PageLimit, record_row, ref_row};
use dfs_store::{ReadError, Store};

use super::Replica;
use crate::error::Error;

/// A row that lies in the order of its key.
pub(crate) trait PagedRow: Sized {
    /// Rows read at once, at most.
    const PAGE_ROWS: usize;

    /// The rows that follow a key, in order.
    fn scan(
        store: &Store,
        partition: Partition,
        bits: PartitionBits,
        after: Vec<u8>,
    ) -> impl Future<Output = Result<Page<Self>, ReadError>> + Send;

    /// The key.
    fn key(&self) -> Vec<u8>;
}

impl PagedRow for RefRow {
    /// 100 bytes each.
    const PAGE_ROWS: usize = 1024;

    async fn scan(
        store: &Store,
        partition: Partition,
        bits: PartitionBits,
        after: Vec<u8>,
    ) -> Result<Page<Self>, ReadError> {
        let rows = store.scan_refs(partition, bits, after, Self::PAGE_ROWS).await?;
        let more = rows.len() == Self::PAGE_ROWS;
        Ok(Page { rows, more })
    }

    fn key(&self) -> Vec<u8> {
        ref_row(&self.of())
    }
}

impl PagedRow for (RecordKey, Record) {
    /// Some KiB each, with what they retain.
    const PAGE_ROWS: usize = 256;

    async fn scan(
        store: &Store,
        partition: Partition,
        bits: PartitionBits,
        after: Vec<u8>,
    ) -> Result<Page<Self>, ReadError> {
        let limit = PageLimit::of_rows(Self::PAGE_ROWS);
        store.scan_records(partition, bits, after, limit).await
    }

    fn key(&self) -> Vec<u8> {
        record_row(&self.0)
    }
}

/// How far a walk through a partition is.
pub(crate) struct RowWalk {
    partition: Partition,
    bits: PartitionBits,
    after: Vec<u8>,
    /// Whether the page before was full; `None` before the first.
    was_full: Option<bool>,
}

impl RowWalk {
    /// Begins at the first row.
    pub(crate) fn of(partition: Partition, bits: PartitionBits) -> Self {
        Self { partition, bits, after: Vec::new(), was_full: None }
    }

    /// The next page; `None` when there are no more rows.
    pub(crate) async fn next<R: PagedRow>(
        &mut self,
        store: &Store,
    ) -> Result<Option<Vec<R>>, ReadError> {
        let after = std::mem::take(&mut self.after);
        let Page { rows, more } = R::scan(store, self.partition, self.bits, after).await?;
        let Some(last) = rows.last() else { return Ok(None) };
        self.after = last.key();
        self.was_full = Some(more);
        Ok(Some(rows))
    }

    /// The next page, after a rest when the page before was full: for long looks that no one waits
    /// for.
    ///
    /// # Errors
    /// [`Error::NotJoined`] or [`Error::ShuttingDown`] when there is no more to do.
    pub(crate) async fn next_rested<R: PagedRow>(
        &mut self,
        replica: &Replica,
    ) -> Result<Option<Vec<R>>, Error> {
        if let Some(was_full) = self.was_full {
            replica.rest(was_full).await?;
        }
        Ok(self.next(&replica.store).await?)
    }
}

impl Replica {
    /// Sleeps between full pages of a long look. An error says that there is no more to do.
    pub(crate) async fn rest(&self, was_full: bool) -> Result<(), Error> {
        if was_full {
            tokio::select! {
                biased;
                () = self.shutdown.cancelled() => return Err(Error::ShuttingDown),
                () = self.env.sleep(PAGE_APART) => {}
            }
        }
        self.joined().map(|_| ())
    }
}

/// Between two full pages of rows: a million rows take less than a minute, and users do not notice.
const PAGE_APART: Duration = Duration::from_millis(20);
