//! Authenticated, multiplexed, length-delimited protobuf messaging between nodes over TCP.
//!
//! A [`Network`] listens, dials its bootstrap addresses, learns of everyone else by exchanging
//! signed infos, keeps one control and one bulk connection to each peer, and redials for ever.
//! Calls have a priority, a deadline and at most one blob as body; [`Handler`] answers them.
//!
//! | module | holds |
//! | --- | --- |
//! | [`network`] | the face: start, call, peers, shut down |
//! | [`message`] | what nodes ask each other |
//! | [`handler`] | what the layer above provides |
//! | `frame`, `mux`, `flow`, `hello` | pure: frames, streams, what has arrived, greetings |
//! | `config`, `error` | how a network is started, and what can go wrong |
//! | `shared`, `registry`, `own` | what its tasks share: whom it knows, what it says of itself |
//! | `secure`, `greet`, `peer` | TLS, who is there, one connection |
//! | `heard`, `traffic`, `budget` | when a peer was heard last, what connections carry and hold |
//! | `redeem` | coming to the keys of a cluster |
//! | `links`, `dial` | connections in use, and whom to dial when |
//! | `incarnation` | which of several starts of a node may take part |
//! | `refusals` | what keeps nodes apart |
//! | `gossip`, `book` | exchanging infos of nodes, and keeping them |
//! | `learn`, `checks` | whose word of a node counts, and how much of it is checked |
//! | `wire` | protobuf on one side, types on the other |
//!
//! See `examples/echo_peers.rs` for two nodes in one process. Addresses have the forms of
//! [`dfs_core::address`]:
//!
//! ```
//! let bootstrap: dfs_core::address::Address = ":4000".parse()?;
//! assert_eq!((bootstrap.dial_host(), bootstrap.port), ("127.0.0.1", 4000));
//! # Ok::<(), dfs_core::address::AddressError>(())
//! ```

mod book;
mod budget;
mod checks;
mod clocks;
mod config;
mod dial;
mod error;
mod flow;
mod frame;
#[doc(hidden)]
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
mod gossip;
mod greet;
mod half_open;
pub mod handler;
mod heard;
mod hello;
mod incarnation;
mod learn;
mod links;
pub mod message;
mod mux;
pub mod network;
mod own;
mod peer;
mod redeem;
mod refusals;
mod registry;
mod secure;
mod shared;
mod traffic;
mod wire;
mod wire_dirs;

pub use clocks::{ClockReading, ClockTold};
pub use config::{Config, OwnFacts};
pub use error::{CallError, StartError};
pub use frame::FRAME_BYTES_MAX;
pub use handler::{Caller, Handler};
pub use hello::{PROTO_MAX, PROTO_MIN};
pub use network::{Network, Peer};
pub use redeem::{KEYS_BYTES_MAX, RedeemError, recall, redeem};
pub use refusals::{ApartReason, Direction, KeptApart};
pub use wire::{KEYS_MAX, WireError};

#[cfg(test)]
mod tests;
