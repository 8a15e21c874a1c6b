//! `cargo xtask churn`: real nodes that come and go, and one that is lost for ever.
//!
//! First three nodes become six and three again while clients write: three are added, the three
//! that hold most are drained. Then a node of four is lost with its disk, and what it held is
//! copied anew: how fast, against plain copies over loopback in the same run. Then bits
//! flip on one disk of three, and nine tenths of what three nodes hold are deleted.

#![allow(clippy::print_stdout, reason = "it tells what it does")]

mod lost;
mod rot;
mod space;

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::{Parser, ValueEnum};

use crate::bed::asking::Asker;
use crate::bed::nodes::Cluster;
use crate::bed::place::{lock, prepare, target_dir};
use crate::bed::random::draw_seed;
use crate::bed::requests::Requests;
use crate::bed::writing::{Keys, Seen, compare_all, write};

/// Arguments of `churn`.
#[derive(Debug, Parser)]
pub struct Args {
    /// Store the same contents as an earlier run
    #[arg(long)]
    seed: Option<u64>,
    /// The first node listens here, the others on the ports after it
    #[arg(long, default_value_t = 24_700)]
    base_port: u16,
    /// How much is stored before a node is lost, in MiB: by default so much that deciding to copy
    /// takes a small part of the time that copying does
    #[arg(long, default_value_t = 2048)]
    mib: u32,
    /// Only one part
    #[arg(long, value_name = "PART")]
    only: Option<Part>,
}

/// A part of a run, with a cluster of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    Moves,
    Lost,
    Rot,
    Space,
}

/// Runs it, and tells what happens.
///
/// # Errors
/// Something does not hold, or a node cannot be run.
pub fn run(args: &Args) -> Result<()> {
    let seed = args.seed.unwrap_or_else(draw_seed);
    say(&format!("seed {seed}"));
    let dir = target_dir().join("churn");
    let _alone = lock(&dir)?;
    let bin = prepare(&dir)?;
    let wants = |part| args.only.is_none_or(|only| only == part);
    let run = |part, name: &str, work: &dyn Fn(&Args, Cluster, u64, &Path) -> Result<()>| {
        if !wants(part) {
            return Ok(());
        }
        let dir = dir.join(name);
        let cluster = Cluster::new(bin.clone(), dir.clone(), args.base_port, false)?;
        work(args, cluster, seed, &dir).with_context(|| format!("logs are in {}", dir.display()))
    };
    run(Part::Moves, "moves", &moves)?;
    run(Part::Lost, "lost", &lost::run)?;
    run(Part::Rot, "rot", &rot::run)?;
    run(Part::Space, "space", &space::run)?;
    fs::remove_dir_all(&dir)?;
    say("everything that was run holds");
    Ok(())
}

/// Three nodes become six and three others again, under writing clients.
fn moves(_: &Args, mut cluster: Cluster, seed: u64, dir: &Path) -> Result<()> {
    let requests = Requests::new(cluster.client().clone(), dir.join("requests"))?;
    let asker = Asker::new(&requests, seed);
    for _ in 0..3 {
        cluster.add()?;
    }
    cluster.wait_ok(0, 3, SETTLE_MAX)?;
    let (end, begin) = (AtomicBool::new(false), Instant::now());
    let seen = std::thread::scope(|scope| {
        let client = |at: usize| {
            let (asker, end) = (&asker, &end);
            scope.spawn(move || write(asker, at, &format!("{DIR}/{at}"), begin, end))
        };
        let mut clients = vec![client(0)];
        let worked = add_and_drain(&mut cluster, &mut |at| clients.push(client(at)));
        end.store(true, Ordering::Relaxed);
        let seen: Vec<_> = clients
            .into_iter()
            .map(|client| client.join().expect("a client gives errors"))
            .collect();
        worked.and_then(|()| seen.into_iter().collect::<Result<Vec<Seen>>>())
    })?;
    let (mut keys, mut done, mut undecided) = (Keys::default(), 0, 0);
    for seen in seen {
        done += seen.done;
        undecided += seen.undecided.len();
        for (name, generation, is_done) in seen.keys {
            keys.note(name, generation, is_done);
        }
    }
    let took = cluster.wait_ok(0, 3, SETTLE_MAX)?;
    compare_all(&asker, &STAY, DIR, &keys, &dir.join("fetched"))?;
    say(&format!(
        "{done} writes acknowledged, {undecided} said try again; well {:.1} s after the last left; \
         {} names are right on each of the three that stay",
        took.as_secs_f64(),
        keys.len()
    ));
    cluster.stop()
}

/// Three nodes come, and three go; a client begins on each of those that come and stay.
fn add_and_drain(cluster: &mut Cluster, begin: &mut dyn FnMut(usize)) -> Result<()> {
    std::thread::sleep(UNDER_LOAD);
    for _ in 3..6 {
        cluster.add()?;
    }
    let took = cluster.wait_ok(0, 6, SETTLE_MAX)?;
    say(&format!("six nodes, well after {:.1} s", took.as_secs_f64()));
    STAY[1..].iter().for_each(|at| begin(*at));
    std::thread::sleep(UNDER_LOAD);
    for at in GO {
        let id = id_of(cluster, at)?;
        cluster.run(STAY[0], &["drain", &id])?;
        let started = Instant::now();
        while state_of(cluster, STAY[0], &id)? != "left" {
            let state = cluster.status(STAY[0])?;
            ensure!(started.elapsed() < SETTLE_MAX, "node {} does not leave: {state}", at + 1);
            std::thread::sleep(LOOK_EVERY);
        }
        say(&format!("node {} left after {:.1} s", at + 1, started.elapsed().as_secs_f64()));
        cluster.stop_one(at, STOP_MAX)?;
    }
    Ok(())
}

/// A node's id, as it says itself.
fn id_of(cluster: &Cluster, at: usize) -> Result<String> {
    let peers = cluster.peers(at)?;
    let own = peers.iter().find(|peer| peer["self"] == true).context("a node lists itself")?;
    Ok(own["id"].as_str().context("a peer has an id")?.to_owned())
}

/// What a node says another one is.
fn state_of(cluster: &Cluster, at: usize, id: &str) -> Result<String> {
    let peers = cluster.peers(at)?;
    let state = peers.iter().find(|peer| peer["id"] == id).map(|peer| peer["state"].clone());
    // A node that left and is gone is not listed for ever.
    Ok(state
        .and_then(|state| state.as_str().map(str::to_owned))
        .unwrap_or_else(|| "left".to_owned()))
}

/// What each of so many nodes holds, in order, as the first one says.
fn used(cluster: &Cluster, nodes: usize) -> Result<Vec<u64>> {
    let peers = cluster.peers(0)?;
    let of = |at: usize| {
        let addr = format!("127.0.0.1:{}", cluster.port(at)?);
        let peer = peers.iter().find(|peer| peer["addr"] == *addr);
        peer.and_then(|peer| peer["bytes"].as_u64()).context("a peer says what it holds")
    };
    (0..nodes).map(of).collect()
}

fn text(path: &Path) -> Result<&str> {
    path.to_str().context("a path that is UTF-8")
}

fn say(line: &str) {
    println!("churn: {line}");
}

/// What the clients fill.
const DIR: &str = "churn";
/// The nodes that are there at the end.
const STAY: [usize; 3] = [0, 4, 5];
/// The nodes that are drained, the first members among them.
const GO: [usize; 3] = [1, 2, 3];
/// Clients are at work before something changes.
const UNDER_LOAD: Duration = Duration::from_secs(3);
/// Everything there is may have to be copied, on a machine under load.
const SETTLE_MAX: Duration = Duration::from_secs(300);
/// A node ends within ten seconds.
const STOP_MAX: Duration = Duration::from_secs(15);
const LOOK_EVERY: Duration = Duration::from_millis(100);
