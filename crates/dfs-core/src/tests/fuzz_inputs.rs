//! The fuzz targets over their committed inputs.

use super::corpus::{check_seed, replay};
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
fn seeds_are_what_their_values_encode_to() {
    for name in ["record", "version", "cert", "ref"] {
        check_seed("record", name, &valid(name));
    }
    for (first, second) in [("state", "epoch"), ("state", "epoch-of-each-op")] {
        check_seed("epoch", second, &pair(first, second));
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
        check_seed("names", name, text.as_bytes());
    }
    check_seed("merging", "records", &pair("record", "record"));
    let schedule: Vec<u8> = (0..60u8).map(|at| at.wrapping_mul(37)).collect();
    check_seed("merging", "schedule", &schedule);
}
