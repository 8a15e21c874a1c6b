//! One proxied connection: bytes both ways, held back while their direction is cut, late when it
//! is slow, and broken off when it is reset.
//!
//! A cut holds bytes and loses none, as TCP does over a network that drops packets: what was
//! under way arrives after the cut, unless one side gave up before.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant};

/// One direction between two nodes, for all of their connections.
#[derive(Debug, Default)]
pub(crate) struct Link {
    cut: AtomicBool,
    refusing: AtomicBool,
    delay_ms: AtomicU64,
    resets: AtomicU64,
}

impl Link {
    /// Lets nothing through any more. New connections wait in silence.
    pub(crate) fn cut(&self) {
        self.cut.store(true, Ordering::Relaxed);
    }

    /// Breaks off what there is and turns new connections away.
    pub(crate) fn refuse(&self) {
        self.refusing.store(true, Ordering::Relaxed);
        self.reset();
    }

    /// Makes every byte late by this much.
    pub(crate) fn slow(&self, delay: Duration) {
        let delay = u64::try_from(delay.as_millis()).unwrap_or(u64::MAX);
        self.delay_ms.store(delay, Ordering::Relaxed);
    }

    /// Breaks off the connections there are.
    pub(crate) fn reset(&self) {
        self.resets.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn heal(&self) {
        self.cut.store(false, Ordering::Relaxed);
        self.refusing.store(false, Ordering::Relaxed);
        self.delay_ms.store(0, Ordering::Relaxed);
    }

    pub(crate) fn is_refusing(&self) -> bool {
        self.refusing.load(Ordering::Relaxed)
    }

    fn is_cut(&self) -> bool {
        self.cut.load(Ordering::Relaxed)
    }

    fn delay(&self) -> Duration {
        Duration::from_millis(self.delay_ms.load(Ordering::Relaxed))
    }
}

/// Both directions of one connection, and whether it is over.
pub(crate) struct Way<'a> {
    there: &'a Link,
    back: &'a Link,
    /// How often the links had been reset when the connection began.
    resets: (u64, u64),
    broken: AtomicBool,
    ended: &'a AtomicBool,
}

impl<'a> Way<'a> {
    pub(crate) fn new(there: &'a Link, back: &'a Link, ended: &'a AtomicBool) -> Self {
        let mut way = Self { there, back, resets: (0, 0), broken: AtomicBool::new(false), ended };
        way.resets = way.resets_now();
        way
    }

    fn resets_now(&self) -> (u64, u64) {
        let resets = |link: &Link| link.resets.load(Ordering::Relaxed);
        (resets(self.there), resets(self.back))
    }

    fn is_over(&self) -> bool {
        self.broken.load(Ordering::Relaxed)
            || self.ended.load(Ordering::Relaxed)
            || self.resets != self.resets_now()
    }

    fn break_off(&self) {
        self.broken.store(true, Ordering::Relaxed);
    }

    /// Waits while a direction is cut; `false` when the connection is over.
    pub(crate) fn wait_open(&self, link: &Link) -> bool {
        while link.is_cut() && !self.is_over() {
            std::thread::sleep(TICK);
        }
        !self.is_over()
    }

    /// Waits until a time; `false` when the connection is over.
    fn wait_until(&self, due: Instant) -> bool {
        loop {
            let left = due.saturating_duration_since(Instant::now());
            if left.is_zero() || self.is_over() {
                return !self.is_over();
            }
            std::thread::sleep(left.min(TICK));
        }
    }
}

/// Carries a connection until both sides have closed it or it is over.
pub(crate) fn carry(client: TcpStream, server: TcpStream, way: &Way<'_>) {
    for stream in [&client, &server] {
        let ready = stream
            .set_nodelay(true)
            .and_then(|()| stream.set_read_timeout(Some(TICK)))
            .and_then(|()| stream.set_write_timeout(Some(TICK)));
        if ready.is_err() {
            way.break_off();
        }
    }
    std::thread::scope(|scope| {
        scope.spawn(|| pump(&client, &server, way.there, way));
        pump(&server, &client, way.back, way);
    });
    if way.is_over() {
        reset(client);
        reset(server);
    }
}

/// Closes a connection so that the other side sees an error, as after a crash of what is between.
pub(crate) fn reset(stream: TcpStream) {
    // Without it the other side sees an orderly end, which is a fault too.
    let _ = rustix::net::sockopt::set_socket_linger(&stream, Some(Duration::ZERO));
    drop(stream);
}

fn pump(from: &TcpStream, to: &TcpStream, link: &Link, way: &Way<'_>) {
    let (sender, receiver) = sync_channel(UNDER_WAY_MAX);
    std::thread::scope(|scope| {
        scope.spawn(|| deliver(receiver, to, link, way));
        collect(from, sender, link, way);
    });
}

/// Bytes, and when they are due at the other side.
type Piece = (Instant, Vec<u8>);

fn collect(mut from: &TcpStream, sender: SyncSender<Piece>, link: &Link, way: &Way<'_>) {
    let mut buffer = vec![0; PIECE_BYTES_MAX];
    while way.wait_open(link) {
        match from.read(&mut buffer) {
            // Dropping the sender tells the other half that this was all.
            Ok(0) => return,
            Ok(bytes) => {
                let piece = (Instant::now() + link.delay(), buffer[..bytes].to_vec());
                if sender.send(piece).is_err() {
                    return;
                }
            }
            Err(error) if is_a_tick(error.kind()) => {}
            Err(_) => return way.break_off(),
        }
    }
}

fn deliver(receiver: Receiver<Piece>, to: &TcpStream, link: &Link, way: &Way<'_>) {
    loop {
        match receiver.recv_timeout(TICK) {
            Ok((due, bytes)) => {
                if !way.wait_until(due) || !write(to, &bytes, link, way) {
                    return;
                }
            }
            Err(RecvTimeoutError::Timeout) if way.is_over() => return,
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => {
                if way.wait_open(link) {
                    // The other side may be gone already.
                    let _ = to.shutdown(Shutdown::Write);
                }
                return;
            }
        }
    }
}

/// Writes everything; `false` when the connection is over. A side that does not read, as a
/// stopped process, holds it up.
fn write(mut to: &TcpStream, mut bytes: &[u8], link: &Link, way: &Way<'_>) -> bool {
    while !bytes.is_empty() {
        if !way.wait_open(link) {
            return false;
        }
        match to.write(bytes) {
            Ok(written) if written > 0 => bytes = &bytes[written..],
            Err(error) if is_a_tick(error.kind()) => {}
            _ => {
                way.break_off();
                return false;
            }
        }
    }
    true
}

fn is_a_tick(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted)
}

/// How late a change of a link may be noticed.
const TICK: Duration = Duration::from_millis(20);
/// What is read at once.
const PIECE_BYTES_MAX: usize = 64 << 10;
/// Pieces on the way: 16 MiB, so that a slow link is late and not narrow.
const UNDER_WAY_MAX: usize = 256;

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    /// A connection through a proxy: what dialled, what was dialled.
    fn connected(listener: &TcpListener) -> (TcpStream, TcpStream) {
        let dialled = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (dialled, listener.accept().unwrap().0)
    }

    fn through_proxy(test: impl FnOnce(TcpStream, TcpStream, &Link, &Link)) {
        let (there, back, ended) = (Link::default(), Link::default(), AtomicBool::new(false));
        let way = Way::new(&there, &back, &ended);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (client, near) = connected(&listener);
        let (far, server) = connected(&listener);
        std::thread::scope(|scope| {
            scope.spawn(|| carry(near, far, &way));
            test(client, server, &there, &back);
        });
    }

    fn arrives(to: &mut TcpStream, within: Duration) -> bool {
        to.set_read_timeout(Some(within)).unwrap();
        matches!(to.read(&mut [0]), Ok(1))
    }

    #[test]
    fn a_cut_direction_holds_bytes_and_the_other_one_does_not() {
        through_proxy(|mut client, mut server, there, _| {
            there.cut();
            client.write_all(b"a").unwrap();
            server.write_all(b"b").unwrap();
            assert!(arrives(&mut client, Duration::from_secs(5)));
            assert!(!arrives(&mut server, Duration::from_millis(200)));
            there.heal();
            assert!(arrives(&mut server, Duration::from_secs(5)));
        });
    }

    #[test]
    fn a_slow_link_is_late() {
        through_proxy(|mut client, mut server, there, _| {
            there.slow(Duration::from_millis(200));
            let started = Instant::now();
            client.write_all(b"a").unwrap();
            assert!(arrives(&mut server, Duration::from_secs(5)));
            assert!(started.elapsed() >= Duration::from_millis(200));
        });
    }

    #[test]
    fn a_reset_is_an_error_for_both_sides_and_an_end_is_not() {
        through_proxy(|mut client, mut server, _, back| {
            back.reset();
            assert!(client.read(&mut [0]).is_err() && server.read(&mut [0]).is_err());
        });
        through_proxy(|client, mut server, _, _| {
            drop(client);
            assert_eq!(server.read(&mut [0]).unwrap(), 0);
        });
    }
}
