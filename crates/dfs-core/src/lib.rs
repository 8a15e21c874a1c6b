//! The decisions of dfs, and nothing else.
//!
//! What a version supersedes, which nodes hold a partition, when enough replicas have answered,
//! which of two connections stays: each is a pure function or a small state machine here, handed
//! its time and its randomness. There is no runtime, socket, file, clock or thread in this crate,
//! so every rule is tested in microseconds and replayed from a seed.
//!
//! | module | decides |
//! | --- | --- |
//! | [`record`] | how two records of one name merge, who may write, conditions, what versions use |
//! | [`layout`] | the chain of decisions on members and partitions, and which to propose next |
//! | [`node`] | newest facts about nodes, since when one is down, which of two connections stays |
//! | [`replica`] | whether replicas differ, what is fetched first, scrub, what may be forgotten |
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
