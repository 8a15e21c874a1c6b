//! Durable blob files: written aside, synced, renamed into place, and the directory synced.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use dfs_core::id::BlobId;
use dfs_env::{Bug, Env, OpenMode, bug};

use crate::blob::BLOB_BYTES_MAX;
use crate::path::PathTransform;

/// The files below one data directory. Every method blocks on the disk.
#[derive(Debug)]
pub(crate) struct Chunks {
    root: PathBuf,
    transform: PathTransform,
    next_temp: AtomicU64,
    /// Directories known to exist durably.
    durable_dirs: Mutex<BTreeSet<PathBuf>>,
}

/// What a file turned out to be.
pub(crate) enum Found {
    Good(Vec<u8>),
    /// Cut, flipped, too long, or missing though the index names it.
    Bad,
}

impl Chunks {
    /// Opens the directories of `root` and throws away what an earlier process left unfinished.
    pub(crate) fn open(env: &Env, root: &Path) -> io::Result<Self> {
        let fs = env.fs();
        for entry in fs.list(&root.join("tmp"))? {
            fs.remove_file(&root.join("tmp").join(entry.name))?;
        }
        Ok(Self {
            root: root.to_owned(),
            transform: PathTransform::default(),
            next_temp: AtomicU64::new(0),
            durable_dirs: Mutex::new(BTreeSet::new()),
        })
    }

    pub(crate) fn path(&self, id: &BlobId) -> PathBuf {
        self.root.join("blobs").join(self.transform.blob_path(id))
    }

    /// Stores verified bytes; on return they survive a power loss.
    pub(crate) fn write(&self, env: &Env, id: &BlobId, bytes: &[u8]) -> io::Result<()> {
        let fs = env.fs();
        let number = self.next_temp.fetch_add(1, Ordering::Relaxed);
        let temp = self.root.join("tmp").join(format!("{number}.tmp"));
        let result = self.write_and_rename(env, id, bytes, &temp);
        if result.is_err() {
            // Best effort: the next start clears the directory anyway.
            let _ = fs.remove_file(&temp);
        }
        result
    }

    fn write_and_rename(
        &self,
        env: &Env,
        id: &BlobId,
        bytes: &[u8],
        temp: &Path,
    ) -> io::Result<()> {
        let fs = env.fs();
        let file = fs.open(temp, OpenMode::CreateNew)?;
        file.write_all_at(bytes, 0)?;
        if !bug(Bug::SkipFileSync) {
            file.sync_data()?;
        }
        let path = self.path(id);
        let dir = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
        self.make_dir(env, dir)?;
        fs.rename(temp, &path)?;
        if bug(Bug::SkipDirSync) { Ok(()) } else { fs.sync_dir(dir) }
    }

    /// Makes a directory and those above it durable, once in the life of this process.
    fn make_dir(&self, env: &Env, dir: &Path) -> io::Result<()> {
        let known = || self.durable_dirs.lock().expect("no holder of this lock panics");
        if dir == self.root || known().contains(dir) {
            return Ok(());
        }
        let parent = dir.parent().ok_or(io::ErrorKind::InvalidInput)?;
        self.make_dir(env, parent)?;
        match env.fs().create_dir(dir) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => env.fs().sync_dir(parent)?,
        }
        known().insert(dir.to_owned());
        Ok(())
    }

    /// Reads a file and checks it against its id.
    pub(crate) fn read(&self, env: &Env, id: &BlobId) -> io::Result<Found> {
        match env.fs().read(&self.path(id), BLOB_BYTES_MAX as u64) {
            Ok(bytes) if BlobId::of(&bytes) == *id || bug(Bug::ReadUnchecked) => {
                Ok(Found::Good(bytes))
            }
            Ok(_) => Ok(Found::Bad),
            Err(error) => match error.kind() {
                io::ErrorKind::NotFound
                | io::ErrorKind::FileTooLarge
                | io::ErrorKind::UnexpectedEof => Ok(Found::Bad),
                _ if is_rot(&error) => Ok(Found::Bad),
                _ => Err(error),
            },
        }
    }

    /// Sets a bad file aside. It is kept: it may be evidence, and never served.
    pub(crate) fn quarantine(&self, env: &Env, id: &BlobId) -> io::Result<()> {
        let path = self.path(id);
        let aside = self.root.join("quarantine").join(format!("{id}.{}", env.wall_ms()));
        match env.fs().rename(&path, &aside) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        }
    }
}

/// Whether the disk says that these bytes are gone, rather than that it cannot answer now:
/// EIO, EBADMSG, EUCLEAN.
fn is_rot(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(5 | 74 | 117))
}
