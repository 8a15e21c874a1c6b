//! `cargo xtask bench`: how fast a real cluster on this machine is, beside what the machine can do.
//!
//! Figures drift with the machine and with who else uses it: what counts are ratios, to a limit or
//! to another build, of the same run.
#![allow(clippy::print_stdout, reason = "it tells what it measures")]

mod http;
mod limits;
mod table;
mod usage;
mod workloads;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::Parser;

use self::http::Target;
use self::limits::Limits;
use self::table::{Row, Table};
use self::workloads::{Sizes, WORKLOADS};
use crate::bed::nodes::Cluster;
use crate::bed::place::{build, target_dir};

/// Arguments of `bench`.
#[derive(Debug, Parser)]
pub struct Args {
    /// How many nodes
    #[arg(long, default_value_t = 3)]
    nodes: usize,
    /// How often everything is done, each time on a new cluster
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// A tenth of everything: some seconds, and figures that say less
    #[arg(long)]
    short: bool,
    /// Only workloads whose names contain this
    #[arg(long, value_name = "TEXT", default_value = "")]
    only: String,
    /// Another build, to be run in turn with this one: the directory of its programs
    #[arg(long, value_name = "DIR")]
    compare: Option<PathBuf>,
    /// One object a workload instead of a table
    #[arg(long)]
    json: bool,
    /// The first node listens here, the others on the ports after it
    #[arg(long, default_value_t = 23_800)]
    base_port: u16,
}

/// Measures, and prints what came of it.
///
/// # Errors
/// A node cannot be run, or a request fails.
pub fn run(args: &Args) -> Result<()> {
    ensure!(args.nodes > 0 && args.rounds > 0, "it takes a node and a round");
    let mut builds = vec![build()?];
    builds.extend(args.compare.clone());
    let sizes = if args.short { Sizes::SHORT } else { Sizes::FULL };
    let dir = target_dir().join("bench");
    let (mut limits, mut tables) = (Vec::new(), vec![Table::default(); builds.len()]);
    for round in 1..=args.rounds {
        if !args.json {
            println!("bench: round {round} of {}", args.rounds);
        }
        fresh(&dir)?;
        limits.push(Limits::measure(&dir)?);
        for (bin, table) in builds.iter().zip(&mut tables) {
            measure(args, bin, &dir, sizes, table)?;
        }
    }
    let limits = Limits::median(&limits);
    fs::remove_dir_all(&dir)?;
    match args.json {
        true => table::print_json(&tables, &limits),
        false => table::print(&tables, &limits),
    }
}

/// One round on a new cluster.
fn measure(args: &Args, bin: &Path, dir: &Path, sizes: Sizes, table: &mut Table) -> Result<()> {
    fresh(dir)?;
    let mut cluster = Cluster::new(bin.to_owned(), dir.to_owned(), args.base_port, false)?;
    for _ in 0..args.nodes {
        cluster.add()?;
    }
    cluster.wait_ok(0, args.nodes, FORMED_MAX)?;
    let target = Target::find(&cluster, 0)?;
    let pids: Vec<u32> = (0..args.nodes).filter_map(|at| cluster.pid(at)).collect();
    for workload in WORKLOADS {
        // What comes before may be what it needs.
        let before = usage::Usage::begin(&pids)?;
        let done = (workload.run)(&target, sizes)
            .with_context(|| format!("the workload {:?}", workload.name))?;
        if workload.name.contains(&args.only) {
            table.add(workload, Row::new(&done, before.end(&pids)?));
        }
    }
    cluster.stop()
}

fn fresh(dir: &Path) -> Result<()> {
    if dir.exists() {
        fs::remove_dir_all(dir)?;
    }
    Ok(fs::create_dir_all(dir)?)
}

const FORMED_MAX: Duration = Duration::from_secs(60);
