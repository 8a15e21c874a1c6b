//! How a node is opened.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use dfs_core::address::Address;
use dfs_store::keys::{ClusterKey, VaultKey};

/// A node's configuration.
#[derive(Debug, Clone)]
pub struct Config {
    /// Everything the node owns on disk.
    pub data_dir: PathBuf,
    /// Where to listen for peers; port 0 picks a free one.
    pub listen: SocketAddr,
    /// Addresses of peers to begin with. With none, a node without a cluster founds one; nodes
    /// that list each other found one together.
    pub bootstrap: Vec<Address>,
    /// Founds a cluster at once if this node is in none, whatever is listed.
    pub init: bool,
    /// Lets the node join.
    pub cluster_key: ClusterKey,
    /// Opens files; a node without it stores for others only.
    pub vault: Option<VaultConfig>,
    /// Failure domain.
    pub zone: String,
    /// Bytes to offer; `None` offers most of the free space.
    pub capacity: Option<u64>,
    /// How long a member is away before its share is given to others; the time of whichever voter
    /// proposes counts.
    pub out_after: Duration,
    /// The program's version, told to peers.
    pub build: String,
}

/// How long a member is away before its share is given to others, unless told otherwise: most come
/// back within the hour, and copying everything twice costs more than an hour with a copy less.
pub const OUT_AFTER: Duration = Duration::from_secs(60 * 60);

/// A vault this node may open.
#[derive(Debug, Clone)]
pub struct VaultConfig {
    /// The vault's key.
    pub key: VaultKey,
}

/// Which answers an operation needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mode {
    /// `Quorum` with three or more storage members, `Available` with fewer.
    #[default]
    Default,
    /// A majority of the replicas: every later read sees a write.
    Quorum,
    /// Whoever is reachable: works on any side of a split, and says how many copies there are.
    Available,
}
