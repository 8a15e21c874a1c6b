//! What changes is told as it happens, through the real programs.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, ChildStdout, Stdio};

use serde_json::Value;

use crate::{Home, Running, check};

/// `dfs watch` under way.
struct Watching {
    child: Child,
    lines: BufReader<ChildStdout>,
}

impl Watching {
    fn begin(home: &Home, node: &Running, dir: &str) -> Self {
        let mut command = home.client(&node.api, &["watch", "--json", dir]);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap());
        let mut watching = Self { child, lines };
        assert_eq!(watching.next()["change"], "listed");
        watching
    }

    fn next(&mut self) -> Value {
        let mut line = String::new();
        self.lines.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap()
    }

    #[track_caller]
    fn tells(&mut self, change: &str, path: &str) -> Value {
        let told = self.next();
        assert_eq!((&told["change"], &told["path"]), (&change.into(), &path.into()), "{told}");
        told
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn what_happens_on_one_gateway_is_told_on_another() {
    let home = Home::new();
    let first = home.start("first", &[]);
    let second = home.start("second", &["--bootstrap", &first.listen]);
    home.wait(&second, |status| status["alive"] == 2 && status["moving"] == 0);
    let run = |args: &[&str]| check(&home.dfs(&first, args, b"content"), 0, "");
    run(&["mkdir", "d"]);
    let mut watching = Watching::begin(&home, &second, "d");
    let mut another = Watching::begin(&home, &second, "d");
    run(&["put", "-", "d/file"]);
    let told = watching.tells("created", "d/file");
    assert_eq!((&told["entry"]["type"], &told["entry"]["bytes"]), (&"file".into(), &7.into()));
    // What is elsewhere, or deeper, is not told.
    run(&["put", "-", "elsewhere"]);
    run(&["mkdir", "d/sub"]);
    assert_eq!(watching.tells("created", "d/sub")["entry"]["type"], "dir");
    run(&["put", "-", "d/sub/deeper"]);
    run(&["mv", "d/file", "d/other"]);
    let moved = [watching.next(), watching.next()];
    let is = |change: &str, path: &str| {
        moved.iter().any(|told| told["change"] == change && told["path"] == path)
    };
    assert!(is("created", "d/other") && is("removed", "d/file"), "{moved:?}");
    run(&["put", "-", "d/other"]);
    watching.tells("changed", "d/other");
    run(&["rm", "d/other"]);
    assert_eq!(watching.tells("removed", "d/other")["entry"], Value::Null);
    // Two who watch are told the same.
    another.tells("created", "d/file");
    another.tells("created", "d/sub");
    // Nobody who watches keeps a node from ending.
    assert_eq!(second.end(), Some(0));
}

#[test]
fn a_directory_that_is_not_there_cannot_be_watched_and_one_that_goes_ends_it() {
    let home = Home::new();
    let node = home.start("data", &[]);
    check(&home.dfs(&node, &["watch", "d"], b""), 4, "does not exist");
    check(&home.dfs(&node, &["mkdir", "d"], b""), 0, "");
    let mut watching = Watching::begin(&home, &node, "d");
    check(&home.dfs(&node, &["rmdir", "d"], b""), 0, "");
    assert_eq!(watching.child.wait().unwrap().code(), Some(4));
}

/// The lines of an answer that does not end.
fn listen(home: &Home, node: &Running, target: &str, more: &str) -> BufReader<TcpStream> {
    let token = std::fs::read_to_string(home.path("data/api-token")).unwrap();
    let mut stream = TcpStream::connect(node.api.strip_prefix("http://").unwrap()).unwrap();
    let (host, token) = ("127.0.0.1", token.trim());
    let head = format!("Host: {host}\r\nAuthorization: Bearer {token}\r\n{more}\r\n");
    stream.write_all(format!("GET {target} HTTP/1.1\r\n{head}").as_bytes()).unwrap();
    BufReader::new(stream)
}

/// The next line that begins so, without that.
fn line(from: &mut BufReader<TcpStream>, begin: &str) -> String {
    loop {
        let mut line = String::new();
        assert_ne!(from.read_line(&mut line).unwrap(), 0, "it ended");
        if let Some(rest) = line.trim_end().strip_prefix(begin) {
            return rest.to_owned();
        }
    }
}

#[test]
fn whoever_comes_back_is_told_what_happened_meanwhile() {
    let home = Home::new();
    let node = home.start("data", &[]);
    let put = |name: &str| check(&home.dfs(&node, &["put", "-", name], b""), 0, "stored");
    let mut first = listen(&home, &node, "/v1/watch", "");
    assert_eq!(line(&mut first, "content-type: "), "text/event-stream");
    assert_eq!(line(&mut first, "event: "), "list");
    let id = line(&mut first, "id: ");
    drop(first);
    // Whoever looks at the directory meanwhile takes nothing away.
    put("meanwhile");
    check(&home.dfs(&node, &["ls"], b""), 0, "");
    let mut again = listen(&home, &node, "/v1/watch", &format!("Last-Event-ID: {id}\r\n"));
    assert_eq!(line(&mut again, "event: "), "change");
    assert!(line(&mut again, "data: ").contains("\"meanwhile\""));
    // An id that says nothing to this node.
    let mut anew = listen(&home, &node, "/v1/watch", "Last-Event-ID: 1-ffff\r\n");
    assert_eq!(line(&mut anew, "event: "), "list");
}

#[test]
fn the_health_of_the_cluster_is_told_when_it_is_another() {
    let home = Home::new();
    let node = home.start("data", &[]);
    let mut events = listen(&home, &node, "/v1/events", "");
    assert_eq!(line(&mut events, "event: "), "status");
    let files = |events: &mut BufReader<TcpStream>| -> Value {
        serde_json::from_str::<Value>(&line(events, "data: ")).unwrap()["files"].take()
    };
    assert_eq!(files(&mut events), 0);
    check(&home.dfs(&node, &["put", "-", "x"], b"x"), 0, "stored");
    while files(&mut events) != 1 {}
    assert_eq!(node.end(), Some(0));
    let mut rest = Vec::new();
    events.read_to_end(&mut rest).unwrap();
}
