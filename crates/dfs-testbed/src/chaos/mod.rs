//! `cargo xtask chaos`: real nodes under faults, and an answer key that is checked after every
//! round.
//!
//! Writers store, replace and delete through the client while one fault strikes. What exit 0
//! acknowledged must be there afterwards, byte for byte, from any node.

#![allow(clippy::print_stdout, reason = "it tells what it does")]

mod faults;
mod ledger;
mod reading;
mod rounds;
mod writers;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};

use anyhow::{Result, ensure};
use clap::Parser;
use signal_hook::consts::{SIGINT, SIGTERM};

use self::faults::{Fault, SMALL_NODE};
use self::rounds::{Rounds, SETTLE_MAX};
use self::writers::Writer;
use crate::bed::mesh::make_mesh;
use crate::bed::nodes::Cluster;
use crate::bed::place::{lock, prepare, target_dir};
use crate::bed::random::{Random, draw_seed};
use crate::bed::requests::Requests;
use crate::bed::small_disk::SmallDisk;
use crate::bed::world::World;

/// Arguments of `chaos`.
#[derive(Debug, Parser)]
pub struct Args {
    /// How many rounds, with one fault in each
    #[arg(long, default_value_t = 20)]
    rounds: usize,
    /// How many nodes, at least 3
    #[arg(long, default_value_t = 3)]
    nodes: usize,
    /// Draw the same faults, names and contents as an earlier run
    #[arg(long)]
    seed: Option<u64>,
    /// The first node listens here, the others on the ports after it
    #[arg(long, default_value_t = 24_400)]
    base_port: u16,
    /// Only faults whose name contains this, as "cut" or "SIGKILL"
    #[arg(long, value_name = "TEXT")]
    only: Option<String>,
}

/// Runs it, and tells what happens.
///
/// # Errors
/// Something does not hold, or a node cannot be run.
pub fn run(args: &Args) -> Result<()> {
    ensure!(args.nodes >= 3, "a minority that fails needs a cluster of 3 nodes");
    let interrupted = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        signal_hook::flag::register(signal, interrupted.clone())?;
    }
    let seed = args.seed.unwrap_or_else(draw_seed);
    say(&format!("seed {seed}"));
    let dir = target_dir().join("chaos");
    let _alone = lock(&dir)?;
    let bin = prepare(&dir)?;
    let result = run_in(args, seed, &dir, bin, interrupted);
    if result.is_ok() {
        fs::remove_dir_all(&dir)?;
    } else {
        say(&format!("logs are in {}; --seed {seed} draws the same again", dir.display()));
    }
    result
}

fn run_in(
    args: &Args,
    seed: u64,
    dir: &Path,
    bin: PathBuf,
    interrupted: Arc<AtomicBool>,
) -> Result<()> {
    let mut cluster = Cluster::new(bin, dir.to_owned(), args.base_port, false)?;
    let mesh = match make_mesh(&mut cluster, args.nodes) {
        Ok(mesh) => Some(mesh),
        Err(error) => {
            say(&format!("network faults are left out; they need root, unshare and ip: {error:#}"));
            None
        }
    };
    let disk = make_disk(&mut cluster, dir);
    let mut faults = Fault::ALL.to_vec();
    faults.retain(|fault| args.only.as_ref().is_none_or(|only| fault.name().contains(only)));
    faults.retain(|fault| mesh.is_some() || !fault.needs_mesh());
    faults.retain(|fault| disk.is_some() || *fault != Fault::FullDisk);
    ensure!(!faults.is_empty(), "no fault is left to draw");
    let requests = Requests::new(cluster.client().clone(), dir.join("requests"))?;
    let acknowledged: Vec<AtomicU64> = (0..args.nodes).map(|_| AtomicU64::new(0)).collect();
    let world = World { cluster, mesh, disk, requests: &requests, nodes: args.nodes, interrupted };
    let undecided = &AtomicU64::new(0);
    let mut rounds = Rounds { world, acknowledged: &acknowledged, undecided };
    for _ in 0..args.nodes {
        rounds.world.cluster.add()?;
    }
    let took = rounds.world.settle(SETTLE_MAX)?;
    say(&format!("{} nodes formed a cluster in {:.1} s", args.nodes, took.as_secs_f64()));
    let mut writers: Vec<Writer> = (0..WRITERS).map(Writer::new).collect();
    let fired = rounds.run(args.rounds, seed, &faults, &mut writers)?;
    let mut random = Random::of(seed, "last look");
    let all = rounds.compare(seed, &mut random, &mut writers, None)?;
    rounds.world.cluster.stop()?;
    sum_up(&fired, &writers, all);
    Ok(())
}

fn make_disk(cluster: &mut Cluster, dir: &Path) -> Option<SmallDisk> {
    match SmallDisk::mount(&dir.join("small")) {
        Ok(disk) => {
            cluster.place_data(SMALL_NODE, disk.path().join("data"));
            Some(disk)
        }
        Err(error) => {
            say(&format!("the full disk is left out; it needs root and mount: {error:#}"));
            None
        }
    }
}

fn sum_up(fired: &BTreeMap<Fault, usize>, writers: &[Writer], read: usize) {
    for (fault, times) in fired {
        say(&format!("{:<24} {times} times", fault.name()));
    }
    let totals = writers.iter().map(|writer| writer.ledger.totals());
    let (names, bytes) = totals.fold((0, 0), |sum, more| (sum.0 + more.0, sum.1 + more.1));
    say(&format!(
        "{names} names acknowledged, {bytes} bytes, {read} names read at the end, lost 0"
    ));
}

fn say(what: &str) {
    println!("chaos: {what}");
}

/// Each takes a processor for the client and more for the nodes; names meet in one directory.
const WRITERS: usize = 3;
