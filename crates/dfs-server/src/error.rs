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
    /// A file operation met a symbolic link, which nobody follows.
    #[error("{0:?} is a symbolic link")]
    IsLink(String),
    /// No symbolic link can say that.
    #[error("a symbolic link says 1 to 4,095 bytes of text without NUL")]
    BadLink,
    /// A component of the path is a file.
    #[error("{0:?} is a file, not a directory")]
    NotDirectory(String),
    /// A directory with entries is not removed.
    #[error("directory {0:?} is not empty")]
    NotEmpty(String),
    /// Something is there already.
    #[error("{0:?} exists already")]
    Exists(String),
    /// A directory is not moved or copied to a place below itself.
    #[error("{0:?} cannot be moved or copied into itself")]
    IntoItself(String),
    /// A file with several versions is not moved.
    #[error("{0:?} has versions that nobody has chosen between")]
    InConflict(String),
    /// Not a name.
    #[error("not a valid name")]
    Name(#[from] NameError),
    /// Too few replicas answered. A retry may succeed; a write may or may not have taken effect.
    #[error("too few replicas answered ({})", describe(.0))]
    Unavailable(Vec<(NodeId, String)>),
    /// This node is not yet a member of a cluster.
    #[error("this node has not joined a cluster yet")]
    NotJoined,
    /// This node is shutting down.
    #[error("this node is shutting down")]
    ShuttingDown,
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
    /// This node's vault is not one of those that govern the cluster.
    #[error("the vault of this node does not govern this cluster")]
    NotAdmin,
    /// The layout does not allow it.
    #[error(transparent)]
    NotAllowed(#[from] EpochError),
    /// The replicas have no room.
    #[error("no space left on the replicas")]
    NoSpace,
    /// This node's clock is too far from its peers': how far, and which way. A write has not taken
    /// effect, and will not.
    #[error("{0}")]
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
    /// Storing took so long that what was stored first may be given up before it has a name.
    #[error("storing took too long: the first of it may be gone before it gets a name")]
    TooSlow,
    /// Others wrote the name at the same time, again and again.
    #[error("others write the same name at the same time")]
    Contended,
    /// The layout kept changing.
    #[error("the layout changed during the operation")]
    Moving,
}

impl Error {
    /// One node failed, and the operation needed it.
    pub(crate) fn failed(node: &NodeId, why: impl Into<String>) -> Self {
        Self::Unavailable(vec![(*node, why.into())])
    }

    /// The same for an operation of which `node` has written a part before: nobody is told then
    /// that nothing has taken effect.
    pub(crate) fn once_written(self, node: &NodeId) -> Self {
        match self {
            Self::ClockSkew(why) => Self::failed(node, why),
            other => other,
        }
    }
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

/// This node's own disk refused.
#[derive(Debug, thiserror::Error)]
#[error("this node's store failed")]
pub struct DiskError(#[from] WriteError);

/// Why who is a member was not changed.
#[derive(Debug, thiserror::Error)]
pub enum MemberError {
    /// No member has this address, or an id that begins so.
    #[error("no member is called {0:?}")]
    NoSuchMember(String),
    /// Several members have ids that begin so.
    #[error("several members begin with {0:?}")]
    Ambiguous(String),
    /// It is out already, and its data is being copied: removing it makes that final.
    #[error("it is away and its data is being copied already")]
    IsAway,
    /// It answers: a running member is drained.
    #[error("{0} is running")]
    IsRunning(String),
    /// It answers, so what it holds is not lost.
    #[error("{0} is running, so it is not lost")]
    NotLost(String),
    /// Other replicas of what it held may lack a write.
    #[error("of {partitions} partitions too few other replicas answer to be sure of what it held")]
    TooFewReplicas {
        /// How many.
        partitions: usize,
    },
    /// Nobody else holds data.
    #[error("it is the last member that holds data")]
    LastMember,
    /// Nobody else could decide about anything any more.
    #[error("it is the last gateway: without one nobody could change anything about the cluster")]
    LastGateway,
    /// No name was given.
    #[error("no node is named that is lost")]
    NoneNamed,
    /// All who hold data are named.
    #[error("nobody would be left that holds data")]
    NoneLeft,
    /// Those that are left cannot decide: a new majority must be made.
    #[error("most voters are among them, so nobody could decide that")]
    MostVotersLost,
    /// Nothing has to be forced: they can be removed.
    #[error("the others have all that they held")]
    NothingAtRisk,
    /// Others went on without other members: the same must be said here.
    #[error("others went on by hand without {}", .0.join(" "))]
    OtherLoss(Vec<String>),
    /// Those that are left decide as always.
    #[error("a majority of the voters is left and decides")]
    VotersRemain,
    /// Members that are not named do not answer.
    #[error("{} may know of a newer layout", .0.join(" "))]
    MembersAway(Vec<String>),
    /// The layout does not allow it.
    #[error(transparent)]
    Epoch(#[from] EpochError),
    /// It could not be decided.
    #[error(transparent)]
    Failed(#[from] Error),
}

/// Why an invite was not made, or not taken back.
#[derive(Debug, thiserror::Error)]
pub enum InviteError {
    /// No invite made here has an id that begins so, or several have.
    #[error("no single invite of this node begins with {0:?}")]
    NoSuchInvite(String),
    /// Many were made here and have not lapsed.
    #[error("this node has made too many invites that have not lapsed")]
    TooMany,
    /// It would live too long.
    #[error("an invite lives 90 days at most")]
    TooLong,
    /// A line has no room for it.
    #[error("{0} is too long for an invite: 100 bytes at most")]
    LongAddress(String),
    /// Others do not know yet where this node is.
    #[error("this node does not know an address at which others reach it")]
    NoAddress,
    /// It could not be decided or kept.
    #[error(transparent)]
    Failed(#[from] Error),
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
    /// The node should found a cluster, which whoever has the key of a vault governs.
    #[error("a node without a vault key cannot found a cluster")]
    NoVaultKey,
}
