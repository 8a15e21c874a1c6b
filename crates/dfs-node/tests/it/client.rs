//! What the client does with local files, pipes and connections that are not as they should be.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::ffi::OsStrExt;
use std::process::{Command, Stdio};

use rustix::process::Signal;

use crate::{Home, check, signal};

const MIB: usize = 1024 * 1024;

#[test]
fn a_file_that_does_not_know_its_length_is_stored_whole() {
    let home = Home::new();
    let node = home.start("data", &[]);
    check(&home.dfs(&node, &["put", "/proc/version", "version"], b""), 0, "stored");
    let expected = fs::read("/proc/version").unwrap();
    assert_eq!(home.dfs(&node, &["cat", "version"], b"").stdout, expected);
    fs::write(home.path("empty"), "").unwrap();
    check(&home.dfs(&node, &["put", home.path("empty").to_str().unwrap()], b""), 0, "0 B");
}

#[test]
fn a_source_that_cannot_be_read_is_named_and_nothing_is_stored() {
    let home = Home::new();
    let node = home.start("data", &[]);
    // Nothing is mapped at its beginning.
    let put = home.dfs(&node, &["put", "/proc/self/mem", "mem"], b"");
    check(&put, 1, "cannot read /proc/self/mem: ");
    check(&home.dfs(&node, &["stat", "mem"], b""), 4, "does not exist");
}

#[test]
fn what_cannot_be_stored_does_not_stop_the_rest_of_a_directory() {
    let home = Home::new();
    let node = home.start("data", &[]);
    let dir = home.path("photos");
    fs::create_dir_all(dir.join("sub")).unwrap();
    for name in [&b"a"[..], b"\xff", b"sub/b"] {
        fs::write(dir.join(OsStr::from_bytes(name)), "x").unwrap();
    }
    let put = home.dfs(&node, &["put", "-r", dir.to_str().unwrap(), "p"], b"");
    check(&put, 3, "is not a UTF-8 name");
    check(&put, 3, "1 of 3 files failed");
    assert_eq!(home.dfs(&node, &["ls", "-r"], b"").stdout, b"p/a\np/sub/b\n");
}

#[test]
fn a_link_is_stored_under_its_own_name() {
    let home = Home::new();
    let node = home.start("data", &[]);
    fs::write(home.path("target"), "x").unwrap();
    let link = home.path("link");
    std::os::unix::fs::symlink(home.path("target"), &link).unwrap();
    check(&home.dfs(&node, &["put", link.to_str().unwrap()], b""), 0, "stored link");
}

#[test]
fn a_reader_that_has_seen_enough_ends_the_client_quietly() {
    let home = Home::new();
    let node = home.start("data", &[]);
    check(&home.dfs(&node, &["put", "-", "big"], &vec![7; 3 * MIB]), 0, "stored");
    for args in [&["cat", "big"][..], &["get", "big", "-"], &["ls"], &["completion", "bash"]] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut command = home.client(&node.api, args);
        let output = command.stdout(writer).stderr(Stdio::piped()).output().unwrap();
        assert_eq!(output.status.code(), Some(141), "{args:?}");
        assert!(output.stderr.is_empty(), "{args:?}");
    }
    // Nobody hears why: that is no reason to panic.
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut command = home.client(&node.api, &["cat", "nothing"]);
    assert_eq!(command.stderr(writer).status().unwrap().code(), Some(4));
}

#[test]
fn a_status_is_said_anew_every_second_until_an_interrupt() {
    let home = Home::new();
    let node = home.start("data", &[]);
    let watch = |args: &[&str], wanted: usize| {
        let mut command = home.client(&node.api, args);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
        let lines: Vec<String> = lines.take(wanted).collect();
        signal(&child, Signal::INT);
        let ended = child.wait_with_output().unwrap();
        assert_eq!((ended.status.code(), ended.stderr.len()), (Some(130), 0));
        lines
    };
    let lines = watch(&["status", "--watch"], 12);
    let text = lines.join("\n");
    assert!(!text.contains('\x1b'), "no terminal: {text}");
    assert_eq!(lines.iter().filter(|line| line.starts_with("nodes ")).count(), 2, "{text}");
    assert!(text.contains("\nif 1 fails some files may be out of reach"), "{text}");
    for line in watch(&["--json", "status", "-w"], 3) {
        let status: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(status["next_failure"]["cost"], "files");
    }
}

#[test]
fn an_error_names_what_could_not_be_written() {
    let home = Home::new();
    let node = home.start("data", &[]);
    check(&home.dfs(&node, &["put", "-", "d/f"], b"x"), 0, "stored");
    let full = || File::options().write(true).open("/dev/full").unwrap();
    for args in [&["cat", "d/f"][..], &["ls"], &["completion", "bash"]] {
        let mut command = home.client(&node.api, args);
        let output = command.stdout(full()).stderr(Stdio::piped()).output().unwrap();
        check(&output, 1, "cannot write to stdout: ");
    }
    fs::write(home.path("file"), "").unwrap();
    let below = home.path("file/below");
    let below = below.to_str().unwrap();
    check(&home.dfs(&node, &["get", "-r", "d", below], b""), 1, &format!("cannot create {below}"));
    check(&home.dfs(&node, &["get", "d/f", "/dev/full"], b""), 1, "cannot write /dev/full: ");
}

#[test]
fn a_refusal_midway_reaches_the_client() {
    let home = Home::new();
    let node = home.start("data", &["--capacity", "1MiB"]);
    let put = home.dfs(&node, &["put", "-", "big"], &vec![7; 16 * MIB]);
    check(&put, 1, "raise --capacity");
}

#[test]
fn names_end_where_the_offer_does_and_deletions_do_not() {
    let home = Home::new();
    let node = home.start("data", &["--capacity", "3MiB"]);
    for at in 0..400 {
        let path = home.path(&format!("many/{at}"));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, vec![7; 12 * 1024]).unwrap();
    }
    let many = home.path("many");
    let put = home.dfs(&node, &["put", "-r", many.to_str().unwrap(), "many"], b"");
    check(&put, 3, "raise --capacity");
    let status = String::from_utf8(home.dfs(&node, &["status"], b"").stdout).unwrap();
    assert!(status.contains("takes no new content"), "{status}");
    check(&home.dfs(&node, &["rm", "-r", "many"], b""), 0, "");
}

/// Answers one request with `answer` and closes the connection.
fn false_node(answer: impl FnOnce(TcpStream) + Send + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let api = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut head = Vec::new();
        let mut byte = [0];
        while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).unwrap() > 0 {
            head.push(byte[0]);
        }
        answer(stream);
    });
    api
}

#[test]
fn a_node_that_breaks_off_is_a_reason_to_try_again() {
    let home = Home::new();
    fs::write(home.path("small"), "x").unwrap();
    for source in [home.path("small").to_str().unwrap(), "-"] {
        let api = false_node(drop);
        let output = home.client(&api, &["put", source, "x"]).output().unwrap();
        check(&output, 5, "closed the connection");
    }
    let nobody = home.client("http://127.0.0.1:1", &["put", "-", "x"]).output().unwrap();
    check(&nobody, 10, "cannot reach a node");
}

#[test]
fn a_closed_terminal_leaves_no_incomplete_file() {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:")).unwrap();
    if u64::from_str_radix(ignored.trim(), 16).unwrap() & 1 != 0 {
        return; // These tests run under nohup, and so would the client.
    }
    let home = Home::new();
    let (say_begun, begun) = std::sync::mpsc::sync_channel(1);
    let api = false_node(move |mut stream| {
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", 1024 * MIB);
        stream.write_all(head.as_bytes()).unwrap();
        // More than the sockets hold: once it is written, the client has begun to store it.
        stream.write_all(&vec![7; 32 * MIB]).unwrap();
        say_begun.send(()).unwrap();
        // Until the client is gone.
        let _ = stream.read(&mut [0]);
    });
    fs::create_dir(home.path("out")).unwrap();
    let target = home.path("out/big");
    let mut command = home.client(&api, &["get", "big", target.to_str().unwrap()]);
    let mut child = command.spawn().unwrap();
    begun.recv().unwrap();
    signal(&child, Signal::HUP);
    assert_eq!(child.wait().unwrap().code(), Some(129));
    assert_eq!(fs::read_dir(home.path("out")).unwrap().count(), 0);
}

#[test]
fn keys_answer_in_json_too() {
    let home = Home::new();
    let node = home.start("data", &[]);
    let words = home.dfs(&node, &["key", "export"], b"").stdout;
    let json = |args: &[&str]| -> serde_json::Value {
        let output = home.dfs(&node, args, &words);
        check(&output, 0, "");
        serde_json::from_slice(&output.stdout).unwrap()
    };
    let imported = json(&["--json", "key", "import"]);
    assert_eq!(imported["key"], "vault");
    assert_eq!(imported["file"], home.path("config/vault.key").to_str().unwrap());
    let verified = json(&["--json", "key", "verify"]);
    assert_eq!(verified, serde_json::json!({ "key": "vault", "matches": true, "noted": true }));
}

#[test]
fn a_switch_of_the_environment_is_read_as_people_write_it() {
    let home = Home::new();
    let founder = home.start("founder", &[]);
    let mut command: Command = home.node("data", &["--bootstrap", &founder.listen]);
    let node = Home::run(command.env("DFS_STORAGE_ONLY", "1").stderr(Stdio::null()));
    check(&home.dfs(&node, &["cat", "x"], b""), 12, "no vault key");
}
