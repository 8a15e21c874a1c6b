//! Who may ask a node over HTTP: which hosts a request may name, and whose token opens what.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Stdio;

use crate::{Home, Running, check};

/// One request; its status and its answer.
fn ask(node: &Running, request: &str, fields: &[(&str, &str)]) -> (u16, String) {
    let addr = node.api.strip_prefix("http://").unwrap();
    let mut stream = TcpStream::connect(addr).unwrap();
    let fields: String =
        fields.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    write!(stream, "{request}\r\n{fields}Connection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    (answer.split(' ').nth(1).unwrap().parse().unwrap(), answer)
}

#[test]
fn a_host_that_is_refused_is_named_with_the_flag_that_allows_it() {
    let home = Home::new();
    let args = ["--api-host", "nas.lan,other.example", "--api-host", "third"];
    let node = Home::run(home.node("data", &args).stderr(Stdio::null()));
    for (host, status) in [
        ("localhost", 401),
        ("LOCALHOST:1", 401),
        ("127.0.0.1", 401),
        ("NAS.lan", 401),
        ("nas.lan:8080", 401),
        ("third", 401),
        ("else.example", 403),
        ("nas.lan.evil.example:80", 403),
    ] {
        let (found, answer) = ask(&node, "GET /v1/status HTTP/1.1", &[("Host", host)]);
        assert_eq!(found, status, "{host}: {answer}");
        let name = host.split(':').next().unwrap();
        let says = answer.contains(name) && answer.contains("--api-host");
        assert_eq!(says, status == 403, "{answer}");
    }
    // Nothing is told there, so probes may use whatever name they know.
    assert_eq!(ask(&node, "GET /livez HTTP/1.1", &[("Host", "pod-7")]).0, 200);
    assert_eq!(ask(&node, "GET /livez HTTP/1.0", &[]).0, 200);
    assert_eq!(ask(&node, "GET /v1/status HTTP/1.0", &[]).0, 401);
    assert_eq!(ask(&node, "GET /v1/status HTTP/1.1", &[]).0, 400);
    let page = [("Host", "localhost"), ("Origin", "http://evil.example")];
    assert_eq!(ask(&node, "GET /livez HTTP/1.1", &page).0, 403);
    let bad = home.node("other", &["--api-host", "http://x"]).output().unwrap();
    assert_eq!(bad.status.code(), Some(2));
}

#[test]
fn a_token_opens_what_it_was_given_for_until_it_is_revoked() {
    let home = Home::new();
    let own = || std::fs::read_to_string(home.path("data/api-token")).unwrap();
    let node = home.start("data", &[]);
    let first = own();
    let make = |args: &[&str]| {
        let made = home.dfs(&node, args, b"");
        check(&made, 0, "is not shown again");
        String::from_utf8(made.stdout).unwrap().trim().to_owned()
    };
    let reader = make(&["token", "create", "scraper", "--read-only"]);
    let writer = make(&["token", "create", "backup"]);
    check(&home.dfs(&node, &["token", "create", "backup"], b""), 1, "already");
    assert_eq!(node.end(), Some(0));
    let node = home.start("data", &[]);
    assert_eq!(own(), first, "programs need not be told another");
    let as_one = |token: &str, request: &str| {
        let token = format!("Bearer {token}");
        let fields = [("Host", "localhost"), ("Authorization", &*token), ("Content-Length", "0")];
        ask(&node, request, &fields).0
    };
    for (request, read, write) in [
        ("GET /metrics HTTP/1.1", 200, 200),
        ("GET /v1/status HTTP/1.1", 200, 200),
        ("PUT /v1/files/x HTTP/1.1", 403, 201),
        ("DELETE /v1/files/x HTTP/1.1", 403, 200),
        ("POST /v1/tokens?name=more HTTP/1.1", 403, 403),
        ("GET /v1/tokens HTTP/1.1", 403, 403),
    ] {
        assert_eq!(as_one(&reader, request), read, "{request}");
        assert_eq!(as_one(&writer, request), write, "{request}");
        assert_eq!(as_one("dfst1", request), 401, "{request}");
    }
    std::fs::write(home.path("token"), format!("{reader}\n")).unwrap();
    let token_file = home.path("token");
    let with_file = ["--token-file", token_file.to_str().unwrap()];
    check(&home.dfs(&node, &[&with_file[..], &["status"]].concat(), b""), 0, "");
    check(&home.dfs(&node, &[&with_file[..], &["put", "-", "y"]].concat(), b"y"), 12, "only read");
    let listed = home.dfs(&node, &["token", "ls"], b"").stdout;
    assert_eq!(String::from_utf8_lossy(&listed), "read-only   scraper\nread-write  backup\n");
    check(&home.dfs(&node, &["token", "revoke", "scraper"], b""), 0, "opens nothing");
    check(&home.dfs(&node, &["token", "revoke", "scraper"], b""), 4, "there is no token");
    assert_eq!(as_one(&reader, "GET /metrics HTTP/1.1"), 401);
    assert_eq!(as_one(&writer, "GET /metrics HTTP/1.1"), 200);
}
