//! What the API shows beside the types of `dfs-server`, which are JSON themselves: what only a
//! request or an endpoint knows.

use dfs_core::name::FilePath;
use dfs_server::{Admission, Departure, Listed, PeerState};
use serde::{Deserialize, Serialize};

/// Something about a file, with the path that was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OfPath<T> {
    /// The path.
    pub path: String,
    /// What is known about it.
    #[serde(flatten)]
    pub about: T,
}

impl<T> OfPath<T> {
    pub(super) fn new(path: &FilePath, about: T) -> Self {
        Self { path: path.to_string(), about }
    }
}

/// A page of a listing.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ListPage {
    /// Entries in byte order of their paths.
    pub entries: Vec<Listed>,
    /// What to give as `after` for the next page; absent on the last.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub next: Option<String>,
    /// Whether enough of the gateways that hold these names answered: otherwise other machines can
    /// have hidden some.
    pub guarded: bool,
}

/// A member that was vouched for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AdmittedView {
    /// Its id.
    pub id: String,
    /// Bytes that count of what it offers; absent for a gateway, of which all count.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub cap: Option<u64>,
}

impl AdmittedView {
    pub(super) fn new(admitted: Admission) -> Self {
        Self { id: admitted.id, cap: Some(admitted.cap).filter(|cap| *cap != u64::MAX) }
    }
}

/// What became of a member that was taken out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberView {
    /// Its id.
    pub id: String,
    /// What it is now.
    pub state: PeerState,
    /// How many copies of everything there are without it.
    pub copies: usize,
    /// How many there should be.
    pub copies_wanted: usize,
}

impl MemberView {
    pub(super) fn new(member: Departure, state: PeerState) -> Self {
        let Departure { id, copies, copies_wanted } = member;
        Self { id, state, copies, copies_wanted }
    }
}
