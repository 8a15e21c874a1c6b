//! A node that is lost with its disk: everything it held is copied from the others.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use super::{Args, LOOK_EVERY, SETTLE_MAX, id_of, say, state_of, text, used};
use crate::chaos::random::content;
use crate::nodes::Cluster;

/// Stores files on four nodes, loses one, and measures how fast all is well again.
pub(super) fn run(args: &Args, mut cluster: Cluster, seed: u64, dir: &Path) -> Result<()> {
    cluster.tell_all(&["--out-after", OUT_AFTER]);
    for _ in 0..4 {
        cluster.add()?;
    }
    cluster.wait_ok(0, 4, SETTLE_MAX)?;
    let local = dir.join("files");
    fs::create_dir_all(&local)?;
    for number in 0..args.mib.div_ceil(FILE_MIB) {
        let bytes = content(seed, "file", number, (FILE_MIB as usize) << 20);
        fs::write(local.join(number.to_string()), bytes)?;
    }
    cluster.run(0, &["put", "-r", text(&local)?, "files"])?;
    cluster.wait_ok(0, 4, SETTLE_MAX)?;
    let held = used(&cluster, VICTIM + 1)?;
    let id = id_of(&cluster, VICTIM)?;
    cluster.kill(VICTIM)?;
    fs::remove_dir_all(cluster.data_dir(VICTIM)?)?;
    let waited = wait_until_out(&cluster, &id)?;
    let started = Instant::now();
    cluster.wait_ok(0, 3, SETTLE_MAX)?;
    let took = started.elapsed();
    let left: u64 = held[..VICTIM].iter().sum();
    let copied = used(&cluster, VICTIM + 1)?[..VICTIM].iter().sum::<u64>().saturating_sub(left);
    let (rate, limit) = (mib_s(copied, took), disk_limit(dir)?);
    say(&format!(
        "node {} and its disk are lost: it is taken out after {:.1} s, {} MiB take {:.1} s, \
         {rate:.0} MiB/s; this disk takes {limit:.0} MiB/s of synced files: {:.0} %",
        VICTIM + 1,
        waited.as_secs_f64(),
        copied >> 20,
        took.as_secs_f64(),
        rate * 100.0 / limit
    ));
    compare(&cluster, &local, &dir.join("fetched"))?;
    say("  every file has three copies and is right on each of three nodes");
    cluster.stop()
}

/// Fetches everything from every node that is left, and counts copies.
fn compare(cluster: &Cluster, local: &Path, fetched: &Path) -> Result<()> {
    for at in 0..VICTIM {
        if fetched.exists() {
            fs::remove_dir_all(fetched)?;
        }
        cluster.run(at, &["get", "-r", "files", text(fetched)?])?;
        for entry in fs::read_dir(local)? {
            let entry = entry?;
            let (stored, here) =
                (fs::read(entry.path())?, fs::read(fetched.join(entry.file_name()))?);
            ensure!(stored == here, "{} differs on node {}", entry.path().display(), at + 1);
        }
    }
    for entry in fs::read_dir(local)? {
        let path = Path::new("files").join(entry?.file_name());
        let stat = cluster.run(0, &["stat", "--json", text(&path)?])?;
        let stat: serde_json::Value = serde_json::from_slice(&stat)?;
        ensure!(stat["copies"] == 3, "{} has {} copies", path.display(), stat["copies"]);
    }
    Ok(())
}

/// Waits until the node is taken out: from then on its share is copied.
fn wait_until_out(cluster: &Cluster, id: &str) -> Result<Duration> {
    let started = Instant::now();
    while state_of(cluster, 0, id)? != "out" {
        ensure!(started.elapsed() < SETTLE_MAX, "it is not taken out: {}", cluster.status(0)?);
        std::thread::sleep(LOOK_EVERY);
    }
    Ok(started.elapsed())
}

/// What this disk takes when files of a chunk are written and synced, some at once.
fn disk_limit(dir: &Path) -> Result<f64> {
    let started = Instant::now();
    let bytes = content(1, "limit", 0, 1 << 20);
    let write = |writer: u32| -> Result<()> {
        for number in 0..LIMIT_FILES / LIMIT_WRITERS {
            let mut file = File::create(dir.join(format!("limit-{writer}-{number}")))?;
            file.write_all(&bytes)?;
            file.sync_all()?;
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        let start = |writer| scope.spawn(move || write(writer));
        let writers: Vec<_> = (0..LIMIT_WRITERS).map(start).collect();
        writers.into_iter().try_for_each(|writer| writer.join().expect("it gives errors"))
    })?;
    Ok(mib_s(u64::from(LIMIT_FILES) << 20, started.elapsed()))
}

#[allow(clippy::cast_precision_loss, reason = "a rate for people")]
fn mib_s(bytes: u64, took: Duration) -> f64 {
    bytes as f64 / f64::from(1 << 20) / took.as_secs_f64().max(0.001)
}

/// The node that is lost: not the one that is asked.
const VICTIM: usize = 3;
/// So long it is waited for.
const OUT_AFTER: &str = "5s";
const FILE_MIB: u32 = 8;
/// Files of 1 MiB that show what the disk takes.
const LIMIT_FILES: u32 = 256;
/// Files written at once.
const LIMIT_WRITERS: u32 = 8;
