//! What a node shows of files, versions and peers.

use dfs_core::replica::listing::ListedName;
use dfs_store::vault::entry::EntryNode;
use serde::{Deserialize, Serialize};

use super::attributes::Said;

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
    /// Whether enough of the gateways that hold it have it: then no storage node can hide it.
    pub guarded: bool,
}

/// Everything about one file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stat {
    /// What it is.
    #[serde(rename = "type")]
    pub kind: ListedKind,
    /// What else is said of it.
    #[serde(flatten)]
    pub said: Said,
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
    /// Whether enough of the gateways that hold it answered: then no storage node can have hidden a
    /// newer version.
    pub guarded: bool,
}

/// What a listed name is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ListedKind {
    /// A file.
    File,
    /// A directory.
    Dir,
    /// A symbolic link.
    Link,
}

impl ListedKind {
    pub(crate) fn of(node: &EntryNode) -> Self {
        match node {
            EntryNode::Dir(_) => Self::Dir,
            EntryNode::Inline(_) | EntryNode::Chunked { .. } => Self::File,
            EntryNode::Link(_) => Self::Link,
        }
    }

    pub(crate) fn of_name(name: &ListedName) -> Self {
        match (name.dir, &name.link) {
            (Some(_), _) => Self::Dir,
            (None, Some(_)) => Self::Link,
            (None, None) => Self::File,
        }
    }
}

/// What a listing goes into.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// One directory: those in it are names as others.
    Names,
    /// What is below too, and not the directories.
    Files,
    /// What is below too, each directory before what it holds.
    Tree,
}

/// One line of a listing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listed {
    /// The whole path; of a directory without a slash at its end.
    pub path: String,
    /// What it is.
    #[serde(rename = "type")]
    pub kind: ListedKind,
    /// Bytes of content.
    pub bytes: u64,
    /// When it was written, in milliseconds since 1970.
    #[serde(rename = "modified", with = "crate::json::moment")]
    pub modified_ms: u64,
    /// What else is said of it.
    #[serde(flatten)]
    pub said: Said,
    /// The version's id.
    pub version: String,
}

impl Listed {
    /// A name as it is listed at a path.
    pub(crate) fn of(path: String, listed: &ListedName) -> Self {
        Self {
            path,
            kind: ListedKind::of_name(listed),
            bytes: listed.bytes,
            modified_ms: listed.modified_ms,
            said: Said::of_name(listed),
            version: listed.vid.to_string(),
        }
    }

    /// What listings are ordered by: a directory sorts as its name and a slash.
    pub fn order(&self) -> String {
        match self.kind {
            ListedKind::File | ListedKind::Link => self.path.clone(),
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
    /// Whether enough of the gateways that hold its directories answered: then no storage node can
    /// have hidden anything.
    pub guarded: bool,
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
    /// When it became what the name is, in milliseconds since 1970: a copy, or one that only says
    /// something else of the same content, later than it was modified.
    #[serde(rename = "written", with = "crate::json::moment")]
    pub written_ms: u64,
    /// When another took its place, or the name was deleted, if that is known.
    #[serde(
        rename = "replaced",
        with = "crate::json::optional_moment",
        skip_serializing_if = "Option::is_none",
        default
    )]
    pub replaced_ms: Option<u64>,
    /// Bytes of content.
    pub bytes: u64,
    /// The same for versions with the same content and attributes, as a version that was brought
    /// back and what it was made of; absent for a deletion.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub digest: Option<String>,
    /// Where it stands.
    #[serde(flatten, with = "version_state")]
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

/// The state of a version, and whether that is the version shown: two fields of one value.
mod version_state {
    use serde::de::{Deserialize, Deserializer};
    use serde::ser::{Serialize, Serializer};

    use super::VersionState;

    #[derive(serde::Serialize, serde::Deserialize)]
    struct Fields {
        current: bool,
        state: VersionState,
    }

    pub(super) fn serialize<S: Serializer>(state: &VersionState, to: S) -> Result<S::Ok, S::Error> {
        Fields { current: *state == VersionState::Current, state: *state }.serialize(to)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<VersionState, D::Error> {
        Ok(Fields::deserialize(from)?.state)
    }
}
