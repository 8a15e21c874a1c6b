//! The decisions of dfs, and nothing else.
//!
//! What a version supersedes, which nodes hold a partition, when enough replicas have answered,
//! which of two connections stays: each is a pure function or a small state machine here, handed
//! its time and its randomness. There is no runtime, socket, file, clock or thread in this crate,
//! so every rule is tested in microseconds and replayed from a seed.
//!
//! | module | decides |
//! | --- | --- |
//! | [`record`] | what survives when two replicas' records of one name meet, which version is shown, who may write, what a condition asks, what a version uses and keeps |
//! | [`layout`] | who is a member and which nodes hold each partition, as a chain of signed decisions, and which to propose next |
//! | [`node`] | which facts about nodes are newest and genuine, since when nobody reaches one, which of two connections stays |
//! | [`replica`] | how a read or write of several replicas goes on and ends, whether two hold the same, which missing blob is fetched first, when a disk is read back, what may be forgotten |
//! | [`paxos`] | which of several proposed values is the one |
//! | [`quorum`] | whether enough replicas have answered, or can still answer |
//! | [`hlc`] | the stamp of the next write |
//! | [`id`], [`name`], [`address`], [`codec`] | the types that all share, and their one encoding |
//! | [`meter`] | how fast something goes, and how long the rest takes |
//!
//! ```
//! use dfs_core::quorum::{Tally, Verdict};
//!
//! // Three replicas, two must answer.
//! let mut tally = Tally::new(vec![vec!["a", "b", "c"]], Tally::<&str>::write_majority);
//! assert_eq!(tally.ack(&"a"), Verdict::Pending);
//! assert_eq!(tally.fail(&"b"), Verdict::Pending);
//! assert_eq!(tally.ack(&"c"), Verdict::Reached);
//! ```

pub mod address;
pub mod codec;
#[doc(hidden)]
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
pub mod hlc;
pub mod id;
pub mod layout;
pub mod meter;
pub mod name;
pub mod node;
pub mod paxos;
pub mod quorum;
pub mod record;
pub mod replica;
pub mod signature;

#[cfg(test)]
mod tests;
