//! `dfs doctor`: what is well on this machine and with the node, what is not, and what to do.

use std::fs::File;
use std::io::ErrorKind;
use std::net::{TcpStream, ToSocketAddrs};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};

use dfs_core::id::hex;
use dfs_core::name::FilePath;
use dfs_env::Env;
use dfs_server::{PeerState, PeerView};
use rustix::fs::{Mode, OFlags};
use rustix::process::{Resource, getrlimit};
use serde::Serialize;

use crate::cli::args::{Args, Doctor};
use crate::cli::http::Api;
use crate::cli::output::{Output, print, shown, size, word};
use crate::config::default_config_dir;
use crate::exit::{Code, Failure};
use crate::keyring::{self, SharedKey};
use crate::run_record::{self, RunRecord};

/// How one thing is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum State {
    Ok,
    /// Works, and may not always.
    Warn,
    Bad,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Finding {
    check: &'static str,
    state: State,
    message: String,
}

impl Finding {
    fn new(check: &'static str, state: State, message: impl Into<String>) -> Self {
        Self { check, state, message: message.into() }
    }
}

pub(super) fn run(args: &Args, doctor: &Doctor, out: &Output) -> Result<(), Failure> {
    let config_dir = match &args.config_dir {
        Some(dir) => dir.clone(),
        None => default_config_dir()?,
    };
    let mut bad = 0;
    let mut tell = |finding: Finding| {
        bad += usize::from(finding.state == State::Bad);
        show(&finding, out)
    };
    keys(&config_dir).into_iter().try_for_each(&mut tell)?;
    tell(descriptors())?;
    let running = run_record::running(&run_record::dirs(&config_dir));
    for record in &running {
        disk(record).into_iter().try_for_each(&mut tell)?;
    }
    match Api::find(args).and_then(|api| Ok((api.status()?, api.peers()?, api))) {
        Err(failure) => {
            let hint = failure.hint.map(|hint| format!("; {hint}")).unwrap_or_default();
            tell(Finding::new("node", State::Bad, format!("{}{hint}", failure.message)))?;
        }
        Ok((status, peers, api)) => {
            node(&status).into_iter().try_for_each(&mut tell)?;
            peers.iter().filter_map(peer).try_for_each(&mut tell)?;
            if doctor.speed {
                tell(speed(&api))?;
            }
        }
    }
    match bad {
        0 => Ok(()),
        bad => Err(Failure::new(Code::Failed, format!("{bad} of these need attention"))),
    }
}

fn show(finding: &Finding, out: &Output) -> Result<(), Failure> {
    if out.json {
        return out.object(finding);
    }
    let Finding { check, state, message } = finding;
    print(|text| writeln!(text, "{:4}  {check:8}  {}", word(state), shown(message)))
}

/// The keys of this user, which nodes on this machine share.
fn keys(dir: &Path) -> Vec<Finding> {
    let (cluster, vault) = (SharedKey::Cluster, SharedKey::Vault);
    let of = |which: SharedKey| {
        which.path(dir).exists().then(|| keyring::is_protected(&Env::real(), dir, which))
    };
    let (state, message) = match (of(cluster), of(vault)) {
        (Some(Err(failure)), _) | (_, Some(Err(failure))) => (State::Bad, failure.message),
        (None, None) => (
            State::Warn,
            format!(
                "{} has no keys: the first node makes them, or an invite brings them",
                dir.display()
            ),
        ),
        (_, None) => {
            (State::Ok, "the cluster's, and no vault's: a node here opens no file".to_owned())
        }
        (None, Some(Ok(_))) => (
            State::Warn,
            "the vault's, and no cluster's: a node that starts asks the others for it".to_owned(),
        ),
        (Some(Ok(_)), Some(Ok(is_protected))) => {
            let by = if is_protected { ", the vault's under a passphrase" } else { "" };
            (State::Ok, format!("{} has them{by}", dir.display()))
        }
    };
    vec![Finding::new("keys", state, message)]
}

/// How many files a node may have open.
fn descriptors() -> Finding {
    let limit = getrlimit(Resource::Nofile);
    // The node raises what it may to what it can.
    match limit.maximum {
        Some(most) if most < DESCRIPTORS_MIN => Finding::new(
            "limits",
            State::Warn,
            format!(
                "a process may have {most} files open: a busy node needs {DESCRIPTORS_MIN}; raise \
                 'ulimit -n'"
            ),
        ),
        most => {
            let most = most.map_or_else(|| "any number of".to_owned(), |most| most.to_string());
            Finding::new("limits", State::Ok, format!("a process may have {most} files open"))
        }
    }
}

/// The disk of a running node.
fn disk(record: &RunRecord) -> Vec<Finding> {
    let dir = record.token_file.parent().unwrap_or_else(|| Path::new("/"));
    let looked = rustix::fs::statvfs(dir).map(|found| room(dir, &found));
    let room = looked.unwrap_or_else(|error| {
        Finding::new("disk", State::Bad, format!("cannot look at {}: {error}", dir.display()))
    });
    let synced = sync_times(dir).map(|times| syncs(dir, is_in_memory(dir), &times));
    let synced = synced.unwrap_or_else(|error| match error.kind() {
        ErrorKind::Unsupported | ErrorKind::IsADirectory => {
            let why = format!("not measured: {} takes no file without a name", dir.display());
            Finding::new("sync", State::Warn, why)
        }
        _ => {
            Finding::new("sync", State::Bad, format!("cannot write to {}: {error}", dir.display()))
        }
    });
    vec![room, synced]
}

fn room(dir: &Path, found: &rustix::fs::StatVfs) -> Finding {
    let (free, all) = (found.f_bavail * found.f_frsize, found.f_blocks * found.f_frsize);
    let text = format!("{} of {} free at {}", size(free), size(all), dir.display());
    let few_files = found.f_files > 0 && found.f_favail < FILES_MIN;
    match () {
        () if few_files => {
            let left = found.f_favail;
            Finding::new("disk", State::Bad, format!("{text}, but only {left} more files (inodes)"))
        }
        () if free < FREE_MIN => Finding::new("disk", State::Bad, text),
        () => Finding::new("disk", State::Ok, text),
    }
}

fn is_in_memory(dir: &Path) -> bool {
    rustix::fs::statfs(dir).is_ok_and(|found| IN_MEMORY.contains(&found.f_type))
}

/// How long it takes to write and sync a little, sorted.
fn sync_times(dir: &Path) -> std::io::Result<Vec<Duration>> {
    // It has no name, so nobody comes upon it and nothing of it is left.
    let flags = OFlags::TMPFILE | OFlags::WRONLY | OFlags::CLOEXEC;
    let file = File::from(rustix::fs::open(dir, flags, Mode::RUSR | Mode::WUSR)?);
    let mut times = Vec::new();
    for at in 0..SYNCS {
        let began = Instant::now();
        file.write_all_at(&[1; SYNCED_BYTES], at * SYNCED_BYTES as u64)?;
        file.sync_data()?;
        times.push(began.elapsed());
    }
    times.sort_unstable();
    Ok(times)
}

fn syncs(dir: &Path, in_memory: bool, times: &[Duration]) -> Finding {
    let median = times.get(times.len() / 2).copied().unwrap_or_default();
    let took = format!("{:.2} ms to write and sync 4 KiB", median.as_secs_f64() * 1000.0);
    let (state, message) = match () {
        () if in_memory => (
            State::Bad,
            format!("{} is in memory: a restart of the machine loses everything", dir.display()),
        ),
        () if median < HONEST_MIN => (
            State::Warn,
            format!(
                "{took}: no disk is that fast, so it or the virtual machine below may say that it \
                 has stored what a power failure would lose"
            ),
        ),
        () if median > SLOW => (State::Warn, format!("{took}: every write waits for that")),
        () => (State::Ok, took),
    };
    Finding::new("sync", state, message)
}

/// What the node says of itself and of the cluster.
fn node(status: &serde_json::Value) -> Vec<Finding> {
    let text = |name: &str| status[name].as_str().unwrap_or_default();
    let sentences = |name: &str| -> Vec<String> {
        let all = status[name].as_array().map(Vec::as_slice).unwrap_or_default();
        all.iter().filter_map(|said| said.as_str().map(ToOwned::to_owned)).collect()
    };
    let state = match text("health") {
        "ok" => State::Ok,
        "degraded" => State::Warn,
        _ => State::Bad,
    };
    let mut findings = vec![Finding::new("cluster", state, text("message"))];
    for said in sentences("disks") {
        findings.push(Finding::new("disk", State::Bad, said));
    }
    for said in sentences("drains") {
        findings.push(Finding::new("drain", State::Warn, said));
    }
    let clocks = sentences("clocks");
    let (count, alive) = (&status["nodes"], &status["alive"]);
    findings.extend(clocks.iter().map(|said| Finding::new("clock", State::Bad, said.as_str())));
    if clocks.is_empty() {
        let said = match status["clock_ahead_ms"].as_i64() {
            Some(ms) if alive.as_u64() > Some(1) => format!("{ms} ms from the others'"),
            _ => "there is no other to compare it with".to_owned(),
        };
        findings.push(Finding::new("clock", State::Ok, said));
    }
    findings.push(Finding::new("peers", State::Ok, format!("{alive} of {count} nodes answer")));
    findings.push(match status["key_backup"].as_bool() {
        Some(true) => Finding::new("backup", State::Ok, "the vault's key was written down"),
        _ => Finding::new(
            "backup",
            State::Warn,
            "the vault's key is not backed up: 'dfs key export', then 'dfs key verify'; without it \
             nobody can read the files",
        ),
    });
    findings
}

/// What keeps a member away, as far as this machine can see.
fn peer(peer: &PeerView) -> Option<Finding> {
    let is_away = matches!(peer.state, PeerState::Suspect | PeerState::Down | PeerState::Out);
    if !is_away {
        return None;
    }
    let (id, addr) = (peer.id.get(..12).unwrap_or(&peer.id), &peer.addr);
    let reached = addr.to_socket_addrs().ok().and_then(|mut all| all.next());
    let reached = reached.is_some_and(|addr| TcpStream::connect_timeout(&addr, DIAL_MAX).is_ok());
    let why = match reached {
        true => format!(
            "something answers at {addr}: look at the log of that node, and whether it is another \
             cluster's"
        ),
        false => format!(
            "nothing answers at {addr} from here: is the machine on, the node running, the port \
             open in its firewall, the address still its own?"
        ),
    };
    Some(Finding::new("peers", State::Warn, format!("{id} is away, and {why}")))
}

/// How fast content goes in and comes out. What is stored for it is deleted and given up.
fn speed(api: &Api) -> Finding {
    match try_speed(api) {
        Ok((put, get)) => {
            let rate = |time: Duration| {
                let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX).max(1);
                size(PROBE_BYTES as u64 * 1_000_000 / micros)
            };
            let text = format!("{}/s in, durable on a majority, {}/s out", rate(put), rate(get));
            Finding::new("speed", State::Ok, text)
        }
        Err(failure) => Finding::new("speed", State::Bad, failure.message),
    }
}

fn try_speed(api: &Api) -> Result<(Duration, Duration), Failure> {
    let name = format!(".dfs-doctor-{}", hex(&Env::real().random::<8>()));
    let path = FilePath::parse(&name).map_err(|error| Failure::new(Code::Failed, error))?;
    // What no other content is equal to: else it might be there already.
    let mut content = vec![0; PROBE_BYTES];
    let mut fill = blake3::Hasher::new().update(name.as_bytes()).finalize_xof();
    fill.fill(&mut content);
    let began = Instant::now();
    let stored = api.put(&path, &mut &content[..], Some(PROBE_BYTES as u64), None);
    let put = began.elapsed();
    let fetched = stored.and_then(|_| {
        let began = Instant::now();
        let mut out = Vec::new();
        let mut source = api.open(&path, None, 0)?.content;
        std::io::copy(&mut source, &mut out)
            .map_err(|error| Failure::new(Code::Failed, format!("cannot read it back: {error}")))?;
        match out == content {
            true => Ok(began.elapsed()),
            false => Err(Failure::new(Code::Unverified, "it came back as something else")),
        }
    });
    // Also after a failure: it may be there all the same.
    let removed = api.remove(&path, false).and_then(|_| api.purge(&path, None));
    let get = fetched?;
    removed?;
    Ok((put, get))
}

/// A node with many peers, clients and files under way.
const DESCRIPTORS_MIN: u64 = 4096;
/// Below these a node takes nothing new.
const FREE_MIN: u64 = 1 << 30;
const FILES_MIN: u64 = 16_384;
/// File systems that forget everything: tmpfs and ramfs.
const IN_MEMORY: [rustix::fs::FsWord; 2] = [0x0102_1994, 0x8584_58f6];
/// Syncs that are timed, and how much each has to store.
const SYNCS: u64 = 32;
const SYNCED_BYTES: usize = 4096;
/// No way to a disk and back is shorter, not even to one that may lose power and keeps what it has.
const HONEST_MIN: Duration = Duration::from_micros(15);
/// A disk that turns needs a tenth of that.
const SLOW: Duration = Duration::from_millis(200);
/// How long a port is waited for.
const DIAL_MAX: Duration = Duration::from_secs(2);
/// Sent and fetched to see how fast that is: some seconds on a line of 20 Mbit/s.
const PROBE_BYTES: usize = 8 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    fn state(findings: &[Finding], check: &str) -> Vec<State> {
        findings.iter().filter(|found| found.check == check).map(|found| found.state).collect()
    }

    #[test]
    fn what_the_node_says_is_sorted_by_how_bad_it_is() {
        let well = serde_json::json!({
            "health": "ok", "message": "every file has 3 copies", "nodes": 3, "alive": 3,
            "clock_ahead_ms": 12, "key_backup": true,
        });
        assert!(node(&well).iter().all(|found| found.state == State::Ok));
        let ill = serde_json::json!({
            "health": "at-risk", "message": "m", "nodes": 3, "alive": 2, "key_backup": false,
            "clocks": ["the clock of node 1 is 3 h ahead"], "disks": ["full"], "drains": ["d"],
        });
        let found = node(&ill);
        for (check, expected) in [
            ("cluster", State::Bad),
            ("clock", State::Bad),
            ("disk", State::Bad),
            ("drain", State::Warn),
            ("backup", State::Warn),
        ] {
            assert_eq!(state(&found, check), [expected], "{check}");
        }
    }

    #[test]
    fn a_sync_that_is_too_fast_or_too_slow_is_told() {
        let of = |in_memory, micros| {
            syncs(Path::new("/d"), in_memory, &[Duration::from_micros(micros); 3]).state
        };
        assert_eq!(of(false, 3), State::Warn);
        assert_eq!(of(false, 400), State::Ok);
        assert_eq!(of(false, 9_000), State::Ok);
        assert_eq!(of(false, 400_000), State::Warn);
        assert_eq!(of(true, 3), State::Bad);
    }

    #[test]
    fn keys_that_others_can_read_are_bad() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let mode = |path: std::path::PathBuf, mode| {
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
        };
        mode(dir.path().to_owned(), 0o700);
        assert_eq!(state(&keys(dir.path()), "keys"), [State::Warn]);
        keyring::load_or_create(&Env::real(), dir.path(), true, keyring::Vault::StaysClosed)
            .unwrap();
        assert_eq!(state(&keys(dir.path()), "keys"), [State::Ok]);
        mode(SharedKey::Vault.path(dir.path()), 0o644);
        assert_eq!(state(&keys(dir.path()), "keys"), [State::Bad]);
    }
}
