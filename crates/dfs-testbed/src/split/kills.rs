//! A third of the nodes killed at once while clients write through the others.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use super::{SETTLE_MAX, say};
use crate::bed::asking::Asker;
use crate::bed::world::World;
use crate::bed::writing::{Keys, compare_all, write};

/// Kills a zone, then two nodes of different zones, twice; each time they come back afterwards.
pub(super) fn run(world: &mut World<'_>, seed: u64, keys: &mut Keys, fetched: &Path) -> Result<()> {
    kill(world, seed, keys, "zone b", &[2, 3], Some(GRACE))?;
    // Two that share few partitions, and two that share many: which ones do follows from the order
    // in which they joined.
    for victims in [[1, 4], [1, 5]] {
        kill(world, seed, keys, "one of a and one of c", &victims, None)?;
    }
    compare_in(world, seed, keys, fetched)
}

/// Kills nodes while clients write, and starts them again; `grace` is after how long every write
/// must succeed.
fn kill(
    world: &mut World<'_>,
    seed: u64,
    keys: &mut Keys,
    what: &str,
    victims: &[usize],
    grace: Option<Duration>,
) -> Result<()> {
    let living: Vec<usize> = (0..world.nodes).filter(|at| !victims.contains(at)).collect();
    let (end, requests) = (AtomicBool::new(false), world.requests);
    let asker = Asker::new(requests, seed);
    let numbers: Vec<String> = victims.iter().map(|at| (at + 1).to_string()).collect();
    let label = numbers.join("-");
    let (seen, killed) = std::thread::scope(|scope| {
        let (end, label) = (&end, &label);
        let begin = Instant::now() + BEFORE;
        let clients: Vec<_> = living
            .iter()
            .map(|&at| {
                scope.spawn(move || write(&asker, at, &format!("{DIR}/{label}"), begin, end))
            })
            .collect();
        let killed = world.pause(BEFORE).and_then(|()| {
            victims.iter().try_for_each(|at| world.cluster.kill(*at))?;
            let took = begin.elapsed();
            world.pause(AWAY).map(|()| took)
        });
        end.store(true, Ordering::Relaxed);
        let seen = clients.into_iter().map(|client| client.join().expect("a client gives errors"));
        (seen.collect::<Result<Vec<_>>>(), killed)
    });
    let (seen, _) = (seen?, killed?);
    let done: usize = seen.iter().map(|seen| seen.done).sum();
    let undecided: Vec<Duration> = seen.iter().flat_map(|seen| seen.undecided.clone()).collect();
    let last = undecided.iter().max().copied().unwrap_or_default();
    let slowest = seen.iter().map(|seen| seen.slowest).max().unwrap_or_default();
    for (name, generation, is_done) in seen.into_iter().flat_map(|seen| seen.keys) {
        keys.note(name, generation, is_done);
    }
    if let Some(grace) = grace {
        ensure!(last < grace, "writes fail {last:.1?} after {what} was killed");
    }
    ensure!(done > 0, "nothing was written before and after {what} was killed");
    for &at in victims {
        world.cluster.start(at)?;
    }
    let took = world.settle(SETTLE_MAX)?;
    let late = match undecided.len() {
        0 => "none failed".to_owned(),
        count => format!("{count} say try again, the last {last:.1?} after the kill"),
    };
    say(&format!(
        "killed {what} (nodes {}): {done} writes acknowledged by the others, {late}, slowest \
         {slowest:.1?}; well {:.1} s after the restart",
        numbers.join(" and "),
        took.as_secs_f64()
    ));
    Ok(())
}

/// Compares everything on every node.
pub(super) fn compare_in(world: &World<'_>, seed: u64, keys: &Keys, fetched: &Path) -> Result<()> {
    let asker = Asker::new(world.requests, seed);
    let all: Vec<usize> = (0..world.nodes).collect();
    compare_all(&asker, &all, DIR, keys, fetched)?;
    say(&format!("  {} names are right on each of {} nodes", keys.len(), world.nodes));
    Ok(())
}

/// What the clients fill.
const DIR: &str = "kills";
/// Writes are under way before a kill.
const BEFORE: Duration = Duration::from_secs(1);
/// How long the killed nodes stay away.
const AWAY: Duration = Duration::from_secs(8);
/// After this long the loss of a zone is noticed everywhere and stands in no write's way.
const GRACE: Duration = Duration::from_secs(5);
