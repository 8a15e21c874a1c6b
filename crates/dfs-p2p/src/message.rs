//! What nodes ask each other, as types: parsed once, at the edge.

use std::time::Duration;

use bytes::Bytes;
use dfs_core::hlc::Hlc;
use dfs_core::id::{BlobId, CertId, DirId, NodeId, Partition, RecordKey, Tag, VaultId};
use dfs_core::layout::epoch::{EpochCert, EpochProposal, EpochState};
use dfs_core::node::later_life::StillRuns;
use dfs_core::node::member::NodeInfo;
use dfs_core::paxos::{Ballot, Register};
use dfs_core::record::ballot::{Candidate, SignedBallot};
use dfs_core::record::digest::HeadsDigest;
use dfs_core::record::refs::{RefRow, Use};
use dfs_core::record::version::Record;
use dfs_core::record::writer::WriterCert;
use dfs_core::replica::dir_changes::{ChangeMark, DirKey};
use dfs_core::replica::dir_view::Told;
use dfs_core::replica::possession::Proof;
use dfs_core::replica::sync::{Root, Table};

/// Which call goes first when the line is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Priority {
    /// Gossip and layout.
    Layout = 0,
    /// Records that someone waits for.
    Records = 1,
    /// Chunks that someone waits for.
    Chunks = 2,
    /// Repair and moves.
    Background = 3,
}

/// One call, as the caller makes it and the handler gets it.
#[derive(Debug, Clone)]
pub struct Call {
    /// Its place in the queue.
    pub priority: Priority,
    /// How long the caller waits while nothing moves; and how long the answer may be in the making.
    pub deadline: Duration,
    /// The caller's layout; 0 when it has none.
    pub epoch: u64,
    /// What is asked.
    pub request: Request,
    /// A blob, where the request carries one.
    pub body: Bytes,
    /// The longest body the caller takes in the answer; known to the caller only.
    pub answer_bytes_max: usize,
}

impl Call {
    /// A call without a body, from a caller without a layout, whose answer carries none either.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use dfs_core::id::BlobId;
    /// # use dfs_p2p::message::{Call, Priority, Request};
    /// let ask = Request::ChunkGet(BlobId::of(b"sealed"));
    /// let call = Call::new(Priority::Chunks, Duration::from_secs(5), ask);
    /// let call = Call { answer_bytes_max: 1024, ..call };
    /// ```
    pub fn new(priority: Priority, deadline: Duration, request: Request) -> Self {
        Self { priority, deadline, epoch: 0, request, body: Bytes::new(), answer_bytes_max: 0 }
    }
}

/// What is asked.
#[derive(Debug, Clone, PartialEq)]
pub enum Request {
    /// See [`Gossip`].
    Gossip(Gossip),
    /// Asks to become a member.
    Join(Box<NodeInfo>),
    /// Offers to found a cluster of just these nodes: see [`dfs_core::layout::forming`].
    GenesisOffer(Vec<NodeId>),
    /// Asks for the promise made to such an offer back.
    GenesisWithdraw,
    /// Asks a start of a node whether it still runs, since another one greets under its id.
    StillRuns {
        /// Names the connection on which the other one greets.
        challenge: [u8; 32],
    },
    /// Asks for the epochs after this one.
    ChainGet {
        /// The newest epoch known; 0 for none.
        from: u64,
    },
    /// Asks a voter to promise, for the epoch after its own.
    EpochPrepare {
        /// The epoch to be decided.
        epoch: u64,
        /// Nothing below this.
        ballot: Ballot,
    },
    /// Asks a voter to accept an epoch.
    EpochAccept {
        /// Under which ballot.
        ballot: Ballot,
        /// What to accept.
        proposal: Box<EpochProposal>,
    },
    /// Passes on a decided epoch.
    EpochDecided(Box<EpochCert>),
    /// Asks for records, or for their state hashes alone.
    RecordGet {
        /// Which.
        keys: Vec<RecordKey>,
        /// Hashes instead of records.
        digest_only: bool,
    },
    /// Joins records with what the receiver holds.
    RecordPut {
        /// The records.
        records: Vec<(RecordKey, Record)>,
        /// Where they come from.
        origin: Origin,
    },
    /// Asks a replica to promise, for a conditional write; answered by the record.
    CasPrepare {
        /// Which record.
        key: RecordKey,
        /// Nothing below this.
        ballot: SignedBallot,
    },
    /// Asks a replica to accept a conditional write; answered by the record.
    CasAccept {
        /// Which record.
        key: RecordKey,
        /// Under which ballot.
        ballot: SignedBallot,
        /// What to accept.
        candidate: Box<Candidate>,
        /// Whether a replica had accepted the version already, under a lower ballot: what is
        /// completed has no new stamp.
        found: bool,
    },
    /// Asks for a page of a directory's records, in order of tags.
    DirScan {
        /// The vault.
        vault: VaultId,
        /// The directory.
        dir: DirId,
        /// The last tag of the page before.
        after: Option<[u8; 16]>,
    },
    /// Asks what has changed in a directory since a point in the receiver's log of changes, or only
    /// where that log stands.
    DirChanges {
        /// Which directory.
        dir: DirKey,
        /// The point.
        since: Option<ChangeMark>,
    },
    /// Asks for a page of what is listed in a directory, in order of tags.
    DirDigests {
        /// Which directory.
        dir: DirKey,
        /// Where the page before ended.
        after: Option<[u8; 16]>,
    },
    /// Asks for a writer certificate.
    CertGet(CertId),
    /// Notes uses of blobs; answered by which of them are held.
    RefAdd(Vec<RefRow>),
    /// Stores the blob in the body.
    ChunkPut(BlobId),
    /// Asks for a blob.
    ChunkGet(BlobId),
    /// Asks which blobs are held.
    ChunkHas(Vec<BlobId>),
    /// Says that the receiver sent bytes that are not this blob, or did not show that it has it.
    ReportCorrupt(BlobId),
    /// Challenges the receiver to show that it has blobs, few at once; answered by what it shows.
    ChunkProve {
        /// What the digests are keyed with: random bytes.
        nonce: [u8; 32],
        /// Which.
        ids: Vec<BlobId>,
    },
    /// Asks which of these uses have no row at the receiver, or one that it found to have ended.
    RefsEnded(Vec<Use>),
    /// Asks to forget the rows of those of these uses that the receiver itself found to have ended;
    /// answered by which are gone.
    RefsForget(Vec<Use>),
    /// Asks which of these blobs the receiver should hold and does not.
    ChunksNeeded(Vec<BlobId>),
    /// Asks to forget old tombstones where their state still has this hash; answered by which are
    /// gone.
    RecordsForget(Vec<(RecordKey, [u8; 32])>),
    /// Compares fingerprints of partitions; answered by those that differ.
    SyncRoots {
        /// Of which table.
        table: Table,
        /// The sender's.
        roots: Vec<(Partition, Root)>,
    },
    /// Asks for a page of a partition's rows.
    SyncScan {
        /// Of which table.
        table: Table,
        /// Which partition.
        partition: Partition,
        /// The last row key of the page before; empty for the first.
        after: Bytes,
    },
}

/// Where a record comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// A new version: its clock and certificate are checked.
    Client,
    /// Known elsewhere already: a repair or a sync.
    Repair,
}

/// What the sender knows about nodes, and what it thinks the receiver lacks.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Gossip {
    /// For each node the number of its newest info.
    pub digest: Vec<(NodeId, Hlc)>,
    /// Infos.
    pub infos: Vec<NodeInfo>,
    /// Whether the receiver should answer in kind.
    pub want_reply: bool,
}

/// A call's answer.
#[derive(Debug, Clone)]
pub struct Answer {
    /// What is answered, or why not.
    pub result: Result<Response, Refusal>,
    /// The answerer's layout.
    pub epoch: u64,
    /// A blob, where the answer carries one.
    pub body: Bytes,
}

/// What is answered.
#[derive(Debug, Clone, PartialEq)]
pub enum Response {
    /// Done; nothing to say.
    Done,
    /// See [`Gossip`].
    Gossip(Gossip),
    /// That the start asked still runs.
    StillRuns(StillRuns),
    /// Epochs in order, or a newer state and the certificate that led to it.
    Chain {
        /// Given when the certificates do not reach back.
        snapshot: Option<Box<EpochState>>,
        /// The epochs.
        certs: Vec<EpochCert>,
    },
    /// What a voter remembers of the next epoch.
    EpochRegister {
        /// The register after the request.
        register: Box<Register<EpochProposal>>,
        /// The voter's signature, when it accepted what it was asked to.
        signature: Option<[u8; 64]>,
    },
    /// Records, with their keys.
    Records {
        /// The records.
        records: Vec<(RecordKey, Record)>,
        /// Whether another page follows.
        more: bool,
    },
    /// State hashes in the order of the keys asked for.
    StateHashes(Vec<[u8; 32]>),
    /// What has changed in a directory.
    Changed {
        /// Where the log of changes stands.
        mark: ChangeMark,
        /// The names that have changed; `None` when that is not known, or too much.
        changed: Option<Vec<Told>>,
    },
    /// A page of what is listed in a directory.
    Listed {
        /// Tags of names, and which heads they have.
        digests: Vec<(Tag, HeadsDigest)>,
        /// What to go on after; `None` at the end.
        next: Option<[u8; 16]>,
    },
    /// A certificate.
    Cert(Box<WriterCert>),
    /// For each thing asked about, whether it is so: as a rule, whether a blob is held.
    Held(Vec<bool>),
    /// For each blob of a challenge, what is shown of it.
    Proofs(Vec<Proof>),
    /// How the fingerprints of partitions compare.
    Differing {
        /// Those that differ.
        partitions: Vec<Partition>,
        /// Up to which stamp the answerer holds every version that counts, of those of which it
        /// knows.
        floors: Vec<(Partition, Hlc)>,
    },
    /// A page of rows.
    Rows {
        /// Keys and state hashes of records.
        hashes: Vec<(RecordKey, [u8; 32])>,
        /// Reference rows.
        refs: Vec<RefRow>,
        /// The last row key of this page.
        last: Bytes,
        /// Whether another page follows.
        more: bool,
    },
}

/// Why a call was not carried out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message} ({code:?})")]
pub struct Refusal {
    /// The kind of reason.
    pub code: Code,
    /// For people.
    pub message: String,
    /// When to try again, if that may help.
    pub retry_after: Option<Duration>,
}

impl Refusal {
    /// A refusal that a retry does not help.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), retry_after: None }
    }
}

impl Answer {
    /// An answer without a body.
    pub fn new(result: Result<Response, Refusal>, epoch: u64) -> Self {
        Self { result, epoch, body: Bytes::new() }
    }
}

/// Reasons that travel: why a call was refused or a connection closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Code {
    /// No reason: a normal end.
    Ok = 0,
    /// Not here.
    NotFound = 1,
    /// The caller's layout is older than a change to the partition.
    StaleEpoch = 2,
    /// This node does not hold the partition.
    NotReplica = 3,
    /// The caller is no member.
    NotMember = 4,
    /// The caller's id may not come back.
    Retired = 5,
    /// Another cluster, or another cluster key.
    ClusterMismatch = 6,
    /// No common protocol version.
    Incompatible = 7,
    /// Not known to this version.
    Unsupported = 8,
    /// The condition of a conditional write does not hold.
    PreconditionFailed = 9,
    /// The version's stamp is too far from the clock here.
    ClockSkew = 10,
    /// The space offered is used up.
    NoSpace = 11,
    /// Too much at once; try later.
    Overloaded = 12,
    /// The copy here failed its check.
    Corrupt = 13,
    /// A signature does not verify.
    BadSignature = 14,
    /// Too late to be of use.
    Deadline = 15,
    /// The caller gave up.
    Cancelled = 16,
    /// Another connection to the same peer is kept.
    Duplicate = 17,
    /// Too few replicas are reachable.
    QuorumUnavailable = 18,
    /// The node failed.
    Internal = 19,
    /// The message is not valid.
    Malformed = 20,
}

impl Code {
    const ALL: [Self; 21] = [
        Self::Ok,
        Self::NotFound,
        Self::StaleEpoch,
        Self::NotReplica,
        Self::NotMember,
        Self::Retired,
        Self::ClusterMismatch,
        Self::Incompatible,
        Self::Unsupported,
        Self::PreconditionFailed,
        Self::ClockSkew,
        Self::NoSpace,
        Self::Overloaded,
        Self::Corrupt,
        Self::BadSignature,
        Self::Deadline,
        Self::Cancelled,
        Self::Duplicate,
        Self::QuorumUnavailable,
        Self::Internal,
        Self::Malformed,
    ];

    pub(crate) fn from_wire(code: i32) -> Option<Self> {
        usize::try_from(code).ok().and_then(|at| Self::ALL.get(at)).copied()
    }
}
