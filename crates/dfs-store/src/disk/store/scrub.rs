//! Reading a store back: every blob that is held in the order of the disk, and the sums of the
//! index.

use dfs_core::id::{BlobId, Partition};
use dfs_core::replica::sync::Table;
use tracing::{error, warn};

use super::Store;
use crate::disk::chunks::{Chunks, FileFound};
use crate::disk::meta::ROOT_BITS;
use crate::disk::path::PathTransform;
use crate::error::{ReadError, ReconcileError};

/// A blob that is held, and where it lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Held {
    /// The blob.
    pub id: BlobId,
    /// Its bytes.
    pub len: u32,
    /// Its place in the order of the disk, evenly spread over all numbers.
    pub place: u64,
}

/// What a blob turned out to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verified {
    /// Every byte is as it should be.
    Good,
    /// Its file is gone, or holds something else. It is set aside and no longer held.
    Bad,
    /// It is not held any more.
    NotHeld,
}

/// What came of checking the sums of one partition.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SumChecked {
    /// Sums that were not those of the rows, and are now.
    pub mended: u64,
    /// Rows that do not decode. Their partition's sum is left as it is.
    pub damaged: u64,
    /// Bytes of the rows.
    pub bytes: u64,
}

impl Store {
    /// The first `limit` blobs that are held after one, in the order of the disk. Looks through the
    /// whole index, so `limit` should be large.
    ///
    /// # Errors
    /// [`ReadError`] when the index cannot be read.
    pub async fn held_after(
        &self,
        after: Option<BlobId>,
        limit: usize,
    ) -> Result<Vec<Held>, ReadError> {
        let held =
            self.0.index.read(move |meta| meta.held_after(after, limit, PathTransform::place));
        let held = held.await?.into_iter().map(|(place, id, len)| Held { id, len, place });
        Ok(held.collect())
    }

    /// Reads a blob from the disk, past what is remembered of it, and checks every byte. What lies
    /// in the index is read as the index is.
    ///
    /// # Errors
    /// [`ReadError`] when the index cannot be read, or the disk cannot answer now.
    pub async fn verify_blob(&self, id: BlobId) -> Result<Verified, ReadError> {
        match self.find_blob(id, Chunks::read_back).await? {
            None => Ok(Verified::NotHeld),
            Some(FileFound::Good(_)) => Ok(Verified::Good),
            Some(FileFound::Bad) => {
                self.set_bad_aside(id).await;
                Ok(Verified::Bad)
            }
        }
    }

    /// How many partitions have sums.
    pub fn sum_partitions() -> usize {
        ROOT_BITS.count()
    }

    /// Recomputes the sums of a partition from its rows, and mends those that differ.
    ///
    /// # Errors
    /// [`ReconcileError`] when the index cannot be read or a sum not be written.
    pub async fn check_sums(&self, partition: Partition) -> Result<SumChecked, ReconcileError> {
        let mut done = SumChecked::default();
        for table in [Table::Records, Table::Refs] {
            let counted = self.0.index.read(move |meta| meta.recount(table, partition)).await?;
            done.bytes += counted.bytes;
            done.damaged += counted.damaged;
            if counted.damaged > 0 {
                let rows = counted.damaged;
                error!(?table, partition, rows, "rows of the index do not decode");
            }
            // Counted again in the transaction that writes: rows may have come meanwhile.
            if !counted.agrees
                && self.0.index.commit(move |tx| tx.mend_root(table, partition)).await?
            {
                warn!(?table, partition, "a sum of the index was not that of its rows; mended");
                done.mended += 1;
            }
        }
        Ok(done)
    }
}
