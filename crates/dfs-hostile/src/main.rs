//! `dfs-hostile`: joins a cluster with its key, speaks the real protocol, and does to the other
//! members whatever that lets it. `cargo xtask hostile` runs it against honest nodes.
//!
//! It offers no space, so that nothing is given to it to hold: what it does to others is what it
//! asks, tells and claims.
#![allow(clippy::print_stdout, reason = "it tells what it did")]

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Parser;
use dfs_env::Env;
use dfs_hostile::attacks;
use dfs_hostile::liar::Liar;
use dfs_hostile::member::Member;
use dfs_store::keyfile::{self, KeyKind};

/// Joins a cluster and harms it as well as it can
#[derive(Debug, Parser)]
struct Args {
    /// Where the cluster's key is
    #[arg(long)]
    config_dir: PathBuf,
    /// Nodes to begin with
    #[arg(long, required = true)]
    peer: Vec<SocketAddr>,
    /// How long it goes on once it is a member
    #[arg(long, default_value_t = 60)]
    seconds: u64,
}

#[tokio::main]
async fn main() -> Result<()> {
    let args = Args::parse();
    let env = Env::real();
    let key = keyfile::read(env.fs(), &args.config_dir.join("cluster.key"), KeyKind::Cluster);
    let liar = Arc::new(Liar::default());
    let member = Member::start(env.clone(), &args.peer, key.context("the cluster's key")?, &liar);
    let member = Arc::new(member.await?);
    let joined = member.join().await?;
    // Whoever runs this waits for the line.
    println!("joined at epoch {joined}");
    let until = env.mono() + Duration::from_secs(args.seconds);
    for (name, tally) in attacks::run_all(&member, until).await {
        println!("{name}: {tally}");
    }
    member.leave().await;
    Ok(())
}
