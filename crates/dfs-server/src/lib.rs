//! One dfs node: seals files, replicates them, and fetches them from whichever peer has them.
//!
//! [`Server`] opens a node with a typed [`Config`]; [`Server::client`] is what the HTTP API and
//! other gateways use. See `examples/embed.rs` for a node inside another program.
//!
//! The rooms, from the lowest up; none knows of those after it. ARCHITECTURE.md has every file.
//!
//! | room | holds |
//! | --- | --- |
//! | `replica` | what all parts share: id, store, layout, network, what is missing, what is owed |
//! | `chain` | the epoch chain: adopt, catch up, join, found |
//! | `rpc` | one call, one request to many replicas counted by quorum, what an answer may say |
//! | `records`, `blobs` | records and sealed blobs on their replicas |
//! | `sync`, `repair`, `gc`, `disk` | background: differing rows, missing blobs, garbage, disk |
//! | `layout` | deciding layouts: steward, votes, members taken out |
//! | `proof` | having members that only store show what they hold |
//! | `serve` | answering peers: each request goes to the room it is about |
//! | `content`, `names` | with the vault's key: contents of files, paths, history, writing |
//! | `status` | what `status` and `peers` say |
//! | [`client`] | store, get, list, delete: what users ask |
//! | [`server`] | start, shut down, who owns which task |
//!
//! ```no_run
//! # async fn embed(config: dfs_server::Config) -> Result<(), Box<dyn std::error::Error>> {
//! use dfs_core::name::FilePath;
//! use dfs_server::{Mode, Server};
//!
//! let server = Server::start(dfs_env::Env::real(), config).await?;
//! let path = FilePath::parse("notes/today.txt")?;
//! server.client().store(&path, &b"hello"[..], Mode::Default).await?;
//! server.shutdown().await;
//! # Ok(())
//! # }
//! ```

mod blobs;
mod chain;
pub mod client;
mod config;
mod content;
mod disk;
mod error;
mod gc;
mod json;
mod layout;
mod names;
mod proof;
mod records;
mod repair;
mod replica;
mod rpc;
mod serve;
pub mod server;
mod status;
mod sync;

pub use chain::ZONE_BYTES_MAX;
pub use client::attributes::Said;
pub use client::past::{CursorError, HistoryCursor, HistoryPage, NameHistory};
pub use client::purge::Purged;
pub use client::types::{
    Conflict, ConflictPage, Depth, Fate, Listed, ListedKind, Logged, Page, Stat, Stored,
    Unreadable, UnreadablePage, VersionState,
};
pub use client::usage::{DirUsage, UsagePage};
pub use client::watch::{Change, Changed, Happened, Watch, WatchMark};
pub use client::{Client, FileRef, Moved, Onto};
pub use config::{Config, Grace, Mode, OUT_AFTER, VaultConfig};
pub use content::download::Download;
pub use dfs_core::record::attributes::{AttributeError, Attributes, Mtime, Permissions};
pub use dfs_core::record::conditional::Condition;
pub use dfs_core::replica::possession::Cadence;
pub use disk::{ScrubState, ScrubView};
pub use error::{DiskError, Error, InviteError, MemberError, StartServerError};
pub use gc::Collected;
pub use json::rfc3339;
pub use layout::admit::{Admission, CAP, PeerRole};
pub use layout::drain::{Departure, Running};
pub use layout::invite::{InviteState, InviteView, InviteWish, NewInvite};
pub use layout::recover::RecoveryOutcome;
pub use proof::{ProofState, ProofView};
pub use repair::{RepairState, RepairView};
pub use server::{Server, Starting};
pub use status::{PeerState, PeerView};
/// How a node and its cluster are.
pub mod health {
    pub use crate::status::{
        ClockOwner, Copying, CostName, Doubt, Health, Level, NextFailure, NotReady, Remedy,
    };
}
