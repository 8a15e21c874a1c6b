//! `cargo xtask form`: nodes that name only each other, started at once, again and again: each time
//! they must become one cluster.
#![allow(clippy::print_stdout, reason = "it tells what it does")]

use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::Parser;

use crate::bed::nodes::Cluster;
use crate::bed::place::{build, target_dir};

/// Arguments of `form`.
#[derive(Debug, Parser)]
pub struct Args {
    /// How often
    #[arg(long, default_value_t = 10)]
    tries: usize,
    /// How many nodes
    #[arg(long, default_value_t = 3)]
    nodes: usize,
}

/// Runs it, and tells what happens.
///
/// # Errors
/// Something does not hold, or a node cannot be run.
pub fn run(args: &Args) -> Result<()> {
    ensure!(args.nodes > 1, "it takes two nodes to name each other");
    let bin = build()?;
    let mut took = Vec::new();
    for number in 1..=args.tries {
        let dir = target_dir().join("form");
        if dir.exists() {
            fs::remove_dir_all(&dir)?;
        }
        let mut cluster = Cluster::new(bin.clone(), dir, free_ports(args.nodes)?, false)?;
        cluster.name_each_other(args.nodes);
        let formed = form(&mut cluster, args.nodes).with_context(|| format!("try {number}"))?;
        cluster.stop()?;
        took.push(formed.as_secs_f64());
        if number % 10 == 0 || number == args.tries {
            println!("form: {number} of {} tries: one cluster each time", args.tries);
        }
    }
    took.sort_by(f64::total_cmp);
    let at = |share: usize| took.get((took.len() * share / 100).min(took.len().saturating_sub(1)));
    let [median, most, last] = [50, 90, 100].map(|share| at(share).copied().unwrap_or_default());
    println!("form: it took {median:.1} s (median), {most:.1} s (90 %), {last:.1} s (longest)");
    Ok(())
}

/// Starts all at once and waits until every node sees all alive in the same cluster.
fn form(cluster: &mut Cluster, nodes: usize) -> Result<Duration> {
    let started = Instant::now();
    for _ in 0..nodes {
        cluster.add_spawned()?;
    }
    for at in 0..nodes {
        cluster.wait_ready(at)?;
    }
    let mut ids = Vec::new();
    for at in 0..nodes {
        ids.push(cluster_of(cluster, at, nodes, started)?);
    }
    ensure!(ids.iter().all(|id| *id == ids[0]), "several clusters formed: {ids:?}");
    Ok(started.elapsed())
}

/// The cluster of a node, once it has that many members and all are alive.
fn cluster_of(cluster: &Cluster, at: usize, nodes: usize, started: Instant) -> Result<String> {
    loop {
        let status = cluster.status(at)?;
        if status["nodes"] == nodes && status["alive"] == nodes && status["cluster"] != "" {
            let alive = cluster.peers(at)?.iter().filter(|peer| peer["state"] == "alive").count();
            if alive == nodes {
                return Ok(status["cluster"].as_str().unwrap_or_default().to_owned());
            }
        }
        ensure!(started.elapsed() < FORM_MAX, "node {at} is not in a cluster of {nodes}: {status}");
        std::thread::sleep(POLL_EVERY);
    }
}

/// The first of `count` ports in a row that nobody listens on now. Nodes that name each other must
/// know them before they start.
fn free_ports(count: usize) -> Result<u16> {
    for _ in 0..PORT_TRIES {
        let first = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
        let count = u16::try_from(count)?;
        let Some(end) = first.checked_add(count) else { continue };
        let bound = (first..end).map(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)));
        if bound.collect::<std::io::Result<Vec<_>>>().is_ok() {
            return Ok(first);
        }
    }
    anyhow::bail!("no {count} free ports in a row")
}

/// A cluster forms in a second or two; a machine under load gets more.
const FORM_MAX: Duration = Duration::from_secs(60);
/// How often a node is asked.
const POLL_EVERY: Duration = Duration::from_millis(50);
/// Other programs take ports as well.
const PORT_TRIES: usize = 100;
