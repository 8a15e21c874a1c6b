//! The fuzz targets over their committed inputs.

use super::corpus::{replay, write_seed};
use super::samples::{pair, valid};
use crate::fuzzing;

#[test]
fn records_hold_their_promises() {
    replay("record", fuzzing::record);
}

#[test]
fn layouts_hold_their_promises() {
    replay("epoch", fuzzing::epoch);
}

#[test]
fn names_hold_their_promises() {
    replay("names", fuzzing::names);
}

#[test]
fn merging_holds_its_promises() {
    replay("merging", fuzzing::merging);
}

#[test]
#[ignore = "writes the inputs that a fuzzer starts from"]
fn write_seeds() {
    for name in ["record", "version", "cert", "ref"] {
        write_seed("record", name, &valid(name));
    }
    for (first, second) in [("state", "epoch"), ("state", "epoch-of-each-op")] {
        write_seed("epoch", second, &pair(first, second));
    }
    let node = super::epoch::node(1).to_string();
    for (name, text) in [
        ("path", "a/b c/ü.txt"),
        ("dir", "/a/b/"),
        ("host", "my-host.example:3000"),
        ("ipv4", "10.0.0.1:0"),
        ("ipv6", "[::1]:65535"),
        ("port", ":3000"),
        ("node", &node),
    ] {
        write_seed("names", name, text.as_bytes());
    }
    write_seed("merging", "records", &pair("record", "record"));
    let schedule: Vec<u8> = (0..60u8).map(|at| at.wrapping_mul(37)).collect();
    write_seed("merging", "schedule", &schedule);
}
