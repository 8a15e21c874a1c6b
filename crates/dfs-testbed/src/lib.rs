//! Real processes under faults: nodes as a user would run them, and what is done to them.
//!
//! Nothing here imports another crate of dfs: it runs the binaries, and believes only what they
//! say and what they leave on their disks. `cargo xtask` is the command line.
//!
//! | module | holds |
//! | --- | --- |
//! | `bed` | nodes, the networks and disks between and under them, and clients that ask them |
//! | [`mod@bench`] | how fast it is, beside what the machine can do |
//! | [`chaos`] | one fault after the other while writers work, then a look at everything |
//! | [`split`] | a network that falls apart; nodes that are killed, come new and move |
//! | [`churn`] | nodes that come, leave, are lost, rot and give space back |
//! | [`form`] | nodes that name only each other, started at once |
//! | [`hostile`] | a member that does to others whatever the protocol lets it |

mod bed;
pub mod bench;
pub mod chaos;
pub mod churn;
pub mod form;
pub mod hostile;
pub mod split;

pub use bed::nodes::Cluster;
pub use bed::place::{PROGRAMS, build, build_programs, release_build, root, target_dir};
