//! How many durable changes a store makes in a second, beside what its disk allows: an append of
//! 4 KiB with a sync after each, which is the least that any log must do.
//!
//! `cargo run --release -p dfs-store --example commits [DIRECTORY]`
#![allow(clippy::print_stdout, reason = "it prints what it measured")]

use std::path::{Path, PathBuf};
use std::time::Duration;

use dfs_core::hlc::Hlc;
use dfs_core::id::{BlobId, DirId, RecordKey, Tag, VaultId, Vid};
use dfs_core::record::refs::RefRow;
use dfs_env::{Env, OpenMode};
use dfs_store::disk::data_dir::DataDir;
use dfs_store::{Config, Store};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let env = Env::real();
    let place = std::env::args().nth(1).map_or_else(|| PathBuf::from("target"), PathBuf::from);
    let root = tempfile::tempdir_in(place)?;
    for writers in [1, 8, 64] {
        let appends = appends(&env, root.path()).await?;
        let changes = changes(&env, &root.path().join(format!("store-{writers}")), writers).await?;
        println!(
            "{writers:2} writers: {changes:7.0} changes a second; \
             the disk appends and syncs {appends:6.0} times"
        );
    }
    Ok(())
}

/// Durable changes of one row each, by so many writers that each wait for theirs.
async fn changes(
    env: &Env,
    root: &Path,
    writers: usize,
) -> Result<f64, Box<dyn std::error::Error>> {
    let _dir = DataDir::open(env, root)?;
    let store = Store::open(env.clone(), Config::new(root)).await?;
    let begin = env.mono();
    let work = (0..writers).map(|_| {
        let (spawner, env, store) = (env.clone(), env.clone(), store.clone());
        spawner.spawn("writer", async move {
            let mut done = 0u32;
            while begin.elapsed() < MEASURED {
                store.merge_refs(vec![row(&env)]).await?;
                done += 1;
            }
            Ok::<_, dfs_store::WriteError>(done)
        })
    });
    let mut done = 0;
    for writer in work.collect::<Vec<_>>() {
        done += writer.await??;
    }
    store.close().await;
    Ok(f64::from(done) / begin.elapsed().as_secs_f64())
}

fn row(env: &Env) -> RefRow {
    let key = RecordKey {
        vault: VaultId::new(env.random()),
        dir: DirId::new(env.random()),
        tag: Tag::new(env.random()),
    };
    RefRow {
        blob: BlobId::new(env.random()),
        vid: Vid::new(env.random()),
        key,
        hlc: Hlc(1),
        dropped: false,
        hold_until: Hlc(2),
    }
}

async fn appends(env: &Env, root: &Path) -> std::io::Result<f64> {
    let (fs, path) = (env.clone(), root.join("log"));
    let begin = env.mono();
    let append = move || {
        let file = fs.fs().open(&path, OpenMode::Create)?;
        let mut done = 0u32;
        while begin.elapsed() < MEASURED {
            file.write_all_at(&[7; 4096], u64::from(done) * 4096)?;
            file.sync_data()?;
            done += 1;
        }
        Ok(f64::from(done) / begin.elapsed().as_secs_f64())
    };
    env.offload(append).await
}

/// How long each measurement takes.
const MEASURED: Duration = Duration::from_secs(3);
