//! Bits that flip on the disk of one node: one scrub finds them all, and they are mended.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::{Args, LOOK_EVERY, SETTLE_MAX, say, text};
use crate::bed::nodes::Cluster;
use crate::bed::random::{Random, content};

/// Stores small files on three nodes, flips a bit in a thousand blobs of one, and has it scrub.
pub(super) fn run(_: &Args, mut cluster: Cluster, seed: u64, dir: &Path) -> Result<()> {
    for _ in 0..3 {
        cluster.add()?;
    }
    cluster.wait_ok(0, 3, SETTLE_MAX)?;
    let local = dir.join("files");
    fs::create_dir_all(&local)?;
    for number in 0..FILES {
        fs::write(local.join(number.to_string()), content(seed, "file", number, FILE_BYTES))?;
    }
    cluster.run(0, &["put", "-r", text(&local)?, "files"])?;
    cluster.wait_ok(0, 3, SETTLE_MAX)?;
    let blobs = read_all(&cluster.data_dir(ROTTEN)?.join("blobs"))?;
    ensure!(blobs.len() >= FLIPPED, "only {} blobs are on node {}", blobs.len(), ROTTEN + 1);
    let mut random = Random::of(seed, "rot");
    let mut paths: Vec<&PathBuf> = blobs.keys().collect();
    random.shuffle(&mut paths);
    for path in &paths[..FLIPPED] {
        let mut bytes = blobs[*path].clone();
        let at = random.below(bytes.len());
        bytes[at] ^= 1 << random.below(8);
        fs::write(path, bytes)?;
    }
    let started = Instant::now();
    cluster.run(ROTTEN, &["scrub", "start"])?;
    let scrubbed = wait_for_pass(&cluster)?;
    let took = started.elapsed();
    ensure!(scrubbed["bad"] == FLIPPED, "the scrub found {} of {FLIPPED}", scrubbed["bad"]);
    let well = cluster.wait_ok(ROTTEN, 3, SETTLE_MAX)?;
    let now = read_all(&cluster.data_dir(ROTTEN)?.join("blobs"))?;
    let wrong = blobs.iter().filter(|(path, bytes)| now.get(*path) != Some(bytes)).count();
    ensure!(wrong == 0, "{wrong} blobs are not what they were");
    say(&format!(
        "{FLIPPED} of {} blobs of node {} flipped a bit: one scrub found all in {:.1} s; all are \
         what they were {:.1} s later",
        blobs.len(),
        ROTTEN + 1,
        took.as_secs_f64(),
        well.as_secs_f64()
    ));
    cluster.stop()
}

/// Waits until the scrub has come to the end of a pass; gives what it says then.
fn wait_for_pass(cluster: &Cluster) -> Result<serde_json::Value> {
    let started = Instant::now();
    loop {
        let status: serde_json::Value =
            serde_json::from_slice(&cluster.run(ROTTEN, &["scrub", "status", "--json"])?)?;
        if status["state"] == "idle" && status["last_complete"].is_string() {
            return Ok(status);
        }
        ensure!(started.elapsed() < SCRUB_MAX, "the scrub does not end: {status}");
        std::thread::sleep(LOOK_EVERY);
    }
}

/// Every file below a directory.
fn read_all(dir: &Path) -> Result<BTreeMap<PathBuf, Vec<u8>>> {
    let mut files = BTreeMap::new();
    let mut dirs = vec![dir.to_owned()];
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(&dir).with_context(|| dir.display().to_string())? {
            let path = entry?.path();
            if path.is_dir() {
                dirs.push(path);
            } else {
                let bytes = fs::read(&path)?;
                files.insert(path, bytes);
            }
        }
    }
    Ok(files)
}

/// The node whose disk rots.
const ROTTEN: usize = 1;
/// Each is one file on a disk: its chunk. Its lists lie in the index.
const FILES: u32 = 1_200;
/// More than fits into a record.
const FILE_BYTES: usize = 20_000;
/// How many blobs flip a bit.
const FLIPPED: usize = 1000;
/// Some hundred megabytes at the slowest rate.
const SCRUB_MAX: Duration = Duration::from_secs(120);
