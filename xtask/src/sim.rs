//! `cargo xtask sim`: seeds of the simulator, many or one.

use std::process::{Command, ExitCode};

use anyhow::{Result, ensure};
use clap::Parser;

use crate::{root, target_dir};

/// Arguments of `sim`.
#[derive(Debug, Parser)]
pub(crate) struct Args {
    /// How many seeds to run
    #[arg(long, default_value_t = 100)]
    seeds: u64,
    /// The first of them
    #[arg(long, default_value_t = 1)]
    first: u64,
    /// Replays one seed, and tells what happened and what the nodes logged
    #[arg(long)]
    seed: Option<u64>,
    /// How many of the seeds run twice, to see that both runs are the same
    #[arg(long, default_value_t = 0)]
    twice: u64,
}

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut build = Command::new(cargo);
    build.args(["build", "--release", "-p", "dfs-sim"]).current_dir(root());
    ensure!(build.status()?.success(), "the simulator does not build");
    let mut sim = Command::new(target_dir().join("release/dfs-sim"));
    match args.seed {
        Some(seed) => sim.args(["--seed", &seed.to_string()]),
        None => {
            let of = [("--seeds", args.seeds), ("--first", args.first), ("--twice", args.twice)];
            sim.args(of.iter().flat_map(|(flag, n)| [(*flag).to_owned(), n.to_string()]))
        }
    };
    Ok(if sim.status()?.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
