//! Real nodes as child processes: started, killed, restarted, and never left behind.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};

use super::netns::Namespace;

/// A cluster of nodes on loopback, with everything it owns below one directory.
#[derive(Debug)]
pub struct Cluster {
    client: Client,
    dir: PathBuf,
    echo: bool,
    nodes: Vec<Option<Node>>,
    /// How many nodes name each other; 0 when all name the first.
    naming: usize,
    /// Nodes whose data is elsewhere than in `dir`.
    data_dirs: BTreeMap<usize, PathBuf>,
    /// The zones of nodes that are told one.
    zones: BTreeMap<usize, String>,
    /// Nodes that begin with another node than the others do.
    begins_with: BTreeMap<usize, usize>,
    /// What every node is told besides.
    options: Vec<String>,
}

/// What it takes to run client commands against the nodes; cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    bin: PathBuf,
    config_dir: PathBuf,
    base_port: u16,
    /// Ports of nodes that listen elsewhere by now.
    moved: Arc<Mutex<BTreeMap<usize, u16>>>,
    /// The network of each node; empty when all are on the machine's own loopback.
    namespaces: Arc<Vec<Namespace>>,
}

#[derive(Debug)]
struct Node {
    child: Child,
    echo: Option<JoinHandle<()>>,
    /// Brings the node's first line, or nothing when it ended without one.
    ready: Receiver<String>,
}

impl Client {
    /// Where a node listens.
    pub(crate) fn port(&self, at: usize) -> Result<u16> {
        let moved = self.moved.lock().expect("no holder of this lock panics").get(&at).copied();
        moved.map_or_else(|| self.first_port(at), Ok)
    }

    /// Where a node listened first, which names what it owns.
    fn first_port(&self, at: usize) -> Result<u16> {
        Ok(self.base_port + u16::try_from(at)?)
    }

    /// A client command against one node.
    pub(crate) fn command(&self, at: usize) -> Result<Command> {
        let mut command = Command::new(self.bin.join("dfs"));
        command.env("DFS_CONFIG_DIR", &self.config_dir);
        command.arg("--node").arg(format!(":{}", self.port(at)?));
        Ok(command)
    }

    /// Starts a command where the node is.
    pub(crate) fn spawn(&self, at: usize, command: &mut Command) -> Result<Child> {
        let child = match self.namespaces.get(at) {
            Some(namespace) => namespace.within(|| command.spawn())?,
            None => command.spawn(),
        };
        child.with_context(|| format!("cannot run {}", command.get_program().display()))
    }
}

impl Cluster {
    /// One without nodes, with the programs in `bin` and all data below `dir`. With `echo`, what
    /// nodes log is shown as well.
    ///
    /// # Errors
    /// The directory cannot be made.
    pub fn new(bin: PathBuf, dir: PathBuf, base_port: u16, echo: bool) -> Result<Self> {
        fs::create_dir_all(&dir)?;
        let dir = dir.canonicalize()?;
        let (config_dir, namespaces) = (dir.join("config"), Arc::default());
        let client = Client { bin, config_dir, base_port, moved: Arc::default(), namespaces };
        Ok(Self {
            client,
            dir,
            echo,
            nodes: Vec::new(),
            naming: 0,
            data_dirs: BTreeMap::new(),
            zones: BTreeMap::new(),
            begins_with: BTreeMap::new(),
            options: Vec::new(),
        })
    }

    /// Nodes that are added from now on live in these networks, one in each.
    pub(crate) fn use_namespaces(&mut self, namespaces: Arc<Vec<Namespace>>) {
        self.client.namespaces = namespaces;
    }

    /// Keeps a node's data in another place; before it is added.
    pub(crate) fn place_data(&mut self, at: usize, dir: PathBuf) {
        self.data_dirs.insert(at, dir);
    }

    /// Gives all nodes that are started from now on these options.
    pub(crate) fn tell_all(&mut self, options: &[&str]) {
        self.options = options.iter().map(|&option| option.to_owned()).collect();
    }

    /// Where a node's data is.
    pub(crate) fn data_dir(&self, at: usize) -> Result<PathBuf> {
        let placed = self.data_dirs.get(&at).cloned();
        let port = self.client.first_port(at)?;
        Ok(placed.unwrap_or_else(|| self.dir.join(format!("node-{port}"))))
    }

    /// Puts a node into a zone; before it is added.
    pub(crate) fn place_in_zone(&mut self, at: usize, zone: &str) {
        self.zones.insert(at, zone.to_owned());
    }

    /// Has a node begin with another one than the first; before it is added.
    pub(crate) fn begin_with(&mut self, at: usize, other: usize) {
        self.begins_with.insert(at, other);
    }

    /// Has a node listen on another port from its next start on. Its data stays where it is.
    pub(crate) fn move_to_port(&mut self, at: usize, port: u16) {
        let mut moved = self.client.moved.lock().expect("no holder of this lock panics");
        moved.insert(at, port);
    }

    /// Nodes started from now on name these, themselves included.
    pub(crate) fn name_each_other(&mut self, count: usize) {
        self.naming = count;
    }

    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    /// Where a node listens.
    ///
    /// # Errors
    /// No port is left for so many nodes.
    pub fn port(&self, at: usize) -> Result<u16> {
        self.client.port(at)
    }

    /// Where the keys are.
    pub fn config_dir(&self) -> PathBuf {
        self.client.config_dir.clone()
    }

    /// Where the programs are.
    pub fn bin(&self) -> &Path {
        &self.client.bin
    }

    /// Where a node's log is.
    pub(crate) fn log(&self, at: usize) -> Result<PathBuf> {
        Ok(self.dir.join(format!("node-{}.log", self.client.first_port(at)?)))
    }

    /// Starts the next node; every node but the first begins with the first.
    ///
    /// # Errors
    /// It does not start.
    pub fn add(&mut self) -> Result<()> {
        self.nodes.push(None);
        self.start(self.nodes.len() - 1)
    }

    /// Starts the next node without waiting for anything.
    pub(crate) fn add_spawned(&mut self) -> Result<()> {
        self.nodes.push(None);
        self.spawn(self.nodes.len() - 1)
    }

    /// Starts a node that does not run, on the same data as before, and waits until it is ready.
    ///
    /// # Errors
    /// It does not start.
    pub fn start(&mut self, at: usize) -> Result<()> {
        self.spawn(at)?;
        self.wait_ready(at)
    }

    /// Waits until a node that was started is ready.
    pub(crate) fn wait_ready(&self, at: usize) -> Result<()> {
        let node = self.nodes[at].as_ref().context("it was started")?;
        let line = node.ready.recv_timeout(READY_MAX).unwrap_or_default();
        if !line.starts_with("ready ") {
            let log = self.log(at)?;
            bail!("the node on :{} did not start; see {}", self.port(at)?, log.display());
        }
        Ok(())
    }

    /// Starts a node that does not run, without waiting for anything.
    pub(crate) fn spawn(&mut self, at: usize) -> Result<()> {
        let port = self.port(at)?;
        let mut command = Command::new(self.bin().join("dfs-node"));
        command
            .arg("--listen")
            .arg(format!("127.0.0.1:{port}"))
            .arg("--data-dir")
            .arg(self.data_dir(at)?)
            .arg("--config-dir")
            .arg(self.config_dir())
            .args(&self.options);
        if let Some(zone) = self.zones.get(&at) {
            command.arg("--zone").arg(zone);
        }
        let named = match self.naming {
            0 if self.begins_with.contains_key(&at) => {
                let other = self.begins_with[&at];
                other..other + 1
            }
            0 if at == 0 => 0..0,
            0 => 0..1,
            count => 0..count,
        };
        for other in named {
            command.arg("--bootstrap").arg(format!("127.0.0.1:{}", self.port(other)?));
        }
        // A group of its own, so that Ctrl-C reaches the nodes through us, in order.
        command.env("NO_COLOR", "1").process_group(0);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = self.client.spawn(at, &mut command)?;
        let stderr = child.stderr.take().context("stderr is piped")?;
        let stdout = child.stdout.take().context("stdout is piped")?;
        let log = File::options().create(true).append(true).open(self.log(at)?)?;
        let prefix = self.echo.then(|| format!("[{port}] "));
        let echo = std::thread::spawn(move || copy_lines(BufReader::new(stderr), log, prefix));
        let (sender, ready) = sync_channel(1);
        std::thread::spawn(move || {
            let first = BufReader::new(stdout).lines().map_while(Result::ok).next();
            // Nobody may wait for it.
            let _ = sender.send(first.unwrap_or_default());
        });
        self.nodes[at] = Some(Node { child, echo: Some(echo), ready });
        Ok(())
    }

    /// Ends a node as a power cut would.
    ///
    /// # Errors
    /// It cannot be killed.
    pub fn kill(&mut self, at: usize) -> Result<()> {
        if let Some(mut node) = self.nodes[at].take() {
            node.child.kill()?;
            node.wait()?;
        }
        Ok(())
    }

    /// Sends a signal to a node that runs.
    pub(crate) fn signal(&mut self, at: usize, signal: Signal) {
        if let Some(node) = &mut self.nodes[at] {
            node.signal(signal);
        }
    }

    /// How a node ended by itself, if it did.
    pub(crate) fn ended(&mut self, at: usize) -> Result<Option<ExitStatus>> {
        match &mut self.nodes[at] {
            Some(node) => Ok(node.child.try_wait()?),
            None => Ok(None),
        }
    }

    /// Asks one node to end, which must succeed within `limit`; gives how long it took.
    pub(crate) fn stop_one(&mut self, at: usize, limit: Duration) -> Result<Duration> {
        let started = Instant::now();
        self.signal(at, Signal::TERM);
        let status = loop {
            if let Some(status) = self.ended(at)? {
                break status;
            }
            let port = self.port(at)?;
            ensure!(started.elapsed() < limit, "the node on :{port} did not end within {limit:?}");
            std::thread::sleep(POLL_EVERY);
        };
        let took = started.elapsed();
        if let Some(mut node) = self.nodes[at].take() {
            node.wait()?;
        }
        ensure!(status.success(), "the node on :{} ended with {status}", self.port(at)?);
        Ok(took)
    }

    /// Asks every node to end, and waits.
    ///
    /// # Errors
    /// A node ends with a failure.
    pub fn stop(&mut self) -> Result<()> {
        for node in self.nodes.iter_mut().flatten() {
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

    /// Runs a client command that must succeed; gives its stdout.
    ///
    /// # Errors
    /// It fails.
    pub fn run(&self, at: usize, args: &[&str]) -> Result<Vec<u8>> {
        let mut command = self.client.command(at)?;
        command.args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let output = self.client.spawn(at, &mut command)?.wait_with_output()?;
        if !output.status.success() {
            let why = String::from_utf8_lossy(&output.stderr);
            bail!("dfs {} ended with {}: {}", args.join(" "), output.status, why.trim());
        }
        Ok(output.stdout)
    }

    /// What a node says of itself and the cluster.
    ///
    /// # Errors
    /// It says nothing, or no JSON.
    pub fn status(&self, at: usize) -> Result<serde_json::Value> {
        Ok(serde_json::from_slice(&self.run(at, &["status", "--json"])?)?)
    }

    /// The peers as a node sees them, itself included.
    pub(crate) fn peers(&self, at: usize) -> Result<Vec<serde_json::Value>> {
        let lines = self.run(at, &["peers", "--json"])?;
        let lines = serde_json::Deserializer::from_slice(&lines).into_iter();
        Ok(lines.collect::<Result<_, _>>()?)
    }

    /// The process of a node that runs.
    pub(crate) fn pid(&self, at: usize) -> Option<u32> {
        self.nodes[at].as_ref().map(|node| node.child.id())
    }

    /// Waits until a node says that all is well; gives how long that took.
    ///
    /// # Errors
    /// It is not well within `limit`.
    pub fn wait_ok(&self, at: usize, nodes: usize, limit: Duration) -> Result<Duration> {
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
    fn signal(&mut self, signal: Signal) {
        // Once it has been waited for, its id may be someone else's.
        let runs = matches!(self.child.try_wait(), Ok(None));
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        if let Some(pid) = pid.filter(|_| runs) {
            // It may end by itself meanwhile.
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
/// From the start to the `ready` line, which waits for the disk and for nobody else: a node that
/// takes longer does not come back.
const READY_MAX: Duration = Duration::from_secs(60);
