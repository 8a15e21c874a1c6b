//! A network of channels inside one process.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::mpsc;

use crate::memory_line::{MemoryLine, Slowed};
use crate::net::{BoxFuture, Listener, Net, Stream};

/// A loopback network; clones share it.
#[derive(Clone, Default)]
pub struct MemoryNet(Arc<Mutex<Ports>>, MemoryLine);

#[derive(Default)]
struct Ports {
    listening: BTreeMap<u16, mpsc::Sender<Stream>>,
    last_free: u16,
}

impl MemoryNet {
    /// From now on all connections together carry so many bytes a second; 0 is no limit.
    pub fn slow_down(&self, bytes_per_second: u64) {
        self.1.set(bytes_per_second);
    }

    fn ports(&self) -> MutexGuard<'_, Ports> {
        self.0.lock()
    }

    fn bind(&self, on: SocketAddr) -> io::Result<MemoryListener> {
        let mut ports = self.ports();
        let port = match on.port() {
            0 => {
                ports.last_free = ports.last_free.max(FIRST_FREE_PORT - 1) + 1;
                ports.last_free
            }
            port => port,
        };
        if ports.listening.get(&port).is_some_and(|sender| !sender.is_closed()) {
            return Err(io::ErrorKind::AddrInUse.into());
        }
        let (sender, incoming) = mpsc::channel(BACKLOG);
        ports.listening.insert(port, sender);
        let addr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port);
        Ok(MemoryListener { addr, incoming: tokio::sync::Mutex::new(incoming) })
    }
}

impl Net for MemoryNet {
    fn connect(&self, to: SocketAddr) -> BoxFuture<'_, io::Result<Stream>> {
        let listener = self.ports().listening.get(&to.port()).cloned();
        let line = self.1.clone();
        Box::pin(async move {
            let refused = || io::Error::from(io::ErrorKind::ConnectionRefused);
            let (ours, theirs) = tokio::io::duplex(SOCKET_BYTES);
            let listener = listener.ok_or_else(refused)?;
            let theirs = Slowed::new(theirs, line.clone());
            listener.send(Box::new(theirs)).await.map_err(|_| refused())?;
            Ok(Box::new(Slowed::new(ours, line)) as Stream)
        })
    }

    fn listen(&self, on: SocketAddr) -> BoxFuture<'_, io::Result<Box<dyn Listener>>> {
        let bound = self.bind(on);
        Box::pin(async move { bound.map(|listener| Box::new(listener) as Box<dyn Listener>) })
    }

    fn resolve<'a>(
        &'a self,
        _host: &'a str,
        port: u16,
    ) -> BoxFuture<'a, io::Result<Vec<SocketAddr>>> {
        let here = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port);
        Box::pin(async move { Ok(vec![here]) })
    }
}

impl fmt::Debug for MemoryNet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("MemoryNet").finish()
    }
}

#[derive(Debug)]
struct MemoryListener {
    addr: SocketAddr,
    incoming: tokio::sync::Mutex<mpsc::Receiver<Stream>>,
}

impl Listener for MemoryListener {
    fn accept(&self) -> BoxFuture<'_, io::Result<(Stream, SocketAddr)>> {
        Box::pin(async move {
            let stream = self.incoming.lock().await.recv().await;
            let stream = stream.ok_or(io::ErrorKind::BrokenPipe)?;
            Ok((stream, SocketAddr::new(self.addr.ip(), 0)))
        })
    }

    fn local_addr(&self) -> SocketAddr {
        self.addr
    }
}

/// Connections that wait to be accepted.
const BACKLOG: usize = 64;
/// Bytes under way in one direction, about what a kernel holds for loopback.
const SOCKET_BYTES: usize = 256 * 1024;
/// Where dynamic ports begin (RFC 6335).
const FIRST_FREE_PORT: u16 = 49_152;
