//! Who comes and goes: a node that joins while the founder is dead, and a node that moves.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use super::{SETTLE_MAX, say};
use crate::bed::asking::Asker;
use crate::bed::world::World;

/// Kills the node that founded the cluster, adds a new one that knows another node, and brings the
/// founder back.
pub(super) fn replace_founder(world: &mut World<'_>) -> Result<()> {
    let (founder, new) = (0, world.nodes);
    world.cluster.kill(founder)?;
    world.cluster.place_in_zone(new, "a");
    world.cluster.begin_with(new, 1);
    let started = Instant::now();
    world.cluster.add()?;
    let living: Vec<usize> = (0..world.nodes).filter(|at| *at != founder).collect();
    let seen = wait_peer(world, &living, new, &["joining", "alive"], started, SEEN_MAX)?;
    let joined = wait_peer(world, &living, new, &["alive"], started, SETTLE_MAX)?;
    say(&format!(
        "killed the founder; a new node that names node 2 is seen by the others {:.1} s after its \
         start, a member after {:.1} s",
        seen.as_secs_f64(),
        joined.as_secs_f64()
    ));
    world.nodes += 1;
    world.cluster.start(founder)?;
    let took = world.settle(SETTLE_MAX)?;
    say(&format!("the founder is back: all well after {:.1} s", took.as_secs_f64()));
    Ok(())
}

/// Stops a node and starts it on another port, while the others go on.
pub(super) fn move_one(world: &mut World<'_>, seed: u64) -> Result<()> {
    let (at, old) = (MOVED, world.cluster.port(MOVED)?);
    let port = old + PORTS_AWAY;
    world.cluster.stop_one(at, STOP_MAX)?;
    world.cluster.move_to_port(at, port);
    let started = Instant::now();
    world.cluster.start(at)?;
    let others: Vec<usize> = (0..world.nodes).filter(|other| *other != at).collect();
    let found = wait_peer(world, &others, at, &["alive"], started, SETTLE_MAX)?;
    let well = world.settle(SETTLE_MAX)?;
    let asker = Asker::new(world.requests, seed);
    let by = |at: usize| format!("moved/by-{}", at + 1);
    for at in 0..world.nodes {
        asker.must_put(at, &by(at), 0)?;
    }
    for at in 0..world.nodes {
        for other in 0..world.nodes {
            let is_right = asker.must(at, &["cat", &by(other)])? == asker.content(&by(other), 0);
            ensure!(is_right, "node {} gives other bytes for {}", at + 1, by(other));
        }
    }
    say(&format!(
        "node {} moved from port {old} to {port}: found by all others {:.1} s after its start, \
         all well {:.1} s later",
        at + 1,
        found.as_secs_f64(),
        well.as_secs_f64()
    ));
    Ok(())
}

/// Waits until nodes show another one at its address, in one of these states; gives how long after
/// `since` that was.
fn wait_peer(
    world: &World<'_>,
    on: &[usize],
    whom: usize,
    states: &[&str],
    since: Instant,
    limit: Duration,
) -> Result<Duration> {
    let addr = format!("127.0.0.1:{}", world.cluster.port(whom)?);
    for &at in on {
        loop {
            let peers = world.cluster.peers(at)?;
            let is_it = |peer: &&serde_json::Value| peer["addr"] == addr.as_str();
            let shown = peers.iter().find(is_it).and_then(|peer| peer["state"].as_str());
            if shown.is_some_and(|state| states.contains(&state)) {
                break;
            }
            let (node, other) = (at + 1, whom + 1);
            ensure!(
                since.elapsed() < limit,
                "after {limit:?} node {node} shows node {other} as {shown:?}, \
                 not as one of {states:?}"
            );
            world.pause(ASK_EVERY)?;
        }
    }
    Ok(since.elapsed())
}

/// From the start of a new node until all others show it.
const SEEN_MAX: Duration = Duration::from_secs(5);
/// The node that moves.
const MOVED: usize = 3;
/// Beyond the ports of all nodes.
const PORTS_AWAY: u16 = 20;
/// What a graceful end may take: a promise of `dfs-node`.
const STOP_MAX: Duration = Duration::from_secs(10);
const ASK_EVERY: Duration = Duration::from_millis(50);
