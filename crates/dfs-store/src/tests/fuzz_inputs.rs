//! The fuzz targets over their committed inputs.

use super::corpus::{check_seed, replay};
use super::samples::valid;
use crate::fuzzing;

#[test]
fn blobs_hold_their_promises() {
    replay("blob", fuzzing::blob);
}

#[test]
fn keys_hold_their_promises() {
    replay("keys", fuzzing::keys);
}

#[test]
fn data_directories_hold_their_promises() {
    replay("data_dir", fuzzing::data_dir);
}

#[test]
fn seeds_are_what_their_values_encode_to() {
    for name in ["chunk", "chunk-unpadded", "payload", "page", "manifest"] {
        check_seed("blob", name, &valid(name));
    }
    check_seed("blob", "body", &[&[5, 0, 0, 0][..], b"hello", &[0; 247]].concat());
    for name in ["vault-key-file", "vault-key-text", "cluster-key-text", "words"] {
        check_seed("keys", name, &valid(name));
    }
    check_seed("keys", "key-file-without-checksum", &valid("node-key-file")[..40]);
    let node_key = valid("node-key-file");
    let bytes = |head: [u8; 6], tail: &[u8]| [&[1][..], &head, tail].concat();
    for (name, input) in [
        ("empty", vec![0]),
        ("made", vec![1]),
        ("other-format", bytes([1, 3, 0, 0, 0, 11], b"dfs-data 2\n")),
        ("other-node-key", bytes([2, 3, 0, 0, 0, 72], &node_key)),
        ("boot-at-limit", bytes([4, 3, 0, 0, 0, 11], b"4294967295\n")),
        ("index-cut", bytes([5, 1, 0, 16, 0, 0], b"")),
        ("index-header", bytes([5, 0, 0, 0, 9, 1], b"\x05")),
        ("index-gone", bytes([5, 2, 0, 0, 0, 0], b"")),
        ("left-over", bytes([9, 3, 0, 0, 0, 4], b"half")),
        ("dir-for-file", bytes([4, 2, 0, 0, 0, 0], &[4, 4, 0, 0, 0, 0])),
    ] {
        check_seed("data_dir", name, &input);
    }
}
