//! How a client finds a running node: a small file that each node keeps while it runs.

use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// One running node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunRecord {
    /// The node's id.
    pub node: String,
    /// Its peer address.
    pub listen: std::net::SocketAddr,
    /// The base URL of its API.
    pub api: String,
    /// The file with the API's token.
    pub token_file: PathBuf,
    /// Its process.
    pub pid: u32,
}

/// A record that goes away with its owner.
#[derive(Debug)]
pub struct Published(PathBuf);

impl Drop for Published {
    fn drop(&mut self) {
        // Best effort: a stale record is recognised by its dead process.
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Where records are kept: `$XDG_RUNTIME_DIR/dfs`, or `run` in the config directory.
pub fn dir(config_dir: &Path) -> PathBuf {
    match std::env::var_os("XDG_RUNTIME_DIR").filter(|dir| !dir.is_empty()) {
        Some(dir) => PathBuf::from(dir).join("dfs"),
        None => config_dir.join("run"),
    }
}

/// Publishes a node's record.
///
/// # Errors
/// Whatever the disk says.
pub fn publish(config_dir: &Path, record: &RunRecord) -> std::io::Result<Published> {
    let dir = dir(config_dir);
    std::fs::DirBuilder::new().mode(0o700).recursive(true).create(&dir)?;
    let path = dir.join(format!("{}.json", record.pid));
    let temp = dir.join(format!("{}.tmp", record.pid));
    let mut options = std::fs::OpenOptions::new();
    let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&temp)?;
    file.write_all(&serde_json::to_vec(record)?)?;
    std::fs::rename(&temp, &path)?;
    Ok(Published(path))
}

/// The records of nodes that run, in order of their ports. Those of dead processes are removed.
pub fn running(config_dir: &Path) -> Vec<RunRecord> {
    let mut records = Vec::new();
    for entry in std::fs::read_dir(dir(config_dir)).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.extension().is_none_or(|extension| extension != "json") {
            continue;
        }
        let text = std::fs::read(&path).unwrap_or_default();
        let Ok(record) = serde_json::from_slice::<RunRecord>(&text) else { continue };
        if is_running(record.pid) {
            records.push(record);
        } else {
            let _ = std::fs::remove_file(&path);
        }
    }
    records.sort_by_key(|record| record.listen.port());
    records
}

fn is_running(pid: u32) -> bool {
    let pid = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw);
    let alive = |pid| match rustix::process::test_kill_process(pid) {
        Ok(()) | Err(rustix::io::Errno::PERM) => true,
        Err(_) => false,
    };
    pid.is_some_and(alive)
}
