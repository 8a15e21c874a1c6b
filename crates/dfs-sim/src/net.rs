//! A network of machines: each link has a delay, a rate, and faults. What a cut link was given
//! waits, as with TCP, until the link is whole again or the connection is reset.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use dfs_env::{BoxFuture, Listener, Net, Stream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::{Notify, mpsc};
use tokio::time::{Instant, Sleep};

use crate::rng::Rng;
use crate::trace::Trace;

/// A machine's place in the network.
pub type Host = usize;

/// How bytes get from one machine to another, in one direction.
#[derive(Debug, Clone)]
pub struct Link {
    /// The least a byte takes.
    pub delay: Duration,
    /// What chance adds to it at most.
    pub jitter: Duration,
    /// Bytes in a second; 0 is no limit.
    pub rate: u64,
    /// Nothing arrives.
    pub cut: bool,
    /// Segments in a thousand that arrive with a flipped bit.
    pub corrupt: u64,
    /// Segments in a thousand after whose first half the connection ends.
    pub truncate: u64,
    /// Segments in a thousand at which the connection is reset.
    pub reset: u64,
    /// Connections in a thousand that are refused.
    pub refuse: u64,
}

impl Default for Link {
    fn default() -> Self {
        Self {
            delay: Duration::from_micros(200),
            jitter: Duration::from_micros(100),
            rate: 0,
            cut: false,
            corrupt: 0,
            truncate: 0,
            reset: 0,
            refuse: 0,
        }
    }
}

/// The whole network; clones share it.
#[derive(Clone)]
pub struct SimNet(Arc<Mutex<World>>);

struct World {
    links: BTreeMap<(Host, Host), Link>,
    listening: BTreeMap<SocketAddr, mpsc::Sender<(Stream, SocketAddr)>>,
    pipes: Vec<Weak<Mutex<Pipe>>>,
    paused: BTreeMap<Host, Arc<Notify>>,
    changed: Arc<Notify>,
    next_port: u16,
    rng: Rng,
    trace: Trace,
    needle: Vec<u8>,
    /// Bytes sent, and whether the needle was among them.
    searched: (u64, bool),
}

/// One direction of a connection.
struct Pipe {
    from: Host,
    to: Host,
    segments: VecDeque<(Instant, Vec<u8>)>,
    in_flight: usize,
    last_arrival: Instant,
    /// Bytes ever sent.
    sent: usize,
    closed: bool,
    reset: bool,
    /// One end vanished without a word: nothing arrives, and nobody says so.
    vanished: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

impl SimNet {
    /// A network without faults. `needle` is looked for in everything sent.
    pub fn new(rng: Rng, trace: Trace, needle: Vec<u8>) -> Self {
        Self(Arc::new(Mutex::new(World {
            links: BTreeMap::new(),
            listening: BTreeMap::new(),
            pipes: Vec::new(),
            paused: BTreeMap::new(),
            changed: Arc::default(),
            next_port: 40_000,
            rng,
            trace,
            needle,
            searched: (0, false),
        })))
    }

    fn world(&self) -> MutexGuard<'_, World> {
        self.0.lock().expect("no holder of this lock panics")
    }

    /// The network as one machine has it.
    pub fn host(&self, host: Host) -> HostNet {
        HostNet { net: self.clone(), host }
    }

    /// Changes how bytes get from one machine to another.
    pub fn set_link(&self, from: Host, to: Host, change: impl FnOnce(&mut Link)) {
        change(self.world().links.entry((from, to)).or_default());
        self.wake_all();
    }

    /// Every link is as new.
    pub fn heal(&self) {
        self.world().links.clear();
        self.wake_all();
    }

    /// A machine stops or goes on: nothing leaves or reaches it meanwhile.
    pub fn set_paused(&self, host: Host, paused: bool) {
        {
            let mut world = self.world();
            match paused {
                true => {
                    world.paused.entry(host).or_default();
                }
                false => {
                    if let Some(resumed) = world.paused.remove(&host) {
                        resumed.notify_waiters();
                    }
                }
            }
        }
        self.wake_all();
    }

    /// Waits until a machine is not paused.
    pub fn resumed(&self, host: Host) -> BoxFuture<'static, ()> {
        let net = self.clone();
        Box::pin(async move {
            loop {
                let Some(resumed) = net.world().paused.get(&host).cloned() else { return };
                resumed.notified().await;
            }
        })
    }

    /// A machine is gone. `silent` leaves its peers waiting, as a power cut does; otherwise its
    /// kernel resets every connection.
    pub fn kill(&self, host: Host, silent: bool) {
        let pipes = {
            let mut world = self.world();
            world.listening.retain(|addr, _| addr.ip() != address(host));
            world.live_pipes()
        };
        for pipe in pipes {
            let mut pipe = lock(&pipe);
            if pipe.from == host || pipe.to == host {
                // The dead machine's own ends are dropped with its tasks; that must not be heard.
                // The dead machine's own ends are dropped with its tasks; that must not be heard.
                pipe.vanished |= silent;
                pipe.reset |= !silent;
                pipe.wake();
            }
        }
    }

    /// A machine is back: its kernel resets what its former life left open.
    pub fn revive(&self, host: Host) {
        let pipes = self.world().live_pipes();
        for pipe in pipes {
            let mut pipe = lock(&pipe);
            if pipe.vanished && (pipe.from == host || pipe.to == host) {
                pipe.vanished = false;
                pipe.reset = true;
                pipe.wake();
            }
        }
    }

    /// Resets connections between two machines; says how many.
    pub fn reset_between(&self, a: Host, b: Host) -> usize {
        let pipes = self.world().live_pipes();
        let mut count = 0;
        for pipe in pipes {
            let mut pipe = lock(&pipe);
            if (pipe.from, pipe.to) == (a, b) || (pipe.from, pipe.to) == (b, a) {
                pipe.reset = true;
                pipe.wake();
                count += 1;
            }
        }
        count
    }

    /// Lets what is open between two machines fall silent for ever; new connections come up.
    pub fn vanish_between(&self, a: Host, b: Host) {
        let pipes = self.world().live_pipes();
        for pipe in pipes {
            let mut pipe = lock(&pipe);
            if (pipe.from, pipe.to) == (a, b) || (pipe.from, pipe.to) == (b, a) {
                pipe.vanished = true;
                pipe.wake();
            }
        }
    }

    /// Connections that are open, each counted once in each direction.
    pub fn open_pipes(&self) -> usize {
        self.world().live_pipes().len()
    }

    /// How many bytes were sent, and whether the needle was among them.
    pub fn searched(&self) -> (u64, bool) {
        self.world().searched
    }

    fn wake_all(&self) {
        let (pipes, changed) = {
            let mut world = self.world();
            (world.live_pipes(), world.changed.clone())
        };
        pipes.iter().for_each(|pipe| lock(pipe).wake());
        changed.notify_waiters();
    }

    fn is_cut(&self, from: Host, to: Host) -> bool {
        let world = self.world();
        world.links.get(&(from, to)).is_some_and(|link| link.cut)
            || world.paused.contains_key(&from)
            || world.paused.contains_key(&to)
    }
}

fn lock(pipe: &Arc<Mutex<Pipe>>) -> MutexGuard<'_, Pipe> {
    pipe.lock().expect("no holder of this lock panics")
}

fn address(host: Host) -> IpAddr {
    let number = u8::try_from(host + 1).expect("few machines");
    IpAddr::V4(Ipv4Addr::new(10, 0, 0, number))
}

/// The peer address of a machine.
pub fn peer_addr(host: Host) -> SocketAddr {
    SocketAddr::new(address(host), 3000)
}

fn host_of(addr: SocketAddr) -> Option<Host> {
    match addr.ip() {
        IpAddr::V4(ip) => usize::from(ip.octets()[3]).checked_sub(1),
        IpAddr::V6(_) => None,
    }
}

impl World {
    fn live_pipes(&mut self) -> Vec<Arc<Mutex<Pipe>>> {
        self.pipes.retain(|pipe| pipe.strong_count() > 0);
        self.pipes.iter().filter_map(Weak::upgrade).collect()
    }

    fn link(&self, from: Host, to: Host) -> Link {
        self.links.get(&(from, to)).cloned().unwrap_or_default()
    }

    fn pipe(&mut self, from: Host, to: Host) -> Arc<Mutex<Pipe>> {
        let pipe = Arc::new(Mutex::new(Pipe {
            from,
            to,
            segments: VecDeque::new(),
            in_flight: 0,
            last_arrival: Instant::now(),
            sent: 0,
            closed: false,
            reset: false,
            vanished: false,
            reader: None,
            writer: None,
        }));
        self.pipes.push(Arc::downgrade(&pipe));
        pipe
    }

    fn delay(&mut self, link: &Link) -> Duration {
        let jitter = u64::try_from(link.jitter.as_micros()).unwrap_or(0);
        link.delay + Duration::from_micros(self.rng.between(0, jitter + 1))
    }
}

impl Pipe {
    fn wake(&mut self) {
        for waker in [self.reader.take(), self.writer.take()].into_iter().flatten() {
            waker.wake();
        }
    }
}

/// The network as one machine has it.
#[derive(Clone)]
pub struct HostNet {
    net: SimNet,
    host: Host,
}

impl Net for HostNet {
    fn connect(&self, to: SocketAddr) -> BoxFuture<'_, io::Result<Stream>> {
        let (net, from) = (self.net.clone(), self.host);
        Box::pin(async move {
            let refused = || io::Error::from(io::ErrorKind::ConnectionRefused);
            let target = host_of(to).ok_or_else(refused)?;
            // A first packet that does not arrive is sent again until the caller gives up.
            loop {
                let changed = net.world().changed.clone();
                let waits = changed.notified();
                if !net.is_cut(from, target) && !net.is_cut(target, from) {
                    break;
                }
                waits.await;
            }
            let (delay, refuse) = {
                let mut world = net.world();
                let link = world.link(from, target);
                let refuse = world.rng.per_mille(link.refuse);
                if refuse {
                    world.trace.fired("net: refused");
                }
                (world.delay(&link) * 2, refuse)
            };
            tokio::time::sleep(delay).await;
            let (listener, ours, theirs, source) = {
                let mut world = net.world();
                let listener = world.listening.get(&to).cloned();
                let listener = listener.filter(|_| !refuse).ok_or_else(refused)?;
                let (out, back) = (world.pipe(from, target), world.pipe(target, from));
                world.next_port = world.next_port.checked_add(1).unwrap_or(40_000);
                let source = SocketAddr::new(address(from), world.next_port);
                let ours = SimStream::new(&net, out.clone(), back.clone());
                let theirs = SimStream::new(&net, back, out);
                (listener, ours, theirs, source)
            };
            listener.send((Box::new(theirs), source)).await.map_err(|_| refused())?;
            Ok(Box::new(ours) as Stream)
        })
    }

    fn listen(&self, on: SocketAddr) -> BoxFuture<'_, io::Result<Box<dyn Listener>>> {
        let (sender, incoming) = mpsc::channel(BACKLOG);
        let addr = SocketAddr::new(address(self.host), on.port());
        let mut world = self.net.world();
        let taken = world.listening.get(&addr).is_some_and(|sender| !sender.is_closed());
        let bound = match taken {
            true => Err(io::Error::from(io::ErrorKind::AddrInUse)),
            false => {
                world.listening.insert(addr, sender);
                let incoming = tokio::sync::Mutex::new(incoming);
                Ok(Box::new(SimListener { addr, incoming }) as Box<dyn Listener>)
            }
        };
        Box::pin(async move { bound })
    }

    fn resolve<'a>(
        &'a self,
        host: &'a str,
        port: u16,
    ) -> BoxFuture<'a, io::Result<Vec<SocketAddr>>> {
        let parsed = host.parse().map(|ip| vec![SocketAddr::new(ip, port)]);
        Box::pin(async move { parsed.map_err(|_| io::ErrorKind::NotFound.into()) })
    }
}

struct SimListener {
    addr: SocketAddr,
    incoming: tokio::sync::Mutex<mpsc::Receiver<(Stream, SocketAddr)>>,
}

impl fmt::Debug for SimListener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SimListener").field(&self.addr).finish()
    }
}

impl Listener for SimListener {
    fn accept(&self) -> BoxFuture<'_, io::Result<(Stream, SocketAddr)>> {
        Box::pin(async move {
            let accepted = self.incoming.lock().await.recv().await;
            accepted.ok_or_else(|| io::ErrorKind::BrokenPipe.into())
        })
    }

    fn local_addr(&self) -> SocketAddr {
        self.addr
    }
}

/// One end of a connection.
struct SimStream {
    net: SimNet,
    out: Arc<Mutex<Pipe>>,
    back: Arc<Mutex<Pipe>>,
    arrival: Option<Pin<Box<Sleep>>>,
}

impl SimStream {
    fn new(net: &SimNet, out: Arc<Mutex<Pipe>>, back: Arc<Mutex<Pipe>>) -> Self {
        Self { net: net.clone(), out, back, arrival: None }
    }
}

impl Drop for SimStream {
    fn drop(&mut self) {
        let mut out = lock(&self.out);
        out.closed = true;
        out.wake();
        drop(out);
        // What the other end still sends goes nowhere; it hears of that when it tries.
        let mut back = lock(&self.back);
        back.reset = true;
        back.wake();
    }
}

fn was_reset() -> io::Error {
    io::ErrorKind::ConnectionReset.into()
}

impl AsyncRead for SimStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let pipe = self.back.clone();
        let mut pipe = lock(&pipe);
        let cut = pipe.vanished || self.net.is_cut(pipe.from, pipe.to);
        if pipe.reset && !cut {
            return Poll::Ready(Err(was_reset()));
        }
        pipe.reader = Some(cx.waker().clone());
        if cut {
            return Poll::Pending;
        }
        let Some((at, segment)) = pipe.segments.front_mut() else {
            return if pipe.closed { Poll::Ready(Ok(())) } else { Poll::Pending };
        };
        if *at > Instant::now() {
            let mut arrival = Box::pin(tokio::time::sleep_until(*at));
            if arrival.as_mut().poll(cx).is_pending() {
                drop(pipe);
                self.arrival = Some(arrival);
                return Poll::Pending;
            }
        }
        let len = segment.len().min(buf.remaining());
        buf.put_slice(&segment[..len]);
        segment.drain(..len);
        if segment.is_empty() {
            pipe.segments.pop_front();
        }
        pipe.in_flight -= len;
        if let Some(writer) = pipe.writer.take() {
            writer.wake();
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for SimStream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        let mut pipe = lock(&self.out);
        if pipe.reset && !pipe.vanished {
            return Poll::Ready(Err(was_reset()));
        }
        let room = WINDOW_BYTES.saturating_sub(pipe.in_flight);
        if room == 0 {
            pipe.writer = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let mut segment = data[..data.len().min(room).min(SEGMENT_BYTES)].to_vec();
        let len = segment.len();
        let mut world = self.net.world();
        let link = world.link(pipe.from, pipe.to);
        world.search(&segment);
        world.trace.event("sent", &[pipe.from as u64, pipe.to as u64, len as u64]);
        let delay = world.delay(&link);
        if world.rng.per_mille(link.reset) {
            world.trace.fired("net: reset mid-frame");
            pipe.reset = true;
        } else if world.rng.per_mille(link.truncate) {
            world.trace.fired("net: truncated");
            segment.truncate(len / 2);
            pipe.closed = true;
        } else if world.rng.per_mille(link.corrupt) && pipe.sent >= HANDSHAKE_BYTES {
            world.trace.fired("net: corrupted");
            let at = world.rng.below(len);
            segment[at] ^= 1 << world.rng.below(8);
        }
        drop(world);
        let transfer = Duration::from_micros(match link.rate {
            0 => 0,
            rate => len as u64 * 1_000_000 / rate,
        });
        let arrival = (Instant::now() + delay).max(pipe.last_arrival) + transfer;
        pipe.last_arrival = arrival;
        pipe.sent += len;
        pipe.in_flight += segment.len();
        if !segment.is_empty() {
            pipe.segments.push_back((arrival, segment));
        }
        if let Some(reader) = pipe.reader.take() {
            reader.wake();
        }
        Poll::Ready(Ok(len))
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut pipe = lock(&self.out);
        pipe.closed = true;
        pipe.wake();
        Poll::Ready(Ok(()))
    }
}

impl World {
    fn search(&mut self, segment: &[u8]) {
        self.searched.0 += segment.len() as u64;
        self.searched.1 |= crate::fs::contains(segment, &self.needle);
    }
}

/// Connections that wait to be accepted.
const BACKLOG: usize = 64;
/// Bytes under way in one direction, about what a kernel holds.
const WINDOW_BYTES: usize = 256 * 1024;
/// Nothing is flipped before this: what a flip in a handshake leads to depends on keys that TLS
/// draws outside the simulation, and a run must not.
const HANDSHAKE_BYTES: usize = 8 * 1024;
/// The longest segment: what one fault touches.
const SEGMENT_BYTES: usize = 64 * 1024;
