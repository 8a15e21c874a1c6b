//! What `status` and `peers` show.

use dfs_p2p::ApartReason;
use serde::{Deserialize, Serialize};

use super::outlook::{Copying, NextFailure};
use crate::layout::admit::PeerRole;

/// One word for how things are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Level {
    /// Every copy that should be there is there.
    Ok,
    /// Something is missing or under way; nothing is in danger.
    Degraded,
    /// One more failure may make something unreadable.
    AtRisk,
    /// Something is unreadable.
    Lost,
}

/// What an operator can do; the programs say how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Remedy {
    /// Look at what the scrub found.
    LookAtScrub,
    /// Follow others that went on by hand without these nodes, if that is right.
    FollowLoss(Vec<String>),
    /// Ask whoever runs the nodes that count this one as lost.
    AskOthers,
    /// Vouch for nodes that only store for others.
    Admit(Vec<String>),
    /// Take a member out that is distrusted, or vouch for it anew.
    TakeOut(String),
    /// Start a member that is drained and away, or remove it.
    EndDrain(String),
    /// Start the nodes that are away.
    StartNodes,
    /// Make room for new files.
    MakeRoom,
    /// Name an address of a member that has another one than those that are dialled in vain; the
    /// first few of them.
    NameAddress(Vec<String>),
    /// Free the disk of this node of other things.
    FreeDisk,
    /// See what is wrong with the disk of this node.
    MendDisk,
    /// Bring this node and one that it dials in vain together.
    JoinApart(ApartReason),
    /// Set the clock of this node or of another, as far as it is known whose is wrong.
    SetClock(ClockOwner),
}

/// Whose clock is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClockOwner {
    /// That of the node that says so.
    Own,
    /// That of the node whose id begins so.
    Other(String),
    /// One of several.
    Unknown,
}

/// Why a node does not serve yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotReady {
    /// One sentence: what, and after a colon the peers and addresses that it is about.
    pub reason: String,
    /// What an operator can do about it, where there is something.
    pub remedy: Option<Remedy>,
}

impl NotReady {
    /// What, without any peer or address: for those who may not know of them.
    pub fn short(&self) -> &str {
        self.reason.split_once(": ").map_or(&self.reason, |(what, _)| what)
    }
}

impl From<String> for NotReady {
    fn from(reason: String) -> Self {
        Self { reason, remedy: None }
    }
}

/// How the cluster is, seen from one node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Health {
    /// The cluster's id; empty before the node has joined.
    pub cluster: String,
    /// The newest layout.
    pub epoch: u64,
    /// One word.
    pub health: Level,
    /// One sentence.
    pub message: String,
    /// What an operator can do about it, where there is something.
    #[serde(skip)]
    pub remedy: Option<Remedy>,
    /// Members.
    pub nodes: usize,
    /// Members that answer.
    pub alive: usize,
    /// Files; on a node without the vault's key, 0.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Pieces known to have fewer copies than they should.
    pub under_replicated: u64,
    /// Pieces of existing files without a good copy.
    pub unrecoverable: u64,
    /// Blobs that nodes are fetching.
    pub repair_queue: u64,
    /// What this node fetches, and how long it will take; `None` when nothing is missing here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub copying: Option<Copying>,
    /// Whether someone asked this node to fetch nothing.
    pub repair_paused: bool,
    /// What the failure of one more node would cost.
    pub next_failure: NextFailure,
    /// Pieces and rows on this node's disk that could not be read when it was last read back.
    pub unreadable: u64,
    /// Partitions that move or have too few members.
    pub moving: usize,
    /// Who decides about the layout.
    pub voters: Vec<String>,
    /// The zone whose members offer least, where that limits what the cluster can hold.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limiting_zone: Option<String>,
    /// Nodes in reach that nobody vouched for yet: they hold nothing. The first few.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub unvouched: Vec<String>,
    /// Members that did not show what they should hold, or are distrusted, seen from here. The
    /// first few.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub doubts: Vec<Doubt>,
    /// What there is to say of clocks that are wrong, this node's first. The first few.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub clocks: Vec<String>,
    /// Who is drained, how far that is and what it waits for. The first few.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub drains: Vec<String>,
    /// What there is to say of disks that are full or fail, this node's first. The first few.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub disks: Vec<String>,
    /// How far this node's clock is ahead of those that a majority agrees on, in milliseconds;
    /// `None` when that cannot be told.
    pub clock_ahead_ms: Option<i64>,
    /// Names with versions that wait for a decision.
    pub conflicts: u64,
    /// Whether the vault's key was written down and read back.
    pub key_backup: bool,
}

/// A member that this node has reason to doubt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Doubt {
    /// The beginning of its id.
    pub node: String,
    /// Whether it did what no honest member does.
    pub distrusted: bool,
    /// What it did.
    pub why: String,
    /// Since when, in milliseconds since 1970.
    #[serde(rename = "since", with = "crate::json::optional_moment")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since_ms: Option<u64>,
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
    /// What it may do; `unvouched` while it waits to be let in.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub role: Option<PeerRole>,
    /// Whether it is the node that was asked.
    #[serde(rename = "self")]
    pub is_self: bool,
    /// Bytes it holds.
    pub bytes: u64,
    /// Bytes it offers.
    pub capacity: u64,
    /// Bytes that count of these, where that is limited.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub cap: Option<u64>,
    /// Why it is distrusted, if it is.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub distrusted: Option<String>,
    /// What its drain waits for, if it is drained.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub drain: Option<String>,
    /// What there is to say of its disk, if it is full or fails.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub disk: Option<String>,
    /// How far its clock is ahead of that of the node that was asked, in milliseconds; negative
    /// when it is behind. Not there while it is not known.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub clock_ahead_ms: Option<i64>,
    /// What is wrong with its clock, as far as it can be told.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub clock: Option<String>,
}
