//! One connection once it has greeted: calls both ways, keep-alive, end.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::{Buf, BytesMut};
use dfs_core::id::{AdminId, BlobId, NodeId};
use dfs_core::layout::epoch::Grant;
use dfs_core::node::conn::ConnFacts;
use dfs_core::node::member::Genuine;
use dfs_env::{Env, Stream};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use parking_lot::{Mutex, MutexGuard};
use tokio::io::{AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::sync::{Notify, Semaphore, oneshot};
use tokio::time::Instant;
use tokio_rustls::TlsStream;
use tokio_util::codec::{Encoder, FramedRead};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::budget::Budget;
use crate::clocks::{ClockTold, Measured};
use crate::error::{CallError, ConnError};
use crate::frame::{FrameCodec, FrameError};
use crate::handler::{Caller, Handler};
use crate::heard::{Heard, Listening};
use crate::hello::{ConnClass, Greeted};
use crate::message::{Answer, Call, Code, Priority, Refusal};
use crate::mux::{Event, Mux, STREAMS_MAX, StreamId, TooLarge, Unsendable, Violation};
use crate::traffic::Traffic;
use crate::wire::proto::frame::Kind;
use crate::wire::proto::{Ping, Pong};
use crate::wire::{self, Goodbye};

/// How a connection began.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Origin {
    /// We dialled this address, for this purpose; the last is the number of the dial.
    Dialled(SocketAddr, ConnClass, u64),
    /// The peer dialled, from this address.
    Accepted(SocketAddr),
}

pub(crate) type Frames = FramedRead<Listening<ReadHalf<TlsStream<Stream>>>, FrameCodec>;

/// A greeted connection that is not yet in use.
pub(crate) struct Greeting {
    pub(crate) peer: NodeId,
    pub(crate) greeted: Greeted,
    /// What the peer says about itself.
    pub(crate) info: Genuine,
    /// Where the peer sees us: our own listening address, or our source address.
    pub(crate) observed: Option<SocketAddr>,
    /// Names the connection, and no other.
    pub(crate) challenge: [u8; 32],
    pub(crate) frames: Frames,
    pub(crate) out: WriteHalf<TlsStream<Stream>>,
}

/// A connection in use.
pub(crate) struct Conn {
    env: Env,
    pub(crate) peer: NodeId,
    pub(crate) class: ConnClass,
    pub(crate) facts: ConnFacts,
    /// Where we dialled, if we did.
    pub(crate) dialled: Option<SocketAddr>,
    proved: bool,
    /// The admin whose key the peer proved to have.
    pub(crate) admin: Option<AdminId>,
    /// What the invite grants that it proved to have.
    grant: Option<Grant>,
    /// See [`Greeting::challenge`].
    pub(crate) challenge: [u8; 32],
    mux: Mutex<Mux<oneshot::Sender<Answer>>>,
    /// Times of the calls count from here.
    began: Instant,
    heard: Arc<Heard>,
    traffic: Arc<Traffic>,
    /// Calls that may be under way at once; more wait for a place until their deadline.
    places: Semaphore,
    wake: Notify,
    /// No new calls: another connection took over, or the peer closes.
    retired: AtomicBool,
    /// The peer makes no new calls here either: this side may close once nothing is under way.
    peer_retired: AtomicBool,
    /// Nothing is read or written any more.
    ended: AtomicBool,
    closing: CancellationToken,
    /// What the peer's clock reads.
    clock: Measured,
}

impl Conn {
    pub(crate) fn new(
        env: &Env,
        me: NodeId,
        greeting: &Greeting,
        origin: Origin,
        (budget, traffic): (Arc<Budget>, Arc<Traffic>),
        closing: CancellationToken,
    ) -> Self {
        let (dialler, dialled) = match origin {
            Origin::Dialled(addr, ..) => (me, Some(addr)),
            Origin::Accepted(_) => (greeting.peer, None),
        };
        Self {
            env: env.clone(),
            peer: greeting.peer,
            class: greeting.greeted.class,
            facts: ConnFacts {
                dialler,
                peer_incarnation: greeting.greeted.incarnation,
                dial: greeting.greeted.dial,
            },
            dialled,
            proved: greeting.greeted.proved,
            admin: greeting.greeted.admin,
            grant: greeting.greeted.grant,
            challenge: greeting.challenge,
            mux: Mutex::new(Mux::new(dialled.is_some(), budget)),
            began: env.mono(),
            heard: greeting.frames.get_ref().heard(),
            traffic,
            places: Semaphore::new(CALLS_MAX),
            wake: Notify::new(),
            retired: AtomicBool::new(false),
            peer_retired: AtomicBool::new(false),
            ended: AtomicBool::new(false),
            closing,
            clock: Measured::default(),
        }
    }

    fn mux(&self) -> MutexGuard<'_, Mux<oneshot::Sender<Answer>>> {
        let mut mux = self.mux.lock();
        mux.set_time(self.env.mono().saturating_duration_since(self.began));
        mux
    }

    pub(crate) fn is_retired(&self) -> bool {
        self.retired.load(Ordering::Relaxed)
    }

    /// Makes a call and waits for the answer, as long as something moves that it waits for: at most
    /// for its deadline without that, and never longer than [`CALL_MAX`].
    ///
    /// # Cancel safety
    /// Dropping the future gives the call up and tells the peer.
    pub(crate) async fn call(&self, call: Call) -> Result<Answer, CallError> {
        let patience = call.deadline;
        let begun = Begun::default();
        let with_place = async {
            // Gossip and layout never queue behind data.
            let _place = match call.priority {
                Priority::Layout => None,
                _ => Some(self.places.acquire().await.map_err(|_| CallError::Lost)?),
            };
            self.call_now(call, &begun).await
        };
        let mut with_place = std::pin::pin!(with_place);
        let since = self.env.mono();
        let last = since + CALL_MAX.max(patience);
        let mut still_since = since;
        loop {
            let until = last.min(still_since + patience);
            let wait = until.saturating_duration_since(self.env.mono());
            match self.env.timeout(wait, &mut with_place).await {
                Ok(answered) => return answered,
                Err(_) => {
                    let moved = self.still_since(&begun).max(since);
                    if moved <= still_since || until == last {
                        return Err(CallError::Deadline);
                    }
                    still_since = moved;
                }
            }
        }
    }

    /// Since when nothing has moved that a call waits for.
    fn still_since(&self, begun: &Begun) -> Instant {
        let (at, partial) = (self.heard.at(), self.heard.partial());
        let mut mux = self.mux();
        mux.flow().on_partial(at.saturating_duration_since(self.began), partial);
        self.began + mux.still_since(begun.0.get().copied())
    }

    /// Whether content has come from the peer in the last `within`, or as lately as its speed lets
    /// one expect.
    pub(crate) fn has_brought(&self, within: Duration) -> bool {
        let (at, partial) = (self.heard.at(), self.heard.partial());
        let mut mux = self.mux();
        let flow = mux.flow();
        flow.on_partial(at.saturating_duration_since(self.began), partial);
        flow.has_brought(within)
    }

    /// Bytes a second that last came from the peer; `None` while too few did.
    pub(crate) fn arrival_rate(&self) -> Option<u64> {
        self.mux().flow().arrival_rate()
    }

    /// Whether the peer is bringing this blob.
    pub(crate) fn is_arriving(&self, id: &BlobId) -> bool {
        self.mux().is_arriving(id)
    }

    async fn call_now(&self, call: Call, begun: &Begun) -> Result<Answer, CallError> {
        if self.is_retired() {
            return Err(CallError::NotConnected);
        }
        let (sender, answered) = oneshot::channel();
        let called = self.mux().call(&call, sender);
        let stream = called.map_err(|why| match why {
            Unsendable::Closing => CallError::NotConnected,
            Unsendable::TooMany => CallError::Busy,
            Unsendable::TooLarge => CallError::TooLarge,
        })?;
        let _ = begun.0.set(stream);
        let mut guard = CallGuard { conn: self, stream, answered: false };
        if self.ended.load(Ordering::Relaxed) {
            return Err(CallError::Lost);
        }
        self.wake.notify_one();
        let answer = answered.await.map_err(|_| CallError::Lost)?;
        guard.answered = true;
        Ok(answer)
    }

    /// What the peer has told of its clock, once it has.
    pub(crate) fn clock(&self) -> Option<ClockTold> {
        self.clock.told_last()
    }

    /// Asks the peer what its clock reads now, and waits until it tells.
    pub(crate) async fn read_clock(&self) {
        let told = self.clock.told();
        self.ping();
        told.await;
    }

    fn ping(&self) {
        let nonce = self.clock.ask(self.env.mono());
        self.mux().ping(nonce, self.env.wall_ms());
        self.wake.notify_one();
    }

    /// Makes no new calls. The peer hears of it, makes none either, and closes when those under
    /// way are done; after [`DRAIN_MAX`] this side closes.
    pub(crate) fn retire(&self, code: Code, why: &str) {
        if !self.retired.swap(true, Ordering::Relaxed) {
            self.mux().go_away(wire::go_away(code, why));
            self.wake.notify_one();
        }
    }

    /// Ends at once.
    pub(crate) fn close(&self) {
        self.closing.cancel();
    }

    /// Carries calls until the connection ends.
    pub(crate) async fn run(
        self: Arc<Self>,
        handler: Arc<dyn Handler>,
        greeting: Greeting,
    ) -> ConnError {
        let Greeting { frames, out, .. } = greeting;
        let mut reading = std::pin::pin!(self.read(handler, frames));
        let error = tokio::select! {
            biased;
            () = self.closing.cancelled() => ConnError::Closed,
            error = &mut reading => error,
            error = self.write(out) => {
                if matches!(error, ConnError::Frame(_)) {
                    // The peer has closed, maybe after it answered: that is still to be read.
                    self.retired.store(true, Ordering::Relaxed);
                    let _ = self.env.timeout(LAST_WORDS_MAX, &mut reading).await;
                }
                error
            }
        };
        self.retired.store(true, Ordering::Relaxed);
        self.ended.store(true, Ordering::Relaxed);
        // Everyone who waits for an answer learns that none will come.
        self.mux().give_up();
        self.places.close();
        error
    }

    async fn read(self: &Arc<Self>, handler: Arc<dyn Handler>, mut frames: Frames) -> ConnError {
        let env = &self.env;
        let mut serving = FuturesUnordered::new();
        let mut handles = BTreeMap::new();
        let mut retired_at = None;
        let mut ticker = env.ticker(PING_EVERY);
        loop {
            if self.is_retired() {
                let since = *retired_at.get_or_insert_with(|| env.mono());
                if env.mono() - since >= DRAIN_MAX {
                    return ConnError::Closed;
                }
            }
            let next = tokio::select! {
                biased;
                Some((stream, ended)) = serving.next() => {
                    handles.remove(&stream);
                    let ended: Result<(), tokio::task::JoinError> = ended;
                    if ended.is_err() {
                        // It panicked, or was given up: then nobody waits for this.
                        let refusal = Refusal::new(Code::Internal, "the call failed");
                        self.answer(stream, &Answer::new(Err(refusal), 0));
                    }
                    continue;
                }
                next = frames.next() => next,
                () = ticker.tick() => {
                    if env.mono() - self.heard.at() >= SILENCE_MAX {
                        return ConnError::Silent;
                    }
                    self.ping();
                    continue;
                }
            };
            let event = match next {
                None => return ConnError::Closed,
                Some(Err(error)) => return error.into(),
                Some(Ok((stream, kind))) => {
                    self.heard.complete();
                    self.take_in(stream, kind)
                }
            };
            match event {
                Err(violation) => return violation.into(),
                Ok(None) => {}
                Ok(Some(Event::Answer(waiting, answer))) => {
                    // The caller may have gone in this instant.
                    let _ = waiting.send(answer);
                }
                Ok(Some(Event::Call(stream, call))) => {
                    let task = env.spawn("call", self.clone().serve(handler.clone(), stream, call));
                    handles.insert(stream, task.abort_handle());
                    serving.push(async move { (stream, task.await) });
                }
                Ok(Some(Event::Ping(Ping { nonce, unix_ms }))) => {
                    self.mux().pong(nonce, env.wall_ms());
                    if self.clock.has_jumped(env.mono(), unix_ms) {
                        self.ping();
                    }
                }
                Ok(Some(Event::Pong(Pong { nonce, unix_ms }))) => {
                    self.clock.heard(env.mono(), nonce, unix_ms);
                }
                Ok(Some(Event::Cancelled(stream))) => {
                    if let Some(handle) = handles.remove(&stream) {
                        handle.abort();
                    }
                }
                Ok(Some(Event::GoAway(goodbye))) if goodbye.code == Code::Retired => {
                    return ConnError::Refused { goodbye, greeted: true };
                }
                Ok(Some(Event::GoAway(Goodbye { code, text, .. }))) => {
                    debug!(peer = ?self.peer, ?code, text, "the peer closes a connection");
                    self.retired.store(true, Ordering::Relaxed);
                    self.peer_retired.store(true, Ordering::Relaxed);
                }
            }
            self.wake.notify_one();
        }
    }

    fn take_in(
        &self,
        stream: StreamId,
        kind: Kind,
    ) -> Result<Option<Event<oneshot::Sender<Answer>>>, Violation> {
        let mut mux = self.mux();
        let before = mux.flow().got();
        let event = mux.on_frame(stream, kind);
        self.traffic.went(mux.flow().got() - before);
        event
    }

    async fn serve(self: Arc<Self>, handler: Arc<dyn Handler>, stream: StreamId, call: Call) {
        let from = Caller {
            node: self.peer,
            proved: self.proved || self.grant.is_some(),
            admin: self.admin,
            grant: self.grant,
        };
        let deadline = call.deadline;
        let answer = match self.env.timeout(deadline, handler.handle(from, call)).await {
            Ok(answer) => answer,
            Err(_) => Answer::new(Err(Refusal::new(Code::Deadline, "not done in time")), 0),
        };
        self.answer(stream, &answer);
    }

    fn answer(&self, stream: StreamId, answer: &Answer) {
        let sent = self.mux().answer(stream, answer);
        if sent == Err(TooLarge) {
            warn!(peer = ?self.peer, "an answer was too large to send");
        }
        self.wake.notify_one();
    }

    async fn write(&self, mut out: WriteHalf<TlsStream<Stream>>) -> ConnError {
        let mut codec = FrameCodec::greeting();
        codec.allow_calls();
        let mut batch = BytesMut::with_capacity(WRITE_BYTES);
        // What fits into one write while the line takes it at once; else as little as can be, so
        // that what is urgent overtakes the rest soon.
        let mut fill = WRITE_BYTES;
        loop {
            while batch.len() < fill {
                let frame = self.mux().next_frame();
                let Some(frame) = frame else { break };
                if let Err(error) = codec.encode(frame, &mut batch) {
                    return error.into();
                }
            }
            if batch.is_empty() {
                if self.peer_retired.load(Ordering::Relaxed) && self.mux().is_idle() {
                    let _ = out.shutdown().await;
                    return ConnError::Closed;
                }
                self.wake.notified().await;
                continue;
            }
            let began = self.env.mono();
            if let Err(error) = self.write_batch(&mut out, &mut batch).await {
                return error;
            }
            let is_slow = self.env.mono() - began > WRITE_SLOW;
            fill = if is_slow { 1 } else { WRITE_BYTES };
            self.mux().set_slow(is_slow);
        }
    }

    /// Writes all of a batch, as long as the line takes some of it.
    async fn write_batch(
        &self,
        out: &mut WriteHalf<TlsStream<Stream>>,
        batch: &mut BytesMut,
    ) -> Result<(), ConnError> {
        // A peer that sends but does not read would make us hold all it asks for.
        while batch.has_remaining() {
            let written = self.env.timeout(SILENCE_MAX, out.write(batch)).await;
            match written.map_err(|_| ConnError::Silent)? {
                Ok(0) => {
                    return Err(FrameError::from(io::Error::from(io::ErrorKind::WriteZero)).into());
                }
                Ok(taken) => batch.advance(taken),
                Err(error) => return Err(FrameError::from(error).into()),
            }
        }
        let flushed = self.env.timeout(SILENCE_MAX, out.flush()).await;
        flushed.map_err(|_| ConnError::Silent)?.map_err(|error| FrameError::from(error).into())
    }
}

/// The number of a call, once it has begun.
#[derive(Debug, Default)]
struct Begun(OnceLock<StreamId>);

/// Gives a call up when whoever waits for it goes away.
struct CallGuard<'a> {
    conn: &'a Conn,
    stream: StreamId,
    answered: bool,
}

impl Drop for CallGuard<'_> {
    fn drop(&mut self) {
        if !self.answered {
            self.conn.mux().cancel(self.stream);
            self.conn.wake.notify_one();
        }
    }
}

/// Places for calls of a connection: a few streams are left for gossip and layout.
const CALLS_MAX: usize = STREAMS_MAX - 8;
/// How often a sign of life is asked for.
const PING_EVERY: Duration = Duration::from_secs(5);
/// A peer that sends no byte for this long is gone: three pings went unanswered.
const SILENCE_MAX: Duration = Duration::from_secs(15);
/// How long what a peer sent before it closed is read: it is here, or on its way.
const LAST_WORDS_MAX: Duration = Duration::from_secs(1);
/// How long a connection that ends may still carry the calls under way.
const DRAIN_MAX: Duration = Duration::from_secs(10);
/// Frames gathered for one write: a few slices, so that urgent frames overtake the rest soon.
const WRITE_BYTES: usize = 128 * 1024;
/// A write that took longer met a line that is full.
const WRITE_SLOW: Duration = Duration::from_millis(20);
/// The longest a call may take, whatever moves: a peer that brings a little now and then must not
/// hold up anyone for ever. The largest blob comes over a line of 128 kbit/s in that time.
const CALL_MAX: Duration = Duration::from_secs(600);
