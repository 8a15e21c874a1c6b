//! How a node is opened.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use dfs_core::address::Address;
use dfs_core::node::invite::Invite;
use dfs_core::record::retention::KEPT_FOR_MS;
use dfs_core::replica::possession::Cadence;
use dfs_store::vault::keys::{ClusterKey, VaultKey};

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
    /// Founds a cluster if this node is in none and nothing is listed.
    pub founds: bool,
    /// Joins also while a member has this node's address that does not answer. Without it such a
    /// node ends: it may be that member, whose disk is not where it should be.
    pub new_node: bool,
    /// Founds a cluster at once if this node is in none, whatever is listed.
    pub init: bool,
    /// Lets the node join.
    pub cluster_key: ClusterKey,
    /// What lets the node join, beside the key: it joins that cluster and no other.
    pub invite: Option<Invite>,
    /// Opens files; a node without it stores for others only.
    pub vault: Option<VaultConfig>,
    /// Failure domain.
    pub zone: String,
    /// Bytes to offer; `None` offers most of the free space.
    pub capacity: Option<u64>,
    /// See [`dfs_store::Config::packed_max`].
    pub packed_max: usize,
    /// How long a member is away before its share is given to others; the time of whichever voter
    /// proposes counts.
    pub out_after: Duration,
    /// The program's version, told to peers.
    pub build: String,
    /// How long what nobody seems to need is kept.
    pub grace: Grace,
    /// How often a gateway challenges members that only store. The same on all nodes.
    pub cadence: Cadence,
}

/// How long a member is away before its share is given to others, unless told otherwise: most come
/// back within the hour, and copying everything twice costs more than an hour with a copy less.
pub const OUT_AFTER: Duration = Duration::from_secs(60 * 60);

/// How long what nobody seems to need is kept. The same on all nodes: each decides for itself, and
/// a writer counts on the times that it knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grace {
    /// How long references count before a version names them: an upload may take three quarters of
    /// that.
    pub hold: Duration,
    /// How long a blob lies on this disk before it goes, with nobody wanting it all that time.
    pub collect_after: Duration,
    /// How old a tombstone must be before it is purged; never less than `history`.
    pub purge_after: Duration,
    /// How long a version is kept after it was replaced or deleted.
    pub history: Duration,
    /// How often uses, tombstones and blobs are looked through. A use ends, and the memory of
    /// conditional writes goes, only after two looks: the time between them is what an operation
    /// that has read a record may take to write it.
    pub audit_every: Duration,
    /// How often it is looked whether what a version uses is noted where the blobs are.
    pub claim_every: Duration,
}

impl Default for Grace {
    fn default() -> Self {
        let hours = |hours: u64| Duration::from_secs(hours * 60 * 60);
        Self {
            hold: hours(72),
            collect_after: hours(24),
            purge_after: hours(30 * 24),
            history: Duration::from_millis(KEPT_FOR_MS),
            audit_every: hours(6),
            claim_every: hours(30 * 24),
        }
    }
}

impl Grace {
    /// Everything after about `time`: for tests, and for clusters whose operations are known to
    /// take far less.
    pub fn short(time: Duration) -> Self {
        Self {
            hold: time,
            collect_after: time,
            purge_after: time,
            history: time,
            audit_every: (time / 4).max(AUDITS_APART_MIN),
            claim_every: time,
        }
    }

    /// How old a purged tombstone is at least.
    pub(crate) fn purge_age(&self) -> Duration {
        self.purge_after.max(self.history)
    }

    /// How long an operation that has read a record may take to write it: two looks are further
    /// apart.
    pub(crate) fn settle(&self) -> Duration {
        self.audit_every / 2
    }

    /// How long an attempt at a conditional write goes on after it began.
    pub(crate) fn attempt_max(&self) -> Duration {
        self.settle().min(ATTEMPT_MAX)
    }

    /// How often a node tells that it keeps nothing for others.
    pub(crate) fn tell_every(&self) -> Duration {
        (self.audit_every / 4).min(TELL_EVERY)
    }
}

/// Looks follow each other no faster, however short the times are.
const AUDITS_APART_MIN: Duration = Duration::from_millis(100);
/// An attempt at a conditional write that took longer begins anew: its machine slept.
const ATTEMPT_MAX: Duration = Duration::from_secs(60);
/// A node that keeps nothing for others says so again after this: a small part of the time between
/// two looks, and 200 bytes to each peer.
const TELL_EVERY: Duration = Duration::from_secs(5 * 60);

#[cfg(test)]
impl Config {
    /// A gateway of this crate's tests, which listens on this port and dials nobody.
    pub(crate) fn for_tests(port: u16) -> Self {
        Self {
            data_dir: PathBuf::from("/data"),
            listen: ([127, 0, 0, 1], port).into(),
            init: false,
            bootstrap: Vec::new(),
            cluster_key: ClusterKey::from_bytes([1; 32]),
            invite: None,
            founds: true,
            new_node: true,
            vault: Some(VaultConfig { key: VaultKey::from_bytes([2; 32]) }),
            zone: "z".to_owned(),
            capacity: None,
            packed_max: 0,
            out_after: crate::OUT_AFTER,
            build: "test".to_owned(),
            grace: Grace::default(),
            cadence: Cadence::default(),
        }
    }
}

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
