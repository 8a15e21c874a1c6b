//! How a client finds a running node: a small file that each node keeps while it runs.
//!
//! It is kept in two places, because a node that a supervisor started and a shell need not agree on
//! `XDG_RUNTIME_DIR`. A record tells clients where to send a token and plaintext, so a directory
//! into which others can put one is not used.

use std::collections::BTreeSet;
use std::fs::{File, TryLockError};
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use dfs_env::{Bug, bug};
use serde::{Deserialize, Serialize};
use ureq::http::Uri;
use ureq::http::uri::{Authority, Scheme};

use crate::exit::tell;

/// One running node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunRecord {
    /// The node's id.
    pub node: String,
    /// Its peer address.
    pub listen: SocketAddr,
    /// The base URL of its API.
    pub api: String,
    /// The file with the API's token.
    pub token_file: PathBuf,
    /// Whether the node locks its record while it runs. The lock ends with its process, however
    /// that ends, and holds for whoever has another view of processes, as containers do.
    #[serde(default)]
    pub locked: bool,
    /// Its process. Where the record is not locked it tells whether the node runs.
    pub pid: u32,
    /// The boot of the machine that the process belongs to, where the system names it. After
    /// another boot, and on another machine with the same home, another process has the process id.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub boot: Option<String>,
    /// When the process started, in ticks since the boot, where the system tells. Another process
    /// that was given the same id later started later.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub started: Option<u64>,
}

/// Records that go away with their owner, and their locks.
#[derive(Debug)]
pub struct Published(Vec<(PathBuf, File)>);

impl Drop for Published {
    fn drop(&mut self) {
        for (path, _) in &self.0 {
            // Best effort: a record that stays is not locked any more.
            let _ = std::fs::remove_file(path);
        }
    }
}

/// A record, as it was found.
struct Found {
    path: PathBuf,
    record: RunRecord,
    runs: bool,
}

/// Where records are kept: `$XDG_RUNTIME_DIR/dfs`, and `run` in the config directory.
pub fn dirs(config_dir: &Path) -> Vec<PathBuf> {
    let runtime = std::env::var_os("XDG_RUNTIME_DIR").filter(|dir| !dir.is_empty());
    let runtime = runtime.map(|dir| PathBuf::from(dir).join("dfs"));
    runtime.into_iter().chain([shared_dir(config_dir)]).collect()
}

/// Where nodes keep their records that have the same keys.
pub fn shared_dir(config_dir: &Path) -> PathBuf {
    config_dir.join("run")
}

/// The boot this process belongs to, where the system names it.
pub fn this_boot() -> Option<String> {
    let id = std::fs::read_to_string(BOOT_ID).ok()?;
    Some(id.trim().to_owned())
}

/// When a process of this machine started, in ticks since the boot, where the system tells.
pub fn started(pid: u32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name before it may hold anything, a bracket too.
    let (_, after_name) = stat.rsplit_once(')')?;
    after_name.split_ascii_whitespace().nth(STARTED_FIELD)?.parse().ok()
}

/// Publishes a node's record in each of `dirs`, and removes what dead nodes left there.
///
/// # Errors
/// Why the last directory failed, when all did. A record in one is enough for clients.
pub fn publish(dirs: &[PathBuf], record: &RunRecord) -> io::Result<Published> {
    let mut published = Published(Vec::new());
    let mut failure = None;
    for dir in dirs {
        match publish_in(dir, record) {
            Ok(locked) => published.0.push(locked),
            Err(error) => {
                let error = io::Error::new(error.kind(), format!("{}: {error}", dir.display()));
                tracing::warn!(%error, "a run record was not written");
                failure = Some(error);
            }
        }
    }
    match failure {
        Some(error) if published.0.is_empty() => Err(error),
        _ => Ok(published),
    }
}

fn publish_in(dir: &Path, record: &RunRecord) -> io::Result<(PathBuf, File)> {
    std::fs::DirBuilder::new().mode(0o700).recursive(true).create(dir)?;
    refuse_foreign(dir)?;
    for older in read(dir) {
        let holds_lock = older.record.locked && older.runs;
        if !holds_lock && is_gone(&older.record, record) {
            let _ = std::fs::remove_file(older.path);
        }
    }
    // By the node, which no other has, and not by its process id, which another container's may.
    let name = |extension: &str| dir.join(format!("{}.{extension}", record.node));
    let (path, aside) = (name("json"), name("tmp"));
    match std::fs::remove_file(&aside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = File::options().write(true).create_new(true).mode(0o600).open(&aside)?;
    // Before anyone can see it. Not every file system has locks.
    let locked = file.try_lock().is_ok();
    file.write_all(&serde_json::to_vec(&RunRecord { locked, ..record.clone() })?)?;
    std::fs::rename(&aside, &path)?;
    Ok((path, file))
}

/// Whether `ours` proves that the node of `older`, whose record is not locked, ended: we hold the
/// lock of its data directory, or listen where it listened. Its process id proves nothing: another
/// process may have it by now.
fn is_gone(older: &RunRecord, ours: &RunRecord) -> bool {
    let (a, b) = (older.listen, ours.listen);
    let one_host = a.ip() == b.ip() || a.ip().is_unspecified() || b.ip().is_unspecified();
    let here = older.boot == ours.boot;
    older.token_file == ours.token_file || (here && one_host && a.port() == b.port())
}

/// Every record there is, also those that nodes left which were killed.
pub fn all(dirs: &[PathBuf]) -> Vec<RunRecord> {
    let ours = dirs.iter().filter(|dir| refuse_foreign(dir).is_ok());
    ours.flat_map(|dir| read(dir)).map(|found| found.record).collect()
}

/// The records of nodes that run, in order of their ports.
pub fn running(dirs: &[PathBuf]) -> Vec<RunRecord> {
    let boot = this_boot();
    let mut known = BTreeSet::new();
    let mut records = Vec::new();
    for dir in dirs {
        match refuse_foreign(dir) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => {
                tell(format_args!("ignored {}: {error}", dir.display()));
                continue;
            }
        }
        for Found { record, runs, .. } in read(dir) {
            let this_boot = record.boot.is_none() || record.boot == boot;
            if this_boot && runs && known.insert((record.node.clone(), record.api.clone())) {
                records.push(record);
            }
        }
    }
    records.sort_by_key(|record| record.listen.port());
    records
}

/// Leaves out candidates whose API refuses a connection, unless all do: a node that was killed
/// leaves its record, and another process may have its process id.
pub fn answering(candidates: Vec<RunRecord>) -> Vec<RunRecord> {
    if candidates.len() < 2 {
        return candidates;
    }
    let (refusing, answering): (Vec<_>, Vec<_>) = candidates.into_iter().partition(refuses);
    if answering.is_empty() { refusing } else { answering }
}

/// The first of several records whose API does not refuse a connection.
pub fn first_open(candidates: impl IntoIterator<Item = RunRecord>) -> Option<RunRecord> {
    candidates.into_iter().find(|record| !refuses(record))
}

fn refuses(record: &RunRecord) -> bool {
    let addr = authority(&record.api).and_then(|addr| addr.as_str().parse().ok());
    let Some(addr) = addr else { return false };
    let refused = |error: io::Error| error.kind() == io::ErrorKind::ConnectionRefused;
    TcpStream::connect_timeout(&addr, PROBE_MAX).is_err_and(refused)
}

/// The host and the port of an `http` URL.
pub(crate) fn authority(url: &str) -> Option<Authority> {
    let parts = url.parse::<Uri>().ok()?.into_parts();
    parts.authority.filter(|_| parts.scheme == Some(Scheme::HTTP))
}

fn refuse_foreign(dir: &Path) -> io::Result<()> {
    let found = std::fs::symlink_metadata(dir)?;
    let owned = found.uid() == rustix::process::geteuid().as_raw();
    if found.is_dir() && owned && found.mode() & 0o022 == 0 {
        return Ok(());
    }
    let why = "it is no directory, belongs to another user or is writable by others";
    Err(io::Error::new(io::ErrorKind::PermissionDenied, why))
}

fn read(dir: &Path) -> Vec<Found> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.extension().is_some_and(|extension| extension == "json") {
            found.extend(read_one(path));
        }
    }
    found
}

fn read_one(path: PathBuf) -> Option<Found> {
    let mut file = File::open(&path).ok()?;
    let mut text = Vec::new();
    (&mut file).take(RECORD_BYTES_MAX).read_to_end(&mut text).ok()?;
    let record: RunRecord = serde_json::from_slice(&text).ok()?;
    // The file that was read, whatever has its name by now. Held for this moment only, and no node
    // waits for it: each locks a file that nobody has seen.
    let runs = match record.locked {
        true => matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock)),
        false => is_running(&record),
    };
    Some(Found { path, record, runs })
}

/// Whether the process of a record runs: this user's, and not a later one with the same id, which
/// may belong to someone who waits for a token on the same port.
fn is_running(record: &RunRecord) -> bool {
    let pid = i32::try_from(record.pid).ok().and_then(rustix::process::Pid::from_raw);
    let is_ours = |pid| rustix::process::test_kill_process(pid).is_ok();
    let is_same = || {
        let is_told = record.started.is_some() && !bug(Bug::AnyProcessIsTheNode);
        !is_told || record.started == started(record.pid)
    };
    pid.is_some_and(is_ours) && is_same()
}

/// More than a record has.
const RECORD_BYTES_MAX: u64 = 64 * 1024;
/// Linux names each boot here.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";
/// The 22nd field of a process's `stat`, counted from the one after its name.
const STARTED_FIELD: usize = 19;
/// The API is on this machine, where a connection is accepted or refused at once.
const PROBE_MAX: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    /// A record of this process, which does run.
    fn record(port: u16, token_file: &str) -> RunRecord {
        RunRecord {
            node: format!("node-{port}"),
            listen: SocketAddr::from(([127, 0, 0, 1], port)),
            api: format!("http://127.0.0.1:{port}"),
            token_file: token_file.into(),
            locked: false,
            pid: std::process::id(),
            boot: this_boot(),
            started: started(std::process::id()),
        }
    }

    /// A record as it is read while its node runs.
    fn locked(record: &RunRecord) -> RunRecord {
        RunRecord { locked: true, ..record.clone() }
    }

    /// Puts a record where `publish` does, and locks nothing: as a node leaves it that was killed,
    /// or one of an earlier version, which locks none.
    fn leave(dirs: &[PathBuf], record: &RunRecord) {
        for dir in dirs {
            drop(publish(std::slice::from_ref(dir), record));
            let path = dir.join(format!("{}.json", record.node));
            std::fs::write(path, serde_json::to_vec(record).unwrap()).unwrap();
        }
    }

    fn dirs_in(home: &tempfile::TempDir) -> [PathBuf; 2] {
        ["runtime/dfs", "config/run"].map(|name| home.path().join(name))
    }

    #[test]
    fn a_node_is_found_through_either_directory_and_counted_once() {
        let home = tempfile::tempdir().unwrap();
        let dirs = dirs_in(&home);
        let published = publish(&dirs, &record(3000, "/a/token")).unwrap();
        for dirs in [&dirs[..], &dirs[..1], &dirs[1..]] {
            assert_eq!(running(dirs), [locked(&record(3000, "/a/token"))]);
        }
        drop(published);
        assert!(running(&dirs).is_empty());
    }

    #[test]
    fn a_record_of_another_boot_or_of_a_dead_process_is_not_used() {
        let home = tempfile::tempdir().unwrap();
        let dirs = dirs_in(&home);
        let other_boot = RunRecord { boot: Some("another".to_owned()), ..record(3000, "/a/token") };
        let _published = publish(&dirs, &other_boot).unwrap();
        leave(&dirs, &RunRecord { pid: 0, ..record(4000, "/b/token") });
        assert!(running(&dirs).is_empty());
    }

    #[test]
    fn whether_a_node_runs_is_told_by_its_lock_whatever_its_process_id_is() {
        let home = tempfile::tempdir().unwrap();
        let dirs = dirs_in(&home);
        // As in two containers: one process id, one address each in its own network, one path.
        let first = RunRecord { node: "first".to_owned(), pid: 1, ..record(3000, "/a/token") };
        let second =
            RunRecord { node: "second".to_owned(), api: "http://b:1".to_owned(), ..first.clone() };
        let one = publish(&dirs, &first).unwrap();
        let other = publish(&dirs, &second).unwrap();
        assert_eq!(running(&dirs), [locked(&first), locked(&second)]);
        drop(one);
        assert_eq!(running(&dirs), [locked(&second)]);
        drop(other);
        // Killed: the process id is that of this test, which runs.
        leave(&dirs, &locked(&record(3000, "/a/token")));
        assert!(running(&dirs).is_empty());
        let _again = publish(&dirs, &first).unwrap();
        assert_eq!(running(&dirs), [locked(&first)]);
        assert_eq!(std::fs::read_dir(&dirs[0]).unwrap().count(), 1);
    }

    #[test]
    fn a_process_that_was_given_the_id_of_a_dead_node_is_not_taken_for_it() {
        let ours = record(3000, "/a/token");
        let Some(since) = ours.started else { return };
        let home = tempfile::tempdir().unwrap();
        let dirs = dirs_in(&home);
        let killed = RunRecord { started: Some(since - 1), ..ours.clone() };
        leave(&dirs[..1], &killed);
        assert!(running(&dirs).is_empty());
        let _published = publish(&dirs[1..], &ours).unwrap();
        assert_eq!(running(&dirs), [locked(&ours)]);
        // Nor is a process of another user: this one may not signal it, unless it may signal all.
        if !rustix::process::geteuid().is_root() {
            assert!(!is_running(&RunRecord { pid: 1, started: None, ..killed }));
        }
    }

    #[test]
    fn a_new_record_replaces_those_of_its_data_directory_and_of_its_port() {
        let ours = record(3000, "/a/token");
        let elsewhere = RunRecord { boot: Some("another".to_owned()), ..record(3000, "/c/token") };
        for (older, gone) in [
            (record(4000, "/a/token"), true),
            (record(3000, "/b/token"), true),
            (RunRecord { listen: "[::]:3000".parse().unwrap(), ..record(1, "/b/token") }, true),
            (RunRecord { listen: "10.0.0.1:3000".parse().unwrap(), ..record(1, "/b") }, false),
            (record(4000, "/b/token"), false),
            (elsewhere, false),
        ] {
            assert_eq!(is_gone(&older, &ours), gone, "{older:?}");
        }
        let home = tempfile::tempdir().unwrap();
        let dirs = dirs_in(&home);
        leave(&dirs, &RunRecord { pid: 1, node: "killed".to_owned(), ..record(3000, "/b/token") });
        let _published = publish(&dirs, &ours).unwrap();
        assert_eq!(running(&dirs), [locked(&ours)]);
    }

    #[test]
    fn a_directory_that_others_can_write_to_is_neither_read_nor_written() {
        let home = tempfile::tempdir().unwrap();
        let dirs = dirs_in(&home);
        let planted = publish(&dirs[..1], &record(3000, "/a/token")).unwrap();
        std::fs::set_permissions(&dirs[0], std::fs::Permissions::from_mode(0o777)).unwrap();
        assert!(running(&dirs).is_empty());
        assert!(publish(&dirs[..1], &record(4000, "/b/token")).is_err());
        let _published = publish(&dirs, &record(4000, "/b/token")).unwrap();
        assert_eq!(running(&dirs), [locked(&record(4000, "/b/token"))]);
        drop(planted);
    }

    #[test]
    fn of_several_candidates_those_that_refuse_are_left_out() {
        let open = TcpListener::bind("127.0.0.1:0").unwrap();
        let answers = record(open.local_addr().unwrap().port(), "/a/token");
        let closed = TcpListener::bind("127.0.0.1:0").unwrap();
        let refuses = record(closed.local_addr().unwrap().port(), "/b/token");
        drop(closed);
        assert_eq!(answering(vec![refuses.clone(), answers.clone()]), [answers]);
        // The only one is kept: its failure explains more than "no node".
        assert_eq!(answering(vec![refuses.clone()]), [refuses]);
    }
}
