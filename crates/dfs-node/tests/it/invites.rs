//! A machine comes in by one line, and no more than one does.

use std::fs;
use std::process::Stdio;

use crate::{Home, Running, check};

/// What a node says of itself in the list of peers.
fn role_of_own(home: &Home, node: &Running) -> String {
    let peers = home.dfs(node, &["peers", "--json"], b"").stdout;
    let peers = String::from_utf8(peers).unwrap();
    let own = peers.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    let own = own.filter(|peer| peer["self"] == true).map(|peer| peer["role"].to_string());
    own.collect::<Vec<_>>().concat()
}

fn invite(home: &Home, node: &Running, args: &[&str]) -> String {
    let made = home.dfs(node, &[&["invite"], args].concat(), b"");
    check(&made, 0, "whoever has the line can use it");
    let line = String::from_utf8(made.stdout).unwrap();
    assert!(line.starts_with("dfsi1") && line.lines().count() == 1, "{line}");
    line.trim().to_owned()
}

#[test]
fn a_storage_machine_comes_in_by_a_line_and_gets_no_vault_key() {
    let (home, friend, other) = (Home::new(), Home::new(), Home::new());
    let founder = home.start("data", &[]);
    let line = invite(&home, &founder, &["--capacity", "1GB", "--name", "a friend's NAS"]);
    let node = friend.start("data", &["--join", &line]);
    home.wait(&founder, |status| status["nodes"] == 2 && status["health"] == "ok");
    assert_eq!(role_of_own(&friend, &node), "\"storage\"");
    assert!(!friend.path("config/vault.key").exists());
    let offers = |node: &Running| {
        let peers = String::from_utf8(friend.dfs(node, &["peers", "--json"], b"").stdout).unwrap();
        let own = peers.lines().find(|line| line.contains("\"self\":true")).unwrap();
        let own: serde_json::Value = serde_json::from_str(own).unwrap();
        own["capacity"].as_u64().unwrap()
    };
    friend.wait(&node, |_| offers(&node) <= 1_000_000_000);
    let list = String::from_utf8(home.dfs(&founder, &["invite", "ls"], b"").stdout).unwrap();
    assert!(list.starts_with("closed  storage") && list.contains("a friend's NAS"), "{list}");
    let peers = String::from_utf8(home.dfs(&founder, &["peers"], b"").stdout).unwrap();
    assert!(peers.lines().any(|l| l.contains("storage") && l.contains("953.7 MiB")), "{peers}");
    check(&home.dfs(&founder, &["put", "-", "f"], b"secret"), 0, "2 of 2 copies");
    check(&friend.dfs(&node, &["cat", "f"], b""), 12, "no vault key");
    // It is used up: another machine is told so, and the same one starts again with the line.
    let refused = other.node("data", &["--join", &line]).stdout(Stdio::null()).output().unwrap();
    check(&refused, 12, "was used or taken back");
    assert!(!other.path("config/cluster.key").exists());
    drop(node);
    let again = friend.start("data", &["--join", &line]);
    home.wait(&founder, |status| status["alive"] == 2 && status["health"] == "ok");
    assert!(offers(&again) <= 1_000_000_000);
    drop(again);
}

#[test]
fn a_gateway_comes_in_by_a_line_from_a_file_and_reads_everything() {
    let (home, second) = (Home::new(), Home::new());
    let founder = home.start("data", &[]);
    check(&home.dfs(&founder, &["put", "-", "f"], b"content"), 0, "stored");
    let line = invite(&home, &founder, &["--role", "gateway", "--expires", "2h"]);
    fs::create_dir_all(second.path("")).unwrap();
    fs::write(second.path("invite"), line + "\n").unwrap();
    let path = second.path("invite");
    let node = second.start("data", &["--join", path.to_str().unwrap()]);
    home.wait(&founder, |status| status["nodes"] == 2 && status["health"] == "ok");
    assert_eq!(role_of_own(&second, &node), "\"gateway\"");
    assert_eq!(second.dfs(&node, &["cat", "f"], b"").stdout, b"content");
    // The file may go once it was used.
    fs::remove_file(&path).unwrap();
    drop(node);
    let node = second.start("data", &["--join", path.to_str().unwrap()]);
    assert_eq!(second.dfs(&node, &["cat", "f"], b"").stdout, b"content");
}

#[test]
fn an_invite_that_was_taken_back_or_is_mistyped_lets_nobody_in() {
    let (home, other) = (Home::new(), Home::new());
    let founder = home.start("data", &[]);
    let line = invite(&home, &founder, &[]);
    let list = home.dfs(&founder, &["invite", "ls", "--json"], b"").stdout;
    let shown: serde_json::Value = serde_json::from_slice(&list).unwrap();
    assert_eq!((&shown["state"], &shown["role"]), (&"open".into(), &"storage".into()));
    let id = shown["id"].as_str().unwrap();
    check(&home.dfs(&founder, &["invite", "revoke", &id[..8]], b""), 0, "admits nobody");
    check(&home.dfs(&founder, &["invite", "revoke", "ffff"], b""), 4, "begins with");
    let refused =
        |join: &str| other.node("data", &["--join", join]).stdout(Stdio::null()).output().unwrap();
    check(&refused(&line), 12, "was used or taken back");
    check(&refused(&line.replace('q', "p")), 2, "mistyped");
    check(&refused("/nonexistent/invite"), 2, "cannot read");
    check(&home.dfs(&founder, &["invite", "--expires", "91d"], b""), 2, "90 days");
    check(&home.dfs(&founder, &["invite", "--address", "nowhere"], b""), 2, "port is missing");
    let long = format!("{}.example:1", "x".repeat(120));
    check(&home.dfs(&founder, &["invite", "--address", &long], b""), 2, "too long");
    check(&home.dfs(&founder, &["--mode", "quorum", "invite"], b""), 0, "");
    let gateway = invite(&home, &founder, &["--role", "gateway"]);
    let args = ["--join", &gateway.to_uppercase(), "--storage-only"];
    let refused_here = other.node("data", &args).stdout(Stdio::null()).output().unwrap();
    check(&refused_here, 2, "--storage-only rules out");
    // Only the node that made it is asked: another one at its address learns nothing.
    // A machine of another cluster is told so, instead of going on with the wrong key.
    let foreign = Home::new();
    drop(foreign.start("own", &[]));
    let mut joining = foreign.node("data", &["--join", &gateway]);
    check(&joining.stdout(Stdio::null()).output().unwrap(), 12, "another cluster");
    let elsewhere = invite(&home, &founder, &["--address", "127.0.0.1:1"]);
    check(&refused(&elsewhere), 5, "Connection refused");
}
