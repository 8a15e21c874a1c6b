//! A node inside another program: store a file, read it back.
//!
//! cargo run -p dfs-server --example embed

use dfs_core::name::FilePath;
use dfs_env::Env;
use dfs_server::{Cadence, Config, Grace, Mode, Server, VaultConfig};
use dfs_store::vault::keys::{ClusterKey, VaultKey};
use futures_util::TryStreamExt;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let env = Env::real();
    let dir = tempfile::tempdir()?;
    let config = Config {
        data_dir: dir.path().join("node"),
        listen: "127.0.0.1:0".parse()?,
        bootstrap: Vec::new(), // Nobody to join: this node founds a cluster.
        init: false,
        cluster_key: ClusterKey::from_bytes(env.random()),
        invite: None,
        founds: true,
        new_node: false,
        vault: Some(VaultConfig { key: VaultKey::from_bytes(env.random()) }),
        zone: "default".to_owned(),
        capacity: None,
        packed_max: dfs_store::PACKED_BYTES_MAX,
        out_after: dfs_server::OUT_AFTER,
        build: "example".to_owned(),
        grace: Grace::default(),
        cadence: Cadence::default(),
    };
    let server = Server::start(env, config).await?;
    let client = server.client();

    let path = FilePath::parse("notes/today.txt")?;
    let stored = client.store(&path, &b"remember the milk"[..], Mode::Default).await?;
    eprintln!("stored {} bytes in {} copy", stored.bytes, stored.copies);

    let file = client.find(&path, None, Mode::Default).await?;
    let download = client.read(&file, 0..file.bytes()).await?;
    let parts: Vec<bytes::Bytes> = download.content.try_collect().await?;
    eprintln!("read back {:?}", String::from_utf8(parts.concat())?);

    server.shutdown().await;
    Ok(())
}
