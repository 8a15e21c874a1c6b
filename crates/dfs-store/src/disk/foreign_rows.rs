//! Rows of partitions that other nodes hold: taken in while no replica was in reach, or left over
//! from a move. They are forgotten once the replicas have them.

use dfs_core::id::{Partition, RecordKey};
use dfs_core::record::refs::RefRow;
use dfs_core::replica::sync::{Root, Table};

use crate::disk::meta::{MetaResult, MetaTx, ROOT_BITS};
use crate::disk::store::Store;
use crate::error::WriteError;

impl Store {
    /// Forgets records that are still what their replicas were given: those whose state has this
    /// hash. Durable on return. Says how many went.
    ///
    /// # Errors
    /// [`WriteError`] when the index could not be written.
    pub async fn forget_records(
        &self,
        records: Vec<(RecordKey, [u8; 32])>,
    ) -> Result<usize, WriteError> {
        let work = move |tx: &mut MetaTx| {
            let mut gone = 0;
            for (key, hash) in &records {
                gone += usize::from(tx.remove_record(key, hash)?);
            }
            Ok(gone)
        };
        self.commit(work).await
    }

    /// Forgets reference rows that are still what their replicas were given. Durable on return.
    /// Says how many went.
    ///
    /// # Errors
    /// [`WriteError`] when the index could not be written.
    pub async fn forget_refs(&self, rows: Vec<RefRow>) -> Result<usize, WriteError> {
        let work = move |tx: &mut MetaTx| {
            let mut gone = 0;
            for row in &rows {
                gone += usize::from(tx.remove_ref(row)?);
            }
            Ok(gone)
        };
        self.commit(work).await
    }

    /// Forgets records of a partition of which all rows together are known elsewhere, if they still
    /// are what was compared: its root is this one. Durable on return. Gives the root that the
    /// partition has then, for those that follow; `None` when a row came or changed meanwhile, and
    /// nothing was forgotten.
    ///
    /// # Errors
    /// [`WriteError`] when the index could not be written.
    pub async fn forget_known_records(
        &self,
        partition: Partition,
        compared: Root,
        records: Vec<(RecordKey, [u8; 32])>,
    ) -> Result<Option<Root>, WriteError> {
        let remove = move |tx: &mut MetaTx| {
            // The root speaks for the rows of this partition alone.
            for (key, hash) in
                records.iter().filter(|(key, _)| key.partition(ROOT_BITS) == partition)
            {
                tx.remove_record(key, hash)?;
            }
            Ok(())
        };
        self.forget_known(Table::Records, partition, compared, remove).await
    }

    /// The same for reference rows.
    ///
    /// # Errors
    /// [`WriteError`] when the index could not be written.
    pub async fn forget_known_refs(
        &self,
        partition: Partition,
        compared: Root,
        rows: Vec<RefRow>,
    ) -> Result<Option<Root>, WriteError> {
        let remove = move |tx: &mut MetaTx| {
            for row in rows.iter().filter(|row| row.blob.partition(ROOT_BITS) == partition) {
                tx.remove_ref(row)?;
            }
            Ok(())
        };
        self.forget_known(Table::Refs, partition, compared, remove).await
    }

    async fn forget_known(
        &self,
        table: Table,
        partition: Partition,
        compared: Root,
        remove: impl FnOnce(&mut MetaTx) -> MetaResult<()> + Send + 'static,
    ) -> Result<Option<Root>, WriteError> {
        let work = move |tx: &mut MetaTx| {
            // In the transaction itself: whatever was acknowledged before it is in this root.
            if tx.root(table, partition)? != compared {
                return Ok(None);
            }
            remove(tx)?;
            tx.root(table, partition).map(Some)
        };
        self.commit(work).await
    }
}
