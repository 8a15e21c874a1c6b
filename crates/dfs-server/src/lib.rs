//! One dfs node: seals files, replicates them, and fetches them from whichever peer has them.
//!
//! [`Server`] opens a node with a typed [`Config`]; [`Server::client`] is the face that the HTTP
//! API and other gateways use. See `examples/embed.rs` for a node inside another program.
//!
//! | module | holds |
//! | --- | --- |
//! | [`server`] | start, shut down, who owns which task |
//! | [`client`] | store, get, list, delete, status: the face |
//! | `layout` | the epoch chain: adopt, catch up, decide |
//! | `liveness` | who reaches whom, and who is down since when |
//! | `form` | founding a cluster together with listed peers |
//! | `standing`, `disaster` | members taken out: well, gone, or gone with what only they had |
//! | `coordinate` | one request to many replicas, counted by quorum |
//! | `records`, `scan`, `blobs` | reading and writing records; directories; storing and fetching blobs |
//! | `upload`, `download` | a file as chunks, with bounded memory |
//! | `namespace` | directories: paths to records and back |
//! | `history`, `versions`, `reuse` | what a version keeps of those before it; log, restore, conflicts |
//! | `walk`, `lost` | a tree name by name; which files cannot be read |
//! | `handler` | answering peers |
//! | `sync`, `repair` | background: rows that differ, blobs that are missing |
//! | `upkeep`, `scrub` | background: care for this disk, reading it back |
//! | `foreground` | what users wait for, and background work gives way to |
//! | `audit`, `claims`, `purge`, `collect`, `confirm` | background: uses that have ended, and that nobody noted; old tombstones, unwanted blobs; what replicas confirm |
//! | `health` | what `status` says |
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

mod actors;
mod agree;
mod audit;
mod blobs;
mod claims;
pub mod client;
mod collect;
mod conditional;
mod config;
mod confirm;
mod coordinate;
mod deciding;
mod disaster;
mod download;
mod error;
mod foreground;
mod form;
mod handler;
mod handoff;
pub mod health;
mod history;
mod json;
mod layout;
mod liveness;
mod lost;
mod namespace;
mod node;
mod purge;
mod records;
mod repair;
mod reuse;
mod scan;
mod scrub;
pub mod server;
mod standing;
mod sync;
#[cfg(test)]
mod tests;
mod upkeep;
mod upload;
mod versions;
mod views;
mod walk;

pub use client::{Client, FileRef};
pub use config::{Config, Grace, Mode, OUT_AFTER, VaultConfig};
pub use dfs_core::record::conditional::Condition;
pub use download::Download;
pub use error::{Error, StartServerError};
pub use json::rfc3339;
pub use server::Server;
pub use views::{
    Collected, Conflict, ConflictPage, Departure, Fate, Listed, ListedKind, Logged, Page,
    PeerState, PeerView, RepairState, RepairView, ScrubState, ScrubView, Stat, Stored, Unreadable,
    UnreadablePage, VersionState, WentOn,
};
