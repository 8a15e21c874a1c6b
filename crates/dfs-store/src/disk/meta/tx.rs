//! One write transaction: joins, changes and removes rows, and keeps their sums.

use std::sync::Arc;

use dfs_core::codec::Canonical;
use dfs_core::hlc::Hlc;
use dfs_core::id::{BlobId, Partition, RecordKey};
use dfs_core::record::digest::HeadsDigest;
use dfs_core::record::refs::RefRow;
use dfs_core::record::version::{Record, merge};
use dfs_core::replica::purge::without_purged;
use dfs_core::replica::sync::{Root, Table};
use dfs_env::{Bug, bug};
use redb::{ReadableTable, WriteTransaction};

use super::MetaResult;
use super::damaged::DamagedRows;
use super::rows::{
    BLOBS, CERTS, PACKED, RECORDS, REFS, ROOT_BITS, Rows, STATE, SUMS, corrupt, counts,
    decode_floor, decode_len, decode_record, decode_ref_row, decode_root, floor_key, is_packed,
    packed_len, partition_of_row, record_item, record_row, ref_row, root_key, row_bytes, rows_of,
};

/// Why one row is not joined with the one held. It concerns that row alone: the rest of the
/// transaction goes on.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Unmergeable {
    /// See [`Record::is_bounded`].
    TooLarge,
    /// The row held here does not decode: rot in the index.
    Damaged,
    /// It has a version that was deleted, and whose tombstone is forgotten: see
    /// [`without_purged`]. What else it has was taken over.
    Purged,
}

/// A blob that is no longer held.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Removed {
    /// The bytes it had.
    pub(crate) len: u32,
    /// Whether they lay in the index: else there is a file.
    pub(crate) was_packed: bool,
}

/// One write transaction.
pub(crate) struct MetaTx {
    pub(super) inner: WriteTransaction,
    pub(super) damaged: Arc<DamagedRows>,
    /// Names under which something else is listed from now on.
    relisted: Vec<RecordKey>,
    /// Bytes by which records and reference rows grow.
    grown: i64,
}

impl MetaTx {
    pub(super) fn new(inner: WriteTransaction, damaged: Arc<DamagedRows>) -> Self {
        Self { inner, damaged, relisted: Vec::new(), grown: 0 }
    }

    /// Takes the names under which something else is listed once this is committed, and the bytes
    /// by which records and reference rows grow then.
    pub(crate) fn take_changes(&mut self) -> (Vec<RecordKey>, i64) {
        (std::mem::take(&mut self.relisted), std::mem::take(&mut self.grown))
    }

    fn note_size(&mut self, table: Rows, key: &[u8], new: Option<usize>, old: Option<usize>) {
        if counts(table) {
            let bytes = |value: Option<usize>| value.map_or(0, |len| row_bytes(key.len(), len));
            self.grown += bytes(new) - bytes(old);
        }
    }

    fn note_listed(&mut self, key: &RecordKey, old: &Record, new: &Record) {
        if HeadsDigest::of(old) != HeadsDigest::of(new) {
            self.relisted.push(*key);
        }
    }

    pub(super) fn commit(self) -> MetaResult<()> {
        Ok(self.inner.commit()?)
    }

    pub(super) fn create_tables(&mut self) -> MetaResult<()> {
        for table in [RECORDS, REFS, BLOBS, PACKED, SUMS, CERTS, STATE] {
            self.inner.open_table(table)?;
        }
        Ok(())
    }

    pub(super) fn get(&self, table: Rows, key: &[u8]) -> MetaResult<Option<Vec<u8>>> {
        Ok(self.inner.open_table(table)?.get(key)?.map(|value| value.value().to_vec()))
    }

    pub(super) fn set(&mut self, table: Rows, key: &[u8], value: &[u8]) -> MetaResult<()> {
        let old = {
            let mut table = self.inner.open_table(table)?;
            table.insert(key, value)?.map(|old| old.value().len())
        };
        self.note_size(table, key, Some(value.len()), old);
        Ok(())
    }

    /// The record of a row, empty when there is none; `None` when it does not decode.
    fn held_record(&self, row: &[u8]) -> MetaResult<Option<Record>> {
        let Some(held) = self.get(RECORDS, row)? else { return Ok(Some(Record::default())) };
        Ok(self.damaged.decoded(RECORDS, row, decode_record(held)))
    }

    /// The reference of a row, if there is one; `None` when it does not decode.
    pub(super) fn held_ref(&self, row: &[u8]) -> MetaResult<Option<Option<RefRow>>> {
        let Some(held) = self.get(REFS, row)? else { return Ok(Some(None)) };
        Ok(self.damaged.decoded(REFS, row, decode_ref_row(row, held)).map(Some))
    }

    /// Joins a record with the one held. Returns whether anything changed.
    pub(crate) fn merge_record(
        &mut self,
        key: &RecordKey,
        theirs: &Record,
    ) -> MetaResult<Result<bool, Unmergeable>> {
        let floor = self.floor(key.partition(ROOT_BITS))?.unwrap_or_default();
        let mut is_purged = false;
        let changed =
            self.change_record(key, |ours| match without_purged(theirs, ours, floor) {
                Some(rest) if !bug(Bug::PurgedComesBack) => {
                    is_purged = true;
                    joined(ours, &rest)
                }
                _ => joined(ours, theirs),
            })?;
        Ok(match changed {
            Ok(_) if is_purged => Err(Unmergeable::Purged),
            changed => changed.map(|(_, changed)| changed),
        })
    }

    /// Up to which stamp every version of a partition that counts is here, if that is known.
    pub(crate) fn floor(&self, partition: Partition) -> MetaResult<Option<Hlc>> {
        let held = self.state(&floor_key(partition))?;
        held.map(decode_floor).transpose()
    }

    /// Notes that every version of a partition is here that counts and is stamped no later.
    pub(crate) fn raise_floor(&mut self, partition: Partition, stamp: Hlc) -> MetaResult<()> {
        if self.floor(partition)?.is_none_or(|floor| floor < stamp) {
            self.set_state(&floor_key(partition), &stamp.0.to_be_bytes())?;
        }
        Ok(())
    }

    /// Notes that versions of a partition may be elsewhere alone.
    pub(crate) fn clear_floor(&mut self, partition: Partition) -> MetaResult<()> {
        self.remove_state(&floor_key(partition))
    }

    /// Replaces a record with what `change` makes of it. Returns the result and whether it differs.
    pub(crate) fn change_record(
        &mut self,
        key: &RecordKey,
        change: impl FnOnce(&Record) -> Record,
    ) -> MetaResult<Result<(Record, bool), Unmergeable>> {
        let row = record_row(key);
        let Some(ours) = self.held_record(&row)? else { return Ok(Err(Unmergeable::Damaged)) };
        let changed = change(&ours);
        if changed == ours {
            return Ok(Ok((ours, false)));
        }
        if !changed.is_bounded() {
            return Ok(Err(Unmergeable::TooLarge));
        }
        self.set(RECORDS, &row, &changed.to_canonical())?;
        self.note_listed(key, &ours, &changed);
        let old = (!ours.is_empty()).then(|| record_item(key, &ours));
        self.change_root(Table::Records, &row, old, record_item(key, &changed))?;
        Ok(Ok((changed, true)))
    }

    /// Joins a row with the one held. Returns whether anything changed. Only this node decides
    /// whether the use has ended here; one that has ended counts again when it is `noted_anew`.
    pub(crate) fn merge_ref(
        &mut self,
        theirs: &RefRow,
        noted_anew: bool,
    ) -> MetaResult<Result<bool, Unmergeable>> {
        let row = ref_row(&theirs.of());
        let theirs = theirs.live();
        let Some(ours) = self.held_ref(&row)? else { return Ok(Err(Unmergeable::Damaged)) };
        let merged = ours.map_or(theirs, |ours| ours.merged(theirs));
        let merged = if noted_anew { merged.live() } else { merged };
        if ours == Some(merged) {
            return Ok(Ok(false));
        }
        self.set(REFS, &row, &merged.to_canonical())?;
        let old = ours.map(|ours| ours.state_hash());
        self.change_root(Table::Refs, &row, old, merged.state_hash())?;
        Ok(Ok(true))
    }

    fn change_root(
        &mut self,
        table: Table,
        row: &[u8],
        old: Option<[u8; 32]>,
        new: [u8; 32],
    ) -> MetaResult<()> {
        if old == Some(new) {
            return Ok(());
        }
        let partition = partition_of_row(row, ROOT_BITS);
        let mut root = self.root(table, partition)?;
        if let Some(old) = old {
            root.subtract(&old);
        }
        root.add(&new);
        self.set_root(table, partition, &root)
    }

    /// Returns the fingerprint of a partition as it is by now in this transaction.
    pub(crate) fn root(&self, table: Table, partition: Partition) -> MetaResult<Root> {
        let found = self.get(SUMS, &root_key(table, partition))?;
        Ok(found.map(|bytes| decode_root(&bytes)).unwrap_or_default())
    }

    pub(super) fn set_root(
        &mut self,
        table: Table,
        partition: Partition,
        root: &Root,
    ) -> MetaResult<()> {
        let mut value = root.sum.to_vec();
        value.extend_from_slice(&root.count.to_le_bytes());
        self.set(SUMS, &root_key(table, partition), &value)
    }

    /// The highest stamp of the record held; the lowest of all when there is none.
    pub(crate) fn stamp_of(&self, key: &RecordKey) -> MetaResult<Hlc> {
        let held = self.held_record(&record_row(key))?;
        Ok(held.map(|held| held.hlc_max()).unwrap_or_default())
    }

    /// Removes a record if its state has this hash. Returns whether it had.
    pub(crate) fn remove_record(&mut self, key: &RecordKey, hash: &[u8; 32]) -> MetaResult<bool> {
        let row = record_row(key);
        let Some(held) = self.held_record(&row)? else { return Ok(false) };
        if held.is_empty() || held.state_hash() != *hash {
            return Ok(false);
        }
        self.note_listed(key, &held, &Record::default());
        self.remove(Table::Records, &row, &record_item(key, &held))?;
        Ok(true)
    }

    /// Removes a reference row if it is still this one. Returns whether it was.
    pub(crate) fn remove_ref(&mut self, row: &RefRow) -> MetaResult<bool> {
        let key = ref_row(&row.of());
        let Some(Some(held)) = self.held_ref(&key)? else { return Ok(false) };
        if held != *row {
            return Ok(false);
        }
        self.remove(Table::Refs, &key, &held.state_hash())?;
        Ok(true)
    }

    pub(super) fn remove(&mut self, table: Table, row: &[u8], hash: &[u8; 32]) -> MetaResult<()> {
        let old = {
            let mut rows = self.inner.open_table(rows_of(table))?;
            rows.remove(row)?.map(|old| old.value().len())
        };
        self.note_size(rows_of(table), row, None, old);
        let partition = partition_of_row(row, ROOT_BITS);
        let mut root = self.root(table, partition)?;
        root.subtract(hash);
        self.set_root(table, partition, &root)
    }

    /// Puts other bytes in a row.
    #[cfg(test)]
    pub(crate) fn damage(&mut self, table: Rows, key: &[u8], value: &[u8]) -> MetaResult<()> {
        self.set(table, key, value)
    }

    /// Takes a row away, and leaves its sum as it is.
    #[cfg(test)]
    pub(crate) fn take_away(&mut self, table: Rows, key: &[u8]) -> MetaResult<()> {
        self.inner.open_table(table)?.remove(key)?;
        Ok(())
    }

    /// Notes that a blob of this many bytes is durable in a file, unless it is held already.
    /// Returns whether that is new.
    pub(crate) fn add_blob(&mut self, id: &BlobId, len: u32) -> MetaResult<bool> {
        if self.has_blob(id)? {
            return Ok(false);
        }
        self.set(BLOBS, id.as_bytes(), &len.to_le_bytes())?;
        Ok(true)
    }

    /// Keeps a blob with its bytes, unless it is held already. Returns whether that is new.
    pub(crate) fn add_packed(&mut self, id: &BlobId, bytes: &[u8]) -> MetaResult<bool> {
        if self.has_blob(id)? {
            return Ok(false);
        }
        let len = u32::try_from(bytes.len()).map_err(|_| corrupt("the length of a blob"))?;
        self.set(BLOBS, id.as_bytes(), &packed_len(len))?;
        self.set(PACKED, id.as_bytes(), bytes)?;
        Ok(true)
    }

    /// The bytes that the index has of a blob, if any.
    pub(crate) fn packed(&self, id: &BlobId) -> MetaResult<Option<Vec<u8>>> {
        self.get(PACKED, id.as_bytes())
    }

    /// Forgets a blob. Returns what it was.
    pub(crate) fn remove_blob(&mut self, id: &BlobId) -> MetaResult<Option<Removed>> {
        let removed = {
            let mut table = self.inner.open_table(BLOBS)?;
            let removed = table.remove(id.as_bytes().as_slice())?;
            let of = |row: &[u8]| Removed { len: decode_len(row), was_packed: is_packed(row) };
            removed.map(|value| of(value.value()))
        };
        if removed.is_some_and(|removed| removed.was_packed) {
            self.inner.open_table(PACKED)?.remove(id.as_bytes().as_slice())?;
        }
        Ok(removed)
    }

    pub(crate) fn has_blob(&self, id: &BlobId) -> MetaResult<bool> {
        Ok(self.inner.open_table(BLOBS)?.get(id.as_bytes().as_slice())?.is_some())
    }

    pub(crate) fn set_cert(&mut self, id: &[u8; 32], cert: &[u8]) -> MetaResult<()> {
        self.set(CERTS, id, cert)
    }

    pub(crate) fn set_state(&mut self, key: &str, value: &[u8]) -> MetaResult<()> {
        self.set(STATE, key.as_bytes(), value)
    }

    pub(crate) fn state(&self, key: &str) -> MetaResult<Option<Vec<u8>>> {
        self.get(STATE, key.as_bytes())
    }

    pub(crate) fn remove_state(&mut self, key: &str) -> MetaResult<()> {
        self.inner.open_table(STATE)?.remove(key.as_bytes())?;
        Ok(())
    }
}

fn joined(ours: &Record, theirs: &Record) -> Record {
    let merged = merge(ours, theirs);
    if bug(Bug::MergeKeepsNewestOnly)
        && let Some(winner) = merged.winner()
    {
        return Record::of(winner.clone());
    }
    if bug(Bug::MergeKeepsEverything) {
        return Record::of_all(ours.heads().chain(theirs.heads()).cloned());
    }
    merged
}
