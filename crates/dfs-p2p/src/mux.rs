//! Many calls on one connection: streams, priorities, credit and limits.
//!
//! Pure: frames in, events and frames out. A body travels in slices, so an urgent call waits for
//! one slice at most; it is sent only as far as the receiver gave credit. What the peer may make
//! this side hold is bounded by [`STREAMS_MAX`] and in [`crate::budget`].

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};

use dfs_core::id::BlobId;
use prost::Message;

use crate::budget::{Budget, PEER_BYTES_MAX, Weight};
use crate::flow::Flow;
use crate::frame::{SLICE_BYTES, fits};
use crate::message::{Answer, Call, Code, Priority, Refusal, Request};
use crate::wire::Goodbye;
use crate::wire::proto::{Data, GoAway, Open, Ping, Pong, Reply, Reset, Window, frame::Kind};
use crate::wire::{self, WireError};

/// A call's number on its connection.
pub(crate) type StreamId = u32;

/// What a frame meant.
#[derive(Debug)]
pub(crate) enum Event<W> {
    /// The peer calls.
    Call(StreamId, Call),
    /// The peer answered the call that this waits for.
    Answer(W, Answer),
    /// The peer gave up its call.
    Cancelled(StreamId),
    /// The peer closes.
    GoAway(Goodbye),
    /// The peer asks for a sign of life, which [`Mux::pong`] gives, and tells what its wall clock
    /// reads.
    Ping(Ping),
    /// The peer gives one, and tells what its wall clock reads.
    Pong(Pong),
}

/// What a well-behaved peer never does: the connection ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Violation {
    #[error("a message is not valid: {0}")]
    Message(#[from] WireError),
    #[error("a stream number is in use or belongs to the other side")]
    StreamId,
    #[error("more body was sent than announced or allowed")]
    Body,
    #[error("a greeting came twice")]
    Greeting,
}

/// Why a call cannot begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unsendable {
    /// One of the two sides has said goodbye.
    Closing,
    /// Too many calls are under way.
    TooMany,
    /// What is asked fits no frame.
    TooLarge,
}

/// An answer fits no frame: the peer gets a refusal instead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TooLarge;

/// One connection's calls. `W` is what waits for the answer to a call of ours: it is handed over
/// with the call, because the answer may be here before the caller's next step.
#[derive(Debug)]
pub(crate) struct Mux<W> {
    next_stream: StreamId,
    /// Frames that go before everything else.
    urgent: VecDeque<(StreamId, Kind)>,
    /// Goes out once every call that was begun before it has.
    goodbye: Option<GoAway>,
    /// One of the two sides has said goodbye: no more calls begin here.
    closing: bool,
    /// Streams with something to send, by priority.
    ready: [VecDeque<StreamId>; 4],
    sending: BTreeMap<StreamId, Sending>,
    receiving: BTreeMap<StreamId, Receiving>,
    /// Our calls: who waits, and the longest body each takes in its answer.
    calling: BTreeMap<StreamId, Calling<W>>,
    /// The peer's calls being carried out: their priority and what is held for them.
    serving: BTreeMap<StreamId, (Priority, Weight)>,
    /// What is held for the peer's calls.
    held: Weight,
    /// What is held for all peers.
    budget: Arc<Budget>,
    /// Bulk slices sent since the last background one.
    bulk_turns: u32,
    flow: Flow,
    /// The line takes what is sent only slowly.
    is_slow: bool,
}

#[derive(Debug)]
struct Calling<W> {
    waiting: W,
    answer_bytes_max: usize,
    began: Duration,
    /// Where its last byte was among those sent, once it was.
    ends_at: Option<u64>,
    /// When the peer was known to have all of it.
    delivered: Option<Duration>,
}

#[derive(Debug)]
struct Sending {
    priority: Priority,
    head: Option<Kind>,
    body: Bytes,
    credit: usize,
}

#[derive(Debug)]
struct Receiving {
    head: Head,
    body: BytesMut,
    expected: usize,
    ungranted: usize,
}

#[derive(Debug)]
enum Head {
    Call(Box<Call>),
    Answer(Answer),
}

impl<W> Mux<W> {
    /// `dialler` says whether this side dialled: its streams have odd numbers.
    pub(crate) fn new(dialler: bool, budget: Arc<Budget>) -> Self {
        Self {
            next_stream: if dialler { 1 } else { 2 },
            urgent: VecDeque::new(),
            goodbye: None,
            closing: false,
            ready: Default::default(),
            sending: BTreeMap::new(),
            receiving: BTreeMap::new(),
            calling: BTreeMap::new(),
            serving: BTreeMap::new(),
            held: Weight::default(),
            budget,
            bulk_turns: 0,
            flow: Flow::default(),
            is_slow: false,
        }
    }

    /// Notes what time it is, since the connection began.
    pub(crate) fn set_time(&mut self, now: Duration) {
        self.flow.set_time(now);
    }

    /// Notes whether the line is full: slices are smaller then, so that others wait less for one.
    pub(crate) fn set_slow(&mut self, is_slow: bool) {
        self.is_slow = is_slow;
    }

    /// How the bytes of this connection move.
    pub(crate) fn flow(&mut self) -> &mut Flow {
        &mut self.flow
    }

    /// Since when nothing has moved that a call waits for: its own bytes and those before them
    /// until the peer has got it, and whatever the peer sends afterwards, which the answer may be
    /// behind. `None` is for a call that waits for its place.
    pub(crate) fn still_since(&self, stream: Option<StreamId>) -> Duration {
        let flow = &self.flow;
        match stream.and_then(|stream| self.calling.get(&stream)) {
            Some(Calling { began, delivered, .. }) => {
                let heard = delivered.unwrap_or_else(|| flow.got_at());
                heard.max(flow.received_at()).max(*began)
            }
            None => flow.got_at().max(flow.received_at()),
        }
    }

    /// Whether the peer is bringing this blob.
    pub(crate) fn is_arriving(&self, id: &BlobId) -> bool {
        let brought = Request::ChunkPut(*id);
        let brings = |receiving: &Receiving| match &receiving.head {
            Head::Call(call) => call.request == brought,
            Head::Answer(_) => false,
        };
        self.receiving.values().any(brings)
    }

    /// Begins a call; `waiting` comes back with the answer.
    pub(crate) fn call(&mut self, call: &Call, waiting: W) -> Result<StreamId, Unsendable> {
        if self.closing {
            return Err(Unsendable::Closing);
        }
        if self.calling.len() >= STREAMS_MAX {
            return Err(Unsendable::TooMany);
        }
        let stream = self.next_stream;
        let open = Kind::Open(wire::open(call));
        if !fits(stream, &open) {
            return Err(Unsendable::TooLarge);
        }
        // Number 0 stands for the connection itself.
        self.next_stream = self.next_stream.checked_add(2).unwrap_or(2 - stream % 2);
        let answer_bytes_max = call.answer_bytes_max;
        let began = self.flow.now();
        let calling = Calling { waiting, answer_bytes_max, began, ends_at: None, delivered: None };
        self.calling.insert(stream, calling);
        self.send(stream, call.priority, open, call.body.clone());
        Ok(stream)
    }

    /// Answers a call of the peer, if it still wants to know.
    pub(crate) fn answer(&mut self, stream: StreamId, answer: &Answer) -> Result<(), TooLarge> {
        // The call counts until its answer has left: a peer that does not read gets no more.
        let Some((priority, held)) = self.serving.get(&stream).copied() else { return Ok(()) };
        if self.sending.contains_key(&stream) {
            return Ok(());
        }
        self.release(held);
        let refuse = |refusal| Kind::Reply(wire::reply(&Answer::new(Err(refusal), answer.epoch)));
        let reply = Kind::Reply(wire::reply(answer));
        let is_sendable = fits(stream, &reply);
        let weight = Weight::of(&reply, answer.body.len());
        let (reply, body, held) = if !is_sendable {
            let reply = refuse(Refusal::new(Code::Internal, "the answer is too large"));
            (reply, Bytes::new(), Weight::default())
        } else if self.hold(weight) {
            (reply, answer.body.clone(), weight)
        } else {
            (refuse(overloaded()), Bytes::new(), Weight::default())
        };
        self.serving.insert(stream, (priority, held));
        self.send(stream, priority, reply, body);
        if is_sendable { Ok(()) } else { Err(TooLarge) }
    }

    /// Takes room for a call or an answer, if this peer and all together may have it.
    fn hold(&mut self, weight: Weight) -> bool {
        let held = self.held.plus(weight);
        let more = held.counted() - self.held.counted();
        let room = held.counted() <= PEER_BYTES_MAX && self.budget.take(more);
        if room {
            self.held = held;
        }
        room
    }

    fn release(&mut self, weight: Weight) {
        let held = self.held.minus(weight);
        self.budget.give_back(self.held.counted() - held.counted());
        self.held = held;
    }

    /// Gives up a call of ours.
    pub(crate) fn cancel(&mut self, stream: StreamId) {
        if self.calling.remove(&stream).is_some() {
            self.forget(stream);
            self.urgent.push_back((stream, Kind::Reset(Reset { code: Code::Cancelled as i32 })));
        }
    }

    /// Lets go of everyone who waits: no answer will come.
    pub(crate) fn give_up(&mut self) {
        self.calling.clear();
    }

    /// Asks the peer for a sign of life, and tells it this clock's reading.
    pub(crate) fn ping(&mut self, nonce: u64, unix_ms: u64) {
        self.urgent.push_back((0, Kind::Ping(Ping { nonce, unix_ms })));
    }

    /// Gives the peer a sign of life and this clock's reading, unless too much waits to be sent.
    pub(crate) fn pong(&mut self, nonce: u64, unix_ms: u64) {
        if self.urgent.len() < URGENT_MAX {
            self.urgent.push_back((0, Kind::Pong(Pong { nonce, unix_ms })));
        }
    }

    /// Tells the peer that this connection ends. Whoever hears that closes it when it knows of no
    /// call, so the calls that were begun here go first.
    pub(crate) fn go_away(&mut self, message: GoAway) {
        self.closing = true;
        self.goodbye = Some(message);
    }

    fn take_goodbye(&mut self) -> Option<GoAway> {
        let is_unheard = |sending: &Sending| matches!(sending.head, Some(Kind::Open(_)));
        let waits = self.goodbye.is_some() && self.sending.values().any(is_unheard);
        self.goodbye.take_if(|_| !waits)
    }

    /// Whether no call is under way and nothing waits to be sent.
    pub(crate) fn is_idle(&self) -> bool {
        self.calling.is_empty()
            && self.serving.is_empty()
            && self.sending.is_empty()
            && self.urgent.is_empty()
            && self.goodbye.is_none()
    }

    fn send(&mut self, stream: StreamId, priority: Priority, head: Kind, body: Bytes) {
        let sending = Sending { priority, head: Some(head), body, credit: STREAM_CREDIT_BYTES };
        self.sending.insert(stream, sending);
        self.ready[priority as usize].push_back(stream);
    }

    fn end_serving(&mut self, stream: StreamId) -> Option<Priority> {
        let (priority, held) = self.serving.remove(&stream)?;
        self.release(held);
        Some(priority)
    }

    fn forget(&mut self, stream: StreamId) {
        self.sending.remove(&stream);
        self.receiving.remove(&stream);
        self.end_serving(stream);
    }

    /// Takes in a frame.
    pub(crate) fn on_frame(
        &mut self,
        stream: StreamId,
        kind: Kind,
    ) -> Result<Option<Event<W>>, Violation> {
        match kind {
            Kind::Hello(_) | Kind::Ready(_) => Err(Violation::Greeting),
            Kind::GoAway(message) => {
                self.closing = true;
                Ok(Some(Event::GoAway(wire::parse_go_away(message))))
            }
            Kind::Ping(ping) => Ok(Some(Event::Ping(ping))),
            Kind::Pong(pong) if self.flow.on_mark(pong.nonce) => {
                self.note_delivered();
                Ok(None)
            }
            Kind::Pong(pong) => Ok(Some(Event::Pong(pong))),
            Kind::Open(open) => self.on_open(stream, open),
            Kind::Reply(reply) => self.on_reply(stream, reply),
            Kind::Data(data) => self.on_data(stream, data.bytes),
            Kind::Reset(_) => Ok(self.on_reset(stream)),
            Kind::Window(Window { add }) => {
                self.on_window(stream, add as usize);
                Ok(None)
            }
        }
    }

    fn note_delivered(&mut self) {
        let (got, now) = (self.flow.got(), self.flow.now());
        for calling in self.calling.values_mut().filter(|calling| calling.delivered.is_none()) {
            if calling.ends_at.is_some_and(|end| end <= got) {
                calling.delivered = Some(now);
            }
        }
    }

    fn on_open(&mut self, stream: StreamId, open: Open) -> Result<Option<Event<W>>, Violation> {
        let theirs = stream != 0 && stream % 2 != self.next_stream % 2;
        // An urgent call may overtake one that was numbered before it.
        if !theirs || self.serving.contains_key(&stream) {
            return Err(Violation::StreamId);
        }
        let expected = open.body_bytes as usize;
        self.flow.on_received(open.encoded_len());
        let weight = Weight { heads: open.encoded_len(), bodies: expected };
        let call = match wire::parse_open(open) {
            // A kind of request from a newer version is answered, not punished.
            Err(WireError::Missing("request")) => {
                let refusal = Refusal::new(Code::Unsupported, "this request is not known here");
                self.refuse(stream, refusal);
                return Ok(None);
            }
            other => other?,
        };
        if expected > BODY_BYTES_MAX {
            return Err(Violation::Body);
        }
        if self.serving.len() >= STREAMS_MAX || !self.hold(weight) {
            self.refuse(stream, overloaded());
            return Ok(None);
        }
        self.serving.insert(stream, (call.priority, weight));
        self.receive(stream, Head::Call(Box::new(call)), expected)
    }

    fn refuse(&mut self, stream: StreamId, refusal: Refusal) {
        let answer = Answer::new(Err(refusal), 0);
        if self.urgent.len() < URGENT_MAX {
            self.urgent.push_back((stream, Kind::Reply(wire::reply(&answer))));
        }
    }

    fn on_reply(&mut self, stream: StreamId, reply: Reply) -> Result<Option<Event<W>>, Violation> {
        // An answer to a call given up meanwhile is no fault.
        let Some(calling) = self.calling.get(&stream) else { return Ok(None) };
        if self.receiving.contains_key(&stream) {
            return Err(Violation::StreamId);
        }
        let expected = reply.body_bytes as usize;
        if expected > calling.answer_bytes_max {
            return Err(Violation::Body);
        }
        self.flow.on_received(reply.encoded_len());
        // The peer has decided: what is left of our body is of no use to it.
        self.sending.remove(&stream);
        self.receive(stream, Head::Answer(wire::parse_reply(reply)?), expected)
    }

    fn receive(
        &mut self,
        stream: StreamId,
        head: Head,
        expected: usize,
    ) -> Result<Option<Event<W>>, Violation> {
        let receiving = Receiving { head, body: BytesMut::new(), expected, ungranted: 0 };
        if expected == 0 {
            return Ok(self.complete(stream, receiving));
        }
        self.receiving.insert(stream, receiving);
        Ok(None)
    }

    fn on_data(&mut self, stream: StreamId, bytes: Bytes) -> Result<Option<Event<W>>, Violation> {
        // Slices of a call that was refused or given up may still be under way.
        let Some(receiving) = self.receiving.get_mut(&stream) else { return Ok(None) };
        if receiving.body.len() + bytes.len() > receiving.expected || bytes.is_empty() {
            return Err(Violation::Body);
        }
        if receiving.body.is_empty() {
            receiving.body.reserve(receiving.expected);
        }
        receiving.body.extend_from_slice(&bytes);
        self.flow.on_received(bytes.len());
        receiving.ungranted += bytes.len();
        if receiving.body.len() == receiving.expected {
            let receiving = self.receiving.remove(&stream).ok_or(Violation::StreamId)?;
            return Ok(self.complete(stream, receiving));
        }
        if receiving.ungranted >= STREAM_CREDIT_BYTES / 2 {
            let add = u32::try_from(receiving.ungranted).map_err(|_| Violation::Body)?;
            receiving.ungranted = 0;
            self.urgent.push_back((stream, Kind::Window(Window { add })));
        }
        Ok(None)
    }

    fn complete(&mut self, stream: StreamId, receiving: Receiving) -> Option<Event<W>> {
        let body = receiving.body.freeze();
        match receiving.head {
            Head::Call(call) => Some(Event::Call(stream, Call { body, ..*call })),
            Head::Answer(answer) => {
                let Calling { waiting, .. } = self.calling.remove(&stream)?;
                Some(Event::Answer(waiting, Answer { body, ..answer }))
            }
        }
    }

    fn on_reset(&mut self, stream: StreamId) -> Option<Event<W>> {
        let was_served = self.serving.contains_key(&stream);
        if self.calling.contains_key(&stream) {
            // Only the caller gives up a call; the other side answers.
            return None;
        }
        self.forget(stream);
        was_served.then_some(Event::Cancelled(stream))
    }

    fn on_window(&mut self, stream: StreamId, add: usize) {
        if let Some(sending) = self.sending.get_mut(&stream) {
            let was_out = sending.credit == 0;
            sending.credit = sending.credit.saturating_add(add).min(BODY_BYTES_MAX);
            if was_out && sending.credit > 0 {
                self.ready[sending.priority as usize].push_back(stream);
            }
        }
    }

    /// The frame to send next; `None` while there is none.
    pub(crate) fn next_frame(&mut self) -> Option<(StreamId, Kind)> {
        if let Some(frame) = self.urgent.pop_front() {
            return Some(frame);
        }
        if let Some(message) = self.take_goodbye() {
            return Some((0, Kind::GoAway(message)));
        }
        if let Some(nonce) = self.flow.mark_due(false) {
            return Some((0, Kind::Ping(Ping { nonce, unix_ms: 0 })));
        }
        while let Some((class, stream)) = self.next_ready() {
            let Some(sending) = self.sending.get_mut(&stream) else { continue };
            let (frame, bytes) = match sending.head.take() {
                Some(head) => {
                    let bytes = head.encoded_len();
                    (head, bytes)
                }
                None => {
                    let bytes = slice(sending, self.is_slow);
                    let len = bytes.len();
                    (Kind::Data(Data { bytes }), len)
                }
            };
            let end = self.flow.on_sent(bytes);
            if sending.body.is_empty() {
                self.sending.remove(&stream);
                self.end_serving(stream);
                if let Some(calling) = self.calling.get_mut(&stream) {
                    calling.ends_at = Some(end);
                }
            } else if sending.credit > 0 {
                self.ready[class].push_back(stream);
            }
            return Some((stream, frame));
        }
        let nonce = self.flow.mark_due(true)?;
        Some((0, Kind::Ping(Ping { nonce, unix_ms: 0 })))
    }

    /// Strictly by priority, except that background gets one turn in nine of what chunks leave.
    fn next_ready(&mut self) -> Option<(usize, StreamId)> {
        let [layout, records, chunks, background] = &mut self.ready;
        if let Some(stream) = layout.pop_front() {
            return Some((0, stream));
        }
        if let Some(stream) = records.pop_front() {
            return Some((1, stream));
        }
        let background_turn = self.bulk_turns >= CHUNK_TURNS && !background.is_empty();
        if !background_turn && let Some(stream) = chunks.pop_front() {
            self.bulk_turns = self.bulk_turns.saturating_add(1);
            return Some((2, stream));
        }
        self.bulk_turns = 0;
        background.pop_front().map(|stream| (3, stream))
    }
}

impl<W> Drop for Mux<W> {
    fn drop(&mut self) {
        self.budget.give_back(self.held.counted());
    }
}

fn overloaded() -> Refusal {
    let message = "too many calls at once".to_owned();
    Refusal { code: Code::Overloaded, message, retry_after: Some(OVERLOADED_RETRY) }
}

fn slice(sending: &mut Sending, is_slow: bool) -> Bytes {
    let most = if is_slow { SLOW_SLICE_BYTES } else { SLICE_BYTES };
    let len = most.min(sending.credit).min(sending.body.remaining());
    sending.credit -= len;
    sending.body.split_to(len)
}

/// Calls under way at once, each way: enough to fill a long fast line with chunks.
pub(crate) const STREAMS_MAX: usize = 128;
/// The longest body: the largest blob.
pub(crate) const BODY_BYTES_MAX: usize = 9 * 1024 * 1024 + 80;
/// Body bytes a sender may send before the receiver grants more.
const STREAM_CREDIT_BYTES: usize = 1024 * 1024;
/// One slice where the line is full: an eighth of a second at 1 Mbit/s.
const SLOW_SLICE_BYTES: usize = 16 * 1024;
/// Turns of chunks before a turn of background work.
const CHUNK_TURNS: u32 = 8;
/// Pongs and refusals that may wait; a peer that floods gets no more of them.
const URGENT_MAX: usize = 1024;
/// When to try again after a refusal for load.
const OVERLOADED_RETRY: std::time::Duration = std::time::Duration::from_millis(100);

#[cfg(test)]
mod tests;
