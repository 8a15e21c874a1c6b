//! How a node starts and ends, and how it is found while it runs.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::time::Duration;

use rustix::process::Signal;

use crate::{Home, check, signal};

#[test]
fn a_node_whose_log_cannot_be_written_serves_and_ends_as_ever() {
    let home = Home::new();
    let full = || File::options().write(true).open("/dev/full").unwrap();
    let node = Home::run(home.node("data", &["--log", "trace"]).stderr(full()));
    check(&home.dfs(&node, &["put", "-", "x"], b"x"), 0, "stored");
    assert_eq!(home.dfs(&node, &["cat", "x"], b"").stdout, b"x");
    let second = home.node("data", &[]).stdout(full()).stderr(full()).status().unwrap();
    assert_eq!(second.code(), Some(11));
    assert_eq!(node.end(), Some(0));
}

#[test]
fn a_signal_while_a_node_starts_ends_it_at_once() {
    let home = Home::new();
    fs::create_dir(home.path("config")).unwrap();
    let lock = File::create(home.path("config/lock")).unwrap();
    lock.lock().unwrap();
    let mut child = home.node("data", &[]).stderr(Stdio::piped()).spawn().unwrap();
    let log = BufReader::new(child.stderr.take().unwrap());
    let started = log.lines().map_while(Result::ok).find(|line| line.contains("starting"));
    assert!(started.is_some());
    signal(&child, Signal::TERM);
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert!(!home.path("config/cluster.key").exists());
}

#[test]
fn a_node_and_a_shell_need_not_agree_on_the_runtime_directory() {
    let home = Home::new();
    for (node_has, shell_has) in [(true, false), (false, true), (false, false)] {
        let mut command = home.node("data", &[]);
        if !node_has {
            command.env_remove("XDG_RUNTIME_DIR");
        }
        let node = Home::run(command.stderr(Stdio::null()));
        let port = node.listen.rsplit(':').next().unwrap();
        let mut client = home.client(&format!(":{port}"), &["peers"]);
        if !shell_has {
            client.env_remove("XDG_RUNTIME_DIR");
        }
        check(&client.output().unwrap(), 0, "");
        assert_eq!(node.end(), Some(0));
    }
    assert_eq!(fs::read_dir(home.path("config/run")).unwrap().count(), 0);
    assert_eq!(fs::read_dir(home.path("run/dfs")).unwrap().count(), 0);
}

#[test]
fn a_killed_node_leaves_no_record_that_outlives_its_next_start() {
    let home = Home::new();
    drop(home.start("data", &[]));
    let node = home.start("data", &[]);
    assert_eq!(fs::read_dir(home.path("run/dfs")).unwrap().count(), 1);
    let local = node.api.replace("127.0.0.1", "localhost");
    check(&home.client(&local, &["peers"]).output().unwrap(), 0, "");
}

#[test]
fn a_data_directory_that_is_not_mounted_makes_no_new_member() {
    let home = Home::new();
    let first = home.start("first", &[]);
    let second = home.start("second", &["--bootstrap", &first.listen]);
    home.wait(&first, |status| status["nodes"] == 2 && status["moving"] == 0);
    let (listen, away) = (second.listen.clone(), home.path("away"));
    assert_eq!(second.end(), Some(0));
    fs::rename(home.path("second"), &away).unwrap();
    let start = |data: &str, more: &[&str]| {
        home.node_on(&listen, data, &[&["--bootstrap", &first.listen], more].concat())
    };
    // Not there at all, then the empty place to mount it, then another place at its address.
    check(&start("second", &[]).output().unwrap(), 1, "is not there, and node");
    assert!(!home.path("second").exists());
    fs::create_dir(home.path("second")).unwrap();
    check(&start("second", &[]).output().unwrap(), 1, "--new-node");
    check(&start("elsewhere", &[]).output().unwrap(), 1, "with its data in");
    assert_eq!(fs::read_dir(home.path("second")).unwrap().count(), 0);
    // Its peers know it where nothing here does.
    fs::remove_dir_all(home.path("config/nodes")).unwrap();
    check(&start("second", &[]).output().unwrap(), 1, "has the address of this node");
    // Once more, for what that start wrote is of no node that matters.
    check(&start("second", &[]).output().unwrap(), 1, "--new-node");
    fs::remove_dir_all(home.path("second")).unwrap();
    fs::rename(&away, home.path("second")).unwrap();
    let back = Home::run(start("second", &[]).stderr(Stdio::null()));
    home.wait(&back, |status| status["nodes"] == 2 && status["alive"] == 2);
    drop(back);
    let new = Home::run(start("new", &["--new-node"]).stderr(Stdio::null()));
    home.wait(&new, |status| status["nodes"] == 3);
}

#[test]
fn a_supervisor_is_told_when_the_node_is_ready_runs_and_ends() {
    let home = Home::new();
    let path = home.path("notify");
    let socket = std::os::unix::net::UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(LIMIT)).unwrap();
    let told = || {
        let mut text = [0; 512];
        let len = socket.recv(&mut text).unwrap();
        String::from_utf8(text[..len].to_vec()).unwrap()
    };
    let mut command = home.node("data", &[]);
    command.env("NOTIFY_SOCKET", &path).env("WATCHDOG_USEC", "100000").stderr(Stdio::null());
    let node = Home::run(&mut command);
    let ready = told();
    assert!(ready.contains("READY=1") && ready.contains(&node.api), "{ready}");
    for _ in 0..5 {
        assert_eq!(told().trim(), "WATCHDOG=1");
    }
    assert_eq!(node.end(), Some(0));
    let mut last = told();
    while last.trim() == "WATCHDOG=1" {
        last = told();
    }
    assert_eq!(last.trim(), "STOPPING=1");
}

const LIMIT: Duration = Duration::from_secs(60);
