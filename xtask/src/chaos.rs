//! `cargo xtask chaos`: real nodes under faults, and an answer key that is checked after every
//! round.
//!
//! Writers store, replace and delete through the client while one fault strikes. What exit 0
//! acknowledged must be there afterwards, byte for byte, from any node.

#![allow(clippy::print_stdout, reason = "it tells what it does")]

mod faults;
mod ledger;
pub(crate) mod mesh;
mod proxy;
pub(crate) mod random;
mod reading;
pub(crate) mod requests;
mod settle;
mod small_disk;
pub(crate) mod world;
mod writers;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use clap::Parser;
use signal_hook::consts::{SIGINT, SIGTERM};

use self::faults::{Fault, SMALL_NODE};
use self::mesh::Mesh;
use self::random::Random;
use self::requests::Requests;
use self::small_disk::SmallDisk;
use self::world::{SETTLE_MAX, World};
use self::writers::Writer;
use crate::netns::Namespace;
use crate::nodes::{Cluster, build};
use crate::target_dir;

/// Arguments of `chaos`.
#[derive(Debug, Parser)]
pub(crate) struct Args {
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

pub(crate) fn run(args: &Args) -> Result<()> {
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

/// Keeps a second run away from the place of this one, until it is dropped.
pub(crate) fn lock(dir: &Path) -> Result<File> {
    fs::create_dir_all(target_dir())?;
    let file = File::create(dir.with_extension("lock"))?;
    file.try_lock().with_context(|| format!("another run uses {}", dir.display()))?;
    Ok(file)
}

/// Makes an empty place with the programs in it: a build during the run changes nothing.
pub(crate) fn prepare(dir: &Path) -> Result<PathBuf> {
    let built = build()?;
    SmallDisk::clear(&dir.join("small"))?;
    if dir.exists() {
        fs::remove_dir_all(dir)?;
    }
    let bin = dir.join("bin");
    fs::create_dir_all(&bin)?;
    for program in ["dfs", "dfs-node"] {
        fs::copy(built.join(program), bin.join(program))?;
    }
    Ok(bin.canonicalize()?)
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
    let mut world = World {
        cluster,
        mesh,
        disk,
        requests: &requests,
        nodes: args.nodes,
        acknowledged: &acknowledged,
        undecided: &AtomicU64::new(0),
        interrupted,
    };
    for _ in 0..args.nodes {
        world.cluster.add()?;
    }
    let took = world.settle(SETTLE_MAX)?;
    say(&format!("{} nodes formed a cluster in {:.1} s", args.nodes, took.as_secs_f64()));
    let mut writers: Vec<Writer> = (0..WRITERS).map(Writer::new).collect();
    let fired = world.rounds(args.rounds, seed, &faults, &mut writers)?;
    let mut random = Random::of(seed, "last look");
    let all = world.compare(seed, &mut random, &mut writers, None)?;
    world.cluster.stop()?;
    sum_up(&fired, &writers, all);
    Ok(())
}

/// A network for each node and proxies between them. Needs root, `unshare` and `ip`.
pub(crate) fn make_mesh(cluster: &mut Cluster, nodes: usize) -> Result<Mesh> {
    let namespaces = (0..nodes).map(|_| Namespace::new()).collect::<Result<_>>()?;
    let namespaces: Arc<Vec<Namespace>> = Arc::new(namespaces);
    let mesh = Mesh::new(namespaces.clone(), cluster.port(0)?)?;
    cluster.use_namespaces(namespaces);
    Ok(mesh)
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

pub(crate) fn draw_seed() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    // A short number is easier to type again.
    Random::new(u64::from(now.subsec_nanos()) ^ now.as_secs()).next() % 1_000_000_000
}

fn say(what: &str) {
    println!("chaos: {what}");
}

/// Each takes a processor for the client and more for the nodes; names meet in one directory.
const WRITERS: usize = 3;
