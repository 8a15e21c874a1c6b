//! Rows of partitions that other nodes hold: taken in while no replica was in reach, or left over
//! from a move. They are forgotten once the replicas have them.

use dfs_core::id::RecordKey;
use dfs_core::refs::RefRow;

use crate::error::WriteError;
use crate::meta::MetaTx;
use crate::store::Store;

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
}
