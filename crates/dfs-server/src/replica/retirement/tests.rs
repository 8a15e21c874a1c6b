//! A retired node, on a disk in memory.

use std::path::PathBuf;

use dfs_core::id::NodeId;
use dfs_core::replica::possession::Cadence;
use dfs_env::{Env, MemoryNet};
use dfs_store::disk::data_dir::DataDir;

use super::*;
use crate::config::Grace;
use crate::replica::finisher::Finisher;
use crate::replica::layout::Layout;

#[tokio::test]
async fn a_retirement_is_noted_however_much_else_waits_to_be_finished() {
    let env = Env::in_memory(1, MemoryNet::default());
    let root = PathBuf::from("/data");
    drop(DataDir::open(&env, &root).unwrap());
    let config = dfs_store::Config::new(root);
    let store = Store::open(env.clone(), config).await.unwrap();
    let (finisher, _never_run) = Finisher::new();
    let layout = Layout::new(None, env.mono());
    let id = NodeId::new([1; 32]);
    let (grace, cadence) = (Grace::default(), Cadence::default());
    let replica = Replica::new(env, id, store, layout, grace, cadence, finisher);
    for _ in 0..1000 {
        replica.finisher.finish_later(std::future::pending());
    }
    replica.retire("a later start is known");
    // As a shutdown does that comes at once: no task had a turn.
    assert!(replica.note_retirement().await);
    let why = noted(&replica.store).await.unwrap().unwrap();
    assert!(why.ends_with("a later start is known"), "{why}");
}
