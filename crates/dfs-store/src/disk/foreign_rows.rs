//! Rows of partitions that other nodes hold: taken in while no replica was in reach, or left over
//! from a move. They are forgotten once the replicas have them.

use dfs_core::id::{Partition, RecordKey};
use dfs_core::record::refs::RefRow;
use dfs_core::replica::sync::{Root, Table};

use crate::disk::index::Index;
use crate::disk::meta::MetaTx;
use crate::error::WriteError;

/// Forgets records whose state has this hash. Durable on return. Returns how many went.
pub(crate) async fn forget_records(
    index: &Index,
    records: Vec<(RecordKey, [u8; 32])>,
) -> Result<usize, WriteError> {
    let work = move |tx: &mut MetaTx| {
        let mut gone = 0;
        for (key, hash) in &records {
            gone += usize::from(tx.remove_record(key, hash)?);
        }
        Ok(gone)
    };
    index.commit(work).await
}

/// Forgets reference rows that are still these. Durable on return. Returns how many went.
pub(crate) async fn forget_refs(index: &Index, rows: Vec<RefRow>) -> Result<usize, WriteError> {
    let work = move |tx: &mut MetaTx| {
        let mut gone = 0;
        for row in &rows {
            gone += usize::from(tx.remove_ref(row)?);
        }
        Ok(gone)
    };
    index.commit(work).await
}
