//! Uses of blobs that have ended, and blobs that nobody uses.

use dfs_core::codec::Canonical;
use dfs_core::id::{BlobId, Vid};
use dfs_core::record::refs::RefRow;
use dfs_core::replica::sync::Table;
use redb::ReadableTable;

use super::rows::{BLOBS, REFS, corrupt, decode_ref, ref_row, successor};
use super::{MetaReader, MetaResult, MetaTx};

impl MetaTx {
    /// Marks the end of a use if its row is still this one; says whether it was.
    pub(crate) fn drop_ref(&mut self, row: &RefRow) -> MetaResult<bool> {
        let key = ref_row(&row.blob, &row.vid);
        let held = self.get(REFS, &key)?.map(decode_ref).transpose()?;
        if held != Some(*row) || row.dropped {
            return Ok(false);
        }
        // What replicas compare leaves the mark out: no root changes.
        self.set(REFS, &key, &RefRow { dropped: true, ..*row }.to_canonical())?;
        Ok(true)
    }

    /// Takes a row out if its use has ended; says whether it is gone.
    pub(crate) fn forget_dropped(&mut self, blob: &BlobId, vid: &Vid) -> MetaResult<bool> {
        let key = ref_row(blob, vid);
        match self.get(REFS, &key)?.map(decode_ref).transpose()? {
            None => Ok(true),
            Some(held) if held.dropped => {
                self.remove(Table::Refs, &key, &held.state_hash())?;
                Ok(true)
            }
            Some(_) => Ok(false),
        }
    }

    /// Whether a use of the blob counts.
    pub(crate) fn is_used(&self, id: &BlobId) -> MetaResult<bool> {
        is_used(&self.inner.open_table(REFS)?, id)
    }
}

impl MetaReader {
    /// Whether a use of the blob counts.
    pub(crate) fn is_used(&self, id: &BlobId) -> MetaResult<bool> {
        is_used(&self.inner.open_table(REFS)?, id)
    }

    /// Whether the row is not here, or its use has ended.
    pub(crate) fn is_dropped(&self, blob: &BlobId, vid: &Vid) -> MetaResult<bool> {
        let held = self.get(REFS, &ref_row(blob, vid))?.map(decode_ref).transpose()?;
        Ok(held.is_none_or(|row| row.dropped))
    }

    /// Of the next `limit` blobs after one, in order: those of which no use counts, and the last that
    /// was looked at.
    pub(crate) fn unused_after(
        &self,
        after: Option<BlobId>,
        limit: usize,
    ) -> MetaResult<(Vec<BlobId>, Option<BlobId>)> {
        let from = after.map_or_else(Vec::new, |id| [id.as_bytes(), &[0][..]].concat());
        let rows = self.range(BLOBS, &from, None, limit, |key, _| {
            Ok(BlobId::new(key.try_into().map_err(|_| corrupt("the id of a blob"))?))
        })?;
        let last = rows.last().copied();
        let table = self.inner.open_table(REFS)?;
        let mut unused = Vec::new();
        for id in rows {
            if !is_used(&table, &id)? {
                unused.push(id);
            }
        }
        Ok((unused, last))
    }
}

fn is_used(
    table: &impl ReadableTable<&'static [u8], &'static [u8]>,
    id: &BlobId,
) -> MetaResult<bool> {
    let from = ref_row(id, &Vid::new([0; Vid::LEN]));
    let prefix = &from[..from.len() - Vid::LEN];
    let end = successor(prefix).unwrap_or_default();
    let rows = match end.is_empty() {
        true => table.range::<&[u8]>(&from[..]..)?,
        false => table.range::<&[u8]>(&from[..]..&end[..])?,
    };
    for row in rows {
        if !decode_ref(row?.1.value().to_vec())?.dropped {
            return Ok(true);
        }
    }
    Ok(false)
}
