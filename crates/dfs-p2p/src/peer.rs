//! One connection: greeting, calls both ways, keep-alive, end.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::BytesMut;
use dfs_core::codec::Canonical;
use dfs_core::conn::ConnFacts;
use dfs_core::id::{ClusterId, NodeId};
use dfs_core::member::NodeInfo;
use dfs_env::{Env, Stream};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::io::{AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::sync::{Notify, Semaphore, oneshot};
use tokio::time::timeout;
use tokio_rustls::TlsStream;
use tokio_util::codec::{Encoder, FramedRead};
use tokio_util::sync::CancellationToken;
use tracing::debug;
use zeroize::Zeroizing;

use crate::frame::{FrameCodec, FrameError};
use crate::handler::{Caller, Handler};
use crate::hello::{self, ConnClass, Greeted, Unwelcome};
use crate::message::{Answer, Call, Code, Priority, Refusal};
use crate::mux::{Budget, Event, Full, Mux, STREAMS_MAX, StreamId, Violation};
use crate::network::Shared;
use crate::secure::{Secured, Tls};
use crate::wire::{self, proto, proto::frame::Kind};

/// Why a call brought no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// There is no connection to the peer.
    #[error("not connected")]
    NotConnected,
    /// The connection ended first: the call may or may not have been carried out.
    #[error("the connection was lost")]
    Lost,
    /// The peer did not answer in time: the call may or may not have been carried out.
    #[error("no answer in time")]
    Deadline,
    /// Too many calls are under way on the connection.
    #[error("too many calls under way")]
    Busy,
}

/// Why a connection did not come up, or ended.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnError {
    #[error("the TLS handshake failed")]
    Tls(#[source] std::io::Error),
    #[error("the other end is another node than expected")]
    OtherNode,
    #[error("the other end is this node itself")]
    Myself,
    #[error(transparent)]
    Unwelcome(#[from] Unwelcome),
    #[error("it refused: {text}")]
    Refused {
        code: Code,
        text: String,
        /// Whether it had greeted properly: then it has the cluster key, or is a member.
        greeted: bool,
    },
    #[error("it belongs to another cluster ({theirs:?}, this node to {ours:?})")]
    OtherCluster { ours: ClusterId, theirs: ClusterId },
    #[error("it sent something unexpected")]
    Unexpected,
    #[error(transparent)]
    Frame(#[from] FrameError),
    #[error(transparent)]
    Violation(#[from] Violation),
    #[error("it was silent for too long")]
    Silent,
    #[error("it closed the connection")]
    Closed,
    #[error("it has too many connections open")]
    TooMany,
    #[error("it runs from a copy or an older state of a data directory that another start knows")]
    Former,
}

/// Who we are, for greetings.
pub(crate) struct Identity {
    pub(crate) node: NodeId,
    pub(crate) instance: u64,
    pub(crate) cluster_key: Zeroizing<[u8; 32]>,
    pub(crate) tls: Tls,
}

/// How a connection began.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Origin {
    /// We dialled this address, for this purpose; the last is the number of the dial.
    Dialled(SocketAddr, ConnClass, u64),
    /// The peer dialled, from this address.
    Accepted(SocketAddr),
}

type Frames = FramedRead<ReadHalf<TlsStream<Stream>>, FrameCodec>;

/// A greeted connection that is not yet in use.
pub(crate) struct Greeting {
    pub(crate) peer: NodeId,
    pub(crate) greeted: Greeted,
    /// What the peer says about itself.
    pub(crate) info: NodeInfo,
    /// Where the peer sees us: our own listening address, or our source address.
    pub(crate) observed: Option<SocketAddr>,
    frames: Frames,
    out: WriteHalf<TlsStream<Stream>>,
}

/// Secures a raw connection and exchanges greetings.
pub(crate) async fn greet(
    shared: &Shared,
    stream: Stream,
    origin: Origin,
    expected: Option<NodeId>,
    own_info: &NodeInfo,
) -> Result<Greeting, ConnError> {
    let identity = &shared.identity;
    let handshake = async {
        match origin {
            Origin::Dialled(..) => identity.tls.connect(stream).await,
            Origin::Accepted(_) => identity.tls.accept(stream).await,
        }
    };
    let silent = |_| ConnError::Silent;
    let secured = timeout(HANDSHAKE_MAX, handshake).await.map_err(silent)?;
    let secured = secured.map_err(ConnError::Tls)?;
    if secured.peer == identity.node {
        return Err(ConnError::Myself);
    }
    // Before the greeting: whoever has that address now must not take this for a wanted connection.
    if expected.is_some_and(|expected| expected != secured.peer) {
        return Err(ConnError::OtherNode);
    }
    let exchange = exchange(shared, secured, origin, own_info);
    timeout(HELLO_MAX, exchange).await.map_err(silent)?
}

async fn exchange(
    shared: &Shared,
    secured: Secured,
    origin: Origin,
    own_info: &NodeInfo,
) -> Result<Greeting, ConnError> {
    let Secured { stream, peer, exporter } = secured;
    let (identity, handler) = (&shared.identity, shared.handler.as_ref());
    let (reading, mut out) = tokio::io::split(stream);
    let mut frames = FramedRead::new(reading, FrameCodec::greeting());
    let key = &identity.cluster_key;
    // The acceptor's class is a placeholder: the dialler's counts.
    let (class, dial) = match origin {
        Origin::Dialled(_, class, dial) => (class, dial),
        Origin::Accepted(_) => (ConnClass::Control, 0),
    };
    let hello = hello::greeting(key, &exporter, &identity.node, identity.instance, class, dial);
    send(&mut out, Kind::Hello(hello)).await?;
    let Kind::Hello(theirs) = next(&mut frames, false).await? else {
        return Err(ConnError::Unexpected);
    };
    let checked = hello::check(&theirs, &peer, handler.is_member(&peer), key, &exporter);
    let mut greeted = match checked {
        Ok(greeted) => greeted,
        Err(why) => {
            turn_away(&mut out, &mut frames, why.code(), "the greeting was refused").await;
            return Err(why.into());
        }
    };
    if !shared.is_welcome(&peer, greeted.instance).await {
        turn_away(&mut out, &mut frames, Code::Retired, FORMER).await;
        return Err(ConnError::Former);
    }
    if let Origin::Dialled(..) = origin {
        (greeted.class, greeted.dial) = (class, dial);
    }
    frames.decoder_mut().allow_calls();
    let ready = ready(handler.cluster_id(), own_info, origin);
    send(&mut out, Kind::Ready(ready)).await?;
    let Kind::Ready(theirs) = next(&mut frames, true).await? else {
        return Err(ConnError::Unexpected);
    };
    let their_cluster = match theirs.cluster_id.len() {
        0 => None,
        _ => Some(ClusterId::from_slice(&theirs.cluster_id).map_err(|_| ConnError::Unexpected)?),
    };
    if let (Some(ours), Some(theirs)) = (handler.cluster_id(), their_cluster)
        && ours != theirs
    {
        let why = "this node belongs to another cluster";
        turn_away(&mut out, &mut frames, Code::ClusterMismatch, why).await;
        return Err(ConnError::OtherCluster { ours, theirs });
    }
    let info = NodeInfo::from_canonical(theirs.info).map_err(|_| ConnError::Unexpected)?;
    let genuine = info.node_id == peer && info.instance == greeted.instance;
    if !genuine || info.verify().is_err() {
        return Err(ConnError::Unexpected);
    }
    if shared.went_back(&info) {
        turn_away(&mut out, &mut frames, Code::Retired, FORMER).await;
        return Err(ConnError::Former);
    }
    Ok(Greeting { peer, greeted, info, observed: theirs.observed_addr.parse().ok(), frames, out })
}

/// Tells a peer why it is not let in. It may have turned us away first, and be gone.
async fn turn_away(
    out: &mut WriteHalf<TlsStream<Stream>>,
    frames: &mut Frames,
    code: Code,
    why: &str,
) {
    let _ = send(out, Kind::GoAway(wire::go_away(code, why))).await;
    // Let the peer read why before the connection closes.
    let _ = out.shutdown().await;
    let _ = frames.next().await;
}

fn ready(cluster: Option<ClusterId>, info: &NodeInfo, origin: Origin) -> proto::Ready {
    let observed = match origin {
        Origin::Dialled(addr, ..) | Origin::Accepted(addr) => addr,
    };
    proto::Ready {
        cluster_id: cluster.map(|id| id.as_bytes().to_vec()).unwrap_or_default().into(),
        info: info.to_canonical().into(),
        observed_addr: observed.to_string(),
    }
}

async fn send(out: &mut WriteHalf<TlsStream<Stream>>, kind: Kind) -> Result<(), ConnError> {
    let mut bytes = BytesMut::new();
    let mut codec = FrameCodec::greeting();
    codec.allow_calls();
    codec.encode((0, kind), &mut bytes)?;
    let written = async {
        out.write_all(&bytes).await?;
        out.flush().await
    };
    written.await.map_err(|error| FrameError::from(error).into())
}

async fn next(frames: &mut Frames, greeted: bool) -> Result<Kind, ConnError> {
    let (_, kind) = frames.next().await.ok_or(ConnError::Closed)??;
    match kind {
        Kind::GoAway(message) => {
            let (code, text) = wire::parse_go_away(message);
            Err(ConnError::Refused { code, text, greeted })
        }
        other => Ok(other),
    }
}

/// A connection in use.
pub(crate) struct Conn {
    pub(crate) peer: NodeId,
    pub(crate) class: ConnClass,
    pub(crate) facts: ConnFacts,
    /// Where we dialled, if we did.
    pub(crate) dialled: Option<SocketAddr>,
    proved: bool,
    mux: Mutex<Mux<oneshot::Sender<Answer>>>,
    /// Calls that may be under way at once; more wait for a place, as long as their deadline allows.
    places: Semaphore,
    wake: Notify,
    /// No new calls: another connection took over, or the peer closes.
    retired: AtomicBool,
    /// The peer makes no new calls here either: this side may close once nothing is under way.
    peer_retired: AtomicBool,
    /// Nothing is read or written any more.
    ended: AtomicBool,
    closing: CancellationToken,
}

impl Conn {
    pub(crate) fn new(
        identity: &Identity,
        greeting: &Greeting,
        origin: Origin,
        budget: Arc<Budget>,
        closing: CancellationToken,
    ) -> Self {
        let (dialler, dialled) = match origin {
            Origin::Dialled(addr, ..) => (identity.node, Some(addr)),
            Origin::Accepted(_) => (greeting.peer, None),
        };
        Self {
            peer: greeting.peer,
            class: greeting.greeted.class,
            facts: ConnFacts {
                dialler,
                peer_instance: greeting.greeted.instance,
                dial: greeting.greeted.dial,
            },
            dialled,
            proved: greeting.greeted.proved,
            mux: Mutex::new(Mux::new(dialled.is_some(), budget)),
            places: Semaphore::new(CALLS_MAX),
            wake: Notify::new(),
            retired: AtomicBool::new(false),
            peer_retired: AtomicBool::new(false),
            ended: AtomicBool::new(false),
            closing,
        }
    }

    fn mux(&self) -> MutexGuard<'_, Mux<oneshot::Sender<Answer>>> {
        self.mux.lock().expect("no holder of this lock panics")
    }

    pub(crate) fn is_retired(&self) -> bool {
        self.retired.load(Ordering::Relaxed)
    }

    /// Makes a call and waits for the answer, at most for its deadline.
    ///
    /// # Cancel safety
    /// Dropping the future gives the call up and tells the peer.
    pub(crate) async fn call(&self, call: Call) -> Result<Answer, CallError> {
        let deadline = call.deadline;
        let with_place = async {
            // Gossip and layout never queue behind data.
            let _place = match call.priority {
                Priority::Layout => None,
                _ => Some(self.places.acquire().await.map_err(|_| CallError::Lost)?),
            };
            self.call_now(call).await
        };
        timeout(deadline, with_place).await.unwrap_or(Err(CallError::Deadline))
    }

    async fn call_now(&self, call: Call) -> Result<Answer, CallError> {
        if self.is_retired() {
            return Err(CallError::NotConnected);
        }
        let (sender, answered) = oneshot::channel();
        let begun = self.mux().call(&call, sender);
        let stream = begun.map_err(|Full::Streams| CallError::Busy)?;
        let mut guard = CallGuard { conn: self, stream, answered: false };
        if self.ended.load(Ordering::Relaxed) {
            return Err(CallError::Lost);
        }
        self.wake.notify_one();
        let answer = answered.await.map_err(|_| CallError::Lost)?;
        guard.answered = true;
        Ok(answer)
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
        env: Env,
        handler: Arc<dyn Handler>,
        greeting: Greeting,
    ) -> ConnError {
        let Greeting { frames, out, .. } = greeting;
        let error = tokio::select! {
            biased;
            () = self.closing.cancelled() => ConnError::Closed,
            error = self.read(&env, handler, frames) => error,
            error = self.write(out) => error,
        };
        self.retired.store(true, Ordering::Relaxed);
        self.ended.store(true, Ordering::Relaxed);
        // Everyone who waits for an answer learns that none will come.
        self.mux().give_up();
        self.places.close();
        error
    }

    async fn read(
        self: &Arc<Self>,
        env: &Env,
        handler: Arc<dyn Handler>,
        mut frames: Frames,
    ) -> ConnError {
        let mut serving = FuturesUnordered::new();
        let mut handles = BTreeMap::new();
        let mut heard = env.mono();
        let mut retired_at = None;
        let mut tick = tokio::time::interval(PING_EVERY);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            if self.is_retired() {
                let since = *retired_at.get_or_insert_with(|| env.mono());
                if since.elapsed() >= DRAIN_MAX {
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
                        self.mux().answer(stream, &Answer::new(Err(refusal), 0));
                        self.wake.notify_one();
                    }
                    continue;
                }
                next = frames.next() => next,
                _ = tick.tick() => {
                    if heard.elapsed() >= SILENCE_MAX {
                        return ConnError::Silent;
                    }
                    self.mux().ping(0);
                    self.wake.notify_one();
                    continue;
                }
            };
            let event = match next {
                None => return ConnError::Closed,
                Some(Err(error)) => return error.into(),
                Some(Ok((stream, kind))) => {
                    heard = env.mono();
                    let event = self.mux().on_frame(stream, kind);
                    self.wake.notify_one();
                    event
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
                Ok(Some(Event::Cancelled(stream))) => {
                    if let Some(handle) = handles.remove(&stream) {
                        handle.abort();
                    }
                }
                Ok(Some(Event::GoAway(code @ Code::Retired, text))) => {
                    return ConnError::Refused { code, text, greeted: true };
                }
                Ok(Some(Event::GoAway(code, why))) => {
                    debug!(peer = ?self.peer, ?code, why, "the peer closes a connection");
                    self.retired.store(true, Ordering::Relaxed);
                    self.peer_retired.store(true, Ordering::Relaxed);
                    self.wake.notify_one();
                }
            }
        }
    }

    async fn serve(self: Arc<Self>, handler: Arc<dyn Handler>, stream: StreamId, call: Call) {
        let from = Caller { node: self.peer, proved: self.proved };
        let deadline = call.deadline;
        let answer = match timeout(deadline, handler.handle(from, call)).await {
            Ok(answer) => answer,
            Err(_) => Answer::new(Err(Refusal::new(Code::Deadline, "not done in time")), 0),
        };
        self.mux().answer(stream, &answer);
        self.wake.notify_one();
    }

    async fn write(&self, mut out: WriteHalf<TlsStream<Stream>>) -> ConnError {
        let mut codec = FrameCodec::greeting();
        codec.allow_calls();
        let mut batch = BytesMut::with_capacity(WRITE_BYTES);
        loop {
            while batch.len() < WRITE_BYTES {
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
            let written = async {
                out.write_all(&batch).await?;
                out.flush().await
            };
            // A peer that sends but does not read would make us hold all it asks for.
            match timeout(SILENCE_MAX, written).await {
                Ok(Ok(())) => batch.clear(),
                Ok(Err(error)) => return FrameError::from(error).into(),
                Err(_) => return ConnError::Silent,
            }
        }
    }
}

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
/// Why a peer is retired.
const FORMER: &str = "a later state of this node is known";
/// A TLS handshake takes two round trips and little work.
const HANDSHAKE_MAX: Duration = Duration::from_secs(5);
/// Greetings follow at once.
const HELLO_MAX: Duration = Duration::from_secs(5);
/// How often a sign of life is asked for.
const PING_EVERY: Duration = Duration::from_secs(5);
/// A peer that completes no frame for this long is gone: three pings went unanswered.
const SILENCE_MAX: Duration = Duration::from_secs(15);
/// How long a connection that ends may still carry the calls under way.
const DRAIN_MAX: Duration = Duration::from_secs(10);
/// Frames gathered for one write: a few slices, so that urgent frames overtake the rest soon.
const WRITE_BYTES: usize = 128 * 1024;
