//! What a network is started with, and what the node says about itself while it runs.

use std::path::PathBuf;

use dfs_core::address::Address;
use dfs_core::node::invite::Invite;
use dfs_core::node::liveness::Reach;
#[cfg(doc)]
use dfs_core::node::member::NodeInfo;
use dfs_core::node::member::{Clean, MoveFact};
use ed25519_dalek::SigningKey;
use zeroize::Zeroizing;

/// How a network is started.
#[derive(Debug, Clone)]
pub struct Config {
    /// Addresses to dial until someone answers; names are resolved at every attempt.
    pub bootstrap: Vec<Address>,
    /// The node's key; its public half is the node's id.
    pub node_key: SigningKey,
    /// Which start of the node this is: a boot counter in the upper 32 bits, random bits below.
    pub incarnation: u64,
    /// Proves to others that this node may join.
    pub cluster_key: Zeroizing<[u8; 32]>,
    /// Proves to others that this node may ask for changes of the layout.
    pub admin: Option<SigningKey>,
    /// Proves to others that this node was invited.
    pub invite: Option<Invite>,
    /// Failure domain.
    pub zone: String,
    /// The program's version.
    pub build: String,
    /// Where known peers are kept; `None` keeps none.
    pub book: Option<PathBuf>,
}

/// What a node says about itself and may change while it runs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OwnFacts {
    /// See [`NodeInfo::capacity`].
    pub capacity: u64,
    /// See [`NodeInfo::used`].
    pub used: u64,
    /// See [`NodeInfo::durable_epoch`].
    pub durable_epoch: u64,
    /// See [`NodeInfo::repair_queue`].
    pub repair_queue: u64,
    /// See [`NodeInfo::lost`].
    pub lost: u64,
    /// See [`NodeInfo::synced`].
    pub synced: Vec<MoveFact>,
    /// See [`NodeInfo::bodies`].
    pub bodies: Vec<MoveFact>,
    /// See [`NodeInfo::emptied`].
    pub emptied: Vec<MoveFact>,
    /// See [`NodeInfo::reach`].
    pub reach: Reach,
    /// See [`NodeInfo::clean`].
    pub clean: Clean,
}
