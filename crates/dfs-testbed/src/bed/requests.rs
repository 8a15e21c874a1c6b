//! Client commands with a bound: what is asked of a node under faults must end by itself.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use super::nodes::Client;

/// Runs client commands; shared by all threads.
#[derive(Debug)]
pub(crate) struct Requests {
    client: Client,
    /// Input and output go through files here, so that neither side can block on a pipe.
    dir: PathBuf,
    count: AtomicU64,
    slowest_ms: AtomicU64,
}

/// How a command ended.
#[derive(Debug)]
pub(crate) struct Answer {
    /// Its exit code; as a shell has it after a signal.
    pub(crate) code: i32,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: String,
}

impl Answer {
    pub(crate) fn is_ok(&self) -> bool {
        self.code == 0
    }

    /// Whether it says neither yes nor no, as a command may while nodes are away: try again, no
    /// node, or interrupted.
    pub(crate) fn is_undecided(&self) -> bool {
        [5, 10, 130, 143].contains(&self.code)
    }
}

impl Requests {
    pub(crate) fn new(client: Client, dir: PathBuf) -> Result<Self> {
        fs::create_dir_all(&dir)?;
        let (count, slowest_ms) = (AtomicU64::new(0), AtomicU64::new(0));
        Ok(Self { client, dir, count, slowest_ms })
    }

    /// Runs `dfs` against one node and waits for its end, at most [`REQUEST_MAX`].
    pub(crate) fn ask(&self, at: usize, args: &[&str], input: Option<&[u8]>) -> Result<Answer> {
        let number = self.count.fetch_add(1, Ordering::Relaxed);
        let path = |what: &str| self.dir.join(format!("{number}.{what}"));
        let (stdin, stdout, stderr) = (path("in"), path("out"), path("err"));
        let mut command = self.client.command(at)?;
        command.args(args).stdin(match input {
            None => Stdio::null(),
            Some(bytes) => {
                fs::write(&stdin, bytes)?;
                Stdio::from(File::open(&stdin)?)
            }
        });
        command.stdout(File::create(&stdout)?).stderr(File::create(&stderr)?);
        let started = Instant::now();
        let status = wait(self.client.spawn(at, &mut command)?)?;
        let took_ms = u64::try_from(started.elapsed().as_millis())?;
        self.slowest_ms.fetch_max(took_ms, Ordering::Relaxed);
        let answer = Answer {
            code: code(status.unwrap_or_default()),
            stdout: fs::read(&stdout)?,
            stderr: String::from_utf8_lossy(&fs::read(&stderr)?).trim().to_owned(),
        };
        remove(&[&stdin, &stdout, &stderr]);
        if status.is_none() {
            let (node, command) = (at + 1, args.join(" "));
            bail!("'dfs {command}' hung: node {node} left it without an end for {REQUEST_MAX:?}");
        }
        Ok(answer)
    }

    /// What the slowest command took since the last call.
    pub(crate) fn take_slowest(&self) -> Duration {
        Duration::from_millis(self.slowest_ms.swap(0, Ordering::Relaxed))
    }
}

/// Waits for a command; `None` when it had to be ended.
fn wait(mut child: Child) -> Result<Option<ExitStatus>> {
    let started = Instant::now();
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if started.elapsed() > REQUEST_MAX {
            child.kill()?;
            child.wait()?;
            return Ok(None);
        }
        std::thread::sleep(LOOK_EVERY);
    }
}

fn code(status: ExitStatus) -> i32 {
    use std::os::unix::process::ExitStatusExt;
    let signal = status.signal().map(|signal| 128 + signal);
    status.code().or(signal).unwrap_or_default()
}

fn remove(paths: &[&Path]) {
    for path in paths {
        // There is no input for most.
        let _ = fs::remove_file(path);
    }
}

/// Longer than the longest fault and what a node may take to notice its end: beyond that, a
/// command hangs.
const REQUEST_MAX: Duration = Duration::from_secs(90);
/// A fraction of what the fastest command takes.
const LOOK_EVERY: Duration = Duration::from_millis(2);
