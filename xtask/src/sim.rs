//! `cargo xtask sim`: seeds of the simulator, many or one.

use std::path::PathBuf;
use std::process::{Command, ExitCode};

use anyhow::{Result, ensure};
use clap::Parser;
use dfs_testbed::{build_programs, release_build, target_dir};

/// Arguments of `sim`.
#[derive(Debug, Parser)]
pub(crate) struct Args {
    /// How many seeds to run
    #[arg(long, default_value_t = 100)]
    seeds: u64,
    /// Of all seeds only those with machines that come, leave and are lost
    #[arg(long)]
    churns: bool,
    /// Each seed with a member that only stores for the others, and does to them what it can
    #[arg(long)]
    hostile: bool,
    /// Of its attacks only the one with this name
    #[arg(long, value_name = "NAME", requires = "hostile")]
    attack: Option<String>,
    /// The first of them
    #[arg(long, default_value_t = 1)]
    first: u64,
    /// Others to run after them
    #[arg(long, value_name = "SEED", value_delimiter = ',')]
    also: Vec<u64>,
    /// Replays one seed, and tells what happened and what the nodes logged
    #[arg(long)]
    seed: Option<u64>,
    /// Instead of seeds: fails the power, and each operation, at every N-th operation of a store
    #[arg(long, value_name = "N")]
    crash_states: Option<u64>,
    /// Instead of seeds: switches on one seeded bug after the other, each for at most that many
    /// seeds
    #[arg(long)]
    bug_bank: bool,
    /// Of the seeded bugs, only the one with this name; a seed that is replayed has it as well
    #[arg(long, value_name = "NAME")]
    bug: Option<String>,
    /// How many of the seeds run twice, to see that both runs are the same
    #[arg(long, default_value_t = 0)]
    twice: u64,
}

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let mut sim = Command::new(build(args.bug_bank || args.bug.is_some())?);
    if args.bug_bank {
        sim.arg("--bug-bank");
    }
    if let Some(bug) = &args.bug {
        sim.args(["--bug", bug]);
    }
    sim.args(args.hostile.then_some("--hostile"));
    if let Some(attack) = &args.attack {
        sim.args(["--attack", attack]);
    }
    match (args.crash_states, args.seed) {
        (Some(stride), _) => sim.args(["--crash-states", &stride.to_string()]),
        (None, Some(seed)) => sim.args(["--seed", &seed.to_string()]),
        (None, None) => {
            let of = [("--seeds", args.seeds), ("--first", args.first), ("--twice", args.twice)];
            sim.args(of.iter().flat_map(|(flag, n)| [(*flag).to_owned(), n.to_string()]));
            let also = args.also.iter().flat_map(|seed| ["--also".to_owned(), seed.to_string()]);
            sim.args(also).args(args.churns.then_some("--churns"))
        }
    };
    Ok(if sim.status()?.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Builds the simulator; with seeded bugs it goes to a directory of its own, so that no other build
/// ever has them.
fn build(bugs: bool) -> Result<PathBuf> {
    if !bugs {
        return Ok(build_programs(&["dfs-sim"])?.join("dfs-sim"));
    }
    let target = target_dir().join("bug-bank");
    let mut build = release_build(&["dfs-sim"]);
    build.args(["--features", "dfs-sim/bug-bank", "--target-dir"]).arg(&target);
    ensure!(build.status()?.success(), "the simulator does not build");
    Ok(target.join("release/dfs-sim"))
}
