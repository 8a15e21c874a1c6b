//! A machine that lost pieces is found out, named, and mended.

use std::fs;

use crate::scrub::blob_files;
use crate::{Home, Running, check};

/// Short, and long enough for a busy machine to answer.
const EVERY: &str = "4s";

fn proof(home: &Home, node: &Running) -> serde_json::Value {
    let output = home.dfs(node, &["--json", "peers", "--proof"], b"");
    check(&output, 0, "");
    serde_json::from_slice(&output.stdout).unwrap_or_default()
}

/// Waits until what a machine has shown is as wanted.
fn until(
    home: &Home,
    node: &Running,
    is: impl Fn(&serde_json::Value) -> bool,
) -> serde_json::Value {
    let limit = std::time::Instant::now() + crate::SETTLED_MAX;
    loop {
        let proof = proof(home, node);
        if is(&proof) {
            return proof;
        }
        assert!(std::time::Instant::now() < limit, "{proof}");
    }
}

#[test]
fn pieces_that_a_machine_lost_are_named_and_fetched_again() {
    let (home, friend) = (Home::new(), Home::new());
    let gateway = home.start("data", &["--prove-every", EVERY]);
    let line = home.dfs(&gateway, &["invite", "--capacity", "1GB"], b"").stdout;
    let line = String::from_utf8(line).unwrap();
    let lent = friend.start("data", &["--join", line.trim(), "--prove-every", EVERY]);
    home.wait(&gateway, |status| status["nodes"] == 2 && status["health"] == "ok");
    check(&home.dfs(&gateway, &["put", "-", "big"], &vec![7; 5 << 20]), 0, "2 of 2 copies");
    until(&home, &gateway, |proof| proof["state"] == "proved");
    let files = blob_files(&friend.path("data/blobs"));
    files.iter().for_each(|file| fs::remove_file(file).unwrap());
    let lost = until(&home, &gateway, |proof| proof["state"] == "behind");
    assert!(lost["since"].is_string() && !lost["lacks"][0].is_null(), "{lost}");
    home.wait(&gateway, |status| {
        let said = status["message"].as_str().unwrap_or_default();
        status["health"] == "degraded" && said.contains("that it should hold")
    });
    let shown = home.dfs(&gateway, &["peers", "--proof"], b"").stdout;
    let shown = String::from_utf8(shown).unwrap();
    assert!(shown.starts_with("behind ") && shown.contains(" of "), "{shown}");
    until(&home, &gateway, |proof| proof["state"] == "proved");
    home.wait(&gateway, |status| status["health"] == "ok");
    assert_eq!(blob_files(&friend.path("data/blobs")).len(), files.len());
    // Only a gateway has others prove what they hold.
    check(&friend.dfs(&lent, &["peers", "--proof"], b""), 0, "challenges nobody");
}
