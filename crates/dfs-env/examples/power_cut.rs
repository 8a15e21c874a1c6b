//! A disk in memory forgets what was not synced, so that a test can pull the plug.
//!
//! cargo run -p dfs-env --example power_cut

use std::path::Path;

use dfs_env::{Env, MemoryFs, MemoryNet, OpenMode, write_replacing};

fn main() -> std::io::Result<()> {
    let disk = MemoryFs::default();
    let env = Env::with_disk(1, MemoryNet::default(), disk.clone());
    let (kept, lost) = (Path::new("/kept"), Path::new("/lost"));
    write_replacing(env.fs(), kept, b"synced, renamed, and the directory synced")?;
    env.fs().open(lost, OpenMode::CreateNew)?.write_all_at(b"only written", 0)?;

    disk.crash();
    eprintln!("kept: {:?}", env.fs().read(kept, 100).map(|bytes| bytes.len()));
    eprintln!("lost: {:?}", env.fs().read(lost, 100).map_err(|error| error.kind()));
    Ok(())
}
