//! `dfs-node config` and `dfs doctor`.

use std::fs;
use std::process::Output;

use serde_json::Value;

use crate::{Home, check, refused};

fn config(home: &Home, args: &[&str], env: &[(&str, &str)]) -> Output {
    let mut node = home.node("data", args);
    node.envs(env.iter().copied()).output().unwrap()
}

#[test]
fn what_is_wrong_in_the_config_file_is_told_with_its_line() {
    let home = Home::new();
    drop(home.start("data", &[]));
    for (line, says) in [
        ("capacity = \"1XB\"", "config.toml:3: capacity \"1XB\""),
        ("out-after = \"soon\"", "config.toml:3: out-after \"soon\""),
        ("bootstrap = [\"10.0.0.1\"]", "config.toml:3: bootstrap \"10.0.0.1\""),
        ("bootstrap = [\":1\",\n  \"x\"]", "config.toml:4: bootstrap \"x\""),
        ("api-host = [\"a:1\"]", "config.toml:3: api-host \"a:1\""),
        ("capacity = 5", "line 3"),
        ("zone = \"a\" zone", "line 3"),
    ] {
        fs::write(home.path("config/config.toml"), format!("# mine\nlog = \"warn\"\n{line}\n"))
            .unwrap();
        refused(&home, "data", &[], 1, says);
        check(&config(&home, &["config", "check"], &[]), 1, says);
    }
    fs::write(home.path("config/config.toml"), "zone = \"cellar\"\n").unwrap();
    let well = config(&home, &["config", "check"], &[]);
    check(&well, 0, "");
    assert!(String::from_utf8(well.stdout).unwrap().ends_with("config.toml can be read\n"));
}

#[test]
fn a_node_shows_what_it_would_run_with_and_why() {
    let home = Home::new();
    drop(home.start("data", &[]));
    let file = home.path("config/config.toml");
    fs::write(&file, "zone = \"cellar\"\nlog = \"warn\"\nbootstrap = [\":1\", \"host:2\"]\n")
        .unwrap();
    let show = |args: &[&str]| {
        let shown = config(&home, args, &[("DFS_LOG", "debug"), ("DFS_CAPACITY", "5GB")]);
        check(&shown, 0, "");
        String::from_utf8(shown.stdout).unwrap()
    };
    let shown = show(&["config", "show", "--origin"]);
    let line = |name: &str| {
        let line = shown.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_whitespace().collect::<Vec<_>>().join(" ")
    };
    for (name, expected) in [
        ("zone", "zone = \"cellar\" # file"),
        ("log =", "log = \"debug\" # environment"),
        ("capacity", "capacity = \"5000000000\" # environment"),
        ("bootstrap", "bootstrap = [\":1\", \"host:2\"] # file"),
        ("log-format", "log-format = \"text\" # default"),
        ("# join", "# join is not set # default"),
    ] {
        assert_eq!(line(name), expected);
    }
    assert!(line("data-dir").ends_with("# flag"), "{shown}");
    // What is shown can be given back.
    let shown = show(&["config", "show"]);
    fs::write(&file, &shown).unwrap();
    assert_eq!(show(&["config", "show"]), shown);
}

#[test]
fn a_doctor_looks_at_the_machine_and_the_node() {
    let home = Home::new();
    let node = home.start("data", &[]);
    home.wait(&node, |status| status["health"] == "ok");
    let findings = |output: &Output| -> Vec<(String, String)> {
        let text = String::from_utf8(output.stdout.clone()).unwrap();
        let line = |line: &str| {
            let line: Value = serde_json::from_str(line).unwrap();
            let text = |name: &str| line[name].as_str().unwrap().to_owned();
            (text("check"), text("state"))
        };
        text.lines().map(line).collect()
    };
    let seen = findings(&home.dfs(&node, &["doctor", "--speed", "--json"], b""));
    for check in ["keys", "disk", "sync", "clock", "peers", "cluster", "backup", "speed"] {
        assert!(seen.iter().any(|(name, _)| name == check), "{check}: {seen:?}");
    }
    for well in ["keys", "cluster", "clock", "speed"] {
        assert!(seen.contains(&(well.to_owned(), "ok".to_owned())), "{well}: {seen:?}");
    }
    assert!(seen.contains(&("backup".to_owned(), "warn".to_owned())));
    // Nothing of it is left.
    assert!(home.dfs(&node, &["ls"], b"").stdout.is_empty());
    let api = node.api.clone();
    drop(node);
    let gone = home.client(&api, &["doctor", "--json"]).output().unwrap();
    assert_eq!(gone.status.code(), Some(1));
    assert!(findings(&gone).contains(&("node".to_owned(), "bad".to_owned())));
}
