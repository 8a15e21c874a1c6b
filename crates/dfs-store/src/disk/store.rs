//! The store: sealed blobs, records and reference rows on one disk.
//!
//! Everything is durable before a call returns, and checked on every read. What fails its check
//! is set aside and reported as missing, never served.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use dfs_core::codec::Canonical;
use dfs_core::id::{BlobId, CertId, DirId, Partition, PartitionBits, RecordKey, VaultId};
use dfs_core::record::refs::RefRow;
use dfs_core::record::version::Record;
use dfs_core::record::writer::WriterCert;
use dfs_core::replica::sync::{Root, Table};
use dfs_env::{Env, Task, write_replacing};
use tokio::sync::{Mutex, OwnedMutexGuard, Semaphore, mpsc};

use self::commit::{Job, commit_all};
use crate::disk::chunks::Chunks;
use crate::disk::meta::{Meta, MetaReader, MetaResult, MetaTx, Unmergeable, guarded};
pub use crate::disk::meta::{record_row, ref_row};
use crate::disk::space::{Purpose, Space};
use crate::error::{OpenStoreError, ReadError, WriteError};

pub use self::collect::Unused;
pub use self::reconcile::Reconciled;
pub use self::scrub::{Held, SumChecked, Verified};

mod blobs;
mod collect;
mod commit;
mod reconcile;
mod scrub;

/// How a store is opened.
#[derive(Debug, Clone)]
pub struct Config {
    /// The data directory, opened before by [`crate::disk::data_dir::DataDir`].
    pub root: PathBuf,
    /// Bytes of blobs to hold at most; `None` offers most of the free space.
    pub capacity: Option<u64>,
}

/// A record key and its record.
pub type KeyedRecord = (RecordKey, Record);

/// An open store; cheap to clone. Close it with [`Store::close`] to wait for what is under way.
#[derive(Debug, Clone)]
pub struct Store(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    env: Env,
    meta: Arc<Meta>,
    chunks: Arc<Chunks>,
    space: Arc<Space>,
    /// Files being written at once: beyond a few, a disk only queues. Work whose caller has gone
    /// keeps its place until it is done, so that a peer cannot pile it up by giving up.
    writing: Arc<Semaphore>,
    /// Files being read at once, in the same way.
    reading: Arc<Semaphore>,
    /// Orders quarantine against the writing of a good copy of the same blob. The file work holds
    /// the lock itself, because it goes on when its caller is gone.
    renaming: Vec<Arc<Mutex<()>>>,
    /// Blobs that failed their check since this store was opened.
    corrupt: Arc<AtomicU64>,
    /// Blobs that failed their check and that nobody has been told of.
    set_aside: Arc<parking_lot::Mutex<BTreeSet<BlobId>>>,
    failed: Arc<AtomicBool>,
    jobs: parking_lot::Mutex<Option<mpsc::Sender<Job>>>,
    committer: Mutex<Option<Task<()>>>,
}

impl Inner {
    async fn rename_lock(&self, id: &BlobId) -> OwnedMutexGuard<()> {
        self.renaming[Self::lock_of(id)].clone().lock_owned().await
    }

    fn lock_of(id: &BlobId) -> usize {
        usize::from(id.as_bytes()[0]) % RENAME_LOCKS
    }
}

impl Store {
    /// Opens the store of a data directory.
    ///
    /// # Errors
    /// [`OpenStoreError`] when the index is damaged or the disk refuses.
    pub async fn open(env: Env, config: Config) -> Result<Self, OpenStoreError> {
        let opened = {
            let env = env.clone();
            env.clone().offload(move || open_parts(&env, config)).await?
        };
        let (meta, chunks, space) = opened;
        let failed = Arc::new(AtomicBool::new(false));
        let (jobs, waiting) = mpsc::channel(JOBS_WAITING_MAX);
        let committer = commit_all(env.clone(), meta.clone(), failed.clone(), waiting);
        let committer = env.spawn("committer", committer);
        Ok(Self(Arc::new(Inner {
            env,
            meta,
            chunks,
            space: Arc::new(space),
            writing: Arc::new(Semaphore::new(FILES_WRITING_MAX)),
            reading: Arc::new(Semaphore::new(FILES_READING_MAX)),
            renaming: (0..RENAME_LOCKS).map(|_| Arc::default()).collect(),
            corrupt: Arc::default(),
            set_aside: Arc::default(),
            failed,
            jobs: parking_lot::Mutex::new(Some(jobs)),
            committer: Mutex::new(Some(committer)),
        })))
    }

    /// Refuses further writes and waits for those under way.
    pub async fn close(&self) {
        drop(self.0.jobs.lock().take());
        if let Some(committer) = self.0.committer.lock().await.take() {
            let _ = committer.await;
        }
    }

    /// Whether a failed disk made the store refuse writes.
    pub fn has_failed(&self) -> bool {
        self.0.failed.load(Ordering::Relaxed)
    }

    /// Blobs that failed their check since this store was opened.
    pub fn corrupt_count(&self) -> u64 {
        self.0.corrupt.load(Ordering::Relaxed)
    }

    /// Rows of the index that were found not to decode since this store was opened, each once.
    pub fn damaged_rows(&self) -> u64 {
        self.0.meta.damaged_rows()
    }

    /// Bytes of blobs this store offers to hold.
    pub fn capacity(&self) -> u64 {
        self.0.space.capacity()
    }

    /// Bytes of blobs it holds.
    pub fn used(&self) -> u64 {
        self.0.space.used()
    }

    /// Joins records with those held. Durable on return. Says how many changed.
    ///
    /// # Errors
    /// [`WriteError`]; none of them counts as stored then, though some may be.
    pub async fn merge_records(&self, records: Vec<KeyedRecord>) -> Result<usize, WriteError> {
        self.admit_record().await?;
        let work = move |tx: &mut MetaTx| {
            let (mut changed, mut failed) = (0, None);
            for (key, record) in &records {
                match tx.merge_record(key, record)? {
                    Ok(is_new) => changed += usize::from(is_new),
                    Err(why) => failed = Some(why),
                }
            }
            Ok((changed, failed))
        };
        match self.commit(work).await? {
            (changed, None) => Ok(changed),
            (_, Some(why)) => Err(why.into()),
        }
    }

    /// Puts what `change` makes of a record in its place, and gives it. Durable on return.
    ///
    /// # Errors
    /// [`WriteError`]; it is as it was then.
    pub async fn change_record(
        &self,
        key: RecordKey,
        change: impl FnOnce(&Record) -> Record + Send + 'static,
    ) -> Result<Record, WriteError> {
        self.admit_record().await?;
        let changed = self.commit(move |tx| tx.change_record(&key, change)).await?;
        Ok(changed.map(|(record, _)| record)?)
    }

    /// Notes uses of blobs, and says for each whether its blob is held. Durable on return: from then
    /// on the blob will not be collected.
    ///
    /// # Errors
    /// [`WriteError`]; none of them counts as stored then, though some may be.
    pub async fn add_refs(&self, rows: Vec<RefRow>) -> Result<Vec<bool>, WriteError> {
        self.join_refs(rows, true).await
    }

    /// Joins rows that other replicas hold with those here, and says for each whether its blob is
    /// held. A use that was found to have ended here stays so. Durable on return.
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
        self.admit_record().await?;
        let work = move |tx: &mut MetaTx| {
            let (mut held, mut failed) = (Vec::with_capacity(rows.len()), None);
            for row in &rows {
                failed = tx.merge_ref(row, noted_anew)?.err().or(failed);
                held.push(tx.has_blob(&row.blob)?);
            }
            Ok((held, failed))
        };
        match self.commit(work).await? {
            (held, None) => Ok(held),
            (_, Some(why)) => Err(why.into()),
        }
    }

    /// Before the transaction, for one that meets a full disk closes the store.
    async fn admit_record(&self) -> Result<(), WriteError> {
        match self.admits(Purpose::Record).await? {
            true => Ok(()),
            false => Err(WriteError::NoSpace),
        }
    }

    /// Whether anything may be stored for a purpose.
    pub(super) async fn admits(&self, purpose: Purpose) -> std::io::Result<bool> {
        let (env, space) = (self.0.env.clone(), self.0.space.clone());
        self.0.env.offload(move || space.admits(&env, purpose, 0)).await
    }

    /// The record of a key; empty when nothing is held.
    ///
    /// # Errors
    /// [`ReadError`] when the index cannot be read.
    pub async fn record(&self, key: RecordKey) -> Result<Record, ReadError> {
        self.read(move |meta| meta.record(&key)).await
    }

    /// Records of several keys, in the same order.
    ///
    /// # Errors
    /// [`ReadError`] when the index cannot be read.
    pub async fn records(&self, keys: Vec<RecordKey>) -> Result<Vec<Record>, ReadError> {
        self.read(move |meta| keys.iter().map(|key| meta.record(key)).collect()).await
    }

    /// Records of a directory after a tag, in order of tags, at most `limit`.
    ///
    /// # Errors
    /// [`ReadError`] when the index cannot be read, or a record among them does not decode: a
    /// listing without it would pass for a whole one.
    pub async fn scan_dir(
        &self,
        vault: VaultId,
        dir: DirId,
        after: Option<[u8; 16]>,
        limit: usize,
    ) -> Result<Vec<KeyedRecord>, ReadError> {
        self.read(move |meta| meta.scan_dir(&vault, &dir, after, limit)).await
    }

    /// Records of a partition after a row key (empty for the first), at most `limit`. Rows that do
    /// not decode are left out and do not count.
    ///
    /// # Errors
    /// [`ReadError`] when the index cannot be read.
    pub async fn scan_records(
        &self,
        partition: Partition,
        bits: PartitionBits,
        after: Vec<u8>,
        limit: usize,
    ) -> Result<Vec<KeyedRecord>, ReadError> {
        self.read(move |meta| meta.scan_records(partition, bits, &after, limit)).await
    }

    /// Reference rows of a partition after a row key (empty for the first), at most `limit`. Rows that do
    /// not decode are left out and do not count.
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
        self.read(move |meta| meta.scan_refs(partition, bits, &after, limit)).await
    }

    /// The rows that reference a blob, at most `limit`; those that do not decode are left out.
    ///
    /// # Errors
    /// [`ReadError`] when the index cannot be read.
    pub async fn refs_of(&self, id: BlobId, limit: usize) -> Result<Vec<RefRow>, ReadError> {
        self.read(move |meta| meta.refs_of(&id, limit)).await
    }

    /// The fingerprint of every partition of a table, whatever their size. Of partitions finer than
    /// [`PartitionBits::GENESIS`] every row is read for it.
    ///
    /// # Errors
    /// [`ReadError`] when the index cannot be read.
    pub async fn roots(&self, table: Table, bits: PartitionBits) -> Result<Vec<Root>, ReadError> {
        self.read(move |meta| meta.roots(table, bits)).await
    }

    /// A writer certificate, if known here.
    ///
    /// # Errors
    /// [`ReadError`] when the index cannot be read.
    pub async fn cert(&self, id: CertId) -> Result<Option<WriterCert>, ReadError> {
        let bytes = self.read(move |meta| meta.cert(id.as_bytes())).await?;
        Ok(bytes.and_then(|bytes| WriterCert::from_canonical(bytes).ok()))
    }

    /// Keeps a verified certificate. Durable on return.
    ///
    /// # Errors
    /// [`WriteError`] when it could not be stored.
    pub async fn put_cert(&self, cert: &WriterCert) -> Result<(), WriteError> {
        let (id, bytes) = (cert.id(), cert.to_canonical());
        self.commit(move |tx| tx.set_cert(id.as_bytes(), &bytes)).await
    }

    /// A small value kept under a name.
    ///
    /// # Errors
    /// [`ReadError`] when the index cannot be read.
    pub async fn state(&self, key: &'static str) -> Result<Option<Vec<u8>>, ReadError> {
        self.read(move |meta| meta.state(key)).await
    }

    /// Keeps a small value under a name. Durable on return.
    ///
    /// # Errors
    /// [`WriteError`] when it could not be stored.
    pub async fn put_state(&self, key: &'static str, value: Vec<u8>) -> Result<(), WriteError> {
        self.commit(move |tx| tx.set_state(key, &value)).await
    }

    pub(crate) async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&MetaReader) -> MetaResult<T> + Send + 'static,
    ) -> Result<T, ReadError> {
        let meta = self.0.meta.clone();
        let read = move || guarded(|| work(&meta.reader()?));
        self.0.env.offload(read).await.map_err(|error| ReadError::Index(Arc::new(error)))
    }
}

impl From<Unmergeable> for WriteError {
    fn from(why: Unmergeable) -> Self {
        match why {
            Unmergeable::TooLarge => Self::TooManyVersions,
            Unmergeable::Damaged => Self::Damaged,
        }
    }
}

fn open_parts(
    env: &Env,
    config: Config,
) -> Result<(Arc<Meta>, Arc<Chunks>, Space), OpenStoreError> {
    let root = config.root;
    let io = |error| OpenStoreError::Io(root.clone(), error);
    let index = root.join("index.redb");
    let mark = root.join(INDEX_MADE);
    let made = match env.fs().metadata(&mark) {
        Ok(_) => true,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => false,
        Err(error) => return Err(io(error)),
    };
    let meta = Meta::open(env, &index, made)?;
    env.fs().sync_dir(&root).map_err(io)?;
    if !made {
        write_replacing(env.fs(), &mark, b"").map_err(io)?;
    }
    let count = guarded(|| meta.reader()?.count_blobs());
    let (_, used) = count.map_err(|error| OpenStoreError::Index(index, Box::new(error)))?;
    let chunks = Chunks::open(env, &root).map_err(io)?;
    let space = Space::new(env, root.clone(), config.capacity, used).map_err(io)?;
    Ok((Arc::new(meta), Arc::new(chunks), space))
}

/// Says that the index was complete once.
const INDEX_MADE: &str = "index-made";
/// Changes that wait for a commit; beyond it callers wait to be taken in.
const JOBS_WAITING_MAX: usize = 1024;
/// Blobs are spread over this many locks; two that share one only wait for each other.
const RENAME_LOCKS: usize = 256;
/// Files written and synced at once.
const FILES_WRITING_MAX: usize = 8;
/// Files read and checked at once: each is a blob in memory.
const FILES_READING_MAX: usize = 16;

#[cfg(test)]
mod tests;
