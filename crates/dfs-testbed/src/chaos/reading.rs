//! Holds what the cluster gives against what was acknowledged.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use super::ledger::{Entry, State};
use super::writers::Writer;
use crate::bed::random::{Random, content};
use crate::bed::requests::Requests;

/// Reads one name from one node; `false` when the node could not say.
///
/// # Errors
/// Something acknowledged is missing or different; the name is in the message.
pub(super) fn compare(
    requests: &Requests,
    seed: u64,
    at: usize,
    name: &str,
    entry: &mut Entry,
) -> Result<bool> {
    let answer = requests.ask(at, &["cat", name], None)?;
    let node = at + 1;
    let found = match answer.code {
        0 => entry.allowed().find(|state| match state {
            State::Absent => false,
            State::Content { generation, bytes } => {
                content(seed, name, *generation, *bytes) == answer.stdout
            }
        }),
        4 => Some(State::Absent),
        _ if answer.is_undecided() => return Ok(false),
        code => bail!(
            "lost {name}: reading it from node {node} ended with exit {code} ({}), expected {}",
            answer.stderr,
            entry.expected()
        ),
    };
    let expected = entry.expected();
    let Some(found) = found else {
        let bytes = answer.stdout.len();
        bail!("lost {name}: node {node} gives {bytes} other bytes, expected {expected}");
    };
    ensure!(entry.found(found), "lost {name}: node {node} gives {found}, expected {expected}");
    Ok(true)
}

/// Reads names of all writers, each from a random node, all of them or at most `sample`; gives
/// how many.
///
/// # Errors
/// As [`compare`], and when a node of a cluster that is well cannot say.
pub(super) fn compare_many(
    requests: &Requests,
    seed: u64,
    nodes: usize,
    random: &mut Random,
    writers: &mut [Writer],
    sample: Option<usize>,
) -> Result<usize> {
    let mut work: Vec<(usize, &str, &mut Entry)> = Vec::new();
    for writer in writers {
        let entries = writer.ledger.entries_mut();
        work.extend(entries.map(|(name, entry)| (random.below(nodes), name, entry)));
    }
    random.shuffle(&mut work);
    work.truncate(sample.unwrap_or(usize::MAX));
    let count = work.len();
    let queue = Mutex::new(work);
    let next = || queue.lock().expect("no holder of this lock panics").pop();
    let read = || -> Result<()> {
        while let Some((at, name, entry)) = next() {
            let answered = compare(requests, seed, at, name, entry)?;
            ensure!(answered, "node {} says it is well and cannot give {name}", at + 1);
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        let readers: Vec<_> = (0..READERS).map(|_| scope.spawn(read)).collect();
        let ends = readers.into_iter().map(|reader| reader.join().expect("a reader gives errors"));
        ends.collect::<Result<()>>()
    })?;
    Ok(count)
}

/// Asks for the copies of some names, when every node has said that all is well; gives how much
/// later they were all there.
///
/// # Errors
/// The first name that has fewer copies than it should have for [`COPIES_MAX`].
pub(super) fn count_copies(
    requests: &Requests,
    nodes: usize,
    random: &mut Random,
    writers: &[Writer],
) -> Result<Duration> {
    let names = writers.iter().flat_map(|writer| writer.ledger.entries());
    let stored = |entry: &Entry| matches!(entry.settled(), Some(State::Content { .. }));
    let mut names: Vec<&String> =
        names.filter(|(_, entry)| stored(entry)).map(|(name, _)| name).collect();
    random.shuffle(&mut names);
    names.truncate(COPIES_SAMPLE);
    let started = Instant::now();
    let mut late = Duration::ZERO;
    for name in names {
        let at = random.below(nodes);
        while let Some(why) = lacks_copies(requests, at, name)? {
            late = started.elapsed();
            ensure!(late < COPIES_MAX, "all nodes have said they are well, {late:.0?} ago: {why}");
            std::thread::sleep(COPIES_AGAIN);
        }
    }
    Ok(late)
}

fn lacks_copies(requests: &Requests, at: usize, name: &str) -> Result<Option<String>> {
    let node = at + 1;
    let answer = requests.ask(at, &["stat", "--json", name], None)?;
    ensure!(answer.is_ok(), "node {node} cannot say where {name} is: {}", answer.stderr);
    let stat: serde_json::Value = serde_json::from_slice(&answer.stdout)?;
    let is_whole = stat["copies"] == stat["wanted"] && stat["conflicts"] == 0;
    Ok((!is_whole).then(|| format!("node {node} finds {stat}")))
}

/// Lists everything on one node: what was acknowledged is there with its size, what was deleted
/// is not, and nothing else is.
///
/// # Errors
/// The first name that is wrong.
pub(super) fn compare_list(requests: &Requests, at: usize, writers: &[Writer]) -> Result<()> {
    let node = at + 1;
    let answer = requests.ask(at, &["ls", "-r", "--json"], None)?;
    // Exit 4 is an empty root.
    ensure!(
        [0, 4].contains(&answer.code),
        "listing on node {node} ended with exit {}: {}",
        answer.code,
        answer.stderr
    );
    let mut listed = BTreeMap::new();
    for line in String::from_utf8(answer.stdout)?.lines() {
        let line: serde_json::Value = serde_json::from_str(line)?;
        let path = line["path"].as_str().context("a listing has paths")?.to_owned();
        listed.insert(path, line["bytes"].as_u64().context("a listing has sizes")?);
    }
    for (name, entry) in writers.iter().flat_map(|writer| writer.ledger.entries()) {
        let bytes = listed.remove(name);
        let fits = entry.allowed().any(|state| match (state, bytes) {
            (State::Absent, None) => true,
            (State::Content { bytes, .. }, Some(listed)) => bytes as u64 == listed,
            _ => false,
        });
        let expected = entry.expected();
        ensure!(fits, "lost {name}: node {node} lists {bytes:?} bytes, expected {expected}");
    }
    let stranger = listed.keys().next();
    ensure!(stranger.is_none(), "node {node} lists {stranger:?}, which nobody stored");
    Ok(())
}

/// Enough to keep the nodes busy; more would wait for each other.
const READERS: usize = 4;
/// Names whose copies are counted after a round; each costs questions to all replicas.
const COPIES_SAMPLE: usize = 50;
/// How long copies may be missing that nobody speaks of any more.
const COPIES_MAX: Duration = Duration::from_secs(120);
const COPIES_AGAIN: Duration = Duration::from_millis(500);
