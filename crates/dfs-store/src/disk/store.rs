//! The store: sealed blobs, records and reference rows on one disk.
//!
//! Everything is durable before a call returns, and checked on every read. What fails its check
//! is set aside and reported as missing, never served.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use dfs_core::codec::Canonical;
use dfs_core::id::{BlobId, CertId, Partition, RecordKey};
use dfs_core::layout::epoch::{EpochCert, EpochProposal, EpochState};
use dfs_core::paxos::Register;
use dfs_core::record::refs::RefRow;
use dfs_core::record::writer::WriterCert;
use dfs_core::replica::sync::Root;
use dfs_env::{DiskSpace, Env, write_replacing};
use parking_lot::Mutex;
use tokio::sync::{OwnedMutexGuard, Semaphore};

use self::reconcile::Reconciler;
use crate::disk::chain::Chain;
use crate::disk::chunks::Chunks;
use crate::disk::data_dir::{INDEX, INDEX_MADE};
use crate::disk::foreign_rows;
use crate::disk::index::Index;
use crate::disk::meta::{Meta, guarded};
pub use crate::disk::meta::{PAGE_BYTES_MAX, Page, PageLimit, record_row, ref_row};
pub use crate::disk::space::Shortage;
use crate::disk::space::{Need, Space, new_blobs_up_to};
use crate::error::{OpenStoreError, ReadError, ReconcileError, WriteError};

pub use self::collect::Unused;
pub use self::reconcile::Reconciled;
pub use self::rows::KeyedRecord;
pub use self::scrub::{Held, SumChecked, Verified};

mod blobs;
mod collect;
mod reconcile;
mod rows;
mod scrub;

/// How a store is opened.
#[derive(Debug, Clone)]
pub struct Config {
    /// The data directory, opened before by [`crate::disk::data_dir::DataDir`].
    pub root: PathBuf,
    /// Bytes of blobs to hold at most; `None` offers most of the free space.
    pub capacity: Option<u64>,
    /// Blobs of at most so many bytes lie together in the index, each larger one in a file of its
    /// own; at most [`PACKED_BYTES_MAX`]. It may differ from one opening to the next.
    pub packed_max: usize,
}

impl Config {
    /// The store of a data directory, with everything else as it is best.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into(), capacity: None, packed_max: PACKED_BYTES_MAX }
    }
}

/// An open store; cheap to clone. Close it with [`Store::close`] to wait for what is under way.
#[derive(Debug, Clone)]
pub struct Store(Arc<Inner>);

/// How the disk of a store is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiskView {
    /// The data directory on it.
    pub root: PathBuf,
    /// What there is room for.
    pub space: DiskSpace,
    /// Why no new blob is taken, if none is.
    pub shortage: Option<Shortage>,
    /// What the disk said to the last file that was to be written, unless it took it.
    pub refuses: Option<String>,
    /// What it said when it made the store refuse all writes, if it did.
    pub failed: Option<String>,
}

#[derive(Debug)]
struct Inner {
    env: Env,
    index: Index,
    chunks: Arc<Chunks>,
    space: Arc<Space>,
    /// See [`DiskView::refuses`].
    refuses: Arc<Mutex<Option<String>>>,
    /// Files being written at once: beyond a few, a disk only queues. Work whose caller has gone
    /// keeps its place until it is done, so that a peer cannot pile it up by giving up.
    writing: Arc<Semaphore>,
    /// Files being read at once, in the same way.
    reading: Arc<Semaphore>,
    /// Orders quarantine against the writing of a good copy of the same blob. The file work holds
    /// the lock itself, because it goes on when its caller is gone.
    renaming: Vec<Arc<tokio::sync::Mutex<()>>>,
    /// See [`Config::packed_max`].
    packed_max: usize,
    /// Blobs that failed their check since this store was opened.
    corrupt: Arc<AtomicU64>,
    /// Blobs that failed their check and were not reported yet.
    set_aside: Arc<Mutex<BTreeSet<BlobId>>>,
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
        let packed_max = config.packed_max.min(PACKED_BYTES_MAX);
        let opened = {
            let env = env.clone();
            env.clone().offload(move || open_parts(&env, config)).await?
        };
        let (meta, chunks, space, grown) = opened;
        Ok(Self(Arc::new(Inner {
            index: Index::start(env.clone(), meta, grown),
            env,
            chunks: Arc::new(chunks),
            space: Arc::new(space),
            refuses: Arc::default(),
            writing: Arc::new(Semaphore::new(FILES_WRITING_MAX)),
            reading: Arc::new(Semaphore::new(FILES_READING_MAX)),
            renaming: (0..RENAME_LOCKS).map(|_| Arc::default()).collect(),
            packed_max,
            corrupt: Arc::default(),
            set_aside: Arc::default(),
        })))
    }

    /// Refuses further writes and waits for those under way.
    pub async fn close(&self) {
        self.0.index.close().await;
    }

    /// Whether a failed disk made the store refuse writes.
    pub fn has_failed(&self) -> bool {
        self.0.index.has_failed()
    }

    /// How the disk was when it was last looked at.
    pub fn disk(&self) -> DiskView {
        let inner = &self.0;
        let (space, shortage) = inner.space.seen();
        let (root, refuses) = (inner.space.root().to_owned(), inner.refuses.lock().clone());
        DiskView { root, space, shortage, refuses, failed: inner.index.failure() }
    }

    /// Looks at what the disk has room for, and, where it took nothing the last time, whether it
    /// does now: nobody else may have anything to write. Waits for the disk, and only one who asks
    /// does.
    pub async fn look_at_disk(&self) {
        let inner = &self.0;
        let (env, space) = (inner.env.clone(), inner.space.clone());
        let (chunks, refused) = (inner.chunks.clone(), inner.refuses.lock().is_some());
        let look = move || {
            space.look_if_nobody_does(&env)?;
            if refused { chunks.try_disk(&env).map(Some) } else { Ok(None) }
        };
        match inner.env.offload(look).await {
            Err(error) => *inner.refuses.lock() = Some(error.to_string()),
            Ok(Some(())) => *inner.refuses.lock() = None,
            Ok(None) => {}
        }
    }

    /// Blobs that failed their check since this store was opened.
    pub fn corrupt_count(&self) -> u64 {
        self.0.corrupt.load(Ordering::Relaxed)
    }

    /// Rows of the index that were found not to decode since this store was opened, each once.
    pub fn damaged_rows(&self) -> u64 {
        self.0.index.damaged_rows()
    }

    /// Bytes this store offers to take, the index included.
    pub fn capacity(&self) -> u64 {
        self.0.space.capacity()
    }

    /// Offers no more than `cap` bytes from now on, whatever the disk has room for.
    pub fn limit(&self, cap: u64) {
        self.0.space.limit(cap);
    }

    /// Bytes up to which a store takes new blobs that offers to take so many.
    pub fn new_blobs_up_to(capacity: u64) -> u64 {
        new_blobs_up_to(capacity)
    }

    /// Bytes that it takes of what it offers: blobs, records and reference rows. Until the store
    /// was reconciled, what the index takes of the disk stands for the rows of before.
    pub fn held(&self) -> u64 {
        self.0.space.held()
    }

    /// Bytes of blobs it holds.
    pub fn used(&self) -> u64 {
        self.0.space.used()
    }

    /// Returns a writer certificate, if known here.
    ///
    /// # Errors
    /// [`ReadError`] when the index cannot be read.
    pub async fn cert(&self, id: CertId) -> Result<Option<WriterCert>, ReadError> {
        let bytes = self.0.index.find(1, move |meta| meta.cert(id.as_bytes())).await?;
        Ok(bytes.and_then(|bytes| WriterCert::from_canonical(bytes).ok()))
    }

    /// Keeps a verified certificate. Durable on return.
    ///
    /// # Errors
    /// [`WriteError`] when it could not be stored.
    pub async fn put_cert(&self, cert: &WriterCert) -> Result<(), WriteError> {
        let (id, bytes) = (cert.id(), cert.to_canonical());
        self.0.index.commit(move |tx| tx.set_cert(id.as_bytes(), &bytes)).await
    }

    /// Returns a small value kept under a name.
    ///
    /// # Errors
    /// [`ReadError`] when the index cannot be read.
    pub async fn state(&self, key: &'static str) -> Result<Option<Vec<u8>>, ReadError> {
        self.0.index.find(1, move |meta| meta.state(key)).await
    }

    /// Keeps a small value under a name. Durable on return.
    ///
    /// # Errors
    /// [`WriteError`] when it could not be stored.
    pub async fn put_state(&self, key: &'static str, value: Vec<u8>) -> Result<(), WriteError> {
        self.0.index.commit(move |tx| tx.set_state(key, &value)).await
    }

    /// Returns the newest epoch known here, with the proof that it was decided.
    ///
    /// # Errors
    /// [`ReadError`] when the index cannot be read or holds something else.
    pub async fn epoch(&self) -> Result<Option<(EpochState, EpochCert)>, ReadError> {
        Chain(&self.0.index).epoch().await
    }

    /// Returns the certificate of one epoch, if kept here.
    ///
    /// # Errors
    /// [`ReadError`] when the index cannot be read.
    pub async fn epoch_cert(&self, epoch: u64) -> Result<Option<Vec<u8>>, ReadError> {
        Chain(&self.0.index).epoch_cert(epoch).await
    }

    /// Returns certificates of epochs after `epoch` that changed the voters, in order, at most
    /// `limit`. With them a node that lags far behind can check who decided the newest.
    ///
    /// # Errors
    /// [`ReadError`] when the index cannot be read.
    pub async fn voter_certs(&self, epoch: u64, limit: usize) -> Result<Vec<Vec<u8>>, ReadError> {
        Chain(&self.0.index).voter_certs(epoch, limit).await
    }

    /// Makes an epoch durable, with the voter changes `led` that lead to it. From then on this node
    /// speaks for no older one.
    ///
    /// # Errors
    /// [`WriteError`] when it could not be stored.
    pub async fn put_epoch(
        &self,
        state: &EpochState,
        cert: &EpochCert,
        led: &[EpochCert],
    ) -> Result<(), WriteError> {
        Chain(&self.0.index).put_epoch(state, cert, led).await
    }

    /// Changes what this node remembers, as a voter, of the decision of `epoch`. Returns the
    /// result, durable and therefore safe to tell others; `None` once a later epoch is voted on.
    ///
    /// # Errors
    /// [`WriteError`] when it could not be stored, or what is there does not decode: a voter that
    /// forgot what it promised must not vote.
    pub async fn vote(
        &self,
        epoch: u64,
        change: impl FnOnce(&mut Register<EpochProposal>) + Send + 'static,
    ) -> Result<Option<Register<EpochProposal>>, WriteError> {
        Chain(&self.0.index).vote(epoch, change).await
    }

    /// Forgets records that are still what their replicas were given: those whose state has this
    /// hash. Durable on return. Returns how many went.
    ///
    /// # Errors
    /// [`WriteError`] when the index could not be written.
    pub async fn forget_records(
        &self,
        records: Vec<(RecordKey, [u8; 32])>,
    ) -> Result<usize, WriteError> {
        foreign_rows::forget_records(&self.0.index, records).await
    }

    /// Forgets reference rows that are still what their replicas were given. Durable on return.
    /// Returns how many went.
    ///
    /// # Errors
    /// [`WriteError`] when the index could not be written.
    pub async fn forget_refs(&self, rows: Vec<RefRow>) -> Result<usize, WriteError> {
        foreign_rows::forget_refs(&self.0.index, rows).await
    }

    /// Forgets records of a partition of which all rows together are known elsewhere, if they still
    /// are what was compared: its root is this one. Durable on return. Returns the root that the
    /// partition has then, for those that follow; `None` when a row came or changed meanwhile, and
    /// nothing was forgotten.
    ///
    /// # Errors
    /// [`WriteError`] when the index could not be written.
    pub async fn forget_known_records(
        &self,
        partition: Partition,
        compared: Root,
        records: Vec<(RecordKey, [u8; 32])>,
    ) -> Result<Option<Root>, WriteError> {
        foreign_rows::forget_known_records(&self.0.index, partition, compared, records).await
    }

    /// The same for reference rows.
    ///
    /// # Errors
    /// [`WriteError`] when the index could not be written.
    pub async fn forget_known_refs(
        &self,
        partition: Partition,
        compared: Root,
        rows: Vec<RefRow>,
    ) -> Result<Option<Root>, WriteError> {
        foreign_rows::forget_known_refs(&self.0.index, partition, compared, rows).await
    }

    /// Compares the blob files with the index and mends the differences. Run it once in the
    /// background after opening: the store can be used meanwhile. Memory is bounded; it takes the
    /// time to list every directory and to read what must be adopted.
    ///
    /// # Errors
    /// [`ReconcileError`] when the index cannot be read or written, or the directory of all blobs
    /// not be listed. What was done stays.
    pub async fn reconcile(&self) -> Result<Reconciled, ReconcileError> {
        Reconciler::new(self).run().await
    }

    /// Adopts the file of a blob that is not held, if there is a good one. Returns whether the blob
    /// is held now.
    ///
    /// # Errors
    /// [`ReconcileError`] when the index cannot be read or written.
    pub async fn adopt(&self, id: BlobId) -> Result<bool, ReconcileError> {
        Reconciler::new(self).adopt_all(&[id]).await?;
        Ok(self.has_blob(id).await?)
    }

    /// Whether so much may be stored.
    async fn admits(&self, need: Need) -> std::io::Result<bool> {
        let (env, space) = (self.0.env.clone(), self.0.space.clone());
        match space.admits_as_seen(&env, need) {
            Some(fits) => Ok(fits),
            None => self.0.env.offload(move || space.admits(&env, need)).await,
        }
    }
}

/// The parts of a store; with them what counts the bytes by which rows grow.
type Opened = (Meta, Chunks, Space, Arc<AtomicI64>);

fn open_parts(env: &Env, config: Config) -> Result<Opened, OpenStoreError> {
    let root = config.root;
    let io = |error| OpenStoreError::Io(root.clone(), error);
    let index = root.join(INDEX);
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
    let in_file = env.fs().metadata(&index).map_err(io)?.allocated;
    let blobs = guarded(|| meta.reader()?.count_blobs());
    let blobs = blobs.map_err(|error| OpenStoreError::Index(index, Box::new(error)))?;
    let chunks = Chunks::open(env, &root).map_err(io)?;
    let grown = Arc::<AtomicI64>::default();
    // Until they are counted, rows take what is left of their file.
    let rows = (in_file.saturating_sub(blobs.packed_bytes), grown.clone());
    let space = Space::new(env, root.clone(), config.capacity, blobs.bytes, rows).map_err(io)?;
    Ok((meta, chunks, space, grown))
}

/// Blobs are spread over this many locks; two that share one only wait for each other.
const RENAME_LOCKS: usize = 256;
/// Blobs up to this length are not worth a file, two synced directory entries and an inode: the
/// lists of a file of up to some hundred chunks. As long as a page of the index, less than many
/// records; so what the index risks, and what a commit needs, is what it was.
pub const PACKED_BYTES_MAX: usize = 4 * 1024;
/// Files written and synced at once.
const FILES_WRITING_MAX: usize = 8;
/// Files read and checked at once: each is a blob in memory.
const FILES_READING_MAX: usize = 16;

#[cfg(test)]
mod tests;
