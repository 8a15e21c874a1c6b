//! A dfs cluster on one thread, one paused clock and one seed: the real nodes on simulated
//! machines, under faults, with oracles that watch.
//!
//! | module | holds |
//! | --- | --- |
//! | [`run`] | one seed from beginning to end |
//! | [`options`] | what a seed stands for |
//! | [`cluster`], [`machine`] | real nodes on machines that die, pause, have clocks that are off |
//! | [`net`], [`fs`], [`disk`] | links and disks, with everything that goes wrong with them |
//! | [`faults`] | what goes wrong, when, and when it is over |
//! | [`growth`] | nodes that come up under load |
//! | [`hostile`] | what is asked of a cluster with a hostile member |
//! | [`loss`] | a disk that is lost beside it |
//! | [`workload`], [`racing`] | clients, some of which race under conditions |
//! | [`checker`] | whether what clients saw is allowed |
//! | [`audit`] | what the disks of all replicas hold at rest |
//! | [`stopped`] | a store whose node does not run |
//! | [`lineage`] | which version had seen which, and whether any was lost |
//! | [`crash_states`] | every place where the power can fail in the life of a store |
//! | [`trace`], [`log`] | what happened, as a hash; what nodes log |
//! | [`rng`] | the one source of chance |
#![allow(missing_debug_implementations, reason = "nobody prints a simulation")]

pub mod audit;
#[cfg(feature = "bug-bank")]
pub mod bug_bank;
pub mod checker;
pub mod churn;
pub mod cluster;
pub mod crash_states;
pub mod disk;
pub mod faults;
pub mod fs;
pub mod growth;
pub mod hostile;
pub mod lineage;
pub mod log;
pub mod loss;
pub mod machine;
pub mod net;
pub mod options;
pub mod racing;
pub mod rng;
pub mod run;
pub mod stopped;
pub mod trace;
pub mod workload;
