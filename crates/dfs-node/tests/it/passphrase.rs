//! A passphrase on the vault's key, through the real programs.

use std::fs;
use std::process::Output;

use crate::{Home, check, refused, set_mode};

/// Runs `dfs key` with these arguments.
fn key(home: &Home, args: &[&str], input: &[u8]) -> Output {
    use std::io::Write;
    use std::process::Stdio;
    let mut command = home.client(":1", &[&["key"], args].concat());
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let _ = child.stdin.take().unwrap().write_all(input);
    child.wait_with_output().unwrap()
}

#[test]
fn a_protected_vault_key_opens_with_its_passphrase_alone() {
    let home = Home::new();
    let file = |name: &str, text: &str| {
        let path = home.path(name);
        fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let right = file("right", "correct horse battery staple\n");
    let wrong = file("wrong", "correct horse battery stable\n");
    let empty = file("empty", "");
    let short = file("short", "horse\n");

    let node = home.start("data", &[]);
    check(&home.dfs(&node, &["put", "-", "f"], b"content"), 0, "stored");
    let words = key(&home, &["export"], b"").stdout;
    // Not while it would be easily guessed.
    check(&key(&home, &["protect", "--new-passphrase-file", &short], b""), 12, "8 characters");
    let protect = ["protect", "--new-passphrase-file", &right];
    check(&key(&home, &protect, b""), 0, "is closed");
    // A node that runs has what it needs.
    assert_eq!(home.dfs(&node, &["cat", "f"], b"").stdout, b"content");
    assert_eq!(node.end(), Some(0));

    let given = |path: &str| ["--passphrase-file".to_owned(), path.to_owned()];
    let says = |path: &str, says: &str| {
        let given = given(path);
        let given = given.each_ref().map(String::as_str);
        refused(&home, "data", &given, 12, says);
        check(&key(&home, &[&["export"], &given[..]].concat(), b""), 12, says);
    };
    says(&wrong, "another passphrase");
    says(&empty, "its first line is empty");
    says(&home.path("none").display().to_string(), "no passphrase can be read");
    let shown = key(&home, &["export", "--passphrase-file", &right], b"");
    assert_eq!(shown.stdout, words);
    check(&key(&home, &["verify", "--passphrase-file", &right], &words), 0, "matches");
    // Words that are typed again take its place only when that is meant.
    check(&key(&home, &["import"], &words), 12, "protected");

    let node = home.start("data", &["--passphrase-file", &right]);
    assert_eq!(home.dfs(&node, &["cat", "f"], b"").stdout, b"content");
    assert_eq!(node.end(), Some(0));
    // As the file says it.
    fs::write(home.path("config/config.toml"), format!("passphrase-file = {right:?}\n")).unwrap();
    set_mode(&home.path("config/config.toml"), 0o600);
    let node = home.start("data", &[]);
    assert_eq!(node.end(), Some(0));
    fs::remove_file(home.path("config/config.toml")).unwrap();
    // One that only stores asks for none.
    let storing = home.start("other", &["--storage-only", "--bootstrap", "127.0.0.1:1"]);
    assert_eq!(storing.end(), Some(0));

    check(&key(&home, &["unprotect", "--passphrase-file", &wrong], b""), 12, "another passphrase");
    check(&key(&home, &["unprotect", "--passphrase-file", &right], b""), 0, "is open");
    let node = home.start("data", &[]);
    assert_eq!(home.dfs(&node, &["cat", "f"], b"").stdout, b"content");
    assert_eq!(node.end(), Some(0));
}
