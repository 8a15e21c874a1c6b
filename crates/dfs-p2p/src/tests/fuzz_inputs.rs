//! The fuzz targets over their committed inputs.

use super::corpus::{check_seed, replay};
use super::samples::{frame, opens, replies, valid};
use crate::fuzzing;
use crate::wire::proto::{Open, Reply, frame::Kind};
use prost::Message;

#[test]
fn messages_hold_their_promises() {
    replay("wire", fuzzing::wire);
}

#[test]
fn greetings_hold_their_promises() {
    replay("hello", fuzzing::hello);
}

#[test]
fn books_hold_their_promises() {
    replay("book", fuzzing::book);
}

#[test]
fn seeds_are_what_their_values_encode_to() {
    for (name, bytes) in opens() {
        let open = Open::decode(&bytes[..]).unwrap();
        check_seed("wire", &format!("open-{name}"), &frame(1, Kind::Open(open)));
    }
    for (name, bytes) in replies() {
        let reply = Reply::decode(&bytes[..]).unwrap();
        check_seed("wire", &format!("reply-{name}"), &frame(2, Kind::Reply(reply)));
    }
    let talk = ["ping", "put", "body", "answer-with-body", "call"].map(valid).concat();
    check_seed("wire", "talk", &talk);
    for name in ["hello", "ready"] {
        check_seed("hello", name, &valid(name));
    }
    check_seed("book", "info", &valid("info"));
    let book = valid("book");
    check_seed("book", "book", &book);
    check_seed("book", "book-without-checksum", &book[..book.len() - 32]);
}
