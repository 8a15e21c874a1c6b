//! What the fuzz targets run: bytes in, and a panic when a promise does not hold.
//!
//! Not part of the API. The same functions are run by plain tests over `corpus/fuzz`.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use dfs_core::codec::Canonical;
use dfs_core::id::NodeId;
use dfs_core::node::member::NodeInfo;
use prost::Message;
use tokio_util::codec::Decoder;
use zeroize::Zeroizing;

use crate::book;
use crate::frame::{FRAME_BYTES_MAX, FrameCodec, GREETING_BYTES_MAX};
use crate::hello::{self, Exporter};
use crate::message::{Answer, Call, Priority, Request, Response};
use crate::mux::{Event, Mux};
use crate::wire::{self, proto};

/// Frames of a peer, the messages inside them, and what they do to the streams of a connection.
pub fn wire(bytes: &[u8]) {
    if let Ok(open) = proto::Open::decode(bytes) {
        check_open(open);
    }
    if let Ok(reply) = proto::Reply::decode(bytes) {
        check_reply(reply);
    }
    split(bytes, FrameCodec::greeting(), GREETING_BYTES_MAX, |_, _| true);
    let mut codec = FrameCodec::greeting();
    codec.allow_calls();
    let mut mux = Mux::<()>::new(false, Arc::default());
    // Calls of ours, so that answers find someone who waits.
    for answer_bytes_max in [0, ANSWER_BYTES_MAX] {
        mux.call(&chain_get(answer_bytes_max), ()).expect("a fresh connection has room");
    }
    split(bytes, codec, FRAME_BYTES_MAX, |stream, kind| take_in(&mut mux, stream, kind));
}

/// Hands each frame to `take` until it has enough; no frame may be longer than allowed.
fn split(
    bytes: &[u8],
    mut codec: FrameCodec,
    bytes_max: usize,
    mut take: impl FnMut(u32, proto::frame::Kind) -> bool,
) {
    let mut arriving = BytesMut::from(bytes);
    let mut left = arriving.len();
    while let Ok(Some((stream, kind))) = codec.decode(&mut arriving) {
        assert!(left - arriving.len() <= bytes_max + 4, "a frame over the limit");
        left = arriving.len();
        if !take(stream, kind) {
            return;
        }
    }
}

/// As a connection does it; whether the peer may go on.
fn take_in(mux: &mut Mux<()>, stream: u32, kind: proto::frame::Kind) -> bool {
    match &kind {
        proto::frame::Kind::Open(open) => check_open(open.clone()),
        proto::frame::Kind::Reply(reply) => check_reply(reply.clone()),
        _ => {}
    }
    let Ok(event) = mux.on_frame(stream, kind) else { return false };
    match event {
        Some(Event::Call(stream, call)) => {
            let done = Answer { body: call.body, ..Answer::new(Ok(Response::Done), 1) };
            mux.answer(stream, &done).expect("it carries nothing but the body");
        }
        Some(Event::Answer((), answer)) => assert!(answer.body.len() <= ANSWER_BYTES_MAX),
        Some(Event::GoAway(goodbye)) => assert!(!goodbye.text.contains(char::is_control)),
        Some(Event::Ping(ping)) => mux.pong(ping.nonce, 1),
        Some(Event::Cancelled(_) | Event::Pong(_)) | None => {}
    }
    while mux.next_frame().is_some() {}
    true
}

fn chain_get(answer_bytes_max: usize) -> Call {
    let deadline = std::time::Duration::from_secs(1);
    let call = Call::new(Priority::Layout, deadline, Request::ChainGet { from: 0 });
    Call { answer_bytes_max, ..call }
}

/// What a peer asks means the same after it was passed on.
fn check_open(open: proto::Open) {
    let Ok(call) = wire::parse_open(open) else { return };
    let again = wire::parse_open(wire::open(&call)).expect("what was parsed is valid");
    assert_eq!(again.request, call.request);
    assert_eq!((again.priority, again.deadline), (call.priority, call.deadline));
}

fn check_reply(reply: proto::Reply) {
    let Ok(answer) = wire::parse_reply(reply) else { return };
    let again = wire::parse_reply(wire::reply(&answer)).expect("what was parsed is valid");
    assert_eq!(again.result, answer.result);
}

/// A greeting, and what follows it.
pub fn hello(bytes: &[u8]) {
    if let Ok(hello) = proto::Hello::decode(bytes) {
        let proof = hello::join_proof(&CLUSTER_KEY, &SESSION, &PEER);
        for is_member in [false, true] {
            let key = Zeroizing::new(CLUSTER_KEY);
            let Ok(greeted) =
                hello::check(&hello, &PEER, is_member, &key, &SESSION, &hello::NOBODY)
            else {
                continue;
            };
            assert!(greeted.proved || is_member, "a stranger without the key is let in");
            assert_eq!(greeted.proved, hello.join_proof[..] == proof);
            assert_eq!(&hello.node_id[..], PEER.as_bytes());
        }
    }
    if let Ok(ready) = proto::Ready::decode(bytes) {
        let _ = ready.observed_addr.parse::<SocketAddr>();
        info(&ready.info);
    }
}

/// Infos of nodes and the peer book, as it is and under a right checksum.
pub fn book(bytes: &[u8]) {
    info(bytes);
    let sealed = [bytes, blake3::hash(bytes).as_bytes()].concat();
    for bytes in [bytes, &sealed] {
        if let Some(infos) = book::decode(Bytes::copy_from_slice(bytes)) {
            assert_eq!(book::encode(&infos), bytes);
        }
    }
}

fn info(bytes: &[u8]) {
    if let Ok(info) = NodeInfo::from_canonical(bytes.to_vec()) {
        assert_eq!(info.to_canonical(), bytes, "two encodings of one info");
        let _ = info.verify();
    }
}

/// What one of the calls above takes in its answer.
const ANSWER_BYTES_MAX: usize = 1000;
pub(crate) const CLUSTER_KEY: [u8; 32] = [1; 32];
pub(crate) const SESSION: Exporter = [2; 32];
pub(crate) const PEER: NodeId = NodeId::new([3; 32]);
