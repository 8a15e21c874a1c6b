//! Clients that write until they are told to end, and the comparison of what they were told.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::asking::Asker;

/// What is acknowledged: generations by name, and those that may be there instead.
#[derive(Debug, Default)]
pub(crate) struct Keys(BTreeMap<String, Key>);

#[derive(Debug, Default)]
struct Key {
    acknowledged: Option<u32>,
    undecided: Vec<u32>,
}

/// What one client saw.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    pub(crate) keys: Vec<(String, u32, bool)>,
    pub(crate) done: usize,
    /// When commands ended without an acknowledgement, from the kill.
    pub(crate) undecided: Vec<Duration>,
    pub(crate) slowest: Duration,
}

/// Stores and replaces names through one node until the end. Times are counted from `begin`, when
/// the nodes are killed.
pub(crate) fn write(
    asker: &Asker<'_>,
    at: usize,
    dir: &str,
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
        let path = format!("{dir}/{}/node-{}-{name}", name % DIRS, at + 1);
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
    /// How many names there are.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn note(&mut self, name: String, generation: u32, is_done: bool) {
        let key = self.0.entry(name).or_default();
        match is_done {
            true => *key = Key { acknowledged: Some(generation), undecided: Vec::new() },
            false => key.undecided.push(generation),
        }
    }
}

/// Fetches everything below `dir` from each of these nodes and looks at every byte.
///
/// # Errors
/// Something acknowledged is missing or different on a node.
pub(crate) fn compare_all(
    asker: &Asker<'_>,
    nodes: &[usize],
    dir: &str,
    keys: &Keys,
    fetched: &Path,
) -> Result<()> {
    for &at in nodes {
        if fetched.exists() {
            fs::remove_dir_all(fetched)?;
        }
        asker.must(at, &["get", "-r", dir, fetched.to_str().context("a path that is UTF-8")?])?;
        for (name, key) in &keys.0 {
            let bytes =
                fs::read(fetched.join(name.trim_start_matches(dir).trim_start_matches('/'))).ok();
            let allowed = key.acknowledged.iter().chain(&key.undecided);
            let is = |generation: &u32| bytes.as_ref() == Some(&asker.content(name, *generation));
            let is_right = allowed.clone().any(is) || key.acknowledged.is_none() && bytes.is_none();
            let (node, length) = (at + 1, bytes.as_ref().map(Vec::len));
            ensure!(is_right, "lost {name}: node {node} gives {length:?} bytes, expected {key:?}");
        }
    }
    Ok(())
}

/// The shortest time between two commands of one client.
const PACE: Duration = Duration::from_millis(50);
/// Directories that a client fills.
const DIRS: u32 = 8;
