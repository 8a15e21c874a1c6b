//! `cargo xtask split`: real nodes whose network falls apart, of which a third dies, and which
//! move.
//!
//! First five nodes in three zones, cut in two while both sides are asked for everything and both
//! write: what must hold meanwhile, and once they meet again. Then six nodes of which two are
//! killed, the founder among them later, one comes new, and one moves to another port.

#![allow(clippy::print_stdout, reason = "it tells what it does")]

mod cut_work;
mod cuts;
mod healed;
mod kills;
mod members;
mod names;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::{Parser, ValueEnum};
use signal_hook::consts::{SIGINT, SIGTERM};

use self::cut_work::work_while_cut;
use self::cuts::Cut;
use self::names::Names;
use crate::bed::asking::Asker;
use crate::bed::mesh::{Mesh, make_mesh};
use crate::bed::nodes::Cluster;
use crate::bed::place::{lock, prepare, target_dir};
use crate::bed::random::{Random, draw_seed};
use crate::bed::requests::Requests;
use crate::bed::world::World;
use crate::bed::writing::Keys;

/// Arguments of `split`.
#[derive(Debug, Parser)]
pub struct Args {
    /// How often the network falls apart, each time in another way
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Draw the same cuts, names and contents as an earlier run
    #[arg(long)]
    seed: Option<u64>,
    /// The first node listens here, the others on the ports after it
    #[arg(long, default_value_t = 24_500)]
    base_port: u16,
    /// Only one part: the cuts, or the nodes that are killed and moved
    #[arg(long, value_name = "PART")]
    only: Option<Part>,
}

/// A part of a run, with a cluster of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    Cut,
    Kill,
}

/// Runs it, and tells what happens.
///
/// # Errors
/// Something does not hold, or a node cannot be run.
pub fn run(args: &Args) -> Result<()> {
    let interrupted = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        signal_hook::flag::register(signal, interrupted.clone())?;
    }
    let seed = args.seed.unwrap_or_else(draw_seed);
    say(&format!("seed {seed}"));
    let dir = target_dir().join("split");
    let _alone = lock(&dir)?;
    let bin = prepare(&dir)?;
    let place = Place { dir: &dir, bin, seed, interrupted };
    let wants = |part| args.only.is_none_or(|only| only == part);
    let cut = if wants(Part::Cut) { cut(args, &place) } else { Ok(()) };
    let result = match cut {
        Ok(()) if wants(Part::Kill) => kill_and_move(args, &place),
        cut => cut,
    };
    if result.is_ok() {
        fs::remove_dir_all(&dir)?;
        say("everything that was run holds");
    } else {
        say(&format!("logs are in {}; --seed {seed} draws the same again", dir.display()));
    }
    result
}

/// What both parts of a run share.
struct Place<'a> {
    dir: &'a Path,
    bin: PathBuf,
    seed: u64,
    interrupted: Arc<AtomicBool>,
}

/// Five nodes in three zones with a network between them that can be cut.
fn cut(args: &Args, place: &Place<'_>) -> Result<()> {
    let dir = place.dir.join("cut");
    let mut cluster = Cluster::new(place.bin.clone(), dir.clone(), args.base_port, false)?;
    let mesh = match make_mesh(&mut cluster, CUT_ZONES.len()) {
        Ok(mesh) => mesh,
        Err(error) => {
            say(&format!("cuts are left out; they need root, unshare and ip: {error:#}"));
            return Ok(());
        }
    };
    let requests = Requests::new(cluster.client().clone(), dir.join("requests"))?;
    let mut world = form(cluster, Some(mesh), &CUT_ZONES, &requests, place)?;
    for number in 1..=args.rounds {
        let mut random = Random::of(place.seed, &format!("split {number}"));
        let cut = Cut::draw(number, world.nodes, &mut random);
        round(&mut world, &cut, number, args.rounds, &mut random, place)
            .with_context(|| format!("round {number}, {cut}"))?;
    }
    world.cluster.stop()
}

/// One cut, from what was stored before it to the last conflict after it.
fn round(
    world: &mut World<'_>,
    cut: &Cut,
    number: usize,
    rounds: usize,
    random: &mut Random,
    place: &Place<'_>,
) -> Result<()> {
    let asker = Asker::new(world.requests, place.seed);
    let mut names = Names::draw(number, cut, random);
    names.store_before(&asker, world.nodes, random)?;
    world.settle(SETTLE_MAX)?;
    say(&format!("round {number}/{rounds}: {cut}"));
    cut.make(world.mesh()?);
    let worked = work_while_cut(&asker, cut, &mut names, random);
    world.mesh()?.heal();
    for line in worked? {
        say(&format!("  {line}"));
    }
    for line in healed::check(world, &asker, cut, &names, random, &place.dir.join("cut/fetched"))? {
        say(&format!("  {line}"));
    }
    Ok(())
}

/// Six nodes in three zones on the machine's own loopback.
fn kill_and_move(args: &Args, place: &Place<'_>) -> Result<()> {
    let dir = place.dir.join("kill");
    let base_port = args.base_port + u16::try_from(CUT_ZONES.len())?;
    let cluster = Cluster::new(place.bin.clone(), dir.clone(), base_port, false)?;
    let requests = Requests::new(cluster.client().clone(), dir.join("requests"))?;
    let mut world = form(cluster, None, &KILL_ZONES, &requests, place)?;
    let mut keys = Keys::default();
    kills::run(&mut world, place.seed, &mut keys, &dir.join("fetched"))?;
    members::replace_founder(&mut world)?;
    members::move_one(&mut world, place.seed)?;
    kills::compare_in(&world, place.seed, &keys, &dir.join("fetched"))?;
    world.cluster.stop()
}

/// Starts a node for each zone given, and waits until all say that all is well.
fn form<'a>(
    mut cluster: Cluster,
    mesh: Option<Mesh>,
    zones: &[&str],
    requests: &'a Requests,
    place: &Place<'_>,
) -> Result<World<'a>> {
    for (at, zone) in zones.iter().enumerate() {
        cluster.place_in_zone(at, zone);
        cluster.add()?;
    }
    let interrupted = place.interrupted.clone();
    let mut world = World { cluster, mesh, disk: None, requests, nodes: zones.len(), interrupted };
    let took = world.settle(SETTLE_MAX)?;
    let (nodes, took) = (zones.len(), took.as_secs_f64());
    say(&format!("{nodes} nodes in zones {} formed a cluster in {took:.1} s", zones.join(" ")));
    let voters = world.cluster.status(0)?["voters"].as_array().map_or(0, Vec::len);
    ensure!(voters == 5, "{nodes} nodes have {voters} voters and not 5");
    Ok(world)
}

fn say(what: &str) {
    println!("split: {what}");
}

/// The zones of the nodes that are cut apart: any three copies in three zones leave two when one
/// zone goes.
const CUT_ZONES: [&str; 5] = ["a", "a", "b", "b", "c"];
const KILL_ZONES: [&str; 6] = ["a", "a", "b", "b", "c", "c"];
/// From a disturbance without a bound of its own until all nodes say that all is well.
const SETTLE_MAX: Duration = Duration::from_secs(120);
