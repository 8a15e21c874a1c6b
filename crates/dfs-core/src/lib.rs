//! The decisions of dfs, and nothing else.
//!
//! What a version supersedes, which nodes hold a partition, when enough replicas have answered,
//! which of two connections stays: each is a pure function or a small state machine here, handed
//! its time and its randomness. There is no runtime, socket, file, clock or thread in this crate,
//! so every rule is tested in microseconds and replayed from a seed.
//!
//! | module | decides |
//! | --- | --- |
//! | [`version`] | what survives when two replicas' records of one name meet, and which version is shown |
//! | [`epoch`] | who is a member and which nodes hold each partition, as a chain of signed decisions |
//! | [`conditional`] | what a condition asks, and what replicas remember of a conditional write |
//! | [`paxos`] | which of several proposed values is the one |
//! | [`assign`] | which members should hold each partition |
//! | [`steward`] | which decision to propose next |
//! | [`voters`] | who decides, and whose turn it is to propose |
//! | [`quorum`] | whether enough replicas have answered, or can still answer |
//! | [`purge`] | when a tombstone may be forgotten, and when a use of a blob has ended |
//! | [`refs`] | which version uses which blob |
//! | [`retention`] | which earlier versions a new one keeps |
//! | [`sync`] | whether two replicas hold the same |
//! | [`scrub`], [`meter`] | when a disk is read back, and how fast; how long the rest takes |
//! | [`urgency`] | which missing blob is fetched first |
//! | [`outlook`] | what one more failure would cost |
//! | [`member`] | which facts about nodes are newest and genuine |
//! | [`forming`] | who founds a cluster when nodes list each other |
//! | [`liveness`] | since when nobody reaches a member |
//! | [`conn`] | which of two connections stays, and when to dial again |
//! | [`hlc`] | the stamp of the next write |
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
pub mod assign;
pub mod codec;
pub mod conditional;
pub mod conn;
pub mod departure;
pub mod epoch;
pub mod forming;
#[doc(hidden)]
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
pub mod hlc;
pub mod id;
pub mod liveness;
pub mod member;
pub mod meter;
pub mod name;
pub mod outlook;
pub mod paxos;
pub mod purge;
pub mod quorum;
pub mod refs;
pub mod retention;
pub mod scrub;
pub mod steward;
pub mod sync;
pub mod urgency;
pub mod version;
pub mod voters;
pub mod writer;

#[cfg(test)]
mod tests;
