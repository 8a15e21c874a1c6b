//! Every parser against its bad inputs, and the error each must meet.

use super::corpus::{Refused, check};
use super::epoch::genesis;
use super::samples::{cert, record_key, valid};
use crate::address::Address;
use crate::codec::Canonical;
use crate::id::{BlobId, NodeId, from_hex};
use crate::layout::epoch::{EpochCert, EpochState};
use crate::name::FilePath;
use crate::node::member::NodeInfo;
use crate::record::refs::RefRow;
use crate::record::version::{Record, Version};
use crate::record::writer::WriterCert;
use crate::replica::scrub::Scrub;

fn decode<T: Canonical>(bytes: &[u8]) -> Result<T, Refused> {
    T::from_canonical(bytes.to_vec()).map_err(Refused::of)
}

fn decodes<T: Canonical>(bytes: &[u8]) -> Result<(), Refused> {
    decode::<T>(bytes).map(|_| ())
}

/// The text parsers are handed texts only: what is not UTF-8 is refused before them.
fn text(bytes: &[u8]) -> Result<&str, Refused> {
    std::str::from_utf8(bytes).map_err(Refused::of)
}

macro_rules! corpus {
    ($name:literal) => {
        include_str!(concat!("../../../../corpus/bad/", $name, ".txt"))
    };
}

#[test]
fn versions() {
    let covers = [
        "Truncated",
        "Trailing",
        "Invalid(\"context\")",
        "Invalid(\"kind\")",
        "TooLong(\"context\")",
        "TooLong(\"retained\")",
        "TooLong(\"sealed\")",
    ];
    check(corpus!("version"), &covers, valid, decodes::<Version>);
}

#[test]
fn records() {
    let covers =
        ["UnknownVersion(0)", "Invalid(\"heads\")", "Invalid(\"register\")", "TooLong(\"heads\")"];
    check(corpus!("record"), &covers, valid, decodes::<Record>);
}

#[test]
fn reference_rows() {
    check(corpus!("ref"), &["Invalid(\"dropped\")"], valid, decodes::<RefRow>);
}

#[test]
fn scrubs() {
    let covers = ["Truncated", "Trailing", "UnknownVersion(2)", "Invalid(\"flag\")"];
    check(corpus!("scrub"), &covers, valid, decodes::<Scrub>);
}

#[test]
fn infos() {
    let covers = [
        "TooLong(\"addrs\")",
        "TooLong(\"addr\")",
        "TooLong(\"zone\")",
        "TooLong(\"build\")",
        "TooLong(\"synced\")",
        "TooLong(\"bodies\")",
        "TooLong(\"emptied\")",
        "BadSignature",
    ];
    check(corpus!("info"), &covers, valid, |bytes| {
        decode::<NodeInfo>(bytes)?.verify().map_err(Refused::of)
    });
}

#[test]
fn certificates() {
    let covers = ["OtherVault", "Signature", "UnknownVersion(0)"];
    check(corpus!("cert"), &covers, valid, |bytes| {
        decode::<WriterCert>(bytes)?.verify().map_err(Refused::of)
    });
}

#[test]
fn signed_versions() {
    let covers = ["OtherCert", "Signature", "Shape"];
    check(corpus!("signed-version"), &covers, valid, |bytes| {
        let version = decode::<Version>(bytes)?;
        cert().verify_version(&record_key(), &version).map_err(Refused::of)
    });
}

#[test]
fn layouts() {
    let covers = [
        "UnknownVersion(0)",
        "Invalid(\"partition_bits\")",
        "Invalid(\"member state\")",
        "Invalid(\"stage\")",
        "Invalid(\"row\")",
        "Invalid(\"layout\")",
        "Invalid(\"zone\")",
        "TooLong(\"members\")",
        "TooLong(\"voters\")",
        "TooLong(\"rows\")",
        "TooLong(\"current\")",
        "TooLong(\"next\")",
        "TooLong(\"former\")",
        "TooLong(\"admins\")",
        "TooLong(\"burnt invites\")",
        "Invalid(\"roles\")",
        "Invalid(\"role\")",
    ];
    check(corpus!("state"), &covers, valid, decodes::<EpochState>);
}

#[test]
fn epochs_after_the_first() {
    let covers = [
        "UnknownVersion(0)",
        "Invalid(\"epoch op\")",
        "TooLong(\"ops\")",
        "TooLong(\"votes\")",
        "NotNext",
        "NotDecided",
        "NotAuthorized",
        "Invalid(\"generation\")",
        "Invalid(\"role\")",
        "TooLong(\"admins\")",
        "OtherState",
        "BadOp(\"the partition is at another stage\")",
    ];
    check(corpus!("epoch"), &covers, valid, |bytes| {
        let (state, first) = genesis();
        let next = decode::<EpochCert>(bytes)?;
        state.follow(first.proposal.hash(), &next).map(|_| ()).map_err(Refused::of)
    });
}

#[test]
fn names() {
    let covers = ["Empty", "TooLong", "LongComponent", "EmptyComponent", "Dots", "Nul"];
    check(corpus!("name"), &covers, valid, |bytes| {
        FilePath::parse(text(bytes)?).map(|_| ()).map_err(Refused::of)
    });
}

#[test]
fn names_of_directories() {
    let covers = ["Empty", "TooLong", "LongComponent", "EmptyComponent", "Dots", "Nul"];
    check(corpus!("dir"), &covers, valid, |bytes| {
        FilePath::parse_dir(text(bytes)?).map(|_| ()).map_err(Refused::of)
    });
}

#[test]
fn addresses() {
    let covers = ["BarePort", "NoPort", "BadPort", "BadHost"];
    check(corpus!("address"), &covers, valid, |bytes| {
        text(bytes)?.parse::<Address>().map(|_| ()).map_err(Refused::of)
    });
}

#[test]
fn node_ids() {
    let covers = ["Checksum", "Prefix", "Length"];
    check(corpus!("node-id"), &covers, valid, |bytes| {
        text(bytes)?.parse::<NodeId>().map(|_| ()).map_err(Refused::of)
    });
}

#[test]
fn ids_and_digits() {
    let covers = ["Invalid(\"BlobId\")", "no digits"];
    check(corpus!("id"), &covers, valid, |bytes| match bytes.strip_prefix(b"digits ") {
        None => BlobId::from_slice(bytes).map(|_| ()).map_err(Refused::of),
        Some(digits) => match from_hex::<4>(text(digits)?) {
            Some(_) => Ok(()),
            None => Err(Refused::of("no digits")),
        },
    });
}
