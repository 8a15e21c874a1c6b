//! Directories as they were, what is forgotten, and how much is where, through the real programs.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::Value;

use crate::{Home, Running, check};

fn lines(home: &Home, node: &Running, args: &[&str]) -> Vec<Value> {
    let output = home.dfs(node, &[&["--json"], args].concat(), b"");
    check(&output, 0, "");
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn stdout(home: &Home, node: &Running, args: &[&str]) -> String {
    let output = home.dfs(node, args, b"");
    check(&output, 0, "");
    String::from_utf8(output.stdout).unwrap()
}

/// The second that is now, once it is over: what is done afterwards is done later.
fn a_second_that_has_passed() -> String {
    let seconds = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let now = seconds();
    while seconds() == now {
        std::thread::sleep(Duration::from_millis(20));
    }
    dfs_server::rfc3339(now * 1000)
}

#[test]
fn a_directory_is_as_it_was_before_everything_went_wrong() {
    let home = Home::new();
    let node = home.start("data", &[]);
    let put = |name: &str, content: &[u8]| {
        check(&home.dfs(&node, &["put", "-", name], content), 0, "stored");
    };
    let run = |args: &[&str]| check(&home.dfs(&node, args, b""), 0, "");
    let large = vec![7; 3 << 20];
    for (name, content) in
        [("d/same", &b"1"[..]), ("d/changed", b"1"), ("d/sub/gone", &large), ("d/back", b"1")]
    {
        put(name, content);
    }
    run(&["mkdir", "d/empty"]);
    run(&["ln", "-s", "same", "d/link"]);
    run(&["rm", "d/back"]);
    let then = a_second_that_has_passed();
    put("d/changed", b"2");
    put("d/changed", b"3");
    put("d/back", b"2");
    put("d/new/later", b"1");
    run(&["rm", "-r", "d/sub"]);
    run(&["rmdir", "d/empty"]);
    run(&["rm", "d/link"]);
    let before = stdout(&home, &node, &["ls", "-r", "-l", "d"]);
    // Nothing is done by a dry run.
    let would = stdout(&home, &node, &["restore", "-r", "d", "--at", &then, "-n", "--delete"]);
    let mut would: Vec<_> =
        would.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    would.sort();
    assert_eq!(
        would,
        [
            "make d/empty",
            "make d/sub",
            "remove d/back",
            "remove d/new",
            "remove d/new/later",
            "restore d/changed",
            "restore d/link",
            "restore d/sub/gone",
        ]
    );
    assert_eq!(stdout(&home, &node, &["ls", "-r", "-l", "d"]), before);
    let restored = home.dfs(&node, &["restore", "-r", "d", "--at", &then], b"");
    check(&restored, 0, "3 files and links restored, 2 directories made, 0 files removed");
    let names = stdout(&home, &node, &["ls", "-r", "d"]);
    assert_eq!(
        names, "d/back\nd/changed\nd/link\nd/new/later\nd/same\nd/sub/gone\n",
        "what came later stays"
    );
    assert_eq!(stdout(&home, &node, &["cat", "d/changed"]), "1");
    assert_eq!(home.dfs(&node, &["cat", "d/sub/gone"], b"").stdout, large);
    assert_eq!(lines(&home, &node, &["stat", "d/link"])[0]["target"], "same");
    assert_eq!(lines(&home, &node, &["stat", "d/empty"])[0]["type"], "dir");
    let exact = home.dfs(&node, &["restore", "-r", "d", "--at", &then, "--delete"], b"");
    check(&exact, 0, "0 files and links restored, 0 directories made, 2 files removed");
    let names = stdout(&home, &node, &["ls", "-r", "d"]);
    assert_eq!(names, "d/changed\nd/link\nd/same\nd/sub/gone\n");
    check(&home.dfs(&node, &["stat", "d/new"], b""), 4, "does not exist");
    check(&home.dfs(&node, &["stat", "d/empty"], b""), 0, "");
}

#[test]
fn what_is_not_kept_of_then_is_said() {
    let home = Home::new();
    let node = home.start("data", &[]);
    check(&home.dfs(&node, &["put", "-", "d/busy"], b"then"), 0, "stored");
    check(&home.dfs(&node, &["put", "-", "d/calm"], b"then"), 0, "stored");
    let then = a_second_that_has_passed();
    for at in 0..12 {
        check(&home.dfs(&node, &["put", "-", "d/busy"], &[at]), 0, "stored");
    }
    check(&home.dfs(&node, &["rm", "d/calm"], b""), 0, "");
    let restored = home.dfs(&node, &["restore", "-r", "d", "--at", &then, "--delete"], b"");
    check(&restored, 3, "d/busy: what it was then is not kept any more");
    assert_eq!(stdout(&home, &node, &["cat", "d/calm"]), "then");
    assert_eq!(home.dfs(&node, &["cat", "d/busy"], b"").stdout, [11]);
    // What was purged is not taken for something that was not there.
    check(&home.dfs(&node, &["put", "-", "d/purged"], b"1"), 0, "stored");
    a_second_that_has_passed();
    check(&home.dfs(&node, &["put", "-", "d/purged"], b"2"), 0, "stored");
    let then = a_second_that_has_passed();
    check(&home.dfs(&node, &["purge", "d/purged"], b""), 0, "1 earlier versions");
    let kept = home.dfs(&node, &["restore", "-r", "d", "--at", &then, "--delete"], b"");
    check(&kept, 0, "0 files removed");
    assert_eq!(stdout(&home, &node, &["cat", "d/purged"]), "2");
    check(&home.dfs(&node, &["restore", "-r", "d", "--at", "40d", "--delete"], b""), 2, "30 days");
    for (at, code, says) in [
        ("yesterday", 2, "is no time"),
        ("9999999999y", 2, "is no time"),
        ("2026-11-28T17:00:00+01:00", 2, "in UTC"),
    ] {
        check(&home.dfs(&node, &["restore", "-r", "d", "--at", at], b""), code, says);
    }
    check(&home.dfs(&node, &["restore", "-r", "d"], b""), 2, "--at");
    check(&home.dfs(&node, &["restore", "-r", "none", "--at", "1h"], b""), 4, "does not exist");
}

#[test]
fn versions_are_listed_and_forgotten() {
    let home = Home::new();
    let node = home.start("data", &[]);
    for (name, content) in [("d/a", "1"), ("d/a", "22"), ("d/sub/b", "333"), ("e", "1")] {
        check(&home.dfs(&node, &["put", "-", name], content.as_bytes()), 0, "stored");
    }
    check(&home.dfs(&node, &["rm", "-r", "d/sub"], b""), 0, "");
    let names = |args: &[&str]| -> Vec<String> {
        let all = lines(&home, &node, args);
        let name = |line: &Value| {
            let count = line["versions"].as_array().unwrap().len();
            format!("{} {count}", line["path"].as_str().unwrap())
        };
        all.iter().map(name).collect()
    };
    assert_eq!(names(&["ls", "--versions", "d"]), ["d/a 2", "d/sub 2"]);
    assert_eq!(names(&["ls", "-r", "--versions"]), ["d 1", "e 1", "d/a 2", "d/sub 2", "d/sub/b 2"]);
    let shown = stdout(&home, &node, &["ls", "--versions", "d/sub"]);
    assert!(shown.starts_with("d/sub/b\n") && shown.contains("deleted"), "{shown}");
    let none = home.dfs(&node, &["purge", "--older-than", "1h"], b"");
    check(&none, 0, "0 earlier versions");
    check(&home.dfs(&node, &["purge", "--older-than", "long"], b""), 3, "older_than");
    check(&home.dfs(&node, &["purge", "none"], b""), 4, "does not exist");
    check(&home.dfs(&node, &["purge", "d"], b""), 0, "2 earlier versions (4 B)");
    assert_eq!(names(&["ls", "-r", "--versions"]), ["d 1", "e 1", "d/a 1", "d/sub 2"]);
    assert_eq!(stdout(&home, &node, &["cat", "d/a"]), "22");
    check(&home.dfs(&node, &["purge"], b""), 0, "0 earlier versions");
}

#[test]
fn how_much_is_where() {
    let home = Home::new();
    let node = home.start("data", &[]);
    for (name, bytes) in [("d/a", 1000), ("d/sub/b", 24), ("e", 1 << 20)] {
        check(&home.dfs(&node, &["put", "-", name], &vec![1; bytes]), 0, "stored");
    }
    let du = |args: &[&str]| {
        let shown = stdout(&home, &node, args);
        let line = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
        shown.lines().map(line).collect::<Vec<_>>()
    };
    assert_eq!(du(&["du"]), ["24 B d/sub", "1.0 KiB d", "1.0 MiB /"]);
    assert_eq!(du(&["du", "-s", "d", "e"]), ["1.0 KiB d", "1.0 MiB e"]);
    assert_eq!(du(&["du", "-d", "1"]), ["1.0 KiB d", "1.0 MiB /"]);
    let whole = &lines(&home, &node, &["du", "-s"])[0];
    let expected = serde_json::json!(
        { "path": "", "bytes": (1 << 20) + 1024, "files": 3, "dirs": 2 }
    );
    assert_eq!(whole, &expected);
    check(&home.dfs(&node, &["du", "none"], b""), 4, "does not exist");
    check(&home.dfs(&node, &["rmdir", "d"], b""), 1, "not empty");
    check(&home.dfs(&node, &["rmdir", "e"], b""), 1, "not a directory");
}
