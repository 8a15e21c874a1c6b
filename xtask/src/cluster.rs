//! `cargo xtask cluster N`: a local cluster to play with.
#![allow(clippy::print_stdout, reason = "it talks to a person")]

use std::fs;
use std::process::{Command, ExitCode};
use std::time::Duration;

use anyhow::{Result, ensure};
use clap::Parser;
use dfs_testbed::{Cluster, build, target_dir};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

/// Arguments of `cluster`.
#[derive(Debug, Parser)]
pub(crate) struct Args {
    /// How many nodes
    #[arg(default_value_t = 3)]
    nodes: usize,
    /// The first node listens here, the others on the ports after it
    #[arg(long, default_value_t = 3000)]
    base_port: u16,
    /// Forget what an earlier cluster stored
    #[arg(long)]
    fresh: bool,
    /// Run this against the cluster instead of waiting, then stop, with its exit code
    #[arg(long, value_name = "CMD")]
    exec: Option<String>,
}

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    ensure!(args.nodes > 0, "a cluster has at least one node");
    // From here on Ctrl-C is ours: the nodes are stopped in any case.
    let mut signals = Signals::new([SIGINT, SIGTERM])?;
    let bin = build()?;
    let dir = target_dir().join("cluster");
    if args.fresh && dir.exists() {
        fs::remove_dir_all(&dir)?;
    }
    let mut cluster = Cluster::new(bin, dir, args.base_port, args.exec.is_none())?;
    for _ in 0..args.nodes {
        cluster.add()?;
    }
    let formed = cluster.wait_ok(0, args.nodes, FORM_MAX)?;
    println!("\n{} nodes formed a cluster in {:.1} s:", args.nodes, formed.as_secs_f64());
    for at in 0..args.nodes {
        println!("  127.0.0.1:{}", cluster.port(at)?);
    }
    if let Some(command) = &args.exec {
        return exec(&mut cluster, command);
    }
    let (first, last) = (cluster.port(0)?, cluster.port(args.nodes - 1)?);
    println!("\nin another terminal:");
    println!("  export PATH=\"{}:$PATH\"", cluster.bin().display());
    println!("  export DFS_CONFIG_DIR=\"{}\"", cluster.config_dir().display());
    println!("  dfs --node :{first} put README.md");
    println!("  dfs --node :{last} cat README.md");
    println!("  dfs --node :{last} status");
    println!("\nCtrl-C stops all.\n");
    signals.forever().next();
    println!("stopping");
    cluster.stop()?;
    Ok(ExitCode::SUCCESS)
}

fn exec(cluster: &mut Cluster, command: &str) -> Result<ExitCode> {
    let path = std::env::var("PATH").unwrap_or_default();
    let status = Command::new("sh")
        .args(["-c", command])
        .env("PATH", format!("{}:{path}", cluster.bin().display()))
        .env("DFS_CONFIG_DIR", cluster.config_dir())
        .env("DFS_NODE", format!(":{}", cluster.port(0)?))
        .status()?;
    cluster.stop()?;
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    Ok(code.map_or(ExitCode::FAILURE, ExitCode::from))
}

/// A cluster forms in seconds; a machine under load gets more.
const FORM_MAX: Duration = Duration::from_secs(60);
