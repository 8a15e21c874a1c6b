//! A node that is lost with its disk: everything it held is copied from the others.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use super::{Args, LOOK_EVERY, SETTLE_MAX, id_of, say, state_of, text, used};
use crate::bed::nodes::Cluster;
use crate::bed::random::content;

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
        // Durable, or the kernel writes it back while the rate is measured.
        let mut file = File::create_new(local.join(number.to_string()))?;
        file.write_all(&bytes)?;
        file.sync_data()?;
    }
    cluster.run(0, &["put", "-r", text(&local)?, "files"])?;
    cluster.wait_ok(0, 4, SETTLE_MAX)?;
    let before = plain_limit(&local, &dir.join("before"), u64::from(args.mib) << 19)?;
    let held = used(&cluster, VICTIM + 1)?;
    let id = id_of(&cluster, VICTIM)?;
    cluster.kill(VICTIM)?;
    // A disk that is gone costs nothing. One that is emptied makes ext4 pass over every inode that
    // was freed, for a minute, whenever it needs a new one; and gives memory back that is cheaper
    // to use again than what a virtual machine has not touched lately.
    fs::rename(cluster.data_dir(VICTIM)?, dir.join("lost"))?;
    let waited = wait_until_out(&cluster, &id)?;
    let started = Instant::now();
    cluster.wait_ok(0, 3, SETTLE_MAX)?;
    let took = started.elapsed();
    let left: u64 = held[..VICTIM].iter().sum();
    let copied = used(&cluster, VICTIM + 1)?[..VICTIM].iter().sum::<u64>().saturating_sub(left);
    let after = plain_limit(&local, &dir.join("after"), u64::from(args.mib) << 19)?;
    let (rate, limit) = (mib_s(copied, took), before.midpoint(after));
    say(&format!(
        "node {} and its disk are lost: it is taken out after {:.1} s, {} MiB take {:.1} s, \
         {rate:.0} MiB/s; plain copies over loopback into durable files: {before:.0} MiB/s before \
         and {after:.0} after, so that is {:.0} % of what this machine can do",
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

/// How fast so many bytes go from files over loopback into durable files of a chunk, with nothing
/// else done to them: what the disk, the network and the cores of this machine allow.
fn plain_limit(from: &Path, dir: &Path, bytes: u64) -> Result<f64> {
    fs::create_dir(dir)?;
    let pieces = bytes.div_ceil(u64::from(LIMIT_STREAMS) << 20);
    let sources: Vec<_> =
        fs::read_dir(from)?.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
    let started = Instant::now();
    std::thread::scope(|scope| {
        let mut ends = Vec::new();
        for stream in 0..LIMIT_STREAMS {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
            let to = listener.local_addr()?;
            let sources = sources.iter().cycle().skip(stream as usize);
            ends.push(scope.spawn(move || send_plain(TcpStream::connect(to)?, sources, pieces)));
            let to = dir.join(format!("limit-{stream}"));
            ends.push(scope.spawn(move || receive_plain(listener.accept()?.0, &to, pieces)));
        }
        ends.into_iter().try_for_each(|end| end.join().expect("it gives errors"))
    })?;
    Ok(mib_s((pieces * u64::from(LIMIT_STREAMS)) << 20, started.elapsed()))
}

fn send_plain<'a>(
    mut to: TcpStream,
    sources: impl Iterator<Item = &'a PathBuf>,
    pieces: u64,
) -> Result<()> {
    let mut piece = vec![0; PIECE];
    let mut left = pieces;
    for source in sources {
        let mut file = File::open(source)?;
        for _ in 0..FILE_MIB {
            if left == 0 {
                return Ok(());
            }
            file.read_exact(&mut piece)?;
            to.write_all(&piece)?;
            left -= 1;
        }
    }
    Ok(())
}

/// Writes aside, syncs, renames, syncs the directory: less, and a file may be gone or cut after a
/// power cut.
fn receive_plain(mut from: TcpStream, dir: &Path, pieces: u64) -> Result<()> {
    fs::create_dir(dir)?;
    let mut piece = vec![0; PIECE];
    for number in 0..pieces {
        from.read_exact(&mut piece)?;
        let aside = dir.join("aside");
        let mut file = File::create_new(&aside)?;
        file.write_all(&piece)?;
        file.sync_data()?;
        fs::rename(aside, dir.join(number.to_string()))?;
        File::open(dir)?.sync_all()?;
    }
    Ok(())
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
/// What is copied at once, as big as a chunk.
const PIECE: usize = 1 << 20;
/// Plain copies made at once: as many as give the highest figure on two cores.
const LIMIT_STREAMS: u32 = 8;
