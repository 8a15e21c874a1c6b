//! The real binaries: what they refuse, with which exit code and which words.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod apart;
mod client;
mod config;
mod files;
mod history;
mod invites;
mod lifecycle;
mod passphrase;
mod past;
mod proof;
mod restart;
mod restore;
mod scrub;
mod sync;
mod tokens;
mod watch;

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

struct Home(TempDir);

struct Running {
    child: Child,
    api: String,
    listen: String,
}

impl Running {
    fn end(mut self) -> Option<i32> {
        signal(&self.child, Signal::TERM);
        self.child.wait().unwrap().code()
    }
}

fn signal(child: &Child, signal: Signal) {
    kill_process(Pid::from_child(child), signal).unwrap();
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Home {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn node(&self, data: &str, args: &[&str]) -> Command {
        self.node_on("127.0.0.1:0", data, args)
    }

    fn node_on(&self, listen: &str, data: &str, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_dfs-node"));
        command.args(["--listen", listen, "--data-dir"]).arg(self.path(data));
        command.arg("--config-dir").arg(self.path("config")).args(args);
        self.clean(&mut command);
        command
    }

    fn clean(&self, command: &mut Command) {
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("DFS_")) {
            command.env_remove(name);
        }
        fs::create_dir_all(self.path("run")).unwrap();
        command.env("XDG_RUNTIME_DIR", self.path("run")).stdin(Stdio::null());
    }

    fn start(&self, data: &str, args: &[&str]) -> Running {
        self.start_on("127.0.0.1:0", data, args)
    }

    fn start_on(&self, listen: &str, data: &str, args: &[&str]) -> Running {
        Self::run(self.node_on(listen, data, args).stderr(Stdio::null()))
    }

    fn run(node: &mut Command) -> Running {
        let mut child = node.stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let fact = |name: &str| {
            let field = line.split_whitespace().find_map(|field| field.strip_prefix(name));
            field.unwrap_or_else(|| panic!("no {name} in {line:?}")).to_owned()
        };
        Running { api: fact("api="), listen: fact("listen="), child }
    }

    /// Waits until a node's status is as wanted.
    fn wait(&self, node: &Running, wanted: impl Fn(&serde_json::Value) -> bool) {
        let until = Instant::now() + SETTLED_MAX;
        loop {
            let status = self.dfs(node, &["--json", "status"], b"").stdout;
            if serde_json::from_slice(&status).is_ok_and(|status| wanted(&status)) {
                return;
            }
            let status = String::from_utf8_lossy(&status);
            assert!(Instant::now() < until, "not in time: {status}");
        }
    }

    fn client(&self, api: &str, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_dfs"));
        command.args(["--node", api, "--config-dir"]).arg(self.path("config")).args(args);
        self.clean(&mut command);
        command
    }

    fn dfs(&self, node: &Running, args: &[&str], input: &[u8]) -> Output {
        let mut command = self.client(&node.api, args);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        // A verb that fails before it reads closes the pipe.
        let _ = child.stdin.take().unwrap().write_all(input);
        child.wait_with_output().unwrap()
    }
}

/// Generous: a busy machine must not fail a test.
const SETTLED_MAX: Duration = Duration::from_secs(120);

#[track_caller]
fn check(output: &Output, code: i32, says: &str) {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{stderr}");
    assert!(stderr.contains(says), "{says:?} is not in {stderr:?}");
    if code != 0 {
        assert!(stderr.contains("error:"), "{stderr:?}");
    }
}

#[track_caller]
fn refused(home: &Home, data: &str, args: &[&str], code: i32, says: &str) {
    check(&home.node(data, args).output().unwrap(), code, says);
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn a_data_directory_that_is_not_ours_alone_is_refused() {
    let home = Home::new();
    let running = home.start("data", &[]);
    refused(&home, "data", &[], 11, "in use");
    drop(running);
    set_mode(&home.path("data"), 0o777);
    refused(&home, "data", &[], 1, "writable by others");
    set_mode(&home.path("data"), 0o700);
    fs::write(home.path("data/format"), "dfs-data 9\n").unwrap();
    refused(
        &home,
        "data",
        &[],
        1,
        "unknown format \"dfs-data 9\"; this program reads \"dfs-data 3\"",
    );
    fs::create_dir(home.path("thesis")).unwrap();
    fs::write(home.path("thesis/chapter-1.txt"), "mine").unwrap();
    refused(&home, "thesis", &[], 1, "holds other files");
    fs::write(home.path("file"), "x").unwrap();
    refused(&home, "file", &[], 1, "error:");
}

#[test]
fn damaged_exposed_and_missing_keys_are_named() {
    let home = Home::new();
    drop(home.start("data", &[]));
    let key = home.path("config/cluster.key");
    let good = fs::read(&key).unwrap();
    let damage = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = good.clone();
        change(&mut bytes);
        fs::write(&key, bytes).unwrap();
    };
    damage(&|bytes| bytes[30] ^= 1);
    refused(&home, "data", &[], 12, "damaged");
    damage(&|bytes| bytes.truncate(40));
    refused(&home, "data", &[], 12, "damaged");
    damage(&|bytes| bytes[4] = 9);
    refused(&home, "data", &[], 12, "unknown format version 9");
    damage(&|_| ());
    set_mode(&key, 0o644);
    refused(&home, "data", &[], 12, "open to others");
    fs::remove_file(&key).unwrap();
    refused(&home, "data", &["--bootstrap", "192.0.2.1:3000"], 12, "dfs key export --cluster");
    fs::write(home.path("data/node.key"), "x").unwrap();
    refused(&home, "data", &[], 12, "node.key");
}

#[test]
fn a_busy_port_and_bad_flags_are_named() {
    let home = Home::new();
    let running = home.start("one", &[]);
    let busy = Command::new(env!("CARGO_BIN_EXE_dfs-node"))
        .args(["--listen", &running.listen, "--data-dir"])
        .arg(home.path("two"))
        .arg("--config-dir")
        .arg(home.path("config"))
        .output()
        .unwrap();
    check(&busy, 1, "cannot listen on");
    assert!(String::from_utf8_lossy(&busy.stderr).contains("another program uses the port"));
    // An address of the documentation's network (RFC 5737) is none of this machine.
    let elsewhere = |args: &[&str], says: &str| {
        let output = home.node_on("127.0.0.1:0", "three", args).output().unwrap();
        check(&output, 1, says);
        assert!(!String::from_utf8_lossy(&output.stderr).contains("another program"));
    };
    elsewhere(&["--api", "192.0.2.1:0"], "give --api one that it has");
    let output = home.node_on("192.0.2.1:0", "three", &[]).output().unwrap();
    check(&output, 1, "give --listen one that it has");
    // A port that is free later must not find a cluster founded on the side.
    let joined = home.start("two", &["--bootstrap", &running.listen]);
    drop(joined);
    let bad = |args: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_dfs-node")).args(args).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{args:?}");
    };
    bad(&["--listen", "3000"]);
    bad(&["--listen", ":99999"]);
    bad(&["--bootstrap", "::1:3000"]);
    bad(&["--capacity", "lots"]);
    bad(&["--frobnicate"]);
}

#[test]
fn a_node_that_loses_its_way_in_the_config_file_says_where() {
    let home = Home::new();
    drop(home.start("data", &[]));
    fs::write(home.path("config/config.toml"), "lisen = \":3000\"\n").unwrap();
    refused(&home, "data", &[], 1, "lisen");
}

#[test]
fn the_client_refuses_what_cannot_be_a_name_and_reports_what_fails() {
    let home = Home::new();
    let node = home.start("data", &[]);
    for bad in ["../x", "a/../b", "a//b", ".", &"x".repeat(1025)] {
        check(&home.dfs(&node, &["put", "-", bad], b"x"), 2, "not a valid name");
    }
    let deepest = vec!["x".repeat(255); 16].join("/");
    check(&home.dfs(&node, &["put", "-", &deepest], b"deep"), 0, "stored");
    assert_eq!(home.dfs(&node, &["cat", &deepest], b"").stdout, b"deep");
    assert_eq!(home.dfs(&node, &["ls", "-r"], b"").stdout, format!("{deepest}\n").into_bytes());
    check(&home.dfs(&node, &["rm", "-r", &"x".repeat(255)], b""), 0, "");
    check(&home.dfs(&node, &["get", "nothing/here"], b""), 4, "does not exist");
    check(&home.dfs(&node, &["rm", "nothing"], b""), 4, "does not exist");
    check(&home.dfs(&node, &["ls", "nothing"], b""), 4, "does not exist");
    check(&home.dfs(&node, &["put", "/nonexistent/source", "x"], b""), 1, "cannot read");
    check(&home.dfs(&node, &["put", "-"], b"x"), 2, "stdin has no name");
    check(&home.dfs(&node, &["put", "--if-absent", "-", "x"], b"x"), 0, "stored");
    check(&home.dfs(&node, &["put", "--if-absent", "-", "x"], b"y"), 7, "condition does not hold");
    let version = "00112233445566778899aabbccddeeff";
    check(&home.dfs(&node, &["put", "--if-version", version, "-", "x"], b"y"), 7, "dfs stat");
    assert_eq!(home.dfs(&node, &["cat", "x"], b"").stdout, b"x");
    check(&home.dfs(&node, &["rm", "x"], b""), 0, "");
    check(&home.dfs(&node, &["put", "-", "d/f"], b"x"), 0, "stored");
    check(&home.dfs(&node, &["ls", "d/f"], b""), 0, "");
    assert_eq!(home.dfs(&node, &["ls", "d/f"], b"").stdout, b"d/f\n");
    check(&home.dfs(&node, &["get", "-r", "d/f"], b""), 2, "is a file");
    check(&home.dfs(&node, &["put", "-r", "--if-absent", "/tmp", "t"], b""), 2, "one file");
    check(&home.dfs(&node, &["put", "-", "d"], b"x"), 1, "is a directory");
    check(&home.dfs(&node, &["put", "-", "d/f/g"], b"x"), 1, "not a directory");
    check(&home.dfs(&node, &["rm", "d"], b""), 1, "not empty");
    check(&home.dfs(&node, &["get", "d/f", "/nonexistent/dir/f"], b""), 1, "cannot write");
    check(&home.dfs(&node, &["cat", "d/f", "--version", "zz"], b""), 4, "does not exist");
    check(&home.dfs(&node, &["rm", "-r", "d"], b""), 0, "");
    assert!(home.dfs(&node, &["ls"], b"").stdout.is_empty());
}

#[test]
fn a_storage_only_node_opens_nothing() {
    let home = Home::new();
    refused(&home, "alone", &["--storage-only"], 1, "cannot found a cluster");
    let founder = home.start("founder", &[]);
    let node = home.start("data", &["--storage-only", "--bootstrap", &founder.listen]);
    home.wait(&founder, |status| {
        let waits = status["unvouched"].as_array().is_some_and(|all| all.len() == 1);
        waits && status["health"] == "ok"
    });
    let status = home.dfs(&founder, &["status", "--json"], b"").stdout;
    let status: serde_json::Value = serde_json::from_slice(&status).unwrap();
    let waiting = status["unvouched"][0].as_str().unwrap();
    let said = status["message"].as_str().unwrap();
    assert!(said.contains(&format!("'dfs admit {waiting}'")), "{said}");
    home.wait(&node, |status| {
        status["message"].as_str().is_some_and(|why| why.contains("nobody has vouched"))
    });
    check(
        &home.dfs(&founder, &["admit", waiting, "--cap", "2GB"], b""),
        0,
        "stores for the cluster",
    );
    home.wait(&founder, |status| status["nodes"] == 2 && status["health"] == "ok");
    // Only a gateway vouches.
    check(&home.dfs(&node, &["admit", waiting], b""), 12, "no vault key");
    let peers = home.dfs(&founder, &["peers"], b"").stdout;
    let peers = String::from_utf8_lossy(&peers);
    assert!(peers.contains("gateway") && peers.contains("storage"), "{peers}");
    check(&home.dfs(&node, &["cat", "x"], b""), 12, "no vault key");
    let put = home.dfs(&node, &["put", "-", "x"], &vec![7; 3 << 20]);
    check(&put, 12, "no vault key");
}

#[test]
fn keys_go_to_paper_and_back() {
    let home = Home::new();
    let node = home.start("data", &[]);
    let words = home.dfs(&node, &["key", "export"], b"").stdout;
    assert_eq!(String::from_utf8_lossy(&words).split_whitespace().count(), 24);
    check(&home.dfs(&node, &["key", "verify"], &words), 0, "matches");
    let status = home.dfs(&node, &["status", "--json"], b"").stdout;
    let status: serde_json::Value = serde_json::from_slice(&status).unwrap();
    assert_eq!(status["key_backup"], true);
    check(&home.dfs(&node, &["key", "verify"], b"abandon ability"), 12, "24 words");
    check(&home.dfs(&node, &["key", "import"], &words), 0, "");
    let other = "abandon ".repeat(23) + "art";
    check(&home.dfs(&node, &["key", "import"], other.as_bytes()), 12, "another key");
    let cluster = home.dfs(&node, &["key", "export", "--cluster"], b"").stdout;
    assert!(cluster.starts_with(b"dfsc1"));
    check(&home.dfs(&node, &["key", "import"], &cluster), 12, "prefix");
}

#[test]
fn completion_and_manual_pages_are_made() {
    let home = Home::new();
    let dfs = |args: &[&str]| Command::new(env!("CARGO_BIN_EXE_dfs")).args(args).output().unwrap();
    assert!(dfs(&["completion", "bash"]).stdout.len() > 1000);
    for verb in ["put", "get", "ls", "stat", "rm"] {
        let help = String::from_utf8(dfs(&[verb, "--help"]).stdout).unwrap();
        let (_, examples) = help.split_once("Examples:\n").expect(verb);
        assert!(examples.matches(&format!("  dfs {verb} ")).count() >= 2, "{help}");
    }
    let man = home.path("man");
    check(&dfs(&["man", man.to_str().unwrap()]), 0, "");
    assert!(man.join("dfs.1").exists() && man.join("dfs-put.1").exists());
}
