//! Network namespaces: a private loopback for each node, so that the only way from one node to
//! another is through what we put there.
//!
//! No bridge, no address and no route is made, and nothing of it has a name: a namespace goes
//! away with the last process or file that holds it, also when we are killed.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::os::fd::AsFd;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// A network of its own, with nothing but loopback.
#[derive(Debug)]
pub(crate) struct Namespace(File);

impl Namespace {
    /// Makes one. Needs root, `unshare` and `ip`.
    pub(crate) fn new() -> Result<Self> {
        // The holder lives until we have opened its namespace, then reads the end of its stdin.
        let mut holder = Command::new("unshare")
            .args(["--net", "sh", "-c", "ip link set lo up && echo up && read -r end"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("cannot run unshare")?;
        let stdout = holder.stdout.take().context("stdout is piped")?;
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line)?;
        let opened = File::open(format!("/proc/{}/ns/net", holder.id()));
        let output = holder.wait_with_output()?;
        let why = String::from_utf8_lossy(&output.stderr);
        ensure!(line.trim() == "up", "no network namespace: {}", why.trim());
        Ok(Self(opened?))
    }

    /// Runs `work` on a thread inside. Sockets and processes made there stay there.
    pub(crate) fn within<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T> {
        std::thread::scope(|scope| {
            let inside = scope.spawn(|| {
                move_into_link_name_space(self.0.as_fd(), Some(LinkNameSpaceType::Network))?;
                Ok(work())
            });
            inside.join().expect("work inside a namespace does not panic")
        })
    }
}
