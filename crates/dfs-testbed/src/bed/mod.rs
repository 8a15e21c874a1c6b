//! What every run stands on: nodes, the networks and disks between and under them, and clients
//! that ask them.

pub(crate) mod asking;
pub(crate) mod mesh;
pub(crate) mod netns;
pub(crate) mod nodes;
pub(crate) mod place;
pub(crate) mod proxy;
pub(crate) mod random;
pub(crate) mod requests;
mod settle;
pub(crate) mod small_disk;
pub(crate) mod world;
pub(crate) mod writing;
