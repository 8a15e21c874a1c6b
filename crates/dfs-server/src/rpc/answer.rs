//! What an answer may say, and how the store's errors look to a peer.

use bytes::Bytes;
use dfs_p2p::message::{Code, Refusal, Response};
use dfs_store::{ReadError, WriteError};
use tracing::error;

/// What a storage member is told that brings what is of no vault of the cluster.
pub(crate) const OTHER_VAULT: &str = "the cluster does not keep the files of this vault";

/// What a peer is told: a response with its body, or why not.
pub(crate) type Told = Result<(Response, Bytes), Refusal>;

pub(crate) fn refusal(code: Code, message: impl Into<String>) -> Refusal {
    Refusal::new(code, message)
}

pub(crate) fn read_refused(error: ReadError) -> Refusal {
    match error {
        ReadError::NotHeld(_) => refusal(Code::NotFound, "not held here"),
        ReadError::Corrupt(_) => refusal(Code::Corrupt, "the copy here is corrupt"),
        ReadError::Io(..) | ReadError::Index(_) => {
            error!(%error, "the store could not be read");
            refusal(Code::Internal, "the store could not be read")
        }
    }
}

pub(crate) fn write_refused(error: WriteError) -> Refusal {
    match error {
        WriteError::NoSpace => refusal(Code::NoSpace, "no space left"),
        WriteError::TooManyVersions => {
            refusal(Code::Overloaded, "the name has too many concurrent versions")
        }
        WriteError::Purged => {
            refusal(Code::PreconditionFailed, "a version in it was deleted long ago")
        }
        WriteError::WrongId(_) => refusal(Code::Corrupt, "the bytes do not match their id"),
        WriteError::Io(_) | WriteError::Failed(_) | WriteError::Damaged | WriteError::Closed => {
            error!(%error, "the store could not be written");
            refusal(Code::Internal, "the store could not be written")
        }
    }
}

pub(crate) fn done(response: Response) -> Told {
    Ok((response, Bytes::new()))
}
