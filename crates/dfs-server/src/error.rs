//! What an operation can fail with; each variant tells the caller what to do next.

use std::io;

use dfs_core::id::NodeId;
use dfs_core::layout::epoch::EpochError;
use dfs_core::name::NameError;
use dfs_p2p::StartError;
use dfs_store::keyfile::KeyFileError;
use dfs_store::{OpenStoreError, ReadError, ReconcileError, WriteError};

/// Why an operation failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No such path or version.
    #[error("{0:?} does not exist")]
    NotFound(String),
    /// A file operation met a directory.
    #[error("{0:?} is a directory")]
    IsDirectory(String),
    /// A component of the path is a file.
    #[error("{0:?} is a file, not a directory")]
    NotDirectory(String),
    /// A directory with entries is not removed.
    #[error("directory {0:?} is not empty")]
    NotEmpty(String),
    /// Not a name.
    #[error("not a valid name: {0}")]
    Name(#[from] NameError),
    /// Too few replicas answered. A retry may succeed; a write may or may not have taken effect.
    #[error("too few replicas answered ({})", describe(.0))]
    Unavailable(Vec<(NodeId, String)>),
    /// This node is not yet a member of a cluster.
    #[error("this node has not joined a cluster yet")]
    NotJoined,
    /// This node runs from a copy or an older state of a data directory, and takes part in nothing.
    #[error("this node is retired: {0}")]
    Retired(String),
    /// Every replica answered, and none has a good copy.
    #[error("no replica has a good copy of {0}")]
    Lost(String),
    /// Stored bytes do not verify under the vault's key, or contradict each other.
    #[error("{0} does not verify")]
    Unverified(String),
    /// This node stores for others and has no vault key.
    #[error("this node has no vault key")]
    NoVaultKey,
    /// The replicas have no room.
    #[error("no space left on the replicas")]
    NoSpace,
    /// This node's clock is too far from its peers'.
    #[error("the clock of this node is too far from its peers' ({0})")]
    ClockSkew(String),
    /// The source of a file could not be read.
    #[error("could not read the source")]
    Source(#[source] io::Error),
    /// This node's own disk failed.
    #[error("this node's store failed")]
    Store(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The condition of a conditional write does not hold.
    #[error("the condition does not hold")]
    Condition,
    /// It would do harm, or makes no sense as things are.
    #[error("{0}")]
    Refused(String),
    /// Storing took so long that what was stored first may be given up before it has a name.
    #[error("storing took too long: the first of it may be gone before it gets a name")]
    TooSlow,
    /// The layout kept changing.
    #[error("the layout changed during the operation")]
    Moving,
}

fn describe(failures: &[(NodeId, String)]) -> String {
    match failures {
        [] => "none is known to be up".to_owned(),
        some => {
            let each = some.iter().map(|(node, why)| format!("{node:?}: {why}"));
            each.collect::<Vec<_>>().join("; ")
        }
    }
}

impl From<ReadError> for Error {
    fn from(error: ReadError) -> Self {
        Self::Store(Box::new(error))
    }
}

impl From<WriteError> for Error {
    fn from(error: WriteError) -> Self {
        match error {
            WriteError::NoSpace => Self::NoSpace,
            other => Self::Store(Box::new(other)),
        }
    }
}

impl From<ReconcileError> for Error {
    fn from(error: ReconcileError) -> Self {
        match error {
            ReconcileError::Read(error) => error.into(),
            ReconcileError::Write(error) => error.into(),
        }
    }
}

/// Why a node could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartServerError {
    /// The data directory or the index.
    #[error(transparent)]
    Store(#[from] OpenStoreError),
    /// A key inside the data directory.
    #[error(transparent)]
    Key(#[from] KeyFileError),
    /// The port.
    #[error(transparent)]
    Network(#[from] StartError),
    /// The index could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The index could not be written.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// An earlier start found that the data directory is a copy or an older state of another one.
    #[error("the node of this data directory is retired: {0}")]
    Retired(String),
    /// The first epoch could not be made.
    #[error(transparent)]
    Epoch(#[from] EpochError),
}
