//! Old versions and conflicts through the real programs.

use serde_json::Value;

use crate::{Home, Running, check};

fn lines(home: &Home, node: &Running, args: &[&str]) -> Vec<Value> {
    let output = home.dfs(node, &[&["--json"], args].concat(), b"");
    check(&output, 0, "");
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap()
}

#[test]
fn a_mistake_is_undone() {
    let home = Home::new();
    let node = home.start("data", &[]);
    let put = |content: &[u8]| check(&home.dfs(&node, &["put", "-", "d/f"], content), 0, "stored");
    put(b"first");
    put(&vec![7; 3 << 20]);
    check(&home.dfs(&node, &["rm", "d/f"], b""), 0, "");
    let log = lines(&home, &node, &["log", "d/f"]);
    let states: Vec<_> = log.iter().map(|line| text(&line["state"])).collect();
    assert_eq!(states, ["deleted", "old", "old"]);
    assert_eq!((&log[1]["bytes"], &log[1]["current"]), (&(3 << 20).into(), &false.into()));
    let first = text(&log[2]["version"]);
    let cat = home.dfs(&node, &["cat", "d/f", "--version", first], b"");
    assert_eq!(cat.stdout, b"first");
    let stat = &lines(&home, &node, &["stat", "d/f", "--version", first])[0];
    assert_eq!((&stat["bytes"], text(&stat["version"])), (&5.into(), first));
    check(&home.dfs(&node, &["restore", "d/f", "--version", first], b""), 0, "restored d/f (5 B)");
    let large = text(&log[1]["version"]);
    let restored = &lines(&home, &node, &["restore", "d/f", "--version", large])[0];
    assert_eq!((text(&restored["path"]), &restored["copies"]), ("d/f", &1.into()));
    assert_eq!(home.dfs(&node, &["cat", "d/f"], b"").stdout, vec![7; 3 << 20]);
    let log = String::from_utf8(home.dfs(&node, &["log", "/d/f"], b"").stdout).unwrap();
    let shown: Vec<_> = log.lines().filter_map(|line| line.split_whitespace().last()).collect();
    assert_eq!(shown, ["current", "old", "old", "old"]);
}

#[test]
fn what_has_no_history_says_so() {
    let home = Home::new();
    let node = home.start("data", &[]);
    check(&home.dfs(&node, &["put", "-", "d/f"], b"x"), 0, "stored");
    let version = text(&lines(&home, &node, &["log", "d"])[0]["version"]).to_owned();
    check(&home.dfs(&node, &["log", "nothing"], b""), 4, "does not exist");
    check(&home.dfs(&node, &["restore", "d/f", "--version", "zz"], b""), 4, "does not exist");
    check(&home.dfs(&node, &["restore", "d", "--version", &version], b""), 1, "is a directory");
    check(&home.dfs(&node, &["restore", "d/f"], b""), 2, "--version");
    check(&home.dfs(&node, &["conflicts", "nothing"], b""), 4, "does not exist");
    check(&home.dfs(&node, &["conflicts", "d/f"], b""), 1, "not a directory");
    for args in [&["conflicts"][..], &["conflicts", "/d/"]] {
        let none = home.dfs(&node, args, b"");
        check(&none, 0, "");
        assert!(none.stdout.is_empty() && none.stderr.is_empty());
    }
}

#[test]
fn two_nodes_apart_make_a_conflict_that_is_listed_and_settled() {
    let home = Home::new();
    let one = home.start("one", &[]);
    let listen = one.listen.clone();
    let two = home.start("two", &["--bootstrap", &listen]);
    // Both hold everything before they part.
    home.wait(&two, |status| status["nodes"] == 2 && status["health"] == "ok");
    let put = |node: &Running, content: &[u8]| {
        let put = home.dfs(node, &["put", "-", "f", "--mode", "available"], content);
        check(&put, 0, "1 of 2 copies");
    };
    let two_listens = two.listen.clone();
    two.end();
    put(&one, b"one");
    one.end();
    let two = home.start_on(&two_listens, "two", &["--bootstrap", &listen]);
    put(&two, b"two");
    let one = home.start_on(&listen, "one", &["--bootstrap", &two_listens]);
    home.wait(&one, |status| status["health"] == "ok" && status["conflicts"] == 1);
    let conflict = &lines(&home, &one, &["conflicts"])[0];
    assert_eq!(conflict["path"], "f");
    let states: Vec<_> = (0..2).map(|at| text(&conflict["versions"][at]["state"])).collect();
    assert_eq!(states, ["current", "conflict"]);
    check(&home.dfs(&two, &["conflicts"], b""), 0, "hint: 'dfs restore PATH --version V'");
    let loser = text(&conflict["versions"][1]["version"]);
    check(&home.dfs(&two, &["restore", "f", "--version", loser], b""), 0, "restored f");
    assert_eq!(home.dfs(&one, &["cat", "f"], b"").stdout, b"one");
    assert!(lines(&home, &one, &["conflicts"]).is_empty());
    assert_eq!(lines(&home, &one, &["log", "f"]).len(), 3);
}
