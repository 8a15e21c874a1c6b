//! Reference rows as data directories of format 1 have them: under a key without the record.

use redb::{ReadableTable, TableDefinition, TableHandle};

use super::rows::{REFS, Rows, ref_row};
use super::{Meta, MetaResult, MetaTx};
use dfs_core::codec::Canonical;
use dfs_core::record::refs::RefRow;

/// The table of format 1.
pub(crate) const OLD_REFS: Rows = TableDefinition::new("refs");

impl Meta {
    /// Moves all reference rows of format 1 to where they lie now. What was moved stays so if this
    /// is cut off, and the rest follows with the next attempt. Returns how many rows there were.
    ///
    /// The sums of partitions cover what the rows say and not where they lie: they stay.
    pub(crate) fn move_old_refs(&self) -> MetaResult<u64> {
        let mut moved = 0;
        loop {
            let page = self.write(MetaTx::move_some_old_refs)?;
            moved += page;
            if page == 0 {
                return Ok(moved);
            }
        }
    }
}

impl MetaTx {
    fn move_some_old_refs(&mut self) -> MetaResult<u64> {
        if !self.inner.list_tables()?.any(|table| table.name() == OLD_REFS.name()) {
            return Ok(0);
        }
        let mut old = self.inner.open_table(OLD_REFS)?;
        let mut new = self.inner.open_table(REFS)?;
        let mut moved = Vec::new();
        for row in old.iter()?.take(ROWS_AT_ONCE) {
            let (key, value) = row?;
            let (key, value) = (key.value().to_vec(), value.value().to_vec());
            // One that does not decode may be a use, and stays a damaged row of its blob.
            let decoded = RefRow::from_canonical(value.clone()).ok();
            let to = decoded.map_or_else(|| key.clone(), |row| ref_row(&row.of()));
            new.insert(&to[..], &value[..])?;
            moved.push(key);
        }
        for key in &moved {
            old.remove(&key[..])?;
        }
        drop((old, new));
        if moved.is_empty() {
            self.inner.delete_table(OLD_REFS)?;
        }
        Ok(moved.len() as u64)
    }
}

/// Rows moved in one transaction: some MiB.
const ROWS_AT_ONCE: usize = 16_384;
