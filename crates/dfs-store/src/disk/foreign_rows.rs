//! Rows of partitions that other nodes hold: taken in while no replica was in reach, or left over
//! from a move. They are forgotten once the replicas have them.

use dfs_core::id::{Partition, RecordKey};
use dfs_core::record::refs::RefRow;
use dfs_core::replica::sync::{Root, Table};
use dfs_env::{Bug, bug};

use crate::disk::index::Index;
use crate::disk::meta::{MetaResult, MetaTx, ROOT_BITS};
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
            // Not all that counts is here any more.
            tx.clear_floor(key.partition(ROOT_BITS))?;
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

/// Forgets records of a partition of which all rows together are known elsewhere, if they still are
/// what was compared: its root is this one. Durable on return. Returns the root that the partition
/// has then, for those that follow; `None` when a row came or changed meanwhile, and nothing was
/// forgotten.
pub(crate) async fn forget_known_records(
    index: &Index,
    partition: Partition,
    compared: Root,
    records: Vec<(RecordKey, [u8; 32])>,
) -> Result<Option<Root>, WriteError> {
    let remove = move |tx: &mut MetaTx| {
        // The root speaks for the rows of this partition alone.
        let of_partition = |key: &RecordKey| key.partition(ROOT_BITS) == partition;
        for (key, hash) in records.iter().filter(|(key, _)| of_partition(key)) {
            tx.remove_record(key, hash)?;
        }
        tx.clear_floor(partition)
    };
    forget_known(index, Table::Records, partition, compared, remove).await
}

/// The same for reference rows.
pub(crate) async fn forget_known_refs(
    index: &Index,
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
    forget_known(index, Table::Refs, partition, compared, remove).await
}

async fn forget_known(
    index: &Index,
    table: Table,
    partition: Partition,
    compared: Root,
    remove: impl FnOnce(&mut MetaTx) -> MetaResult<()> + Send + 'static,
) -> Result<Option<Root>, WriteError> {
    let work = move |tx: &mut MetaTx| {
        // In the transaction itself: whatever was acknowledged before it is in this root.
        if tx.root(table, partition)? != compared && !bug(Bug::HandoverForgetsUncompared) {
            return Ok(None);
        }
        remove(tx)?;
        tx.root(table, partition).map(Some)
    };
    index.commit(work).await
}
