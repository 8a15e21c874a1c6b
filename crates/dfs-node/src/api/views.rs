//! What the API shows, as JSON: the names that other programs rely on.

use std::time::{Duration, UNIX_EPOCH};

use dfs_core::name::FilePath;
use dfs_server::{Listed, ListedKind, PeerState, PeerView, Stat, Stored};
use serde::{Deserialize, Serialize};

/// A stored file.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct StoredView {
    /// Its path.
    pub path: String,
    /// Its version.
    pub version: String,
    /// Bytes of content.
    pub bytes: u64,
    /// Durable copies of the least replicated piece.
    pub copies: usize,
    /// Copies there will be.
    pub wanted: usize,
    /// `quorum` or `available`.
    pub mode: String,
}

impl StoredView {
    pub(crate) fn new(path: &FilePath, stored: Stored) -> Self {
        Self {
            path: path.to_string(),
            version: stored.version,
            bytes: stored.bytes,
            copies: stored.copies,
            wanted: stored.wanted,
            mode: if stored.quorum { "quorum" } else { "available" }.to_owned(),
        }
    }
}

/// One line of a listing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileView {
    /// The whole path.
    pub path: String,
    /// `file` or `dir`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Bytes of content.
    pub bytes: u64,
    /// When it was written, in RFC 3339.
    pub modified: String,
    /// Its version.
    pub version: String,
}

impl From<Listed> for FileView {
    fn from(listed: Listed) -> Self {
        Self {
            path: listed.path,
            kind: kind_name(listed.kind).to_owned(),
            bytes: listed.bytes,
            modified: rfc3339(listed.modified_ms),
            version: listed.version,
        }
    }
}

pub(super) fn kind_name(kind: ListedKind) -> &'static str {
    match kind {
        ListedKind::File => "file",
        ListedKind::Dir => "dir",
    }
}

/// A page of a listing.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ListPage {
    /// Entries in byte order of their paths.
    pub entries: Vec<FileView>,
    /// What to give as `after` for the next page; absent on the last.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub next: Option<String>,
}

/// Everything about one file.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct StatView {
    /// Its path.
    pub path: String,
    /// `file` or `dir`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Its version.
    pub version: String,
    /// Bytes of content.
    pub bytes: u64,
    /// When it was written, in RFC 3339.
    pub modified: String,
    /// Chunks of content.
    pub chunks: u64,
    /// Durable copies of the least replicated piece, counted now.
    pub copies: usize,
    /// Copies there should be.
    pub wanted: usize,
    /// Other versions that wait for a decision.
    pub conflicts: usize,
}

impl StatView {
    pub(super) fn new(path: &FilePath, stat: Stat) -> Self {
        Self {
            path: path.to_string(),
            kind: kind_name(stat.kind).to_owned(),
            version: stat.version,
            bytes: stat.bytes,
            modified: rfc3339(stat.modified_ms),
            chunks: stat.chunks,
            copies: stat.copies,
            wanted: stat.wanted,
            conflicts: stat.conflicts,
        }
    }
}

/// One peer.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PeerLine {
    /// The node's id.
    pub id: String,
    /// Where it listens.
    pub addr: String,
    /// Its failure domain.
    pub zone: String,
    /// How it is doing.
    pub state: String,
    /// Whether it is the node that was asked.
    #[serde(rename = "self")]
    pub is_self: bool,
    /// Bytes it holds.
    pub bytes: u64,
    /// Bytes it offers.
    pub capacity: u64,
}

impl From<PeerView> for PeerLine {
    fn from(peer: PeerView) -> Self {
        let state = match peer.state {
            PeerState::Joining => "joining",
            PeerState::Alive => "alive",
            PeerState::Suspect => "suspect",
            PeerState::Down => "down",
            PeerState::Draining => "draining",
            PeerState::Out => "out",
            PeerState::Left => "left",
        };
        Self {
            id: peer.id,
            addr: peer.addr,
            zone: peer.zone,
            state: state.to_owned(),
            is_self: peer.is_self,
            bytes: peer.bytes,
            capacity: peer.capacity,
        }
    }
}

/// A moment as RFC 3339 in UTC, to the second.
pub(super) fn rfc3339(unix_ms: u64) -> String {
    let moment = UNIX_EPOCH + Duration::from_millis(unix_ms.min(LAST_MOMENT_MS));
    humantime::format_rfc3339_seconds(moment).to_string()
}

/// The end of the year 9999, the last that RFC 3339 can write.
const LAST_MOMENT_MS: u64 = 253_402_300_799_000;
