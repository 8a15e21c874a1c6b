//! What scrubbing needs from the index: blobs in the order of the disk, and sums recomputed from
//! their rows.

use std::collections::BinaryHeap;

use dfs_core::id::{BlobId, Partition, PartitionBits};
use dfs_core::replica::sync::{Root, Table};
use redb::ReadableTable;

use super::damaged::DamagedRows;
use super::rows::{
    BLOBS, ROOT_BITS, SUMS, decode_id, decode_len, decode_record_row, decode_ref_row, decode_root,
    partition_of_root, partition_of_row, partition_range, record_item, root_key, rows_of,
    successor,
};
use super::{MetaReader, MetaResult, MetaTx};

/// The rows of one partition, counted again.
pub(crate) struct Recount {
    /// The root of the rows that decode.
    pub(crate) root: Root,
    /// Rows that do not.
    pub(crate) damaged: u64,
    /// Bytes of all of them.
    pub(crate) bytes: u64,
    /// Whether the stored root is that of the rows. With damaged rows that cannot be known, and
    /// this is true.
    pub(crate) agrees: bool,
}

impl MetaReader {
    /// Returns the first `limit` blobs after one, ordered by `place`, with their places and
    /// lengths. `O(n log limit)` for all blobs held, and memory for `limit`.
    pub(crate) fn held_after(
        &self,
        after: Option<BlobId>,
        limit: usize,
        place: impl Fn(&BlobId) -> u64,
    ) -> MetaResult<Vec<(u64, BlobId, u32)>> {
        let after = after.map(|id| (place(&id), id));
        let mut first = BinaryHeap::with_capacity(limit + 1);
        for row in self.inner.open_table(BLOBS)?.iter()? {
            let (key, len) = row?;
            let key = key.value();
            let Some(id) = self.damaged.decoded(BLOBS, key, decode_id(key)) else { continue };
            let at = (place(&id), id);
            if after.is_some_and(|after| at <= after) {
                continue;
            }
            first.push((at.0, at.1, decode_len(len.value())));
            if first.len() > limit {
                first.pop();
            }
        }
        Ok(first.into_sorted_vec())
    }

    /// Returns the root of every partition of a table. `O(1)` for each of those whose sums are
    /// kept; partitions finer than that are counted from their rows.
    pub(crate) fn roots(&self, table: Table, bits: PartitionBits) -> MetaResult<Vec<Root>> {
        let mut roots = vec![Root::default(); bits.count()];
        let Some(joined) = ROOT_BITS.get().checked_sub(bits.get()) else {
            for row in self.inner.open_table(rows_of(table))?.iter()? {
                let (key, value) = row?;
                let (key, value) = (key.value(), value.value().to_vec());
                if let Some(item) =
                    self.damaged.decoded(rows_of(table), key, item(table, key, value))
                {
                    roots[usize::from(partition_of_row(key, bits))].add(&item);
                }
            }
            return Ok(roots);
        };
        let from = root_key(table, 0);
        let end = successor(&from[..1]);
        let kept = self.good_rows(SUMS, &from, end.as_deref(), usize::MAX, |key, value| {
            Ok((partition_of_root(key)?, decode_root(&value)))
        })?;
        for (partition, root) in kept {
            if let Some(sum) = roots.get_mut(usize::from(partition >> joined)) {
                sum.join(&root);
            }
        }
        Ok(roots)
    }

    /// Counts the rows of a partition again.
    pub(crate) fn recount(&self, table: Table, partition: Partition) -> MetaResult<Recount> {
        let kept = self.get(SUMS, &root_key(table, partition))?;
        let kept = kept.map(|bytes| decode_root(&bytes)).unwrap_or_default();
        let rows = self.inner.open_table(rows_of(table))?;
        recount(&rows, &self.damaged, table, partition, kept)
    }
}

impl MetaTx {
    /// Counts the rows of a partition again and stores that root, unless a row is damaged. Returns
    /// whether the root changed.
    pub(crate) fn mend_root(&mut self, table: Table, partition: Partition) -> MetaResult<bool> {
        let kept = self.root(table, partition)?;
        let counted = {
            let rows = self.inner.open_table(rows_of(table))?;
            recount(&rows, &self.damaged, table, partition, kept)?
        };
        if !counted.agrees {
            self.set_root(table, partition, &counted.root)?;
        }
        Ok(!counted.agrees)
    }

    /// Puts another root in the place of the one that is kept.
    #[cfg(test)]
    pub(crate) fn damage_root(&mut self, table: Table, partition: Partition) -> MetaResult<()> {
        self.set_root(table, partition, &Root { sum: [7; 32], count: 7 })
    }
}

fn recount(
    rows: &impl ReadableTable<&'static [u8], &'static [u8]>,
    damaged: &DamagedRows,
    table: Table,
    partition: Partition,
    kept: Root,
) -> MetaResult<Recount> {
    use std::ops::Bound::{Excluded, Included, Unbounded};
    let (from, to) = partition_range(partition, ROOT_BITS, &[]);
    let end = to.as_deref().map_or(Unbounded, Excluded);
    let mut counted = Recount { root: Root::default(), damaged: 0, bytes: 0, agrees: false };
    for row in rows.range::<&[u8]>((Included(from.as_slice()), end))? {
        let (key, value) = row?;
        let (key, value) = (key.value(), value.value());
        counted.bytes += (key.len() + value.len()) as u64;
        let item = item(table, key, value.to_vec());
        match damaged.decoded(rows_of(table), key, item) {
            Some(item) => counted.root.add(&item),
            None => counted.damaged += 1,
        }
    }
    counted.agrees = counted.damaged > 0 || counted.root == kept;
    Ok(counted)
}

/// What a row adds to its root.
fn item(table: Table, key: &[u8], value: Vec<u8>) -> MetaResult<[u8; 32]> {
    match table {
        Table::Records => {
            let (key, record) = decode_record_row(key, value)?;
            Ok(record_item(&key, &record))
        }
        Table::Refs => Ok(decode_ref_row(key, value)?.state_hash()),
    }
}
