//! What can go wrong: starting a network, making a call, holding a connection.

use std::io;
use std::net::SocketAddr;

use dfs_core::id::ClusterId;

use crate::frame::FrameError;
use crate::hello::Unwelcome;
use crate::mux::Violation;
use crate::wire::Goodbye;

/// Why a network could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The port is taken or the address is not ours.
    #[error("cannot listen on {0}")]
    Listen(SocketAddr, #[source] io::Error),
    /// The node key cannot be used for TLS.
    #[error("the node key cannot be used for TLS")]
    Key(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// Why a call brought no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// There is no connection to the peer.
    #[error("not connected")]
    NotConnected,
    /// The connection ended first: the call may or may not have been carried out.
    #[error("the connection was lost")]
    Lost,
    /// The peer did not answer in time: the call may or may not have been carried out.
    #[error("no answer in time")]
    Deadline,
    /// Too many calls are under way on the connection.
    #[error("too many calls under way")]
    Busy,
    /// What is asked fits no frame: nothing was sent, and asking for less helps.
    #[error("the call is too large")]
    TooLarge,
}

/// Why a connection did not come up, or ended.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnError {
    #[error("the TLS handshake failed")]
    Tls(#[source] io::Error),
    #[error("the other end is another node than expected")]
    OtherNode,
    #[error("the other end is this node itself")]
    Myself,
    #[error(transparent)]
    Unwelcome(#[from] Unwelcome),
    #[error("it refused: {}", .goodbye.text)]
    Refused {
        goodbye: Goodbye,
        /// Whether it had greeted properly: then it has the cluster key, or is a member.
        greeted: bool,
    },
    #[error("it belongs to another cluster ({theirs:?}, this node to {ours:?})")]
    OtherCluster { ours: ClusterId, theirs: ClusterId },
    #[error("it sent something unexpected")]
    Unexpected,
    #[error(transparent)]
    Frame(#[from] FrameError),
    #[error(transparent)]
    Violation(#[from] Violation),
    #[error("it was silent for too long")]
    Silent,
    #[error("it closed the connection")]
    Closed,
    #[error("it has too many connections open")]
    TooMany,
    #[error("others came while it had not greeted yet")]
    GaveWay,
    #[error("it runs from a copy or an older state of a data directory that another start knows")]
    Former,
}
