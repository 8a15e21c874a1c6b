//! The index: records, reference rows, which blobs are held, certificates, small state.
//!
//! One redb database on the [`dfs_env::Vfs`]. Writes are grouped: one committer runs every change
//! that waits in one transaction, commits it durably, and answers all of them. Keys begin with the
//! top 16 bits of the hash that places them, so a partition is one range whatever its size.

use std::fmt;
use std::io;
use std::panic::AssertUnwindSafe;
use std::path::Path;
use std::sync::Arc;

use dfs_core::codec::Canonical;
use dfs_core::id::{
    BlobId, DirId, Partition, PartitionBits, RecordKey, VaultId, Vid, dir_partition,
};
use dfs_core::record::refs::RefRow;
use dfs_core::record::version::{Record, merge};
use dfs_core::replica::sync::{Root, Table};
use dfs_env::{Bug, Env, OpenMode, VfsFile, bug};
use redb::{
    Database, ReadTransaction, ReadableDatabase, ReadableTable, StorageBackend, TableDefinition,
};

pub(crate) use self::rows::ROOT_BITS;
use self::rows::{
    LOCATION_BITS, corrupt, decode_key, decode_len, decode_record, decode_ref, decode_root,
    partition_of_row, partition_range, record_item, root_key, successor,
};
pub use self::rows::{record_row, ref_row};
use crate::error::OpenStoreError;

mod collect;
mod held;
mod rows;

type Rows = TableDefinition<'static, &'static [u8], &'static [u8]>;
const RECORDS: Rows = TableDefinition::new("records");
const REFS: Rows = TableDefinition::new("refs");
const BLOBS: Rows = TableDefinition::new("blobs");
const SUMS: Rows = TableDefinition::new("sums");
const CERTS: Rows = TableDefinition::new("certs");
const STATE: Rows = TableDefinition::new("state");

/// The open database.
pub(crate) struct Meta {
    /// There until this is dropped.
    db: Option<Database>,
}

impl Drop for Meta {
    fn drop(&mut self) {
        let db = self.db.take();
        // A database that met rot may meet it again when it closes. Everything acknowledged was
        // committed before, so nothing is lost with what it wanted to write then.
        let _ = guarded(|| {
            drop(db);
            Ok(())
        });
    }
}

pub(crate) type MetaResult<T> = Result<T, redb::Error>;

/// Runs work on the index. redb asserts what it finds in a page, and panics over rot in one: that
/// is a fault of this disk, and must not end the task that met it.
pub(crate) fn guarded<T>(work: impl FnOnce() -> MetaResult<T>) -> MetaResult<T> {
    let damaged = |_| Err(redb::Error::Corrupted("a page of the index is damaged".to_owned()));
    std::panic::catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(damaged)
}

impl Meta {
    /// Opens the database, or makes one. `made` says that there was one before: should it be gone
    /// now, an empty one must not take its place, for this node would answer quorums with it.
    pub(crate) fn open(env: &Env, path: &Path, made: bool) -> Result<Self, OpenStoreError> {
        let io = |error| OpenStoreError::Io(path.to_owned(), error);
        let broken = |error: redb::Error| OpenStoreError::Index(path.to_owned(), Box::new(error));
        let file = env.fs().open(path, OpenMode::Create).map_err(io)?;
        // If a sync failed in an earlier life, what the kernel shows may be on no disk.
        file.forget_cached().map_err(io)?;
        if is_unfinished(file.as_ref()).map_err(io)? {
            if made {
                return Err(broken(redb::Error::Corrupted("the index is gone".to_owned())));
            }
            file.set_len(0).map_err(io)?;
        }
        let mut builder = Database::builder();
        builder.set_cache_size(CACHE_BYTES);
        let opened = guarded(|| {
            let meta = Self { db: Some(builder.create_with_backend(Backend(file))?) };
            meta.write(|tx| tx.create_tables())?;
            Ok(meta)
        });
        opened.map_err(broken)
    }

    /// Runs changes in one transaction and makes them durable.
    pub(crate) fn write<T>(
        &self,
        work: impl FnOnce(&mut MetaTx) -> MetaResult<T>,
    ) -> MetaResult<T> {
        guarded(|| {
            let mut inner = self.db().begin_write()?;
            // Stored bytes come from peers: two phases keep a crafted page from passing as a
            // commit.
            inner.set_two_phase_commit(true);
            if bug(Bug::CommitNotDurable) {
                inner.set_durability(redb::Durability::None).map_err(redb::Error::from)?;
            }
            let mut tx = MetaTx { inner };
            let value = work(&mut tx)?;
            tx.inner.commit()?;
            Ok(value)
        })
    }

    pub(crate) fn reader(&self) -> MetaResult<MetaReader> {
        Ok(MetaReader { inner: self.db().begin_read()? })
    }

    fn db(&self) -> &Database {
        self.db.as_ref().expect("it is there until this is dropped")
    }
}

impl fmt::Debug for Meta {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Meta")
    }
}

/// Why one row is not joined with what is held. It concerns that row alone: whatever else is in
/// the transaction goes on.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Unmergeable {
    /// See [`Record::is_bounded`].
    TooLarge,
    /// What is held here does not decode: rot in the index.
    Damaged,
}

/// One write transaction.
pub(crate) struct MetaTx {
    inner: redb::WriteTransaction,
}

impl MetaTx {
    fn create_tables(&mut self) -> MetaResult<()> {
        for table in [RECORDS, REFS, BLOBS, SUMS, CERTS, STATE] {
            self.inner.open_table(table)?;
        }
        Ok(())
    }

    fn get(&self, table: Rows, key: &[u8]) -> MetaResult<Option<Vec<u8>>> {
        Ok(self.inner.open_table(table)?.get(key)?.map(|value| value.value().to_vec()))
    }

    fn set(&self, table: Rows, key: &[u8], value: &[u8]) -> MetaResult<()> {
        self.inner.open_table(table)?.insert(key, value)?;
        Ok(())
    }

    /// Joins a record with what is held; says whether anything changed.
    pub(crate) fn merge_record(
        &mut self,
        key: &RecordKey,
        theirs: &Record,
    ) -> MetaResult<Result<bool, Unmergeable>> {
        let changed = self.change_record(key, |ours| joined(ours, theirs))?;
        Ok(changed.map(|(_, changed)| changed))
    }

    /// Puts what `change` makes of a record in its place; gives it, and whether it is another.
    pub(crate) fn change_record(
        &mut self,
        key: &RecordKey,
        change: impl FnOnce(&Record) -> Record,
    ) -> MetaResult<Result<(Record, bool), Unmergeable>> {
        let row = record_row(key);
        let ours = match self.get(RECORDS, &row)?.map(decode_record) {
            Some(Ok(ours)) => ours,
            Some(Err(_)) => return Ok(Err(Unmergeable::Damaged)),
            None => Record::default(),
        };
        let changed = change(&ours);
        if changed == ours {
            return Ok(Ok((ours, false)));
        }
        if !changed.is_bounded() {
            return Ok(Err(Unmergeable::TooLarge));
        }
        self.set(RECORDS, &row, &changed.to_canonical())?;
        let old = (!ours.is_empty()).then(|| record_item(key, &ours));
        self.change_root(Table::Records, &row, old, record_item(key, &changed))?;
        Ok(Ok((changed, true)))
    }

    /// Joins a row with what is held; says whether anything changed. Whether its use has ended here
    /// nobody else says; one that was found to have ended counts again when it is `noted_anew`.
    pub(crate) fn merge_ref(
        &mut self,
        theirs: &RefRow,
        noted_anew: bool,
    ) -> MetaResult<Result<bool, Unmergeable>> {
        let row = ref_row(&theirs.blob, &theirs.vid);
        let theirs = theirs.live();
        let Ok(ours) = self.get(REFS, &row)?.map(decode_ref).transpose() else {
            return Ok(Err(Unmergeable::Damaged));
        };
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
        let partition = partition_of_row(row);
        let mut root = self.root(table, partition)?;
        if let Some(old) = old {
            root.subtract(&old);
        }
        root.add(&new);
        self.set_root(table, partition, &root)
    }

    /// The fingerprint of a partition as it is by now in this transaction.
    pub(crate) fn root(&self, table: Table, partition: Partition) -> MetaResult<Root> {
        let found = self.get(SUMS, &root_key(table, partition))?;
        Ok(found.map(|bytes| decode_root(&bytes)).unwrap_or_default())
    }

    fn set_root(&mut self, table: Table, partition: Partition, root: &Root) -> MetaResult<()> {
        let mut value = root.sum.to_vec();
        value.extend_from_slice(&root.count.to_le_bytes());
        self.set(SUMS, &root_key(table, partition), &value)
    }

    /// Takes a record out if its state has this hash; says whether it had.
    pub(crate) fn remove_record(&mut self, key: &RecordKey, hash: &[u8; 32]) -> MetaResult<bool> {
        let row = record_row(key);
        let Some(Ok(held)) = self.get(RECORDS, &row)?.map(decode_record) else { return Ok(false) };
        if held.state_hash() != *hash {
            return Ok(false);
        }
        self.remove(Table::Records, &row, &record_item(key, &held))?;
        Ok(true)
    }

    /// Takes a reference row out if it is still this one; says whether it was.
    pub(crate) fn remove_ref(&mut self, row: &RefRow) -> MetaResult<bool> {
        let key = ref_row(&row.blob, &row.vid);
        let Some(Ok(held)) = self.get(REFS, &key)?.map(decode_ref) else { return Ok(false) };
        if held != *row {
            return Ok(false);
        }
        self.remove(Table::Refs, &key, &held.state_hash())?;
        Ok(true)
    }

    fn remove(&mut self, table: Table, row: &[u8], hash: &[u8; 32]) -> MetaResult<()> {
        let rows = match table {
            Table::Records => RECORDS,
            Table::Refs => REFS,
        };
        self.inner.open_table(rows)?.remove(row)?;
        let partition = partition_of_row(row);
        let mut root = self.root(table, partition)?;
        root.subtract(hash);
        self.set_root(table, partition, &root)
    }

    /// Puts bytes that are no record where one should be.
    #[cfg(test)]
    pub(crate) fn damage_record(&mut self, key: &RecordKey) -> MetaResult<()> {
        self.set(RECORDS, &record_row(key), b"rot")
    }

    /// Notes that a blob of this many bytes is durable; says whether that is news.
    pub(crate) fn add_blob(&mut self, id: &BlobId, len: u32) -> MetaResult<bool> {
        let mut table = self.inner.open_table(BLOBS)?;
        Ok(table.insert(id.as_bytes().as_slice(), len.to_le_bytes().as_slice())?.is_none())
    }

    /// Forgets a blob; gives the bytes it had.
    pub(crate) fn remove_blob(&mut self, id: &BlobId) -> MetaResult<Option<u32>> {
        let mut table = self.inner.open_table(BLOBS)?;
        let removed = table.remove(id.as_bytes().as_slice())?;
        Ok(removed.map(|value| decode_len(value.value())))
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

/// One read transaction: a snapshot.
pub(crate) struct MetaReader {
    inner: ReadTransaction,
}

impl MetaReader {
    fn get(&self, table: Rows, key: &[u8]) -> MetaResult<Option<Vec<u8>>> {
        Ok(self.inner.open_table(table)?.get(key)?.map(|value| value.value().to_vec()))
    }

    pub(crate) fn record(&self, key: &RecordKey) -> MetaResult<Record> {
        let found = self.get(RECORDS, &record_row(key))?;
        found.map_or(Ok(Record::default()), decode_record)
    }

    /// Rows from `from`, included, to `to`, left out.
    fn range<T>(
        &self,
        table: Rows,
        from: &[u8],
        to: Option<&[u8]>,
        limit: usize,
        decode: impl Fn(&[u8], Vec<u8>) -> MetaResult<T>,
    ) -> MetaResult<Vec<T>> {
        use std::ops::Bound::{Excluded, Included, Unbounded};
        let table = self.inner.open_table(table)?;
        let end = to.map_or(Unbounded, Excluded);
        let mut rows = Vec::new();
        for row in table.range::<&[u8]>((Included(from), end))?.take(limit) {
            let (key, value) = row?;
            rows.push(decode(key.value(), value.value().to_vec())?);
        }
        Ok(rows)
    }

    /// Records of one directory after a tag, in order of tags.
    pub(crate) fn scan_dir(
        &self,
        vault: &VaultId,
        dir: &DirId,
        after: Option<[u8; 16]>,
        limit: usize,
    ) -> MetaResult<Vec<(RecordKey, Record)>> {
        let mut prefix = dir_partition(vault, dir, LOCATION_BITS).to_be_bytes().to_vec();
        prefix.extend_from_slice(vault.as_bytes());
        prefix.extend_from_slice(dir.as_bytes());
        let mut from = prefix.clone();
        if let Some(tag) = after {
            from.extend_from_slice(&tag);
            from.push(0); // The first key after the whole one.
        }
        let end = successor(&prefix);
        self.range(RECORDS, &from, end.as_deref(), limit, |key, value| {
            Ok((decode_key(key)?, decode_record(value)?))
        })
    }

    /// Records of one partition from a row key on.
    pub(crate) fn scan_records(
        &self,
        partition: Partition,
        bits: PartitionBits,
        after: &[u8],
        limit: usize,
    ) -> MetaResult<Vec<(RecordKey, Record)>> {
        let (from, to) = partition_range(partition, bits, after);
        self.range(RECORDS, &from, to.as_deref(), limit, |key, value| {
            Ok((decode_key(key)?, decode_record(value)?))
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
        self.range(REFS, &from, to.as_deref(), limit, |_, value| decode_ref(value))
    }

    /// The rows of one blob.
    pub(crate) fn refs_of(&self, id: &BlobId, limit: usize) -> MetaResult<Vec<RefRow>> {
        let from = ref_row(id, &Vid::new([0; 16]));
        let end = successor(&from[..from.len() - Vid::LEN]);
        self.range(REFS, &from, end.as_deref(), limit, |_, value| decode_ref(value))
    }

    pub(crate) fn roots(&self, table: Table, bits: PartitionBits) -> MetaResult<Vec<Root>> {
        let mut roots = vec![Root::default(); bits.count()];
        let from = root_key(table, 0);
        let end = successor(&from[..1]);
        let found = self.range(SUMS, &from, end.as_deref(), usize::MAX, |key, value| {
            Ok((usize::from(u16::from_be_bytes([key[1], key[2]])), decode_root(&value)))
        })?;
        for (at, root) in found {
            if let Some(slot) = roots.get_mut(at) {
                *slot = root;
            }
        }
        Ok(roots)
    }

    pub(crate) fn has_blob(&self, id: &BlobId) -> MetaResult<bool> {
        Ok(self.inner.open_table(BLOBS)?.get(id.as_bytes().as_slice())?.is_some())
    }

    /// The blobs held that `keep` picks, in order. `O(n)` for all that are held.
    pub(crate) fn held_where(&self, keep: impl Fn(&BlobId) -> bool) -> MetaResult<Vec<BlobId>> {
        let mut kept = Vec::new();
        for row in self.inner.open_table(BLOBS)?.iter()? {
            let key = row?.0.value().try_into().map_err(|_| corrupt("the id of a blob"))?;
            kept.extend(Some(BlobId::new(key)).filter(&keep));
        }
        Ok(kept)
    }

    /// How many blobs are held, and their bytes. `O(n)`.
    pub(crate) fn count_blobs(&self) -> MetaResult<(u64, u64)> {
        let mut total = (0, 0);
        for row in self.inner.open_table(BLOBS)?.iter()? {
            total.0 += 1;
            total.1 += u64::from(decode_len(row?.1.value()));
        }
        Ok(total)
    }

    pub(crate) fn cert(&self, id: &[u8; 32]) -> MetaResult<Option<Vec<u8>>> {
        self.get(CERTS, id)
    }

    /// Small values whose keys are from `from`, included, to `to`, left out.
    pub(crate) fn states(&self, from: &str, to: &str, limit: usize) -> MetaResult<Vec<Vec<u8>>> {
        let (from, to) = (from.as_bytes(), Some(to.as_bytes()));
        self.range(STATE, from, to, limit, |_, value| Ok(value))
    }

    pub(crate) fn state(&self, key: &str) -> MetaResult<Option<Vec<u8>>> {
        self.get(STATE, key.as_bytes())
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

/// Whether a file holds no database. redb writes its magic number last, so one whose creation was
/// cut short does not begin with it.
fn is_unfinished(file: &dyn VfsFile) -> io::Result<bool> {
    let mut magic = [0; 9];
    if file.size()? >= 9 {
        file.read_exact_at(&mut magic, 0)?;
    }
    Ok(magic == [0; 9])
}

/// redb on a file of the environment.
#[derive(Debug)]
struct Backend(Box<dyn VfsFile>);

impl StorageBackend for Backend {
    fn len(&self) -> io::Result<u64> {
        self.0.size()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.0.read_exact_at(out, offset)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.0.write_all_at(data, offset)
    }
}

/// A write error that many waiters share.
pub(crate) type SharedError = Arc<redb::Error>;

/// Pages of the index kept in memory: the hot directories of a large vault, little beside 1 GiB.
const CACHE_BYTES: usize = 32 << 20;
