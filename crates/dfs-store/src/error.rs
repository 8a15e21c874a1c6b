//! What can go wrong, one enum an operation; each variant tells the caller what to do next.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use dfs_core::id::BlobId;

use crate::keyfile::KeyFileError;

/// Why a store could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenStoreError {
    /// Another process uses the directory.
    #[error("{0} is in use by another node")]
    Locked(PathBuf),
    /// Not this user's, or writable by others: someone else could change what is in it.
    #[error("{0} belongs to another user or is writable by others")]
    Exposed(PathBuf),
    /// Not a directory of dfs.
    #[error("{0} holds other files and no dfs store")]
    Foreign(PathBuf),
    /// Written by an older program: an upgrade brings it to the current format.
    #[error("{0} has the format of an earlier version")]
    Old(PathBuf),
    /// Written by a newer program, in this format.
    #[error(
        "{0} has unknown format {1:?}; this program reads {reads:?}",
        reads = DATA_FORMAT.trim_ascii_end()
    )]
    UnknownVersion(PathBuf, String),
    /// A key inside is missing or damaged.
    #[error(transparent)]
    Key(#[from] KeyFileError),
    /// The index is damaged.
    #[error("the index {0} cannot be opened")]
    Index(PathBuf, #[source] Box<redb::Error>),
    /// The disk refused.
    #[error("could not use {0}")]
    Io(PathBuf, #[source] io::Error),
}

/// Why a blob could not be read here.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// Never held, or deleted: ask another replica.
    #[error("blob {0:?} is not held here")]
    NotHeld(BlobId),
    /// Failed its check, now quarantined: repair it from another replica.
    #[error("blob {0:?} is corrupt")]
    Corrupt(BlobId),
    /// The disk refused; a retry here will not help.
    #[error("could not read blob {0:?}")]
    Io(BlobId, #[source] io::Error),
    /// The index could not be read.
    #[error("could not read the index")]
    Index(#[from] Arc<redb::Error>),
}

/// Why something was not stored. Nothing of it counts as stored.
#[derive(Debug, Clone, thiserror::Error)]
pub enum WriteError {
    /// The bytes are not what the id names: the sender is at fault.
    #[error("the bytes do not match their id {0:?}")]
    WrongId(BlobId),
    /// The space this node offers is used up: store it elsewhere.
    #[error("no space left")]
    NoSpace,
    /// A name has so many concurrent versions that no more fit: settle them first.
    #[error("the name has too many concurrent versions")]
    TooManyVersions,
    /// It was deleted, and the tombstone is forgotten: whoever brings it has it from before.
    #[error("the version was deleted long ago")]
    Purged,
    /// What the index holds under this key does not decode: this replica cannot serve it.
    #[error("a row of the index is damaged")]
    Damaged,
    /// The disk refused once; what was written then is not trusted.
    #[error("could not write")]
    Io(#[source] Arc<io::Error>),
    /// The index could not be made durable. The store accepts nothing more until it is reopened.
    #[error("the index could not be made durable")]
    Failed(#[source] Arc<redb::Error>),
    /// The store is closing.
    #[error("the store is closed")]
    Closed,
}

/// Why files and index, or the index and its sums, could not be brought together.
#[derive(Debug, thiserror::Error)]
pub enum ReconcileError {
    /// The index could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The index could not be written.
    #[error(transparent)]
    Write(#[from] WriteError),
}

impl From<io::Error> for WriteError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::NoSpace,
            _ => Self::Io(Arc::new(error)),
        }
    }
}

/// What the file `format` of a data directory holds.
pub(crate) const DATA_FORMAT: &str = "dfs-data 3\n";
