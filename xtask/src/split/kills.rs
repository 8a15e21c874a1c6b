//! A third of the nodes killed at once while clients write through the others.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::asking::Asker;
use super::{SETTLE_MAX, say};
use crate::chaos::world::World;

/// What is acknowledged: generations by name, and those that may be there instead.
#[derive(Debug, Default)]
pub(super) struct Keys(BTreeMap<String, Key>);

#[derive(Debug, Default)]
struct Key {
    acknowledged: Option<u32>,
    undecided: Vec<u32>,
}

/// What one client saw.
#[derive(Debug, Default)]
struct Seen {
    keys: Vec<(String, u32, bool)>,
    done: usize,
    /// When commands ended without an acknowledgement, from the kill.
    undecided: Vec<Duration>,
    slowest: Duration,
}

/// Kills a zone, then two nodes of different zones, twice; each time they come back afterwards.
pub(super) fn run(world: &mut World<'_>, seed: u64, keys: &mut Keys, fetched: &Path) -> Result<()> {
    kill(world, seed, keys, "zone b", &[2, 3], Some(GRACE))?;
    // Two that share few partitions, and two that share many: which ones do follows from the order
    // in which they joined.
    for victims in [[1, 4], [1, 5]] {
        kill(world, seed, keys, "one of a and one of c", &victims, None)?;
    }
    compare_all(world, seed, keys, fetched)
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
            .map(|&at| scope.spawn(move || write(&asker, at, label, begin, end)))
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

/// Stores and replaces names through one node until the end. Times are counted from `begin`, when
/// the nodes are killed.
fn write(
    asker: &Asker<'_>,
    at: usize,
    label: &str,
    begin: Instant,
    end: &AtomicBool,
) -> Result<Seen> {
    let mut seen = Seen::default();
    for number in 0.. {
        if end.load(Ordering::Relaxed) {
            break;
        }
        // Each name has a second write soon after the first, and directories are many.
        let (name, generation) = (number / 2, number % 2);
        let path = format!("kills/{label}/{}/node-{}-{name}", name % DIRS, at + 1);
        let started = Instant::now();
        let wrote = asker.put(at, &path, generation, &[])?;
        let (code, why, node) = (wrote.code, &wrote.stderr, at + 1);
        ensure!([0, 5].contains(&code), "put {path} on node {node}: exit {code}: {why}");
        seen.slowest = seen.slowest.max(started.elapsed());
        if code == 0 {
            seen.done += 1;
        } else {
            seen.undecided.push(Instant::now().saturating_duration_since(begin));
        }
        seen.keys.push((path, generation, code == 0));
        // Those that fail at once would fill the run with names.
        std::thread::sleep(PACE.saturating_sub(started.elapsed()));
    }
    Ok(seen)
}

impl Keys {
    fn note(&mut self, name: String, generation: u32, is_done: bool) {
        let key = self.0.entry(name).or_default();
        match is_done {
            true => *key = Key { acknowledged: Some(generation), undecided: Vec::new() },
            false => key.undecided.push(generation),
        }
    }
}

/// Fetches everything from every node and looks at every byte.
///
/// # Errors
/// Something acknowledged is missing or different on a node.
pub(super) fn compare_all(world: &World<'_>, seed: u64, keys: &Keys, fetched: &Path) -> Result<()> {
    let asker = Asker::new(world.requests, seed);
    for at in 0..world.nodes {
        if fetched.exists() {
            fs::remove_dir_all(fetched)?;
        }
        asker
            .must(at, &["get", "-r", "kills", fetched.to_str().context("a path that is UTF-8")?])?;
        for (name, key) in &keys.0 {
            let bytes = fs::read(fetched.join(name.trim_start_matches("kills/"))).ok();
            let allowed = key.acknowledged.iter().chain(&key.undecided);
            let is = |generation: &u32| bytes.as_ref() == Some(&asker.content(name, *generation));
            let is_right = allowed.clone().any(is) || key.acknowledged.is_none() && bytes.is_none();
            let (node, length) = (at + 1, bytes.as_ref().map(Vec::len));
            ensure!(is_right, "lost {name}: node {node} gives {length:?} bytes, expected {key:?}");
        }
    }
    say(&format!("  {} names are right on each of {} nodes", keys.0.len(), world.nodes));
    Ok(())
}

/// Writes are under way before a kill.
const BEFORE: Duration = Duration::from_secs(1);
/// How long the killed nodes stay away.
const AWAY: Duration = Duration::from_secs(8);
/// After this long the loss of a zone is noticed everywhere and stands in no write's way.
const GRACE: Duration = Duration::from_secs(5);
/// The shortest time between two commands of one client.
const PACE: Duration = Duration::from_millis(50);
/// Directories that a client fills.
const DIRS: u32 = 8;
