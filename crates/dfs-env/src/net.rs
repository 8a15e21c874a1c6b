//! Sockets: what the rest of dfs may ask of a network.

use std::fmt::Debug;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;

use tokio::io::{AsyncRead, AsyncWrite};

/// A future in a box, so that traits of async functions can be used behind a reference.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Bytes both ways.
pub trait ByteStream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> ByteStream for T {}

/// An open connection.
pub type Stream = Box<dyn ByteStream>;

/// A network to connect and listen on.
pub trait Net: Send + Sync {
    /// Connects. Small writes leave at once (`TCP_NODELAY`).
    fn connect(&self, to: SocketAddr) -> BoxFuture<'_, io::Result<Stream>>;

    /// Listens. Port 0 picks a free one; `[::]` means every interface, IPv4 included.
    fn listen(&self, on: SocketAddr) -> BoxFuture<'_, io::Result<Box<dyn Listener>>>;

    /// The addresses of a host; more than one when a name has several.
    fn resolve<'a>(
        &'a self,
        host: &'a str,
        port: u16,
    ) -> BoxFuture<'a, io::Result<Vec<SocketAddr>>>;
}

/// A bound port.
pub trait Listener: Debug + Send + Sync {
    /// Waits for the next connection. Safe to cancel: none is lost.
    fn accept(&self) -> BoxFuture<'_, io::Result<(Stream, SocketAddr)>>;

    /// The bound address, with the port that was picked.
    fn local_addr(&self) -> SocketAddr;
}
