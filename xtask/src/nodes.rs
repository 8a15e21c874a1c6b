//! Real nodes as child processes: started, killed, restarted, and never left behind.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};

use crate::{root, target_dir};

/// Builds the release binaries and says where they are.
pub(crate) fn build() -> Result<PathBuf> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status = Command::new(cargo)
        .args(["build", "--release", "--package", "dfs-node"])
        .current_dir(root())
        .status()?;
    ensure!(status.success(), "the release build failed");
    Ok(target_dir().join("release").canonicalize()?)
}

/// A cluster of nodes on loopback, with everything it owns below one directory.
pub(crate) struct Cluster {
    bin: PathBuf,
    dir: PathBuf,
    base_port: u16,
    echo: bool,
    nodes: Vec<Option<Node>>,
}

struct Node {
    child: Child,
    echo: Option<std::thread::JoinHandle<()>>,
}

impl Cluster {
    pub(crate) fn new(bin: PathBuf, dir: PathBuf, base_port: u16, echo: bool) -> Result<Self> {
        fs::create_dir_all(&dir)?;
        let dir = dir.canonicalize()?;
        Ok(Self { bin, dir, base_port, echo, nodes: Vec::new() })
    }

    pub(crate) fn port(&self, at: usize) -> Result<u16> {
        Ok(self.base_port + u16::try_from(at)?)
    }

    pub(crate) fn config_dir(&self) -> PathBuf {
        self.dir.join("config")
    }

    pub(crate) fn bin(&self) -> &Path {
        &self.bin
    }

    /// Starts the next node; every node but the first begins with the first.
    pub(crate) fn add(&mut self) -> Result<()> {
        self.nodes.push(None);
        self.start(self.nodes.len() - 1)
    }

    /// Starts a node that does not run, on the same data as before, and waits until it is ready.
    pub(crate) fn start(&mut self, at: usize) -> Result<()> {
        let port = self.port(at)?;
        let mut command = Command::new(self.bin.join("dfs-node"));
        command
            .arg("--listen")
            .arg(format!("127.0.0.1:{port}"))
            .arg("--data-dir")
            .arg(self.dir.join(format!("node-{port}")))
            .arg("--config-dir")
            .arg(self.config_dir());
        if at > 0 {
            command.arg("--bootstrap").arg(format!("127.0.0.1:{}", self.base_port));
        }
        // A group of its own, so that Ctrl-C reaches the nodes through us, in order.
        command.env("NO_COLOR", "1").process_group(0);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().context("cannot start dfs-node")?;
        let stderr = child.stderr.take().context("stderr is piped")?;
        let log = self.dir.join(format!("node-{port}.log"));
        let log = File::options().create(true).append(true).open(log)?;
        let prefix = self.echo.then(|| format!("[{port}] "));
        let echo = std::thread::spawn(move || copy_lines(BufReader::new(stderr), log, prefix));
        let stdout = child.stdout.take().context("stdout is piped")?;
        self.nodes[at] = Some(Node { child, echo: Some(echo) });
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line)?;
        if !line.starts_with("ready ") {
            let log = self.dir.join(format!("node-{port}.log"));
            bail!("the node on :{port} did not start; see {}", log.display());
        }
        Ok(())
    }

    /// Ends a node as a power cut would.
    pub(crate) fn kill(&mut self, at: usize) -> Result<()> {
        if let Some(mut node) = self.nodes[at].take() {
            node.child.kill()?;
            node.wait()?;
        }
        Ok(())
    }

    /// Asks every node to end, and waits.
    pub(crate) fn stop(&mut self) -> Result<()> {
        for node in self.nodes.iter().flatten() {
            node.signal(Signal::TERM);
        }
        for node in &mut self.nodes {
            if let Some(mut node) = node.take() {
                let status = node.wait()?;
                ensure!(status.success(), "a node ended with {status}");
            }
        }
        Ok(())
    }

    /// A client command against one node.
    pub(crate) fn dfs(&self, at: usize) -> Result<Command> {
        let mut command = Command::new(self.bin.join("dfs"));
        command.env("DFS_CONFIG_DIR", self.config_dir());
        command.arg("--node").arg(format!(":{}", self.port(at)?));
        Ok(command)
    }

    /// Runs a client command that must succeed; gives its stdout.
    pub(crate) fn run(&self, at: usize, args: &[&str]) -> Result<Vec<u8>> {
        let output = self.dfs(at)?.args(args).output()?;
        if !output.status.success() {
            let why = String::from_utf8_lossy(&output.stderr);
            bail!("dfs {} ended with {}: {}", args.join(" "), output.status, why.trim());
        }
        Ok(output.stdout)
    }

    pub(crate) fn status(&self, at: usize) -> Result<serde_json::Value> {
        Ok(serde_json::from_slice(&self.run(at, &["status", "--json"])?)?)
    }

    /// Waits until a node says that all is well; gives how long that took.
    pub(crate) fn wait_ok(&self, at: usize, nodes: usize, limit: Duration) -> Result<Duration> {
        let started = Instant::now();
        loop {
            let status = self.status(at)?;
            if status["health"] == "ok" && status["nodes"] == nodes {
                return Ok(started.elapsed());
            }
            ensure!(started.elapsed() < limit, "not well within {limit:?}: {status}");
            std::thread::sleep(POLL_EVERY);
        }
    }
}

impl Node {
    fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        if let Some(pid) = pid {
            // It may have ended by itself.
            let _ = kill_process(pid, signal);
        }
    }

    fn wait(&mut self) -> Result<ExitStatus> {
        let status = self.child.wait()?;
        if let Some(echo) = self.echo.take() {
            let _ = echo.join();
        }
        Ok(status)
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // No process outlives us, whatever went wrong.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn copy_lines(from: impl BufRead, mut log: File, prefix: Option<String>) {
    for line in from.lines().map_while(Result::ok) {
        let _ = writeln!(log, "{line}");
        if let Some(prefix) = &prefix {
            eprintln!("{prefix}{line}");
        }
    }
}

/// How often a condition of other processes is looked at.
const POLL_EVERY: Duration = Duration::from_millis(100);
