//! Reading a node's disk back, asked for by hand.

use std::fs;
use std::path::{Path, PathBuf};

use crate::{Home, Running, check};

fn status(home: &Home, node: &Running, verb: &str) -> serde_json::Value {
    let output = home.dfs(node, &["--json", "scrub", verb], b"");
    check(&output, 0, "");
    serde_json::from_slice(&output.stdout).unwrap()
}

pub(crate) fn blob_files(dir: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { files.extend(blob_files(&path)) } else { files.push(path) }
    }
    files
}

fn until_idle(home: &Home, node: &Running) -> serde_json::Value {
    let until = std::time::Instant::now() + crate::SETTLED_MAX;
    loop {
        let view = status(home, node, "status");
        if view["state"] == "idle" {
            return view;
        }
        assert!(std::time::Instant::now() < until, "{view}");
    }
}

#[test]
fn a_scrub_is_started_paused_resumed_and_asked() {
    let home = Home::new();
    let node = home.start("data", &[]);
    check(&home.dfs(&node, &["put", "-", "big"], &vec![7; 3 << 20]), 0, "stored");
    let fresh = status(&home, &node, "status");
    assert_eq!((&fresh["state"], &fresh["percent"]), (&"idle".into(), &0.0.into()));
    assert!(fresh["next"].is_string() && fresh.get("last_complete").is_none());
    assert_eq!(status(&home, &node, "pause")["state"], "paused");
    assert_eq!(node.end(), Some(0));
    let node = home.start("data", &[]);
    let shown = home.dfs(&node, &["scrub", "status"], b"").stdout;
    let shown = String::from_utf8(shown).unwrap();
    assert!(shown.starts_with("paused: no pass begins until"), "{shown}");
    assert!(shown.contains("\nlast pass  never\n"), "{shown}");
    assert_eq!(status(&home, &node, "resume")["state"], "idle");
    status(&home, &node, "start");
    let done = until_idle(&home, &node);
    assert_eq!(done["bytes_verified"], done["bytes_total"]);
    assert_eq!((&done["bad"], &done["percent"]), (&0.into(), &100.0.into()));
    let file = blob_files(&home.path("data/blobs")).pop().unwrap();
    let mut bytes = fs::read(&file).unwrap();
    bytes[100] ^= 1;
    fs::write(&file, bytes).unwrap();
    status(&home, &node, "start");
    assert_eq!(until_idle(&home, &node)["bad"], 1);
    assert!(!file.exists());
    // Nobody else has it, and the status says so.
    home.wait(&node, |status| status["health"] == "lost");
}

#[test]
fn a_scrub_needs_a_known_verb_and_a_node() {
    let home = Home::new();
    let node = home.start("data", &[]);
    for bad in [&["scrub"][..], &["scrub", "now"], &["scrub", "start", "x"]] {
        let output = home.client(&node.api, bad).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{bad:?}");
    }
    let api = node.api.clone();
    drop(node);
    check(&home.client(&api, &["scrub", "status"]).output().unwrap(), 10, "");
}
