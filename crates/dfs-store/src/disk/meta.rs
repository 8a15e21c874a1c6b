//! The index: records, reference rows, which blobs are held, certificates, small state.
//!
//! One redb database on the [`dfs_env::Vfs`]. Keys begin with the top 16 bits of the hash that
//! places them, so a partition is one range whatever its size.

use std::fmt;
use std::io;
use std::panic::AssertUnwindSafe;
use std::path::Path;
use std::sync::Arc;

use dfs_env::{Bug, Env, OpenMode, VfsFile, bug};
use redb::{Database, ReadableDatabase, StorageBackend};

use self::damaged::DamagedRows;
#[cfg(test)]
pub(crate) use self::old_refs::OLD_REFS;
pub use self::page::{PAGE_BYTES_MAX, Page, PageLimit};
pub(crate) use self::reader::{MetaReader, Place};
pub(crate) use self::rows::ROOT_BITS;
#[cfg(test)]
pub(crate) use self::rows::{BLOBS, PACKED, RECORDS, REFS, SUMS};
pub use self::rows::{record_row, ref_row};
pub(crate) use self::tx::{MetaTx, Removed, Unmergeable};
use crate::error::OpenStoreError;

mod collect;
mod damaged;
mod held;
mod old_refs;
mod page;
mod reader;
mod rows;
mod tx;

/// The open database.
pub(crate) struct Meta {
    /// There until this is dropped.
    db: Option<Database>,
    damaged: Arc<DamagedRows>,
}

impl Drop for Meta {
    fn drop(&mut self) {
        let db = self.db.take();
        // A database that met rot may meet it again when it closes. Everything acknowledged was
        // committed before, so nothing is lost if this write fails.
        let _ = guarded(|| {
            drop(db);
            Ok(())
        });
    }
}

pub(crate) type MetaResult<T> = Result<T, redb::Error>;

/// Runs work on the index. redb panics when it finds rot in a page: that is a fault of this disk,
/// and must not end the task that met it.
pub(crate) fn guarded<T>(work: impl FnOnce() -> MetaResult<T>) -> MetaResult<T> {
    let damaged = |_| Err(redb::Error::Corrupted("a page of the index is damaged".to_owned()));
    std::panic::catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(damaged)
}

impl Meta {
    /// Opens the database, or makes one. `made` means that there was one before: if it is
    /// gone now, an empty one must not replace it, because this node would answer quorums with it.
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
            let db = Some(builder.create_with_backend(Backend(file))?);
            let meta = Self { db, damaged: Arc::default() };
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
            let mut tx = MetaTx::new(inner, self.damaged.clone());
            let value = work(&mut tx)?;
            tx.commit()?;
            Ok(value)
        })
    }

    pub(crate) fn reader(&self) -> MetaResult<MetaReader> {
        Ok(MetaReader::new(self.db().begin_read()?, self.damaged.clone()))
    }

    /// How many rows were found not to decode since this was opened.
    pub(crate) fn damaged_rows(&self) -> u64 {
        self.damaged.count()
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
