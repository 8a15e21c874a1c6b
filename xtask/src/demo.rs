//! `cargo xtask demo`: the main job, unattended, on real processes and real files.
#![allow(clippy::print_stdout, reason = "it tells what it does")]

use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::Parser;
use dfs_testbed::{Cluster, build, root, target_dir};

/// Arguments of `demo`.
#[derive(Debug, Parser)]
pub(crate) struct Args {
    /// The first node listens here, the others on the ports after it
    #[arg(long, default_value_t = 23_400)]
    base_port: u16,
    /// Size of the large file in MiB
    #[arg(long, default_value_t = 256)]
    mib: u64,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let bin = build()?;
    let dir = target_dir().join("demo");
    if dir.exists() {
        fs::remove_dir_all(&dir)?;
    }
    let mut cluster = Cluster::new(bin, dir.clone(), args.base_port, false)?;
    let started = Instant::now();
    for _ in 0..3 {
        cluster.add()?;
    }
    cluster.wait_ok(0, 3, SETTLE_MAX)?;
    say(&format!("3 nodes formed a cluster in {:.1} s", started.elapsed().as_secs_f64()));

    let tree = root().join("crates").canonicalize()?;
    let big = dir.join("big.bin");
    let later = dir.join("later.bin");
    make_file(&big, args.mib)?;
    make_file(&later, args.mib)?;
    let put = ["put", "-r", text(&tree)?, "tree"];
    let took = timed(|| cluster.run(0, &put))?;
    let files = count_files(&tree)?;
    say(&format!("stored a directory of {files} files on node 1 in {took:.1} s"));
    let took = timed(|| cluster.run(0, &["put", text(&big)?, "big.bin"]))?;
    say(&format!("stored {} MiB on node 1 in {took:.1} s{}", args.mib, rate(args.mib, took)));

    let took = compare(&cluster, 2, &dir.join("from-3"), &tree, &big)?;
    say(&format!("read all of it from node 3 in {took:.1} s: equal"));

    cluster.wait_ok(0, 3, SETTLE_MAX)?;
    cluster.kill(1)?;
    say("killed node 2 with kill -9");
    let took = compare(&cluster, 2, &dir.join("from-3-again"), &tree, &big)?;
    say(&format!("read all of it from node 3 in {took:.1} s: equal"));
    cluster.run(0, &["put", text(&later)?, "while-away.bin"])?;
    let message = cluster.status(0)?["message"].as_str().unwrap_or_default().to_owned();
    say(&format!("stored {} MiB more; node 1 says: {message}", args.mib));

    cluster.start(1)?;
    let caught_up = cluster.wait_ok(1, 3, CATCH_UP_MAX)?;
    say(&format!(
        "restarted node 2; it caught up in {:.1} s{}",
        caught_up.as_secs_f64(),
        rate(args.mib, caught_up.as_secs_f64())
    ));
    cluster.kill(0)?;
    let copy = dir.join("from-2.bin");
    cluster.run(1, &["get", "while-away.bin", text(&copy)?])?;
    ensure!(same(&later, &copy)?, "what node 2 caught up on is different");
    say("killed node 1; node 2 gives what it missed: equal");
    cluster.start(0)?;
    cluster.wait_ok(0, 3, CATCH_UP_MAX)?;
    cluster.stop()?;
    say("stopped all three");
    fs::remove_dir_all(&dir)?;
    Ok(())
}

fn say(what: &str) {
    println!("demo: {what}");
}

fn rate(mib: u64, seconds: f64) -> String {
    #[allow(clippy::cast_precision_loss, reason = "for people")]
    let rate = mib as f64 / seconds.max(0.001);
    format!(" ({rate:.0} MiB/s)")
}

fn timed<T>(work: impl FnOnce() -> Result<T>) -> Result<f64> {
    let started = Instant::now();
    work()?;
    Ok(started.elapsed().as_secs_f64())
}

/// Fetches everything and compares it with what was stored; gives the seconds for fetching.
fn compare(cluster: &Cluster, at: usize, into: &Path, tree: &Path, big: &Path) -> Result<f64> {
    fs::create_dir_all(into)?;
    let (got_tree, got_big) = (into.join("tree"), into.join("big.bin"));
    let took = timed(|| {
        cluster.run(at, &["get", "-r", "tree", text(&got_tree)?])?;
        cluster.run(at, &["get", "big.bin", text(&got_big)?])
    })?;
    ensure!(same(big, &got_big)?, "the large file came back different");
    let diff = ["-r", "--no-dereference"];
    let differ = Command::new("diff").args(diff).arg(tree).arg(&got_tree).output()?;
    let text = String::from_utf8_lossy(&differ.stdout);
    ensure!(differ.status.success(), "the directory came back different: {text}");
    ensure!(count_files(tree)? == count_files(&got_tree)?, "files are missing");
    Ok(took)
}

fn text(path: &Path) -> Result<&str> {
    path.to_str().context("a path that is UTF-8")
}

fn make_file(path: &Path, mib: u64) -> Result<()> {
    let mut random = File::open("/dev/urandom")?.take(mib << 20);
    let mut file = File::create(path)?;
    std::io::copy(&mut random, &mut file)?;
    Ok(file.flush()?)
}

fn count_files(dir: &Path) -> Result<usize> {
    let mut count = 0;
    let mut dirs = vec![PathBuf::from(dir)];
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(dir)? {
            let entry = entry?;
            let kind = entry.file_type()?;
            if kind.is_dir() {
                dirs.push(entry.path());
            }
            count += usize::from(kind.is_file());
        }
    }
    Ok(count)
}

fn same(one: &Path, other: &Path) -> Result<bool> {
    Ok(Command::new("cmp").arg("-s").arg(one).arg(other).status()?.success())
}

/// A cluster settles in seconds; a machine under load gets more.
const SETTLE_MAX: Duration = Duration::from_secs(60);
/// Fetching what was missed, at a small fraction of what a disk does.
const CATCH_UP_MAX: Duration = Duration::from_secs(180);
