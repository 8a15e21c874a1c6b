//! Seal a chunk, store it durably, read it back verified, and see damage refused.
//!
//! cargo run -p dfs-store --example sealed_store

use dfs_env::Env;
use dfs_store::disk::data_dir::DataDir;
use dfs_store::disk::path::PathTransform;
use dfs_store::vault::keys::VaultKey;
use dfs_store::vault::seal::Salt;
use dfs_store::{Config, Store};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let env = Env::real();
    let dir = tempfile::tempdir()?;
    let data_dir = DataDir::open(&env, dir.path())?;
    let config = Config { capacity: Some(1 << 30), ..Config::new(data_dir.root()) };
    let store = Store::open(env.clone(), config).await?;

    let keys = VaultKey::from_bytes(env.random()).derive();
    let sealed = keys.chunks.seal(b"for my eyes only", Salt::Deduplicating, true);
    store.put_blob(sealed.id, sealed.bytes.clone()).await?;
    let path = PathTransform::default().blob_path(&sealed.id);
    eprintln!("stored as {} ({} bytes)", path.display(), sealed.bytes.len());

    let read = store.get_blob(sealed.id).await?.bytes;
    eprintln!("opened: {:?}", String::from_utf8_lossy(&keys.chunks.open(&sealed.id, &read)?));

    let mut damaged = read.to_vec();
    damaged[90] ^= 1;
    eprintln!("damaged: {:?}", keys.chunks.open(&sealed.id, &damaged));
    store.close().await;
    Ok(())
}
