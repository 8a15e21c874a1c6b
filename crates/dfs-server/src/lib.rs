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
//! | `coordinate` | one request to many replicas, counted by quorum |
//! | `records`, `scan`, `blobs` | reading and writing records; directories; storing and fetching blobs |
//! | `upload`, `download` | a file as chunks, with bounded memory |
//! | `namespace`, `entry` | directories: paths to records and back |
//! | `handler` | answering peers |
//! | `sync`, `repair` | background: rows that differ, blobs that are missing |
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
mod blobs;
pub mod client;
mod config;
mod coordinate;
mod download;
mod entry;
mod error;
mod handler;
pub mod health;
mod layout;
mod namespace;
mod node;
mod records;
mod repair;
mod scan;
pub mod server;
mod sync;
mod upload;
mod views;

pub use client::{Client, FileRef};
pub use config::{Config, Mode, VaultConfig};
pub use download::Download;
pub use error::{Error, StartServerError};
pub use server::Server;
pub use views::{Listed, ListedKind, Page, PeerState, PeerView, Stat, Stored};
