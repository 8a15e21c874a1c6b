//! A disk whose size can be taken away and given back: a tmpfs that is mounted anew.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

/// A tmpfs of our own; unmounted when dropped.
#[derive(Debug)]
pub(crate) struct SmallDisk(PathBuf);

impl SmallDisk {
    /// Mounts one with [`BYTES`] of space, which take no memory before they are used. Needs root.
    pub(crate) fn mount(on: &Path) -> Result<Self> {
        std::fs::create_dir_all(on)?;
        let on = on.canonicalize()?;
        let size = format!("size={BYTES},mode=0700");
        mount(&["-t", "tmpfs", "-o", &size, NAME], &on)?;
        Ok(Self(on))
    }

    /// Frees the place from what a run left there that was killed.
    pub(crate) fn clear(on: &Path) -> Result<()> {
        let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        let Ok(on) = on.canonicalize() else { return Ok(()) };
        let is_ours = |line: &str| line.split(' ').next() == Some(NAME);
        let path = on.to_str().context("a path that is UTF-8")?;
        if mounts.lines().any(|line| is_ours(line) && line.contains(path)) {
            unmount(&on)?;
        }
        Ok(())
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// Leaves space for this many bytes, what a node keeps in reserve, and the margin without which
    /// one that was full stays so.
    pub(crate) fn leave(&self, bytes: u64) -> Result<()> {
        let (used, _) = self.used_and_free()?;
        self.resize((used + bytes) * 100 / (100 - RESERVE_PERCENT - MARGIN_PERCENT))
    }

    /// Whether a node would refuse another chunk.
    pub(crate) fn is_full(&self) -> Result<bool> {
        let (used, free) = self.used_and_free()?;
        Ok(free < (used + free) * RESERVE_PERCENT / 100 + CHUNK_BYTES)
    }

    /// Leaves no byte: from here on the disk itself refuses.
    pub(crate) fn leave_nothing(&self) -> Result<()> {
        // Less than is used is refused, and the node may write at any time.
        for _ in 0..RESIZE_TRIES {
            let (used, _) = self.used_and_free()?;
            if self.resize(used).is_ok() {
                return Ok(());
            }
            std::thread::sleep(RESIZE_AGAIN);
        }
        bail!("could not fill {}", self.0.display())
    }

    /// Gives all the space back.
    pub(crate) fn give_space(&self) -> Result<()> {
        self.resize(BYTES)
    }

    fn resize(&self, bytes: u64) -> Result<()> {
        // With its name given, `mount` does not repeat the options it had, which a user namespace
        // may not.
        mount(&["-o", &format!("remount,size={bytes}"), NAME], &self.0)
    }

    fn used_and_free(&self) -> Result<(u64, u64)> {
        let space = rustix::fs::statvfs(&self.0)?;
        let free = space.f_bfree * space.f_frsize;
        Ok((space.f_blocks * space.f_frsize - free, free))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        if let Err(error) = unmount(&self.0) {
            eprintln!("error: {error:#}");
        }
    }
}

fn mount(args: &[&str], on: &Path) -> Result<()> {
    run(Command::new("mount").args(args).arg(on))
}

fn unmount(on: &Path) -> Result<()> {
    run(Command::new("umount").arg(on))
}

fn run(command: &mut Command) -> Result<()> {
    let program = command.get_program().to_owned();
    let output = command.stdin(Stdio::null()).output();
    let output = output.with_context(|| format!("cannot run {}", program.display()))?;
    // What `mount` says after its first line is advice.
    let why = String::from_utf8_lossy(&output.stderr);
    let why = why.lines().next().unwrap_or_default();
    ensure!(output.status.success(), "{} failed: {why}", program.display());
    Ok(())
}

/// What the list of mounts calls it.
const NAME: &str = "dfs-chaos";
/// Twice what the content of a run may take.
const BYTES: u64 = 8 << 30;
/// What a node keeps free of a small disk.
const RESERVE_PERCENT: u64 = 5;
/// What more must be free before it takes blobs again.
const MARGIN_PERCENT: u64 = 2;
const CHUNK_BYTES: u64 = 1 << 20;
const RESIZE_TRIES: usize = 50;
const RESIZE_AGAIN: Duration = Duration::from_millis(20);
