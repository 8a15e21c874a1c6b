//! What the client does when the node that it asks goes away in the midst of something.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::net::TcpListener;
use std::process::{Child, Stdio};

use crate::{Home, Running, check};

/// More than the sockets and pipes between the node and the test hold.
const BIG: usize = 16 << 20;

fn content() -> Vec<u8> {
    (0..BIG).map(|at| u8::try_from(at / 4096 % 251).unwrap()).collect()
}

/// A `dfs get big -` that has given one byte, and its stderr.
fn begun(home: &Home, node: &Running) -> (Child, Vec<u8>) {
    let mut get = home.client(&node.api, &["get", "big", "-"]);
    let mut get = get.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut first = vec![0];
    get.stdout.as_mut().unwrap().read_exact(&mut first).unwrap();
    (get, first)
}

fn rest(mut get: Child, mut got: Vec<u8>) -> Vec<u8> {
    get.stdout.take().unwrap().read_to_end(&mut got).unwrap();
    check(&get.wait_with_output().unwrap(), 0, "");
    got
}

#[test]
fn a_get_goes_on_where_it_was_when_its_node_restarts() {
    let home = Home::new();
    let node = home.start("data", &[]);
    check(&home.dfs(&node, &["put", "-", "big"], &content()), 0, "stored");
    let (mut get, first) = begun(&home, &node);
    // Killed: its run record stays, and its API refuses connections.
    drop(node);
    let mut stderr = BufReader::new(get.stderr.take().unwrap());
    let reading = std::thread::spawn(move || rest(get, first));
    let mut line = String::new();
    stderr.read_line(&mut line).unwrap();
    assert!(line.contains("went away: waiting for it"), "{line}");
    // It has another port and another token then.
    let _node = home.start("data", &[]);
    assert!(reading.join().unwrap() == content());
}

#[test]
fn a_get_goes_on_with_another_node_when_its_own_is_gone() {
    let home = Home::new();
    let first = home.start("first", &[]);
    let second = home.start("second", &["--bootstrap", &first.listen]);
    home.wait(&first, |status| {
        status["alive"] == 2 && status["nodes"] == 2 && status["moving"] == 0
    });
    check(&home.dfs(&first, &["--mode", "quorum", "put", "-", "big"], &content()), 0, "2 of 2");
    let (mut get, got) = begun(&home, &first);
    drop(first);
    let mut stderr = BufReader::new(get.stderr.take().unwrap());
    let reading = std::thread::spawn(move || rest(get, got));
    let mut said = String::new();
    stderr.read_line(&mut said).unwrap();
    let expected = format!("going on with the node at {}\n", second.api);
    assert_eq!(said, expected);
    assert!(reading.join().unwrap() == content());
}

#[test]
fn a_put_of_a_file_is_repeated_when_its_node_restarts() {
    let home = Home::new();
    let node = home.start("data", &[]);
    // The node before its restart: it takes a connection and is gone.
    let former = TcpListener::bind("127.0.0.1:0").unwrap();
    let api = format!("http://{}", former.local_addr().unwrap());
    let records = home.path("config/run");
    let record = fs::read_dir(&records).unwrap().next().unwrap().unwrap().path();
    let mut former_record: serde_json::Value =
        serde_json::from_slice(&fs::read(record).unwrap()).unwrap();
    former_record["api"] = api.clone().into();
    // Nobody holds a lock on it: its process, which runs, says that it does.
    former_record["locked"] = false.into();
    fs::write(records.join("former.json"), former_record.to_string()).unwrap();
    let ends = std::thread::spawn(move || drop(former.accept().unwrap()));
    let file = home.path("file");
    fs::write(&file, vec![7; 3 << 20]).unwrap();
    let put = home.client(&api, &["put", file.to_str().unwrap()]).output().unwrap();
    ends.join().unwrap();
    check(&put, 0, "stored file (3.0 MiB)");
    assert!(home.dfs(&node, &["cat", "file"], b"").stdout == vec![7; 3 << 20]);
}
