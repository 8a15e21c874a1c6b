//! `dfs sync`, both ways.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;

use crate::{Home, Running, check, set_mode};

/// Everything below a directory: name, what it is, mode, time, content.
fn tree(dir: &Path) -> Vec<String> {
    fn walk(top: &Path, dir: &Path, all: &mut Vec<String>) {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            let found = fs::symlink_metadata(&path).unwrap();
            let name = path.strip_prefix(top).unwrap().display().to_string();
            let mode = found.permissions().mode() & 0o777;
            let time = (found.mtime(), found.mtime_nsec());
            let what = match fs::read_link(&path) {
                Ok(says) => format!("-> {}", says.display()),
                Err(_) if found.is_dir() => format!("dir {mode:o} {time:?}"),
                Err(_) => format!("{mode:o} {time:?} {:?}", fs::read(&path).unwrap()),
            };
            all.push(format!("{name} {what}"));
            if found.is_dir() {
                walk(top, &path, all);
            }
        }
    }
    let mut all = Vec::new();
    walk(dir, dir, &mut all);
    all.sort();
    all
}

fn run(home: &Home, node: &Running, args: &[&str], says: &str) {
    check(&home.dfs(node, &[&["sync"], args].concat(), b""), 0, says);
}

fn stdout(home: &Home, node: &Running, args: &[&str]) -> Vec<String> {
    let output = home.dfs(node, args, b"");
    check(&output, 0, "");
    let text = String::from_utf8(output.stdout).unwrap();
    let line = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut lines: Vec<_> = text.lines().map(line).collect();
    lines.sort();
    lines
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn one_side_becomes_what_the_other_is_and_only_what_differs_travels() {
    let home = Home::new();
    let node = home.start("data", &[]);
    let (src, dst) = (home.path("src"), home.path("dst"));
    for dir in ["a/deep", "empty", "shut"] {
        fs::create_dir_all(src.join(dir)).unwrap();
    }
    for (name, content) in
        [("a/1", "one"), ("a/deep/2", "two"), ("a-b", "three"), ("shut/3", "x"), ("tab\tname", "")]
    {
        fs::write(src.join(name), content).unwrap();
    }
    symlink("../nowhere", src.join("a/link")).unwrap();
    set_mode(&src.join("a/1"), 0o640);
    set_mode(&src.join("shut"), 0o550);
    let (up, down) = ([text(&src), "dfs:t"], ["dfs:t", text(&dst)]);
    let would = stdout(&home, &node, &["sync", "-n", up[0], up[1]]);
    assert!(
        would.contains(&"copy t/a/1".to_owned()) && would.contains(&"link t/a/link".to_owned())
    );
    check(&home.dfs(&node, &["ls", "t"], b""), 4, "does not exist");
    run(&home, &node, &up, "6 files and links copied");
    run(&home, &node, &[down[0], down[1], "-j", "1"], "6 files and links copied");
    assert_eq!(tree(&dst), tree(&src));
    check(&home.dfs(&node, &["sync", down[0], down[1], "-j", "65"], b""), 2, "65");
    for args in [&up[..], &down, &[up[0], up[1], "--checksum"], &[down[0], down[1], "--checksum"]] {
        run(&home, &node, args, "0 files and links copied (0 B), 0 deleted, 6 were the same");
    }
    // Something of every kind changes.
    fs::write(src.join("a/1"), "ONE").unwrap();
    fs::write(src.join("new"), "n").unwrap();
    set_mode(&src.join("a-b"), 0o600);
    fs::remove_file(src.join("a/deep/2")).unwrap();
    fs::remove_dir(src.join("a/deep")).unwrap();
    fs::remove_dir(src.join("empty")).unwrap();
    fs::remove_file(src.join("a/link")).unwrap();
    symlink("elsewhere", src.join("a/link")).unwrap();
    run(&home, &node, &up, "3 files and links copied");
    assert_eq!(home.dfs(&node, &["cat", "t/a/deep/2"], b"").stdout, b"two", "nothing is deleted");
    run(&home, &node, &[up[0], up[1], "--delete"], "0 files and links copied (0 B), 3 deleted");
    let would = stdout(&home, &node, &["sync", "-n", "--delete", down[0], down[1]]);
    let expected: Vec<_> = ["a/deep/2", "a/deep", "empty"]
        .map(|name| format!("delete {}", dst.join(name).display()))
        .into_iter()
        .chain(["copy t/a/1", "copy t/new", "describe t/a-b", "link t/a/link"].map(String::from))
        .collect();
    let mut expected = expected;
    expected.sort();
    assert_eq!(would, expected);
    run(&home, &node, &[down[0], down[1], "--delete"], "3 files and links copied (4 B), 3 deleted");
    assert_eq!(tree(&dst), tree(&src));
    set_mode(&src.join("shut"), 0o700);
    set_mode(&dst.join("shut"), 0o700);
}

#[test]
fn a_sync_keeps_its_hands_off_what_it_is_not_told_to_touch() {
    let home = Home::new();
    let node = home.start("data", &[]);
    let (src, dst) = (home.path("src"), home.path("dst"));
    fs::create_dir(&src).unwrap();
    fs::write(src.join("f"), "here").unwrap();
    let put = |name: &str| check(&home.dfs(&node, &["put", "-", name], b"there"), 0, "stored");
    ["t/cache/x", "t/f/below", "t/gone", "outside"].into_iter().for_each(put);
    let sync = |args: &[&str]| home.dfs(&node, &[&["sync"], args].concat(), b"");
    // A directory is where a file belongs.
    check(&sync(&[text(&src), "dfs:t"]), 3, "t/f is a directory there");
    // Nothing is deleted where something failed.
    let unreadable = src.join("shut");
    fs::create_dir(&unreadable).unwrap();
    symlink("\u{1}".repeat(9), unreadable.join("l")).unwrap();
    let exclude = ["--delete", "--exclude", "cache"];
    run(&home, &node, &[&[text(&src), "dfs:t"], &exclude[..]].concat(), "copied");
    assert_eq!(stdout(&home, &node, &["ls", "-r"]), ["outside", "t/cache/x", "t/f", "t/shut/l"]);
    assert_eq!(home.dfs(&node, &["cat", "t/f"], b"").stdout, b"here");
    // The other way: a link that leads out is not followed, and what is excluded stays.
    fs::create_dir_all(dst.join("cache")).unwrap();
    fs::write(dst.join("cache/mine"), "mine").unwrap();
    let outside = home.path("elsewhere");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("kept"), "kept").unwrap();
    symlink(&outside, dst.join("shut")).unwrap();
    symlink(&outside, dst.join("old")).unwrap();
    check(&sync(&["dfs:t", text(&dst)]), 3, "something else is there");
    run(&home, &node, &[&["dfs:t", text(&dst)], &exclude[..]].concat(), "2 deleted");
    assert_eq!(fs::read(outside.join("kept")).unwrap(), b"kept");
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 1);
    assert_eq!(fs::read(dst.join("cache/mine")).unwrap(), b"mine");
    assert!(fs::symlink_metadata(dst.join("shut")).unwrap().is_dir());
    for (args, code, says) in [
        (&["a", "b"][..], 2, "dfs:PATH"),
        (&["dfs:t", "dfs:u"], 2, "dfs:PATH"),
        (&["dfs:none", text(&dst), "--delete"], 4, "does not exist"),
        (&["dfs:outside", text(&dst)], 2, "dfs get"),
        (&["/nonexistent", "dfs:t", "--delete"], 1, "cannot read"),
        (&[text(&src), "dfs:outside"], 1, "no directory"),
    ] {
        check(&sync(args), code, says);
    }
    assert_eq!(fs::read(dst.join("cache/mine")).unwrap(), b"mine");
}

#[test]
fn content_is_compared_where_that_is_asked_for() {
    let home = Home::new();
    let node = home.start("data", &[]);
    let src = home.path("src");
    fs::create_dir(&src).unwrap();
    fs::write(src.join("f"), vec![1; 3 << 20]).unwrap();
    let args = [text(&src), "dfs:t"];
    run(&home, &node, &args, "1 files and links copied");
    // Of the same size and time, and another content.
    let time = fs::metadata(src.join("f")).unwrap().modified().unwrap();
    let mut other = vec![1; 3 << 20];
    other[(2 << 20) + 5] = 2;
    fs::write(src.join("f"), &other).unwrap();
    fs::File::options().write(true).open(src.join("f")).unwrap().set_modified(time).unwrap();
    run(&home, &node, &args, "0 files and links copied");
    run(&home, &node, &[args[0], args[1], "-c"], "1 files and links copied");
    assert_eq!(home.dfs(&node, &["cat", "t/f"], b"").stdout, other);
    // The same content at another time is only told.
    fs::write(src.join("f"), &other).unwrap();
    run(&home, &node, &[args[0], args[1], "-c"], "0 files and links copied (0 B), 0 deleted, 1");
    run(&home, &node, &args, "0 files and links copied (0 B), 0 deleted, 1 were the same");
}

#[test]
fn what_dfs_itself_keeps_is_deleted_by_nobody() {
    let home = Home::new();
    let node = home.start("data", &[]);
    let top = home.path("");
    fs::create_dir_all(home.path("cache/below")).unwrap();
    fs::write(home.path("cache/CACHEDIR.TAG"), "Signature: 8a477f597d28d172789f06886806bc55")
        .unwrap();
    fs::write(home.path("cache/below/f"), "x").unwrap();
    fs::write(home.path("mine"), "x").unwrap();
    let sync = |args: &[&str]| home.dfs(&node, &[&["sync"], args].concat(), b"");
    check(&sync(&[text(&top), "dfs:home", "--exclude", "run"]), 0, "files and links copied (");
    // What is left out this time is not taken for something that is gone.
    let args = [text(&top), "dfs:home", "--exclude", "run", "--exclude-caches", "--delete"];
    check(&sync(&args), 0, "0 deleted");
    assert_eq!(home.dfs(&node, &["cat", "home/cache/below/f"], b"").stdout, b"x");
    // The other way: no key and no data directory was ever there, and none of them goes.
    fs::write(home.path("later"), "x").unwrap();
    fs::remove_file(home.path("mine")).unwrap();
    let keys =
        || ["config/vault.key", "config/cluster.key", "data/node.key"].map(|key| home.path(key));
    check(&sync(&["dfs:home", text(&top), "--delete", "--exclude", "run"]), 0, "1 deleted");
    assert!(keys().iter().all(|key| key.exists()) && home.path("mine").exists());
    check(&sync(&["dfs:home", text(&home.path("data/blobs")), "--delete"]), 1, "data directory");
    // Nor is it what makes way.
    check(&home.dfs(&node, &["put", "-", "other/config"], b"x"), 0, "stored");
    let exclude = ["--exclude", "data", "--exclude", "run"];
    let made = sync(&[&["dfs:other", text(&top), "--delete"], &exclude[..]].concat());
    check(&made, 3, "something in it is left out");
    check(&home.dfs(&node, &["rm", "other/config"], b""), 0, "");
    check(&home.dfs(&node, &["put", "-", "other/data"], b"x"), 0, "stored");
    let exclude = ["--exclude", "config", "--exclude", "run"];
    let made = sync(&[&["dfs:other", text(&top), "--delete"], &exclude[..]].concat());
    check(&made, 3, "dfs' own");
    assert!(home.path("data/format").exists() && home.path("data/index.redb").exists());
    assert!(keys().iter().all(|key| key.exists()));
    assert_eq!(home.dfs(&node, &["status"], b"").status.code(), Some(0));
}
