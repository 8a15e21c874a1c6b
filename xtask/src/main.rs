//! Repository tasks: local clusters, the demo, and what CI checks.
//!
//! Of the crates of dfs it imports only `dfs-testbed`, which imports none: both run the binaries,
//! as a user would.

mod bug_bank;
mod check;
mod cluster;
mod demo;
mod sim;
mod tidy;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use dfs_testbed::{bench, chaos, churn, form, hostile, split};

/// Repository tasks of dfs
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Args {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Run a local cluster of N nodes until Ctrl-C
    Cluster(cluster::Args),
    /// Store, kill, read, restart, catch up: the main job, unattended
    Demo(demo::Args),
    /// How fast a real cluster is, beside what this machine can do, or beside another build
    Bench(bench::Args),
    /// Faults on real nodes, and a check of everything acknowledged after each
    Chaos(chaos::Args),
    /// Real nodes cut in two, killed and moved: what both sides may say, and what is there after
    Split(split::Args),
    /// Real nodes that are added, drained and lost for ever, under load
    Churn(churn::Args),
    /// Nodes that name only each other, started at once: one cluster, every time
    Form(form::Args),
    /// Real nodes and a member that does to them whatever the protocol lets it
    Hostile(hostile::Args),
    /// Seeded simulation of whole clusters: many seeds, or one replayed
    Sim(sim::Args),
    /// Seeded bugs that one test each must notice
    BugBank(bug_bank::Args),
    /// Everything CI checks
    Check,
    /// Repository rules that no other tool holds
    Tidy(tidy::Args),
}

fn main() -> ExitCode {
    let result = match Args::parse().task {
        Task::Cluster(args) => cluster::run(&args),
        Task::Demo(args) => demo::run(&args).map(|()| ExitCode::SUCCESS),
        Task::Bench(args) => bench::run(&args).map(|()| ExitCode::SUCCESS),
        Task::Chaos(args) => chaos::run(&args).map(|()| ExitCode::SUCCESS),
        Task::Split(args) => split::run(&args).map(|()| ExitCode::SUCCESS),
        Task::Churn(args) => churn::run(&args).map(|()| ExitCode::SUCCESS),
        Task::Form(args) => form::run(&args).map(|()| ExitCode::SUCCESS),
        Task::Hostile(args) => hostile::run(&args).map(|()| ExitCode::SUCCESS),
        Task::Sim(args) => sim::run(&args),
        Task::BugBank(args) => bug_bank::run(&args),
        Task::Check => check::run().map(|()| ExitCode::SUCCESS),
        Task::Tidy(args) => tidy::run(&args).map(|()| ExitCode::SUCCESS),
    };
    result.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}
