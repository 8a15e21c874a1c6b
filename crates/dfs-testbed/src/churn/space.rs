//! Files that are deleted: the space they took comes back on every node.

use std::fs;
use std::path::Path;
use std::time::Instant;

use anyhow::{Result, ensure};

use super::{Args, LOOK_EVERY, SETTLE_MAX, say, text, used};
use crate::bed::nodes::Cluster;
use crate::bed::random::content;

/// Stores files on three nodes that wait only seconds before they give space back, and deletes nine
/// of ten.
pub(super) fn run(_: &Args, mut cluster: Cluster, seed: u64, dir: &Path) -> Result<()> {
    cluster.tell_all(&["--grace", GRACE]);
    for _ in 0..NODES {
        cluster.add()?;
    }
    cluster.wait_ok(0, NODES, SETTLE_MAX)?;
    let local = dir.join("files");
    for part in ["keep", "drop"] {
        fs::create_dir_all(local.join(part))?;
    }
    for number in 0..FILES {
        let part = if number % 10 == 0 { "keep" } else { "drop" };
        let bytes = content(seed, "file", number, FILE_BYTES);
        fs::write(local.join(part).join(number.to_string()), bytes)?;
    }
    cluster.run(0, &["put", "-r", text(&local)?, "files"])?;
    cluster.wait_ok(0, NODES, SETTLE_MAX)?;
    let full = used_when_told(&cluster)?;
    cluster.run(0, &["rm", "-r", "files/drop"])?;
    let started = Instant::now();
    let returned = loop {
        let returned: Vec<f64> =
            full.iter().zip(used(&cluster, NODES)?).map(|(full, now)| part(*full, now)).collect();
        if returned.iter().all(|returned| *returned >= RETURNED_MIN) {
            break returned;
        }
        let status = cluster.status(0)?;
        ensure!(started.elapsed() < SETTLE_MAX, "only {returned:?} came back: {status}");
        std::thread::sleep(LOOK_EVERY);
    };
    let least = returned.iter().copied().fold(1.0, f64::min) * 100.0;
    for at in 0..NODES {
        let fetched = dir.join(format!("fetched-{at}"));
        cluster.run(at, &["get", "-r", "files/keep", text(&fetched)?])?;
        for entry in fs::read_dir(local.join("keep"))? {
            let entry = entry?;
            let same = fs::read(entry.path())? == fs::read(fetched.join(entry.file_name()))?;
            ensure!(same, "{} differs on node {}", entry.path().display(), at + 1);
        }
    }
    cluster.wait_ok(0, NODES, SETTLE_MAX)?;
    say(&format!(
        "of {} MiB on a node nine tenths were deleted: after {:.0} s at least {least:.1} % of the \
         space is free again on every node, and what was kept is right",
        full[0] >> 20,
        started.elapsed().as_secs_f64()
    ));
    cluster.stop()
}

/// Returns what each node holds, once all have told of everything that was stored. A node tells of
/// its space a few times a second, and the first may say that all is well before the others have.
fn used_when_told(cluster: &Cluster) -> Result<Vec<u64>> {
    let started = Instant::now();
    let stored = u64::from(FILES) * FILE_BYTES as u64;
    loop {
        let full = used(cluster, NODES)?;
        if full.iter().all(|bytes| *bytes >= stored) {
            return Ok(full);
        }
        ensure!(started.elapsed() < SETTLE_MAX, "of {stored} bytes nodes hold {full:?}");
        std::thread::sleep(LOOK_EVERY);
    }
}

#[allow(clippy::cast_precision_loss, reason = "a share for people")]
fn part(full: u64, now: u64) -> f64 {
    full.saturating_sub(now) as f64 / full as f64
}

const NODES: usize = 3;
/// How long nodes wait with each step before space comes back.
const GRACE: &str = "2s";
const FILES: u32 = 100;
const FILE_BYTES: usize = 2 << 20;
/// The share of all space that must come back where nine tenths were deleted.
const RETURNED_MIN: f64 = 0.85;
