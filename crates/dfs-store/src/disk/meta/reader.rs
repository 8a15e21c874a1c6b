//! One read transaction: rows one by one, and in pages.

use std::sync::Arc;

use dfs_core::hlc::Hlc;
use dfs_core::id::{BlobId, Partition, PartitionBits, RecordKey, dir_partition};
use dfs_core::record::refs::{RefRow, Use};
use dfs_core::record::version::Record;
use dfs_core::replica::dir_changes::DirKey;
use redb::{ReadTransaction, ReadableTable};

use super::MetaResult;
use super::damaged::DamagedRows;
use super::page::{Page, PageLimit};
use super::rows::{
    BLOBS, CERTS, LOCATION_BITS, PACKED, RECORDS, REFS, Rows, STATE, decode_floor, decode_id,
    decode_len, decode_record, decode_record_row, decode_ref_row, floor_key, is_packed,
    partition_range, record_row, ref_row, refs_prefix, row_bytes, successor,
};

/// Blobs that are held.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Blobs {
    pub(crate) count: u64,
    pub(crate) bytes: u64,
    /// Of these, those in the index.
    pub(crate) packed_bytes: u64,
}

/// Where the bytes of a blob are.
pub(crate) enum Place {
    /// The blob is not held.
    Nowhere,
    /// In a file of their own.
    File,
    /// In the index; these. None where rot took them.
    Here(Vec<u8>),
}

/// One read transaction: a snapshot.
pub(crate) struct MetaReader {
    pub(super) inner: ReadTransaction,
    pub(super) damaged: Arc<DamagedRows>,
}

impl MetaReader {
    pub(super) fn new(inner: ReadTransaction, damaged: Arc<DamagedRows>) -> Self {
        Self { inner, damaged }
    }

    pub(crate) fn get(&self, table: Rows, key: &[u8]) -> MetaResult<Option<Vec<u8>>> {
        Ok(self.inner.open_table(table)?.get(key)?.map(|value| value.value().to_vec()))
    }

    /// The record of a key; empty when there is none.
    pub(crate) fn record(&self, key: &RecordKey) -> MetaResult<Record> {
        self.record_and_len(key).map(|(record, _)| record)
    }

    /// The same, and the bytes of its row.
    fn record_and_len(&self, key: &RecordKey) -> MetaResult<(Record, usize)> {
        let row = record_row(key);
        let Some(found) = self.get(RECORDS, &row)? else { return Ok((Record::default(), 0)) };
        let len = found.len();
        let found = decode_record(found);
        if found.is_err() {
            self.damaged.note(RECORDS, &row);
        }
        Ok((found?, len))
    }

    /// A page of the rows from `from`, included, to `to`, left out, that `decode` returns.
    /// `O(page)`.
    fn page<T>(
        &self,
        table: Rows,
        from: &[u8],
        to: Option<&[u8]>,
        limit: PageLimit,
        decode: impl Fn(&[u8], Vec<u8>) -> MetaResult<Option<T>>,
    ) -> MetaResult<Page<T>> {
        use std::ops::Bound::{Excluded, Included, Unbounded};
        let end = to.map_or(Unbounded, Excluded);
        let mut range = self.inner.open_table(table)?.range::<&[u8]>((Included(from), end))?;
        let (mut rows, mut bytes) = (Vec::new(), 0);
        while !limit.is_reached(rows.len(), bytes) {
            let Some(row) = range.next() else { return Ok(Page { rows, more: false }) };
            let (key, value) = row?;
            let value = value.value().to_vec();
            bytes += value.len();
            rows.extend(decode(key.value(), value)?);
        }
        Ok(Page { rows, more: true })
    }

    /// As [`MetaReader::page`], past rows that do not decode: a caller that goes on from its last
    /// row misses none.
    pub(super) fn good_page<T>(
        &self,
        table: Rows,
        from: &[u8],
        to: Option<&[u8]>,
        limit: PageLimit,
        decode: impl Fn(&[u8], Vec<u8>) -> MetaResult<T>,
    ) -> MetaResult<Page<T>> {
        self.page(table, from, to, limit, |key, value| {
            Ok(self.damaged.decoded(table, key, decode(key, value)))
        })
    }

    /// The same of small rows, as many as `limit` says.
    pub(super) fn good_rows<T>(
        &self,
        table: Rows,
        from: &[u8],
        to: Option<&[u8]>,
        limit: usize,
        decode: impl Fn(&[u8], Vec<u8>) -> MetaResult<T>,
    ) -> MetaResult<Vec<T>> {
        let limit = PageLimit { rows: limit, bytes: usize::MAX };
        Ok(self.good_page(table, from, to, limit, decode)?.rows)
    }

    /// What `of` makes of the first of these records, in their order: as many as are read before
    /// the bytes of their rows reach `bytes_max`, and at least one.
    pub(crate) fn first_records<T>(
        &self,
        keys: &[RecordKey],
        bytes_max: usize,
        of: impl Fn(Record) -> T,
    ) -> MetaResult<Vec<T>> {
        let limit = PageLimit { rows: keys.len(), bytes: bytes_max };
        let (mut first, mut bytes) = (Vec::new(), 0);
        while !limit.is_reached(first.len(), bytes) {
            let (record, len) = self.record_and_len(&keys[first.len()])?;
            bytes += len;
            first.push(of(record));
        }
        Ok(first)
    }

    /// What `of` makes of the records of one directory after a tag, in order of tags; where it says
    /// nothing, they count for the page all the same. One that does not decode fails the page: a
    /// quorum that counted this answer would miss a version that was acknowledged.
    pub(crate) fn scan_dir<T>(
        &self,
        (vault, dir): &DirKey,
        after: Option<[u8; 16]>,
        limit: PageLimit,
        of: impl Fn(RecordKey, Record) -> T,
    ) -> MetaResult<Page<T>> {
        let mut prefix = dir_partition(vault, dir, LOCATION_BITS).to_be_bytes().to_vec();
        prefix.extend_from_slice(vault.as_bytes());
        prefix.extend_from_slice(dir.as_bytes());
        let mut from = prefix.clone();
        if let Some(tag) = after {
            from.extend_from_slice(&tag);
            from.push(0); // The first key after the whole one.
        }
        let end = successor(&prefix);
        self.page(RECORDS, &from, end.as_deref(), limit, |key, value| {
            let row = decode_record_row(key, value);
            if row.is_err() {
                self.damaged.note(RECORDS, key);
            }
            row.map(|(key, record)| Some(of(key, record)))
        })
    }

    /// What `of` makes of the records of one partition from a row key on.
    pub(crate) fn scan_records<T>(
        &self,
        partition: Partition,
        bits: PartitionBits,
        after: &[u8],
        limit: PageLimit,
        of: impl Fn(RecordKey, Record) -> T,
    ) -> MetaResult<Page<T>> {
        let (from, to) = partition_range(partition, bits, after);
        self.good_page(RECORDS, &from, to.as_deref(), limit, |row, value| {
            decode_record_row(row, value).map(|(key, record)| of(key, record))
        })
    }

    /// Reference rows of one partition from a row key on.
    pub(crate) fn scan_refs(
        &self,
        partition: Partition,
        bits: PartitionBits,
        after: &[u8],
        limit: usize,
    ) -> MetaResult<Vec<RefRow>> {
        let (from, to) = partition_range(partition, bits, after);
        self.good_rows(REFS, &from, to.as_deref(), limit, decode_ref_row)
    }

    /// The rows of one blob after a use of it.
    pub(crate) fn refs_of(
        &self,
        id: &BlobId,
        after: Option<Use>,
        limit: usize,
    ) -> MetaResult<Vec<RefRow>> {
        let prefix = refs_prefix(id);
        let end = successor(&prefix);
        let from = after.map_or(prefix, |of| [&ref_row(&of)[..], &[0]].concat());
        self.good_rows(REFS, &from, end.as_deref(), limit, decode_ref_row)
    }

    pub(crate) fn has_blob(&self, id: &BlobId) -> MetaResult<bool> {
        Ok(self.inner.open_table(BLOBS)?.get(id.as_bytes().as_slice())?.is_some())
    }

    /// Where the bytes of a blob are.
    pub(crate) fn place_of(&self, id: &BlobId) -> MetaResult<Place> {
        let row = self.inner.open_table(BLOBS)?.get(id.as_bytes().as_slice())?;
        Ok(match row {
            None => Place::Nowhere,
            Some(row) if !is_packed(row.value()) => Place::File,
            Some(_) => Place::Here(self.get(PACKED, id.as_bytes())?.unwrap_or_default()),
        })
    }

    /// The blobs held in files that `keep` picks, in order. `O(n)` for all that are held.
    pub(crate) fn files_where(&self, keep: impl Fn(&BlobId) -> bool) -> MetaResult<Vec<BlobId>> {
        let mut kept = Vec::new();
        for row in self.inner.open_table(BLOBS)?.iter()? {
            let (key, value) = row?;
            if is_packed(value.value()) {
                continue;
            }
            let id = self.damaged.decoded(BLOBS, key.value(), decode_id(key.value()));
            kept.extend(id.filter(&keep));
        }
        Ok(kept)
    }

    /// How many blobs are held, and their bytes. `O(n)`.
    pub(crate) fn count_blobs(&self) -> MetaResult<Blobs> {
        let mut total = Blobs::default();
        for row in self.inner.open_table(BLOBS)?.iter()? {
            let row = row?;
            let len = u64::from(decode_len(row.1.value()));
            total.count += 1;
            total.bytes += len;
            total.packed_bytes += if is_packed(row.1.value()) { len } else { 0 };
        }
        Ok(total)
    }

    /// Bytes of all records and reference rows. Reads all of them.
    pub(crate) fn count_row_bytes(&self) -> MetaResult<i64> {
        let mut total = 0;
        for table in [RECORDS, REFS] {
            for row in self.inner.open_table(table)?.iter()? {
                let (key, value) = row?;
                total += row_bytes(key.value().len(), value.value().len());
            }
        }
        Ok(total)
    }

    pub(crate) fn cert(&self, id: &[u8; 32]) -> MetaResult<Option<Vec<u8>>> {
        self.get(CERTS, id)
    }

    /// Small values whose keys are from `from`, included, to `to`, left out.
    pub(crate) fn states(&self, from: &str, to: &str, limit: usize) -> MetaResult<Vec<Vec<u8>>> {
        let (from, to) = (from.as_bytes(), Some(to.as_bytes()));
        let limit = PageLimit { rows: limit, bytes: usize::MAX };
        Ok(self.page(STATE, from, to, limit, |_, value| Ok(Some(value)))?.rows)
    }

    pub(crate) fn state(&self, key: &str) -> MetaResult<Option<Vec<u8>>> {
        self.get(STATE, key.as_bytes())
    }

    /// Up to which stamp every version of a partition that counts is here, if that is known.
    pub(crate) fn floor(&self, partition: Partition) -> MetaResult<Option<Hlc>> {
        self.state(&floor_key(partition))?.map(decode_floor).transpose()
    }
}
