//! Uses of blobs that have ended, and unused blobs.

use dfs_core::codec::Canonical;
use dfs_core::id::BlobId;
use dfs_core::record::refs::{RefRow, Use};
use dfs_core::replica::sync::Table;
use redb::ReadableTable;

use super::damaged::DamagedRows;
use super::rows::{BLOBS, REFS, decode_id, decode_ref_row, ref_row, refs_prefix, successor};
use super::{MetaReader, MetaResult, MetaTx};

impl MetaTx {
    /// Marks a use as ended if its row is still this one. Returns whether it was.
    pub(crate) fn drop_ref(&mut self, row: &RefRow) -> MetaResult<bool> {
        let key = ref_row(&row.of());
        if row.dropped || self.held_ref(&key)? != Some(Some(*row)) {
            return Ok(false);
        }
        // What replicas compare leaves the mark out: no root changes.
        self.set(REFS, &key, &RefRow { dropped: true, ..*row }.to_canonical())?;
        Ok(true)
    }

    /// Removes a row if its use has ended. Returns whether it is gone. One that does not decode
    /// stays: it may be a use.
    pub(crate) fn forget_dropped(&mut self, of: &Use) -> MetaResult<bool> {
        let key = ref_row(of);
        match self.held_ref(&key)? {
            Some(None) => Ok(true),
            Some(Some(held)) if held.dropped => {
                self.remove(Table::Refs, &key, &held.state_hash())?;
                Ok(true)
            }
            Some(Some(_)) | None => Ok(false),
        }
    }

    /// Whether a use of the blob counts.
    pub(crate) fn is_used(&self, id: &BlobId) -> MetaResult<bool> {
        is_used(&self.inner.open_table(REFS)?, &self.damaged, id)
    }
}

impl MetaReader {
    /// Whether a use of the blob counts.
    pub(crate) fn is_used(&self, id: &BlobId) -> MetaResult<bool> {
        is_used(&self.inner.open_table(REFS)?, &self.damaged, id)
    }

    /// Whether the row is not here, or its use has ended. One that does not decode may be a use.
    pub(crate) fn is_dropped(&self, of: &Use) -> MetaResult<bool> {
        let key = ref_row(of);
        let Some(held) = self.get(REFS, &key)? else { return Ok(true) };
        let held = self.damaged.decoded(REFS, &key, decode_ref_row(&key, held));
        Ok(held.is_some_and(|row| row.dropped))
    }

    /// Whether a row of the use is here, ended or not.
    pub(crate) fn is_known(&self, of: &Use) -> MetaResult<bool> {
        Ok(self.get(REFS, &ref_row(of))?.is_some())
    }

    /// Looks at the next `limit` blobs after one, in order. Returns those without a use that
    /// counts, and the last one looked at.
    pub(crate) fn unused_after(
        &self,
        after: Option<BlobId>,
        limit: usize,
    ) -> MetaResult<(Vec<BlobId>, Option<BlobId>)> {
        let from = after.map_or_else(Vec::new, |id| [id.as_bytes(), &[0][..]].concat());
        let rows = self.good_rows(BLOBS, &from, None, limit, |key, _| decode_id(key))?;
        let last = rows.last().copied();
        let table = self.inner.open_table(REFS)?;
        let mut unused = Vec::new();
        for id in rows {
            if !is_used(&table, &self.damaged, &id)? {
                unused.push(id);
            }
        }
        Ok((unused, last))
    }
}

/// Whether a use of a blob counts. A row that does not decode may be one.
fn is_used(
    table: &impl ReadableTable<&'static [u8], &'static [u8]>,
    damaged: &DamagedRows,
    id: &BlobId,
) -> MetaResult<bool> {
    let from = refs_prefix(id);
    let end = successor(&from).unwrap_or_default();
    let rows = match end.is_empty() {
        true => table.range::<&[u8]>(&from[..]..)?,
        false => table.range::<&[u8]>(&from[..]..&end[..])?,
    };
    for row in rows {
        let (key, value) = row?;
        let (key, value) = (key.value(), value.value().to_vec());
        if damaged.decoded(REFS, key, decode_ref_row(key, value)).is_none_or(|row| !row.dropped) {
            return Ok(true);
        }
    }
    Ok(false)
}
