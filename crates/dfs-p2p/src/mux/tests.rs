//! Streams against each other and against a hostile peer.

use std::time::Duration;

use dfs_core::id::BlobId;
use dfs_core::replica::sync::Table;

use super::*;
use crate::budget::{ALL_PEERS_BYTES_MAX, HEADS_FREE_BYTES};
use crate::frame::FRAME_BYTES_MAX;
use crate::message::{Request, Response};
use crate::wire::proto::Frame;

/// Who waits for an answer.
const WAITER: u8 = 77;

fn mux(dialler: bool) -> Mux<u8> {
    Mux::new(dialler, Arc::default())
}

fn call(priority: Priority, body: usize) -> Call {
    let put = Request::ChunkPut(BlobId::new([1; 32]));
    let call = Call::new(priority, Duration::from_secs(1), put);
    Call { epoch: 7, body: vec![5; body].into(), answer_bytes_max: BODY_BYTES_MAX, ..call }
}

fn answer(body: usize) -> Answer {
    Answer { result: Ok(Response::Done), epoch: 8, body: vec![6; body].into() }
}

fn bodies(bytes: usize) -> Weight {
    Weight { heads: 0, bodies: bytes }
}

/// Carries everything both ways until nothing moves; gives what each side heard.
fn carry(a: &mut Mux<u8>, b: &mut Mux<u8>) -> (Vec<Event<u8>>, Vec<Event<u8>>) {
    let (mut at_a, mut at_b) = (Vec::new(), Vec::new());
    loop {
        let (to_b, to_a) = (a.next_frame(), b.next_frame());
        if to_a.is_none() && to_b.is_none() {
            return (at_a, at_b);
        }
        if let Some((stream, kind)) = to_b {
            at_b.extend(hear(b, stream, kind));
        }
        if let Some((stream, kind)) = to_a {
            at_a.extend(hear(a, stream, kind));
        }
    }
}

/// Takes in a frame, and answers pings.
fn hear(mux: &mut Mux<u8>, stream: StreamId, kind: Kind) -> Option<Event<u8>> {
    match mux.on_frame(stream, kind).unwrap() {
        Some(Event::Ping(ping)) => {
            mux.pong(ping.nonce, 0);
            None
        }
        event => event,
    }
}

#[test]
fn calls_and_answers_of_any_size_arrive_whole() {
    for size in [0, 1, SLICE_BYTES, SLICE_BYTES + 1, STREAM_CREDIT_BYTES * 3 + 7] {
        let (mut a, mut b) = (mux(true), mux(false));
        let stream = a.call(&call(Priority::Chunks, size), WAITER).unwrap();
        let (_, heard) = carry(&mut a, &mut b);
        let [Event::Call(at, got)] = &heard[..] else { panic!("no call") };
        let at = *at;
        assert_eq!((at, got.body.len(), got.epoch), (stream, size, 7));
        b.answer(at, &answer(size)).unwrap();
        let (heard, _) = carry(&mut a, &mut b);
        let [Event::Answer(waiting, got)] = &heard[..] else { panic!("no answer") };
        assert_eq!((*waiting, got.body.len(), got.epoch), (WAITER, size, 8));
        assert!(a.is_idle() && b.is_idle());
    }
}

#[test]
fn a_goodbye_overtakes_no_call_and_none_follows_it() {
    let (mut a, mut b) = (mux(true), mux(false));
    a.call(&call(Priority::Chunks, 2 * SLICE_BYTES), WAITER).unwrap();
    b.call(&call(Priority::Background, 0), WAITER).unwrap();
    a.go_away(wire::go_away(Code::Duplicate, "another is kept"));
    assert_eq!(a.call(&call(Priority::Layout, 0), WAITER).unwrap_err(), Unsendable::Closing);
    let (at_a, at_b) = carry(&mut a, &mut b);
    let [Event::Call(of_b, _)] = at_a[..] else { panic!("{at_a:?}") };
    // Its head came first, so whoever hears the goodbye knows that there is something to answer.
    let [Event::GoAway(_), Event::Call(of_a, _)] = at_b[..] else { panic!("{at_b:?}") };
    assert_eq!(b.call(&call(Priority::Layout, 0), WAITER).unwrap_err(), Unsendable::Closing);
    assert!(!a.is_idle() && !b.is_idle());
    a.answer(of_b, &answer(0)).unwrap();
    b.answer(of_a, &answer(7)).unwrap();
    let (at_a, at_b) = carry(&mut a, &mut b);
    assert!(matches!(at_a[..], [Event::Answer(WAITER, _)]), "{at_a:?}");
    assert!(matches!(at_b[..], [Event::Answer(WAITER, _)]), "{at_b:?}");
    assert!(a.is_idle() && b.is_idle());
}

#[test]
fn an_urgent_call_waits_for_one_slice_at_most() {
    let mut a = mux(true);
    a.call(&call(Priority::Chunks, 10 * SLICE_BYTES), WAITER).unwrap();
    for _ in 0..3 {
        a.next_frame().unwrap();
    }
    let urgent = a.call(&call(Priority::Layout, 0), WAITER).unwrap();
    assert_eq!(a.next_frame().unwrap().0, urgent);
}

#[test]
fn background_work_gets_a_turn_and_no_more() {
    let mut a = mux(true);
    let chunks = a.call(&call(Priority::Chunks, 16 * SLICE_BYTES), WAITER).unwrap();
    let background = a.call(&call(Priority::Background, 16 * SLICE_BYTES), WAITER).unwrap();
    let turns: Vec<_> = (0..18).map(|_| a.next_frame().unwrap().0).collect();
    assert_eq!(turns.iter().filter(|stream| **stream == background).count(), 2);
    assert_eq!(turns.iter().filter(|stream| **stream == chunks).count(), 16);
}

#[test]
fn calls_of_one_priority_take_turns() {
    let mut a = mux(true);
    let one = a.call(&call(Priority::Chunks, 3 * SLICE_BYTES), WAITER).unwrap();
    let two = a.call(&call(Priority::Chunks, 3 * SLICE_BYTES), WAITER).unwrap();
    let turns: Vec<_> = (0..6).map(|_| a.next_frame().unwrap().0).collect();
    assert_eq!(turns, [one, two, one, two, one, two]);
}

#[test]
fn nothing_is_sent_beyond_the_credit() {
    let mut a = mux(true);
    let stream = a.call(&call(Priority::Chunks, 3 * STREAM_CREDIT_BYTES), WAITER).unwrap();
    let mut sent = 0;
    while let Some((_, kind)) = a.next_frame() {
        if let Kind::Data(data) = kind {
            sent += data.bytes.len();
        }
    }
    assert_eq!(sent, STREAM_CREDIT_BYTES);
    a.on_frame(stream, Kind::Window(Window { add: 10 })).unwrap();
    let Some((_, Kind::Data(data))) = a.next_frame() else { panic!("credit brings no data") };
    assert_eq!(data.bytes.len(), 10);
}

#[test]
fn too_many_calls_are_refused_without_being_held() {
    let (mut a, mut b) = (mux(true), mux(false));
    for _ in 0..PEER_BYTES_MAX / BODY_BYTES_MAX + 2 {
        a.call(&call(Priority::Chunks, BODY_BYTES_MAX), WAITER).unwrap();
    }
    let (heard, _) = carry(&mut a, &mut b);
    let refused = heard.iter().filter(|event| match event {
        Event::Answer(_, answer) => {
            matches!(&answer.result, Err(refusal) if refusal.code == Code::Overloaded)
        }
        _ => false,
    });
    assert!(refused.count() > 0);
    assert!(b.held.counted() <= PEER_BYTES_MAX);
    for _ in 0..STREAMS_MAX {
        let _ = a.call(&call(Priority::Layout, 0), WAITER);
    }
    assert_eq!(a.call(&call(Priority::Layout, 0), WAITER), Err(Unsendable::TooMany));
}

#[test]
fn a_call_given_up_is_forgotten_on_both_sides() {
    let (mut a, mut b) = (mux(true), mux(false));
    let stream = a.call(&call(Priority::Chunks, 10), WAITER).unwrap();
    carry(&mut a, &mut b);
    a.cancel(stream);
    let (_, heard) = carry(&mut a, &mut b);
    assert!(matches!(heard[..], [Event::Cancelled(at)] if at == stream));
    b.answer(stream, &answer(10)).unwrap();
    let (heard, _) = carry(&mut a, &mut b);
    assert!(heard.is_empty() && a.is_idle() && b.is_idle());
    assert_eq!(b.held, Weight::default());
}

#[test]
fn misbehaviour_ends_the_connection() {
    let opened = |stream: StreamId, body_bytes: u32| {
        let open = Open { body_bytes, ..wire::open(&call(Priority::Chunks, 0)) };
        (stream, Kind::Open(open))
    };
    let fresh = || mux(false);
    let refused = |mux: &mut Mux<u8>, (stream, kind): (StreamId, Kind), why| {
        assert_eq!(mux.on_frame(stream, kind).unwrap_err(), why);
    };
    refused(&mut fresh(), opened(0, 0), Violation::StreamId);
    refused(&mut fresh(), opened(2, 0), Violation::StreamId);
    refused(&mut fresh(), opened(1, u32::MAX), Violation::Body);
    let mut twice = fresh();
    let (stream, kind) = opened(1, 5);
    twice.on_frame(stream, kind).unwrap();
    refused(&mut twice, opened(1, 5), Violation::StreamId);
    let more = Kind::Data(Data { bytes: vec![0; 6].into() });
    refused(&mut twice, (1, more), Violation::Body);
    let hello = Kind::Hello(crate::wire::proto::Hello::default());
    refused(&mut fresh(), (0, hello), Violation::Greeting);
}

#[test]
fn an_unknown_request_is_answered_as_unsupported() {
    let (mut a, mut b) = (mux(true), mux(false));
    a.call(&call(Priority::Layout, 0), WAITER).unwrap();
    let Some((stream, Kind::Open(mut open))) = a.next_frame() else { panic!("no open") };
    open.request = None;
    assert!(b.on_frame(stream, Kind::Open(open)).unwrap().is_none());
    let (heard, _) = carry(&mut a, &mut b);
    let [Event::Answer(_, answer)] = &heard[..] else { panic!("no answer") };
    assert_eq!(answer.result.as_ref().unwrap_err().code, Code::Unsupported);
}

#[test]
fn a_flood_of_pings_is_answered_only_so_often() {
    let mut flooded = mux(false);
    for nonce in 0..100_000 {
        let ping = Ping { nonce, unix_ms: 1 };
        let heard = flooded.on_frame(0, Kind::Ping(ping)).unwrap();
        assert!(matches!(heard, Some(Event::Ping(asked)) if asked == ping));
        flooded.pong(nonce, 1);
    }
    assert_eq!(flooded.urgent.len(), URGENT_MAX);
}

#[test]
fn answers_that_nobody_reads_are_bounded_too() {
    let (mut a, mut b) = (mux(true), mux(false));
    let wanted = PEER_BYTES_MAX / BODY_BYTES_MAX + 3;
    for _ in 0..wanted {
        a.call(&call(Priority::Chunks, 0), WAITER).unwrap();
    }
    let (_, heard) = carry(&mut a, &mut b);
    assert_eq!(heard.len(), wanted);
    for event in heard {
        let Event::Call(stream, _) = event else { panic!("no call") };
        b.answer(stream, &answer(BODY_BYTES_MAX)).unwrap();
    }
    assert!(b.held.bodies <= PEER_BYTES_MAX && b.held.bodies > 0);
    let (heard, _) = carry(&mut a, &mut b);
    let refused = heard.iter().filter(|event| match event {
        Event::Answer(_, answer) => answer.result.is_err(),
        _ => false,
    });
    assert_eq!(refused.count(), wanted - PEER_BYTES_MAX / BODY_BYTES_MAX);
    assert_eq!(b.held, Weight::default());
}

#[test]
fn all_connections_share_one_budget_and_give_it_back() {
    let budget = Arc::new(Budget::default());
    let held: Vec<_> = (0..ALL_PEERS_BYTES_MAX / PEER_BYTES_MAX)
        .map(|_| {
            let mut mux = Mux::<u8>::new(false, budget.clone());
            assert!(mux.hold(bodies(PEER_BYTES_MAX)));
            mux
        })
        .collect();
    let mut one_more = Mux::<u8>::new(false, budget);
    assert!(!one_more.hold(bodies(1)));
    // The layout can be asked about all the same.
    let head = Weight { heads: HEADS_FREE_BYTES, bodies: 0 };
    assert!(one_more.hold(head));
    assert!(!one_more.hold(Weight { heads: 1, bodies: 0 }));
    one_more.release(head);
    drop(held);
    assert!(one_more.hold(bodies(PEER_BYTES_MAX)));
}

#[test]
fn requests_without_a_body_and_their_answers_count_too() {
    let (mut a, mut b) = (mux(true), mux(false));
    let ids = |n: u8| (0..4096).map(|_| BlobId::new([n; 32])).collect();
    let ask = |n| Call::new(Priority::Records, Duration::from_secs(1), Request::ChunkHas(ids(n)));
    a.call(&ask(1), WAITER).unwrap();
    carry(&mut a, &mut b);
    let of_request = b.held;
    assert!(of_request.heads > 4096 * 32 && of_request.bodies == 0, "{of_request:?}");
    b.answer(1, &Answer::new(Ok(Response::StateHashes(vec![[1; 32]; 4096])), 0)).unwrap();
    assert!(b.held.heads > 4096 * 32);
    carry(&mut a, &mut b);
    assert_eq!(b.held, Weight::default());
}

#[test]
fn numbers_that_run_out_begin_again_above_zero() {
    for (dialler, last, first) in [(true, u32::MAX, 1), (false, u32::MAX - 1, 2)] {
        let mut a = mux(dialler);
        a.next_stream = last;
        assert_eq!(a.call(&call(Priority::Layout, 0), WAITER), Ok(last));
        assert_eq!(a.call(&call(Priority::Layout, 0), WAITER), Ok(first));
    }
}

/// A call whose frame has this many bytes more than fit.
fn scan(over: isize) -> Call {
    let after = |bytes: usize| {
        let scan =
            Request::SyncScan { table: Table::Refs, partition: 0, after: vec![0; bytes].into() };
        Call::new(Priority::Records, Duration::from_secs(1), scan)
    };
    let frame = |bytes| Frame { stream: 1, kind: Some(Kind::Open(wire::open(&after(bytes)))) };
    let head = frame(FRAME_BYTES_MAX).encoded_len() - FRAME_BYTES_MAX;
    after((FRAME_BYTES_MAX - head).strict_add_signed(over))
}

#[test]
fn a_call_that_fits_no_frame_is_not_begun() {
    let mut a = mux(true);
    assert_eq!(a.call(&scan(1), WAITER), Err(Unsendable::TooLarge));
    assert!(a.is_idle());
    assert_eq!(a.call(&scan(0), WAITER), Ok(1));
    let Some((_, Kind::Open(open))) = a.next_frame() else { panic!("no open") };
    assert_eq!(Frame { stream: 1, kind: Some(Kind::Open(open)) }.encoded_len(), FRAME_BYTES_MAX);
}

#[test]
fn an_answer_that_fits_no_frame_becomes_a_refusal() {
    let (mut a, mut b) = (mux(true), mux(false));
    let stream = a.call(&call(Priority::Records, 0), WAITER).unwrap();
    carry(&mut a, &mut b);
    let last = vec![0; FRAME_BYTES_MAX].into();
    let rows = Response::Rows { hashes: Vec::new(), refs: Vec::new(), last, more: true };
    let too_large = Answer { result: Ok(rows), epoch: 8, body: vec![6; 10].into() };
    assert_eq!(b.answer(stream, &too_large), Err(TooLarge));
    let (heard, _) = carry(&mut a, &mut b);
    let [Event::Answer(_, answer)] = &heard[..] else { panic!("no answer") };
    assert_eq!(answer.result.as_ref().unwrap_err().code, Code::Internal);
    assert_eq!((answer.epoch, answer.body.len(), b.held), (8, 0, Weight::default()));
    assert!(a.is_idle() && b.is_idle());
}

/// Gives every frame of one side to the other until nothing leaves it.
fn deliver(from: &mut Mux<u8>, to: &mut Mux<u8>, at: Duration) -> Vec<Event<u8>> {
    let mut heard = Vec::new();
    from.set_time(at);
    to.set_time(at);
    while let Some((stream, kind)) = from.next_frame() {
        heard.extend(hear(to, stream, kind));
    }
    heard
}

#[test]
fn a_call_waits_while_its_bytes_arrive_and_then_for_the_answer_alone() {
    let s = Duration::from_secs;
    let (mut a, mut b) = (mux(true), mux(false));
    let put = a.call(&call(Priority::Chunks, 3 * STREAM_CREDIT_BYTES), WAITER).unwrap();
    let behind = a.call(&call(Priority::Background, 0), WAITER).unwrap();
    assert_eq!(a.still_since(Some(put)), s(0));
    // Its first part is with the peer, which gives credit for more and the mark back.
    deliver(&mut a, &mut b, s(7));
    deliver(&mut b, &mut a, s(8));
    assert_eq!(a.still_since(Some(put)), s(8));
    assert_eq!(a.still_since(None), s(8));
    for at in [10, 12, 14, 16, 18, 20] {
        deliver(&mut a, &mut b, s(at));
        deliver(&mut b, &mut a, s(at + 1));
    }
    // All of it is there: what still moves for others does not count any more.
    let delivered = a.still_since(Some(put));
    let before = a.still_since(Some(behind));
    assert!(before < delivered && delivered <= s(21), "{before:?} {delivered:?}");
    let more = a.call(&call(Priority::Chunks, STREAM_CREDIT_BYTES), WAITER).unwrap();
    deliver(&mut a, &mut b, s(40));
    deliver(&mut b, &mut a, s(41));
    assert_eq!(a.still_since(Some(more)), s(41));
    assert_eq!(a.still_since(Some(put)), delivered);
    // What the peer sends may be what the answer is behind.
    b.answer(more, &answer(SLICE_BYTES)).unwrap();
    deliver(&mut b, &mut a, s(50));
    assert_eq!(a.still_since(Some(put)), s(50));
}

#[test]
fn pings_and_small_frames_are_no_progress() {
    let s = Duration::from_secs;
    let (mut a, mut b) = (mux(true), mux(false));
    let asked = a.call(&call(Priority::Chunks, 0), WAITER).unwrap();
    for at in 1..9 {
        a.ping(0, 0);
        b.ping(0, 0);
        b.call(&call(Priority::Layout, 0), WAITER).unwrap();
        deliver(&mut a, &mut b, s(at));
        deliver(&mut b, &mut a, s(at));
    }
    assert_eq!(a.still_since(Some(asked)), s(0));
}

#[test]
fn a_blob_on_its_way_here_is_known() {
    let (mut a, mut b) = (mux(true), mux(false));
    a.call(&call(Priority::Chunks, 2 * SLICE_BYTES), WAITER).unwrap();
    let id = BlobId::new([1; 32]);
    for arriving in [false, true, true] {
        assert_eq!(b.is_arriving(&id), arriving);
        let Some((stream, kind)) = a.next_frame() else { panic!("no frame") };
        b.on_frame(stream, kind).unwrap();
    }
    assert!(!b.is_arriving(&id));
    assert!(!b.is_arriving(&BlobId::new([2; 32])));
}
