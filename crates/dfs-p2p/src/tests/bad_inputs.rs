//! Every parser against its bad inputs, and the error each must meet.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use prost::Message;
use tokio_util::codec::Decoder;
use zeroize::Zeroizing;

use super::corpus::{Refused, check};
use super::samples::{opens, replies, valid};
use crate::book;
use crate::frame::FrameCodec;
use crate::fuzzing::{CLUSTER_KEY, PEER, SESSION};
use crate::hello;
use crate::message::{Call, Priority, Request};
use crate::mux::Mux;
use crate::wire::{self, WireError, proto};

macro_rules! corpus {
    ($name:literal) => {
        include_str!(concat!("../../../../corpus/bad/", $name, ".txt"))
    };
}

/// The value with this name out of a table, or one of the others.
fn pick(table: &[(&str, Vec<u8>)], name: &str) -> Vec<u8> {
    let found = table.iter().find(|(known, _)| *known == name);
    found.map_or_else(|| valid(name), |(_, bytes)| bytes.clone())
}

/// Splits all of `bytes` into frames; a frame that is not whole is an error here.
fn frames(mut codec: FrameCodec, bytes: &[u8]) -> Result<Vec<(u32, proto::frame::Kind)>, Refused> {
    let mut arriving = BytesMut::from(bytes);
    let mut frames = Vec::new();
    while !arriving.is_empty() {
        let frame = codec.decode(&mut arriving).map_err(Refused::of)?;
        frames.push(frame.ok_or_else(|| Refused::of("not whole"))?);
    }
    Ok(frames)
}

#[test]
fn frames_of_a_greeting() {
    let covers = ["TooLong", "Protobuf", "Empty", "not whole"];
    check(corpus!("frame-greeting"), &covers, valid, |bytes| {
        frames(FrameCodec::greeting(), bytes).map(|_| ())
    });
}

#[test]
fn frames_of_calls() {
    check(corpus!("frame"), &["TooLong", "Protobuf", "Empty", "not whole"], valid, |bytes| {
        let mut codec = FrameCodec::greeting();
        codec.allow_calls();
        frames(codec, bytes).map(|_| ())
    });
}

#[test]
fn requests() {
    let covers = [
        "Protobuf",
        "Missing(\"request\")",
        "Unknown(\"priority\")",
        "Unknown(\"origin\")",
        "Unknown(\"table\")",
        "Unknown(\"partition\")",
        "TooMany(\"node_id\")",
        "TooMany(\"digest\")",
        "TooMany(\"infos\")",
        "TooMany(\"keys\")",
        "TooMany(\"records\")",
        "TooMany(\"rows\")",
        "TooMany(\"ids\")",
        "TooMany(\"uses\")",
        "TooMany(\"roots\")",
        "Value(Truncated)",
        "Value(Trailing)",
        "Value(Invalid(\"after_tag\"))",
    ];
    let table = opens();
    check(
        corpus!("open"),
        &covers,
        |name| pick(&table, name),
        |bytes| {
            let open = proto::Open::decode(bytes).map_err(|_| Refused::of(WireError::Protobuf))?;
            wire::parse_open(open).map(|_| ()).map_err(Refused::of)
        },
    );
}

#[test]
fn answers() {
    let covers = [
        "Protobuf",
        "Unknown(\"code\")",
        "Unknown(\"partition\")",
        "TooMany(\"certs\")",
        "TooMany(\"records\")",
        "TooMany(\"state_hashes\")",
        "TooMany(\"bits\")",
        "TooMany(\"partition\")",
        "TooMany(\"hashes\")",
        "TooMany(\"refs\")",
        "Value(Truncated)",
    ];
    let table = replies();
    check(
        corpus!("reply"),
        &covers,
        |name| pick(&table, name),
        |bytes| {
            let reply =
                proto::Reply::decode(bytes).map_err(|_| Refused::of(WireError::Protobuf))?;
            wire::parse_reply(reply).map(|_| ()).map_err(Refused::of)
        },
    );
}

#[test]
fn greetings() {
    let covers = ["OtherId", "Incompatible", "Malformed", "ClusterKey", "Protobuf"];
    check(corpus!("hello"), &covers, valid, |bytes| {
        let hello = proto::Hello::decode(bytes).map_err(|_| Refused::of(WireError::Protobuf))?;
        let key = Zeroizing::new(CLUSTER_KEY);
        hello::check(&hello, &PEER, false, &key, &SESSION, &hello::NOBODY)
            .map(|_| ())
            .map_err(Refused::of)
    });
}

#[test]
fn streams() {
    let covers = ["Message", "StreamId", "Body", "Greeting"];
    check(corpus!("streams"), &covers, valid, |bytes| {
        let mut codec = FrameCodec::greeting();
        codec.allow_calls();
        let mut mux = Mux::<()>::new(false, Arc::default());
        for answer_bytes_max in [3, 0] {
            mux.call(&chain_get(answer_bytes_max), ()).unwrap();
        }
        for (stream, kind) in frames(codec, bytes)? {
            mux.on_frame(stream, kind).map_err(Refused::of)?;
        }
        Ok(())
    });
}

/// Calls of ours: number 2 takes three bytes in its answer, number 4 none.
fn chain_get(answer_bytes_max: usize) -> Call {
    let deadline = std::time::Duration::from_secs(1);
    let call = Call::new(Priority::Layout, deadline, Request::ChainGet { from: 0 });
    Call { answer_bytes_max, ..call }
}

#[test]
fn books() {
    check(corpus!("book"), &["forgotten"], valid, |bytes| {
        let infos = book::decode(Bytes::copy_from_slice(bytes));
        infos.map(|_| ()).ok_or_else(|| Refused::of("forgotten"))
    });
}
