//! The data directory: everything one node owns, locked and closed to others.
//!
//! ```text
//! lock          held while a node runs       boot         how often a node started here
//! format        "dfs-data 3"                 index.redb   records, reference rows, blob index,
//!                                                         small blobs
//! node.key      who this node is             blobs/       xx/yy/<id>.blob
//! writer.key    signs what it writes         tmp/         files not yet complete
//! peers.book    nodes heard of               quarantine/  files that failed their check
//! api-token     opens the local HTTP API
//! tokens.json   hashes of tokens given to programs
//! index-made    the index was complete once
//! ```

use std::io;
use std::path::{Path, PathBuf};

use dfs_env::{Env, FileLock, Vfs, write_replacing};
use ed25519_dalek::SigningKey;

use crate::error::{DATA_FORMAT, OpenStoreError};
use crate::keyfile::{self, KeyFileError, KeyKind};

/// An open, locked data directory.
#[derive(Debug)]
pub struct DataDir {
    root: PathBuf,
    instance: u64,
    node_key: SigningKey,
    _lock: FileLock,
}

impl DataDir {
    /// Opens a directory, or makes a new one with a new node key. Blocks on the disk.
    ///
    /// # Errors
    /// [`OpenStoreError`] when it is in use, open to others, foreign, newer or damaged.
    pub fn open(env: &Env, root: &Path) -> Result<Self, OpenStoreError> {
        let fs = env.fs();
        let io = |error| OpenStoreError::Io(root.to_owned(), error);
        fs.create_dir_all(root).map_err(io)?;
        let found = fs.metadata(root).map_err(io)?;
        if !found.is_dir {
            return Err(io(io::ErrorKind::NotADirectory.into()));
        }
        if !found.owned || found.mode & 0o022 != 0 {
            return Err(OpenStoreError::Exposed(root.to_owned()));
        }
        refuse_foreign(fs, root)?;
        let lock = fs.lock(&root.join("lock"), false).map_err(io)?;
        let lock = lock.ok_or_else(|| OpenStoreError::Locked(root.to_owned()))?;
        // The mark that makes the directory ours lasts before anything else is put there.
        fs.sync_dir(root).map_err(io)?;
        check_format(fs, root)?;
        for name in ["blobs", "tmp", "quarantine"] {
            fs.create_dir_all(&root.join(name)).map_err(io)?;
        }
        let node_key = own_key(env, &root.join("node.key"), KeyKind::Node)?;
        let instance = count_boot(env, root).map_err(io)?;
        // The names made above last before anything relies on them; so does the directory's own,
        // which an earlier start may have made without living long enough to sync it.
        fs.sync_dir(root).map_err(io)?;
        if let Some(parent) = root.parent().filter(|parent| *parent != Path::new("")) {
            match fs.sync_dir(parent) {
                // Not ours to open: the user who made it for us is trusted to have synced it.
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {}
                other => other.map_err(io)?,
            }
        }
        Ok(Self { root: root.to_owned(), instance, node_key, _lock: lock })
    }

    /// Where it lies.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The node's own key.
    pub fn node_key(&self) -> &SigningKey {
        &self.node_key
    }

    /// This boot: a counter in the upper 32 bits, random bits below.
    pub fn instance(&self) -> u64 {
        self.instance
    }

    /// The key this node signs versions with, made when missing. Blocks on the disk.
    ///
    /// # Errors
    /// [`KeyFileError`] when it is damaged or the disk refuses.
    pub fn writer_key(&self, env: &Env) -> Result<SigningKey, KeyFileError> {
        own_key(env, &self.root.join("writer.key"), KeyKind::Writer)
    }
}

/// A locked data directory of the format before.
pub(super) struct OldDataDir {
    root: PathBuf,
    _lock: FileLock,
}

impl DataDir {
    /// Locks a directory of the format before; `None` when it has the current one, or none yet.
    pub(super) fn lock_old(env: &Env, root: &Path) -> Result<Option<OldDataDir>, OpenStoreError> {
        let fs = env.fs();
        let io = |error| OpenStoreError::Io(root.to_owned(), error);
        refuse_foreign(fs, root)?;
        let lock = fs.lock(&root.join("lock"), false).map_err(io)?;
        let lock = lock.ok_or_else(|| OpenStoreError::Locked(root.to_owned()))?;
        match check_format(fs, root) {
            Ok(()) => Ok(None),
            Err(OpenStoreError::Old(_)) => {
                Ok(Some(OldDataDir { root: root.to_owned(), _lock: lock }))
            }
            Err(error) => Err(error),
        }
    }
}

impl OldDataDir {
    /// Whether it has a file of this name.
    pub(super) fn has(&self, env: &Env, name: &str) -> Result<bool, OpenStoreError> {
        let io = |error| OpenStoreError::Io(self.root.clone(), error);
        let entries = env.fs().list(&self.root).map_err(io)?;
        Ok(entries.iter().any(|entry| entry.name == name))
    }

    /// Marks it as one that no program starts a node on. Durable on return.
    pub(super) fn set_between(&self, env: &Env) -> Result<(), OpenStoreError> {
        set_format(env.fs(), &self.root, BETWEEN)
    }

    /// Marks it as one of the current format. Durable on return.
    pub(super) fn set_current(&self, env: &Env) -> Result<(), OpenStoreError> {
        set_format(env.fs(), &self.root, DATA_FORMAT)
    }
}

/// A directory with content but without our marks is someone else's.
fn refuse_foreign(fs: &dyn Vfs, root: &Path) -> Result<(), OpenStoreError> {
    let names = fs.list(root).map_err(|error| OpenStoreError::Io(root.to_owned(), error))?;
    // The top of a file system of its own has a directory for what its check finds.
    let empty = names.iter().all(|entry| entry.name == "lost+found");
    // With the format alone, someone moved the blobs of a lost node here for a new one.
    let ours = empty || names.iter().any(|entry| ["lock", "format"].contains(&&*entry.name));
    if ours { Ok(()) } else { Err(OpenStoreError::Foreign(root.to_owned())) }
}

fn check_format(fs: &dyn Vfs, root: &Path) -> Result<(), OpenStoreError> {
    let path = root.join("format");
    match fs.read(&path, FORMAT_BYTES_MAX) {
        Ok(text) if text == DATA_FORMAT.as_bytes() => Ok(()),
        // What this program adds, one of before would not find.
        Ok(text) if text == WITHOUT_PACKED.as_bytes() => set_format(fs, root, DATA_FORMAT),
        Ok(text) if [OLD_FORMAT, BETWEEN].iter().any(|old| text == old.as_bytes()) => {
            Err(OpenStoreError::Old(root.to_owned()))
        }
        Ok(text) => {
            let text = String::from_utf8_lossy(&text).trim().to_owned();
            Err(OpenStoreError::UnknownVersion(root.to_owned(), text))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => set_format(fs, root, DATA_FORMAT),
        Err(error) => Err(OpenStoreError::Io(path, error)),
    }
}

/// Marks a directory. Durable on return.
fn set_format(fs: &dyn Vfs, root: &Path, format: &str) -> Result<(), OpenStoreError> {
    let path = root.join("format");
    let written = write_replacing(fs, &path, format.as_bytes());
    written.map_err(|error| OpenStoreError::Io(path, error))
}

fn own_key(env: &Env, path: &Path, kind: KeyKind) -> Result<SigningKey, KeyFileError> {
    match keyfile::read(env.fs(), path, kind) {
        Ok(seed) => Ok(SigningKey::from_bytes(&seed)),
        Err(KeyFileError::Missing(_)) => {
            let key = SigningKey::from_bytes(&env.random());
            keyfile::write(env.fs(), path, kind, key.as_bytes())?;
            Ok(key)
        }
        Err(error) => Err(error),
    }
}

/// Raises the boot counter durably, so that a restart differs from a copy of the directory.
fn count_boot(env: &Env, root: &Path) -> io::Result<u64> {
    let path = root.join("boot");
    let last = match env.fs().read(&path, FORMAT_BYTES_MAX) {
        Ok(text) => String::from_utf8_lossy(&text)
            .trim()
            .parse::<u32>()
            .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "the boot counter"))?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
        Err(error) => return Err(error),
    };
    let boot = last.saturating_add(1);
    write_replacing(env.fs(), &path, format!("{boot}\n").as_bytes())?;
    Ok(u64::from(boot) << 32 | env.random_u64() >> 32)
}

/// The index.
pub(super) const INDEX: &str = "index.redb";
/// Marks that the index was complete once.
pub(super) const INDEX_MADE: &str = "index-made";
/// A directory that is being upgraded: no program starts a node on it.
const BETWEEN: &str = "dfs-data 1 to 2\n";
/// The format in which every blob has a file, and nothing else differs.
const WITHOUT_PACKED: &str = "dfs-data 2\n";
/// The format before that, which [`super::upgrade`] brings to this one.
const OLD_FORMAT: &str = "dfs-data 1\n";
/// More than any of the small text files holds.
const FORMAT_BYTES_MAX: u64 = 64;
