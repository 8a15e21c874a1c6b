//! What the face of a node shows.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A stored file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stored {
    /// The new version's id.
    pub version: String,
    /// Bytes of content.
    pub bytes: u64,
    /// Durable copies of the least replicated piece, the record included.
    pub copies: usize,
    /// Copies there will be.
    pub wanted: usize,
    /// Whether a majority had to have it.
    #[serde(rename = "mode", with = "crate::json::mode")]
    pub quorum: bool,
}

/// What a node has given up since it started, because nobody needs it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Collected {
    /// How often everything was looked through to its end.
    pub looks: u64,
    /// Tombstones purged from all replicas, where this node asked for it.
    pub tombstones: u64,
    /// Uses of blobs found to have ended.
    pub uses: u64,
    /// Blobs given up.
    pub blobs: u64,
    /// Bytes of these blobs.
    pub bytes: u64,
}

/// Everything about one file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stat {
    /// File or directory.
    #[serde(rename = "type")]
    pub kind: ListedKind,
    /// The version's id.
    pub version: String,
    /// Bytes of content.
    pub bytes: u64,
    /// When it was written, in milliseconds since 1970.
    #[serde(rename = "modified", with = "crate::json::moment")]
    pub modified_ms: u64,
    /// Chunks of content.
    pub chunks: u64,
    /// Durable copies of the least replicated piece, as counted now.
    pub copies: usize,
    /// Copies there should be.
    pub wanted: usize,
    /// Other versions that wait for a decision.
    pub conflicts: usize,
}

/// What a listed name is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ListedKind {
    /// A file.
    File,
    /// A directory.
    Dir,
}

/// One line of a listing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listed {
    /// The whole path; of a directory without a slash at its end.
    pub path: String,
    /// File or directory.
    #[serde(rename = "type")]
    pub kind: ListedKind,
    /// Bytes of content.
    pub bytes: u64,
    /// When it was written, in milliseconds since 1970.
    #[serde(rename = "modified", with = "crate::json::moment")]
    pub modified_ms: u64,
    /// The version's id.
    pub version: String,
}

impl Listed {
    /// What listings are ordered by: a directory sorts as its name and a slash.
    pub fn order(&self) -> String {
        match self.kind {
            ListedKind::File => self.path.clone(),
            ListedKind::Dir => format!("{}/", self.path),
        }
    }
}

/// A page of a listing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Page {
    /// Entries in byte order of their paths.
    pub entries: Vec<Listed>,
    /// Whether more follow.
    pub more: bool,
}

/// How a peer is doing, seen from here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PeerState {
    /// Known, and not yet a member.
    Joining,
    /// A member that answers.
    Alive,
    /// Out of reach for a moment.
    Suspect,
    /// Out of reach.
    Down,
    /// Gives its data away.
    Draining,
    /// Dead for long.
    Out,
    /// Gone for good.
    Left,
}

/// One line of the list of peers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerView {
    /// The node's id.
    pub id: String,
    /// Where it listens.
    pub addr: String,
    /// Its failure domain.
    pub zone: String,
    /// How it is doing.
    pub state: PeerState,
    /// Whether it is the node that was asked.
    #[serde(rename = "self")]
    pub is_self: bool,
    /// Bytes it holds.
    pub bytes: u64,
    /// Bytes it offers.
    pub capacity: u64,
}

/// Where a version stands in the history of its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum VersionState {
    /// The one that is shown.
    Current,
    /// Waits for a decision beside the one shown.
    Conflict,
    /// Replaced, and still kept.
    Old,
    /// Says that the name was deleted.
    Deleted,
}

/// One version in the history of a name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Logged {
    /// The version's id.
    pub version: String,
    /// File or directory; `None` for a deletion.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none", default)]
    pub kind: Option<ListedKind>,
    /// When it was written, in milliseconds since 1970.
    #[serde(rename = "modified", with = "crate::json::moment")]
    pub modified_ms: u64,
    /// Bytes of content.
    pub bytes: u64,
    /// Where it stands.
    #[serde(flatten, with = "crate::json::version_state")]
    pub state: VersionState,
    /// The certificate it was signed under: which node's key wrote it.
    pub writer: String,
}

/// A name with several versions that nobody has chosen between.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Conflict {
    /// The whole path.
    pub path: String,
    /// The versions, the one that is shown first.
    pub versions: Vec<Logged>,
}

/// A page of the names with conflicts.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConflictPage {
    /// In byte order of their paths.
    pub conflicts: Vec<Conflict>,
    /// What to go on after, when more may follow.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub next: Option<String>,
}

/// What came of going on by hand without members.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "kebab-case")]
pub enum WentOn {
    /// It is decided.
    Decided {
        /// The epoch that decided it, or a later one.
        epoch: u64,
        /// Partitions that go on with fewer replicas than could be sure of everything.
        partitions: usize,
    },
    /// This node was told; others have to be told as well before anything happens.
    Waits {
        /// Those that decide with this one.
        #[serde(skip_serializing_if = "Vec::is_empty", default)]
        nodes: Vec<String>,
    },
}

/// What is the matter with a version that cannot be read now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fate {
    /// Every node that could have a piece of it answered, and none has a good copy.
    Lost,
    /// Nodes that may have what is missing are away.
    OutOfReach,
}

/// A version of which a piece cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unreadable {
    /// The whole path.
    pub path: String,
    /// Why.
    pub fate: Fate,
    /// The version.
    #[serde(flatten)]
    pub version: Logged,
}

/// A page of the versions that cannot be read.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnreadablePage {
    /// In byte order of their paths.
    pub unreadable: Vec<Unreadable>,
    /// What to go on after, when more may follow.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub next: Option<String>,
}

/// What a node's repair is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RepairState {
    /// Nothing is missing here.
    Idle,
    /// It looks for what is missing, or fetches it.
    Running,
    /// Someone asked it to rest.
    Paused,
}

/// How far a node is with fetching what it should hold and does not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RepairView {
    /// What it is doing.
    pub state: RepairState,
    /// Blobs that it should hold and does not.
    pub missing: u64,
    /// Of these, blobs of existing files of which no replica has a good copy.
    pub lost: u64,
    /// Of these, blobs that only members may have that are away.
    pub away: u64,
    /// Whether every reference was looked at: else more may be missing.
    pub looked_through: bool,
    /// Bytes a second, measured over the last seconds.
    pub bytes_per_second: u64,
    /// Bytes to fetch, estimated from those that came last.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub bytes_left: Option<u64>,
    /// How long that takes at this speed.
    #[serde(rename = "seconds_left", with = "crate::json::optional_seconds")]
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub time_left: Option<Duration>,
}

/// A member that is taken out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Departure {
    /// Its id.
    pub id: String,
    /// How many copies of everything there will be without it.
    pub copies: usize,
    /// How many there should be.
    pub copies_wanted: usize,
}

/// What a node's scrub is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ScrubState {
    /// The next pass is not due yet.
    Idle,
    /// A pass is under way.
    Running,
    /// Someone asked it to rest.
    Paused,
}

/// How far a node is with reading its disk back. Counts are those of the pass under way, or of the
/// last one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScrubView {
    /// What it is doing.
    pub state: ScrubState,
    /// How much of the disk it went through, in thousandths.
    #[serde(rename = "percent", with = "crate::json::percent")]
    pub permille: u16,
    /// Bytes of blobs that were read and are as they should be.
    pub bytes_verified: u64,
    /// Bytes of blobs that are held.
    pub bytes_total: u64,
    /// Blobs that were gone or not what they should be.
    pub bad: u64,
    /// Blobs that the disk could not read at the time.
    pub unread: u64,
    /// Sums of the index that were not those of their rows.
    pub sums_mended: u64,
    /// Rows of the index that do not decode.
    pub rows_damaged: u64,
    /// Bytes a second, measured over the last seconds.
    pub bytes_per_second: u64,
    /// When the pass under way began, in milliseconds since 1970.
    #[serde(rename = "began", with = "crate::json::optional_moment")]
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub began_ms: Option<u64>,
    /// When the last pass came to its end, in milliseconds since 1970.
    #[serde(rename = "last_complete", with = "crate::json::optional_moment")]
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub last_complete_ms: Option<u64>,
    /// When the next one begins by itself, in milliseconds since 1970.
    #[serde(rename = "next", with = "crate::json::optional_moment")]
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub next_ms: Option<u64>,
}
