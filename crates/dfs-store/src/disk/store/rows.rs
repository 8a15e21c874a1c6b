//! Records and reference rows of a store: joined with what others hold, and read in pages; what
//! has changed in directories.

use std::collections::BTreeSet;

use dfs_core::hlc::Hlc;
use dfs_core::id::{BlobId, Partition, PartitionBits, RecordKey, Tag};
use dfs_core::record::digest::HeadsDigest;
use dfs_core::record::refs::{RefRow, Use};
use dfs_core::record::version::{Kind, Record};
use dfs_core::replica::dir_changes::{ChangeMark, DirKey};
use dfs_core::replica::dir_view::Told;
use dfs_core::replica::sync::{Root, Table};

use super::Store;
use crate::disk::meta::{MetaReader, MetaTx, Page, PageLimit, ROOT_BITS, Unmergeable};
use crate::disk::space::{Need, Purpose};
use crate::error::{ReadError, WriteError};

/// A record key and the hash of its record's state.
pub(super) type KeyedHash = (RecordKey, [u8; 32]);
/// A record key and its record.
pub type KeyedRecord = (RecordKey, Record);

/// What versions of these kinds are stored for: tombstones release others.
fn purpose_of(kinds: impl IntoIterator<Item = Kind>) -> Purpose {
    let is_live = kinds.into_iter().any(|kind| kind == Kind::Live);
    if is_live { Purpose::Record } else { Purpose::Release }
}

impl Store {
    /// Takes new versions in, where there is room for them: the same as [`Store::merge_records`]
    /// otherwise.
    ///
    /// # Errors
    /// [`WriteError::NoSpace`] when one of them is live and what this store offers is used up; any
    /// of [`Store::merge_records`].
    pub async fn put_records(&self, records: Vec<KeyedRecord>) -> Result<usize, WriteError> {
        let kinds = records.iter().flat_map(|(_, record)| record.heads()).map(|head| head.kind);
        self.admit_rows(purpose_of(kinds)).await?;
        self.merge_records(records).await
    }

    /// Joins records with those held. They are what replicas know, and whoever reads must be able
    /// to bring them together: only the disk bounds them. Durable on return. Returns how many
    /// changed.
    ///
    /// # Errors
    /// [`WriteError::Purged`] when some had versions that cannot be any more, and all else was
    /// taken over. Any other [`WriteError`]; none of them counts as stored then, though some may
    /// be.
    pub async fn merge_records(&self, records: Vec<KeyedRecord>) -> Result<usize, WriteError> {
        self.admit_rows(Purpose::Release).await?;
        let work = move |tx: &mut MetaTx| {
            let (mut changed, mut failed) = (0, None);
            for (key, record) in &records {
                match tx.merge_record(key, record)? {
                    Ok(is_new) => changed += usize::from(is_new),
                    // The others of them matter more to whoever asked.
                    Err(Unmergeable::Purged) => failed = failed.or(Some(Unmergeable::Purged)),
                    Err(why) => failed = Some(why),
                }
            }
            Ok((changed, failed))
        };
        match self.0.index.commit(work).await? {
            (changed, None) => Ok(changed),
            (_, Some(why)) => Err(why.into()),
        }
    }

    /// Forgets tombstones whose record's state has this hash, and remembers of their partitions
    /// that every version stamped no later is here, if it counts: what they deleted is taken from
    /// nobody any more. Durable on return. Returns how many went.
    ///
    /// # Errors
    /// [`WriteError`] when the index could not be written.
    pub async fn purge_records(&self, tombstones: Vec<KeyedHash>) -> Result<usize, WriteError> {
        let work = move |tx: &mut MetaTx| {
            let mut gone = 0;
            for (key, hash) in &tombstones {
                let stamp = tx.stamp_of(key)?;
                if tx.remove_record(key, hash)? {
                    tx.raise_floor(key.partition(ROOT_BITS), stamp)?;
                    gone += 1;
                }
            }
            Ok(gone)
        };
        self.0.index.commit(work).await
    }

    /// Up to which stamp every version of each of these partitions is here that counts; `None`
    /// where that is not known.
    ///
    /// # Errors
    /// [`ReadError`] when the index cannot be read.
    pub async fn floors(&self, of: Vec<Partition>) -> Result<Vec<Option<Hlc>>, ReadError> {
        let count = of.len();
        let read = move |meta: &MetaReader| of.iter().map(|one| meta.floor(*one)).collect();
        self.0.index.find(count, read).await
    }

    /// Notes that every version of these partitions is here that counts and is stamped no later.
    /// Durable on return.
    ///
    /// # Errors
    /// [`WriteError`] when the index could not be written.
    pub async fn raise_floors(&self, floors: Vec<(Partition, Hlc)>) -> Result<(), WriteError> {
        let work = move |tx: &mut MetaTx| {
            floors.iter().try_for_each(|(partition, stamp)| tx.raise_floor(*partition, *stamp))
        };
        self.0.index.commit(work).await
    }

    /// Notes that versions of these partitions may be elsewhere alone. Durable on return.
    ///
    /// # Errors
    /// [`WriteError`] when the index could not be written.
    pub async fn clear_floors(&self, of: Vec<Partition>) -> Result<(), WriteError> {
        let work = move |tx: &mut MetaTx| of.iter().try_for_each(|one| tx.clear_floor(*one));
        self.0.index.commit(work).await
    }

    /// Replaces a record with what `change` makes of it, and returns that. It adds a new version of
    /// this kind, or none. Durable on return.
    ///
    /// # Errors
    /// [`WriteError`]; it is as it was then.
    pub async fn change_record(
        &self,
        key: RecordKey,
        adds: Option<Kind>,
        change: impl FnOnce(&Record) -> Record + Send + 'static,
    ) -> Result<Record, WriteError> {
        self.admit_rows(purpose_of(adds)).await?;
        let changed = self.0.index.commit(move |tx| tx.change_record(&key, change)).await?;
        Ok(changed.map(|(record, _)| record)?)
    }

    /// Notes uses of blobs. Returns for each whether its blob is held. Durable on return: from then
    /// on the blob will not be collected.
    ///
    /// # Errors
    /// [`WriteError`]; none of them counts as stored then, though some may be.
    pub async fn add_refs(&self, rows: Vec<RefRow>) -> Result<Vec<bool>, WriteError> {
        self.join_refs(rows, true).await
    }

    /// Joins rows that other replicas hold with those here; only the disk bounds them. Returns for
    /// each whether its blob is held. A use that has ended here stays so. Durable on return.
    ///
    /// # Errors
    /// [`WriteError`]; none of them counts as stored then, though some may be.
    pub async fn merge_refs(&self, rows: Vec<RefRow>) -> Result<Vec<bool>, WriteError> {
        self.join_refs(rows, false).await
    }

    async fn join_refs(
        &self,
        rows: Vec<RefRow>,
        noted_anew: bool,
    ) -> Result<Vec<bool>, WriteError> {
        self.admit_rows(if noted_anew { Purpose::Record } else { Purpose::Release }).await?;
        let work = move |tx: &mut MetaTx| {
            let (mut held, mut failed) = (Vec::with_capacity(rows.len()), None);
            for row in &rows {
                failed = tx.merge_ref(row, noted_anew)?.err().or(failed);
                held.push(tx.has_blob(&row.blob)?);
            }
            Ok((held, failed))
        };
        match self.0.index.commit(work).await? {
            (held, None) => Ok(held),
            (_, Some(why)) => Err(why.into()),
        }
    }

    /// Runs before the transaction, because one that meets a full disk closes the store.
    async fn admit_rows(&self, purpose: Purpose) -> Result<(), WriteError> {
        match self.admits(Need::any(purpose)).await? {
            true => Ok(()),
            false => Err(WriteError::NoSpace),
        }
    }

    /// Returns the record of a key; empty when nothing is held.
    ///
    /// # Errors
    /// [`ReadError`] when the index cannot be read.
    pub async fn record(&self, key: RecordKey) -> Result<Record, ReadError> {
        self.0.index.find(1, move |meta| meta.record(&key)).await
    }

    /// Returns the records of several keys, in the same order.
    ///
    /// # Errors
    /// [`ReadError`] when the index cannot be read.
    pub async fn records(&self, keys: Vec<RecordKey>) -> Result<Vec<Record>, ReadError> {
        self.0
            .index
            .find(keys.len(), move |meta| keys.iter().map(|key| meta.record(key)).collect())
            .await
    }

    /// Returns the first of several records, in the same order: as many as are read before the
    /// bytes of their rows reach `bytes_max`, and at least one.
    ///
    /// # Errors
    /// [`ReadError`] when the index cannot be read.
    pub async fn first_records(
        &self,
        keys: Vec<RecordKey>,
        bytes_max: usize,
    ) -> Result<Vec<Record>, ReadError> {
        self.0
            .index
            .find(keys.len(), move |meta| meta.first_records(&keys, bytes_max, |record| record))
            .await
    }

    /// Returns the hashes of the states of several records, in the same order; like
    /// [`Store::first_records`] perhaps of the first of them only. One record is in memory at a
    /// time.
    ///
    /// # Errors
    /// [`ReadError`] when the index cannot be read.
    pub async fn record_hashes(
        &self,
        keys: Vec<RecordKey>,
        bytes_max: usize,
    ) -> Result<Vec<[u8; 32]>, ReadError> {
        let hash = |record: Record| record.state_hash();
        self.0.index.find(keys.len(), move |meta| meta.first_records(&keys, bytes_max, hash)).await
    }

    /// Where the log of changes stands. What was acknowledged before is in every page read after.
    pub fn change_mark(&self) -> ChangeMark {
        self.0.index.changes().mark()
    }

    /// Returns the directories in which other names or versions are listed since a mark; `None`
    /// where that is not known: before this start, or before more changes than are kept.
    pub fn changed_dirs(&self, since: ChangeMark) -> Option<BTreeSet<DirKey>> {
        self.0.index.changes().dirs_since(since)
    }

    /// Returns where the log of changes stands, and what is listed now under the names of a
    /// directory that have changed since a mark; `None` where that is not known, or too much.
    ///
    /// # Errors
    /// [`ReadError`] when the index cannot be read.
    pub async fn dir_changes(
        &self,
        dir: DirKey,
        since: Option<ChangeMark>,
    ) -> Result<(ChangeMark, Option<Vec<Told>>), ReadError> {
        let (mark, tags) = {
            let changes = self.0.index.changes();
            (changes.mark(), since.and_then(|since| changes.since(&dir, since)))
        };
        let Some(tags) = tags else { return Ok((mark, None)) };
        if tags.is_empty() {
            return Ok((mark, Some(Vec::new())));
        }
        let told = self.0.index.read(move |meta| {
            let told = tags.into_iter().map(|tag| {
                let key = RecordKey { vault: dir.0, dir: dir.1, tag };
                Ok((tag, HeadsDigest::of(&meta.record(&key)?)))
            });
            told.collect()
        });
        Ok((mark, Some(told.await?)))
    }

    /// Returns a page of a directory's records after a tag, in order of tags.
    ///
    /// # Errors
    /// [`ReadError`] when the index cannot be read, or a record among them does not decode: a
    /// listing without it would pass for a whole one.
    pub async fn scan_dir(
        &self,
        dir: DirKey,
        after: Option<[u8; 16]>,
        limit: PageLimit,
    ) -> Result<Page<KeyedRecord>, ReadError> {
        let row = |key, record| (key, record);
        self.0.index.read(move |meta| meta.scan_dir(&dir, after, limit, row)).await
    }

    /// The same as digests, for records under whose names nothing is listed as `None`. One record
    /// is in memory at a time.
    ///
    /// # Errors
    /// As [`Store::scan_dir`].
    pub async fn scan_dir_digests(
        &self,
        dir: DirKey,
        after: Option<[u8; 16]>,
        limit: PageLimit,
    ) -> Result<Page<(Tag, Option<HeadsDigest>)>, ReadError> {
        let row = |key: RecordKey, record: Record| (key.tag, HeadsDigest::of(&record));
        self.0.index.read(move |meta| meta.scan_dir(&dir, after, limit, row)).await
    }

    /// Returns a page of a partition's records after a row key (empty for the first). Rows that do
    /// not decode are left out.
    ///
    /// # Errors
    /// [`ReadError`] when the index cannot be read.
    pub async fn scan_records(
        &self,
        partition: Partition,
        bits: PartitionBits,
        after: Vec<u8>,
        limit: PageLimit,
    ) -> Result<Page<KeyedRecord>, ReadError> {
        let row = |key, record| (key, record);
        self.0.index.read(move |meta| meta.scan_records(partition, bits, &after, limit, row)).await
    }

    /// The same as hashes of the records' states. One record is in memory at a time.
    ///
    /// # Errors
    /// [`ReadError`] when the index cannot be read.
    pub async fn scan_record_hashes(
        &self,
        partition: Partition,
        bits: PartitionBits,
        after: Vec<u8>,
        limit: PageLimit,
    ) -> Result<Page<KeyedHash>, ReadError> {
        let row = |key, record: Record| (key, record.state_hash());
        self.0.index.read(move |meta| meta.scan_records(partition, bits, &after, limit, row)).await
    }

    /// Returns reference rows of a partition after a row key (empty for the first), at most
    /// `limit`. Rows that do not decode are left out and do not count.
    ///
    /// # Errors
    /// [`ReadError`] when the index cannot be read.
    pub async fn scan_refs(
        &self,
        partition: Partition,
        bits: PartitionBits,
        after: Vec<u8>,
        limit: usize,
    ) -> Result<Vec<RefRow>, ReadError> {
        self.0.index.read(move |meta| meta.scan_refs(partition, bits, &after, limit)).await
    }

    /// Returns the rows that reference a blob, at most `limit`; those that do not decode are left
    /// out.
    ///
    /// # Errors
    /// [`ReadError`] when the index cannot be read.
    pub async fn refs_of(
        &self,
        id: BlobId,
        after: Option<Use>,
        limit: usize,
    ) -> Result<Vec<RefRow>, ReadError> {
        self.0.index.read(move |meta| meta.refs_of(&id, after, limit)).await
    }

    /// Returns the fingerprint of every partition of a table, whatever their size. Of partitions
    /// finer than [`PartitionBits::GENESIS`] every row is read for it.
    ///
    /// # Errors
    /// [`ReadError`] when the index cannot be read.
    pub async fn roots(&self, table: Table, bits: PartitionBits) -> Result<Vec<Root>, ReadError> {
        self.0.index.read(move |meta| meta.roots(table, bits)).await
    }
}

impl From<Unmergeable> for WriteError {
    fn from(why: Unmergeable) -> Self {
        match why {
            Unmergeable::TooLarge => Self::TooManyVersions,
            Unmergeable::Damaged => Self::Damaged,
            Unmergeable::Purged => Self::Purged,
        }
    }
}
