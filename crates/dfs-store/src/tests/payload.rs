//! The parser of payloads against bad inputs, and its fuzz target over the committed ones.

use dfs_core::codec::Canonical;
use dfs_core::hlc::Hlc;
use dfs_core::id::{BlobId, CertId, DirId, Vid};
use dfs_core::name::COMPONENT_BYTES_MAX;
use dfs_core::record::attributes::{Attributes, Mtime, Permissions};
use dfs_core::record::version::RETAINED_MAX;

use super::corpus::{Refused, check, check_seed, replay};
use crate::fuzzing;
use crate::vault::entry::{EntryNode, INLINE_BYTES_MAX, LinkTarget, Past, Payload};

/// The canonical bytes of the value with this name.
fn valid(name: &str) -> Vec<u8> {
    let inline = || EntryNode::Inline(b"content".to_vec().into());
    let chunked = || EntryNode::Chunked { bytes: 9, manifest: BlobId::new([2; 32]) };
    let link = || EntryNode::Link(LinkTarget::new("../there").unwrap());
    let said = || Attributes {
        permissions: Some(Permissions::of_mode(0o750)),
        mtime: Mtime::new(-2, 3),
        other: [(9, b"later".to_vec().into())].into(),
    };
    let mut attributes = Attributes::default();
    let (node, history) = match name {
        "dir" => (Some(EntryNode::Dir(DirId::new([1; 16]))), Vec::new()),
        "inline" => (Some(inline()), Vec::new()),
        "chunked" => (Some(chunked()), Vec::new()),
        "history" => (Some(inline()), vec![past(2, chunked()), past(1, inline())]),
        "link" => (Some(link()), Vec::new()),
        "attributes" => {
            attributes = said();
            let old = Past { attributes: said(), ..past(1, inline()) };
            (Some(chunked()), vec![past(2, link()), old])
        }
        "dead" => (None, vec![past(1, inline())]),
        "at-limits" => return at_limits(chunked()).to_canonical(),
        _ => panic!("no valid value is called {name}"),
    };
    Payload { name: "name".to_owned(), modified_ms: 3, attributes, node, history }.to_canonical()
}

fn past(stamp: u64, node: EntryNode) -> Past {
    Past {
        vid: Vid::new([3; 16]),
        hlc: Hlc(stamp),
        writer: CertId::new([4; 32]),
        modified_ms: 5,
        replaced_ms: 6,
        bytes_stored: 7,
        ref_id: Vid::new([8; 16]),
        attributes: Attributes::default(),
        node,
    }
}

fn at_limits(node: EntryNode) -> Payload {
    let history = (0..RETAINED_MAX as u64).rev().map(|stamp| past(stamp, node.clone()));
    Payload {
        name: "x".repeat(COMPONENT_BYTES_MAX),
        modified_ms: u64::MAX,
        attributes: Attributes::default(),
        node: Some(EntryNode::Inline(vec![1; INLINE_BYTES_MAX].into())),
        history: history.collect(),
    }
}

#[test]
fn bad_payloads_are_refused() {
    let covers = [
        "Truncated",
        "Trailing",
        "UnknownVersion(0)",
        "Invalid(\"name\")",
        "Invalid(\"entry\")",
        "Invalid(\"history\")",
        "TooLong(\"name\")",
        "TooLong(\"content\")",
        "TooLong(\"history\")",
        "Invalid(\"link\")",
        "Invalid(\"attributes\")",
        "TooLong(\"link\")",
        "TooLong(\"attributes\")",
    ];
    check(include_str!("../../../../corpus/bad/payload.txt"), &covers, valid, |bytes| {
        Payload::from_canonical(bytes.to_vec()).map(|_| ()).map_err(Refused::of)
    });
}

#[test]
fn payloads_hold_their_promises() {
    replay("payload", fuzzing::payload);
}

#[test]
fn seeds_are_what_their_values_encode_to() {
    for name in ["dir", "inline", "chunked", "history", "dead", "link", "attributes"] {
        check_seed("payload", name, &valid(name));
    }
}
