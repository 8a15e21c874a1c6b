//! `cargo xtask hostile`: three real nodes, and a member that does to them whatever the protocol
//! lets it. Clients must not notice, and it can be evicted while it goes on.

#![allow(clippy::print_stdout, reason = "it tells what it does")]

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use clap::Parser;

use crate::bed::asking::Asker;
use crate::bed::nodes::Cluster;
use crate::bed::place::{build_hostile, lock, prepare, target_dir};
use crate::bed::random::{content, draw_seed};
use crate::bed::requests::Requests;
use crate::bed::writing::{Keys, compare_all, write};

/// Arguments of `hostile`.
#[derive(Debug, Parser)]
pub struct Args {
    /// Store the same contents as an earlier run
    #[arg(long)]
    seed: Option<u64>,
    /// The first node listens here, the others on the ports after it
    #[arg(long, default_value_t = 24_800)]
    base_port: u16,
    /// How long the member does harm
    #[arg(long, default_value_t = 60)]
    seconds: u64,
}

/// Runs it, and tells what happens.
///
/// # Errors
/// A client noticed, something is lost, or a node took too much memory.
pub fn run(args: &Args) -> Result<()> {
    let seed = args.seed.unwrap_or_else(draw_seed);
    println!("hostile: seed {seed}");
    let dir = target_dir().join("hostile");
    let _alone = lock(&dir)?;
    let bin = prepare(&dir)?;
    let program = build_hostile()?;
    let mut cluster = Cluster::new(bin, dir.clone(), args.base_port, false)?;
    // What nobody needs goes within seconds: else nothing could be lost while this looks.
    cluster.tell_all(&["--grace", GRACE]);
    for _ in 0..NODES {
        cluster.add()?;
    }
    cluster.wait_ok(0, NODES, SETTLE_MAX)?;
    let outcome = suffer(args, &mut cluster, &program, seed, &dir);
    outcome.with_context(|| format!("logs are in {}", dir.display()))?;
    cluster.stop()?;
    fs::remove_dir_all(&dir)?;
    Ok(())
}

fn suffer(args: &Args, cluster: &mut Cluster, program: &Path, seed: u64, dir: &Path) -> Result<()> {
    let local = store_files(cluster, seed, dir)?;
    let requests = Requests::new(cluster.client().clone(), dir.join("requests"))?;
    let asker = Asker::new(&requests, seed);
    let mut liar = Liar::start(args, cluster, program)?;
    let (end, begin) = (AtomicBool::new(false), Instant::now());
    let (keys, races, slowest) = std::thread::scope(|scope| -> Result<_> {
        let clients: Vec<_> = (0..NODES)
            .map(|at| {
                let (asker, end) = (&asker, &end);
                scope.spawn(move || write(asker, at, &format!("{DIR}/{at}"), begin, end))
            })
            .collect();
        let races = scope.spawn(|| race(&requests, &end));
        let told = evict_in_time(args, cluster, begin)
            .and_then(|()| liar.end(Duration::from_secs(args.seconds) + LATE_MAX));
        end.store(true, Ordering::Relaxed);
        let (mut keys, mut slowest) = (Keys::default(), Duration::ZERO);
        for client in clients {
            let seen = client.join().expect("a client gives errors")?;
            ensure!(seen.undecided.is_empty(), "{} writes failed", seen.undecided.len());
            slowest = slowest.max(seen.slowest);
            for (name, generation, is_done) in seen.keys {
                keys.note(name, generation, is_done);
            }
        }
        let races = races.join().expect("a client gives errors")?;
        told?.iter().for_each(|line| println!("hostile: {line}"));
        Ok((keys, races, slowest))
    })?;
    compare_all(&asker, &[0, 1, 2], DIR, &keys, &dir.join("written"))?;
    compare_files(cluster, &local, dir)?;
    let most = (0..NODES).map(|at| peak_bytes(cluster, at)).collect::<Result<Vec<_>>>()?;
    let largest = most.iter().copied().max().unwrap_or_default();
    ensure!(largest <= MEMORY_MAX, "a node took {} MiB of memory", largest >> 20);
    println!(
        "hostile: {} names and {races} conditional writes were acknowledged meanwhile, the slowest \
         in {:.1} s; nothing is lost, and no node took more than {} MiB of memory",
        keys.len(),
        slowest.as_secs_f64(),
        largest >> 20
    );
    Ok(())
}

/// Stores files of several chunks; gives where they are.
fn store_files(cluster: &Cluster, seed: u64, dir: &Path) -> Result<std::path::PathBuf> {
    let local = dir.join("files");
    fs::create_dir_all(&local)?;
    for number in 0..FILES {
        fs::write(local.join(number.to_string()), content(seed, "file", number, FILE_BYTES))?;
    }
    cluster.run(0, &["put", "-r", local.to_str().context("UTF-8")?, "files"])?;
    cluster.wait_ok(0, NODES, SETTLE_MAX)?;
    Ok(local)
}

fn compare_files(cluster: &Cluster, local: &Path, dir: &Path) -> Result<()> {
    for at in 0..NODES {
        let fetched = dir.join(format!("fetched-{at}"));
        cluster.run(at, &["get", "-r", "files", fetched.to_str().context("UTF-8")?])?;
        for number in 0..FILES {
            let name = number.to_string();
            let same = fs::read(local.join(&name))? == fs::read(fetched.join(&name))?;
            ensure!(same, "file {name} differs on node {}", at + 1);
        }
    }
    Ok(())
}

/// Writes new names and the same ones again under the condition that they are absent: the first
/// must succeed, the second must not. Gives how many.
fn race(requests: &Requests, end: &AtomicBool) -> Result<usize> {
    let mut count = 0;
    while !end.load(Ordering::Relaxed) {
        let (at, name) = (count % NODES, format!("races/{count}"));
        let put = ["put", "--if-absent", "-", &name];
        let first = requests.ask(at, &put, Some(b"first"))?;
        ensure!(first.is_ok(), "{name}: exit {}: {}", first.code, first.stderr);
        let second = requests.ask((at + 1) % NODES, &put, Some(b"second"))?;
        ensure!(second.code == CONDITION, "{name} again: exit {}", second.code);
        count += 1;
    }
    Ok(count)
}

/// The most memory that a node had at any time.
fn peak_bytes(cluster: &Cluster, at: usize) -> Result<u64> {
    let pid = cluster.pid(at).context("it runs")?;
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("VmHWM")?;
    let kib: u64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(kib << 10)
}

/// Takes the member out once three quarters of its time are over, and waits until all is well
/// without it, while it goes on.
fn evict_in_time(args: &Args, cluster: &Cluster, begin: Instant) -> Result<()> {
    let at = begin + Duration::from_secs(args.seconds) * 3 / 4;
    std::thread::sleep(at.saturating_duration_since(Instant::now()));
    cluster.run(0, &["remove", "--force", &liar_id(cluster)?])?;
    let took = cluster.wait_ok(0, NODES, SETTLE_MAX)?;
    println!("hostile: evicted, and all is well {:.1} s later", took.as_secs_f64());
    Ok(())
}

/// The id of the hostile member, once it asks to be let in.
fn waiting(cluster: &Cluster) -> Result<String> {
    let end = Instant::now() + JOIN_MAX;
    loop {
        match liar_id(cluster) {
            Err(error) if Instant::now() >= end => return Err(error),
            Err(_) => std::thread::sleep(LOOK_EVERY),
            found => return found,
        }
    }
}

/// The id of the hostile member.
fn liar_id(cluster: &Cluster) -> Result<String> {
    let peers = cluster.peers(0)?;
    let liar = peers.iter().find(|peer| peer["zone"] == "hostile").context("it was a member")?;
    Ok(liar["id"].as_str().context("an id")?.to_owned())
}

/// The hostile member, as a process of its own.
struct Liar {
    child: Child,
    lines: std::sync::mpsc::Receiver<String>,
}

impl Liar {
    /// Starts it and waits until it is a member.
    fn start(args: &Args, cluster: &Cluster, program: &Path) -> Result<Self> {
        let mut command = Command::new(program);
        command.arg("--config-dir").arg(cluster.config_dir());
        command.args(["--seconds", &args.seconds.to_string()]);
        for at in 0..NODES {
            command.arg("--peer").arg(format!("127.0.0.1:{}", cluster.port(at)?));
        }
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
        let stdout = child.stdout.take().context("stdout is piped")?;
        let (sender, lines) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let all = BufReader::new(stdout).lines().map_while(Result::ok);
            // Nobody may wait for them any more.
            all.for_each(|line| drop(sender.send(line)));
        });
        let liar = Self { child, lines };
        // Vouched for: what a stranger says counts for even less.
        cluster.run(0, &["admit", &waiting(cluster)?])?;
        let first = liar.lines.recv_timeout(JOIN_MAX).context("the hostile member did not join")?;
        println!("hostile: the member {first}");
        Ok(liar)
    }

    /// Waits for its end; gives what it says that it did.
    fn end(&mut self, limit: Duration) -> Result<Vec<String>> {
        let started = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait()? {
                ensure!(status.success(), "the hostile member ended with {status}");
                return Ok(self.lines.iter().collect());
            }
            if started.elapsed() >= limit {
                bail!("the hostile member goes on");
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

impl Drop for Liar {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

const NODES: usize = 3;
const DIR: &str = "hostile";
/// How long nodes wait with each step before space comes back.
const GRACE: &str = "10s";
const FILES: u32 = 20;
const FILE_BYTES: usize = 3 << 20;
/// What one honest node may take, whatever is done to it.
const MEMORY_MAX: u64 = 256 << 20;
/// The exit code of a condition that does not hold.
const CONDITION: i32 = 7;
const SETTLE_MAX: Duration = Duration::from_secs(120);
const LOOK_EVERY: Duration = Duration::from_millis(200);
const JOIN_MAX: Duration = Duration::from_secs(40);
/// How much later than told the member may end.
const LATE_MAX: Duration = Duration::from_secs(30);
