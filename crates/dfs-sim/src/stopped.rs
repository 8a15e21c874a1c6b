//! The store of a node that does not run, opened as the node itself would.

use std::path::PathBuf;
use std::sync::Arc;

use dfs_core::id::NodeId;
use dfs_env::{Env, MemoryNet};
use dfs_store::disk::data_dir::DataDir;
use dfs_store::{Config, Store};

use crate::fs::SimFs;
use crate::machine::Process;
use crate::net::SimNet;
use crate::rng::Rng;
use crate::trace::Trace;

/// Opens the store on a disk, and says whose it is.
///
/// # Errors
/// What the data directory or the store says, in words.
pub async fn open(fs: &SimFs, trace: &Trace, packed_max: usize) -> Result<(NodeId, Store), String> {
    let net = SimNet::new(Rng::new(0), trace.clone(), Vec::new());
    let process = Arc::new(Process::new(0, net, Arc::default(), fs.clone()));
    let env = Env::simulated(1, fs.clone(), MemoryNet::default(), process);
    let root = PathBuf::from("/data");
    let dir = DataDir::open(&env, &root).map_err(|error| format!("{error:?}"))?;
    let node = NodeId::new(dir.node_key().verifying_key().to_bytes());
    let store = Store::open(env, Config { packed_max, ..Config::new(root) }).await;
    Ok((node, store.map_err(|error| format!("{error:?}"))?))
}
