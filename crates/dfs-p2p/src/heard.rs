//! When a peer was heard last, to the byte: a long frame on a slow line takes its time, and nobody
//! may take that for silence.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use dfs_env::Env;
use parking_lot::Mutex;
use tokio::io::{AsyncRead, ReadBuf};
use tokio::time::Instant;

use crate::traffic::Traffic;

/// What was read from a peer.
pub(crate) struct Heard {
    env: Env,
    at: Mutex<Instant>,
    /// Bytes of a frame that is not complete yet, as far as they came after the frame before it.
    partial: AtomicUsize,
    traffic: Arc<Traffic>,
}

impl Heard {
    fn new(env: &Env, traffic: Arc<Traffic>) -> Arc<Self> {
        let at = Mutex::new(env.mono());
        Arc::new(Self { env: env.clone(), at, partial: AtomicUsize::new(0), traffic })
    }

    /// When the last byte came.
    pub(crate) fn at(&self) -> Instant {
        *self.at.lock()
    }

    /// Bytes of a frame that is not complete.
    pub(crate) fn partial(&self) -> usize {
        self.partial.load(Ordering::Relaxed)
    }

    /// A frame is complete.
    pub(crate) fn complete(&self) {
        self.partial.store(0, Ordering::Relaxed);
    }
}

impl fmt::Debug for Heard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Heard").field("partial", &self.partial).finish_non_exhaustive()
    }
}

/// Reads, and notes what it reads.
#[derive(Debug)]
pub(crate) struct Listening<R> {
    inner: R,
    heard: Arc<Heard>,
}

impl<R> Listening<R> {
    pub(crate) fn new(env: &Env, traffic: Arc<Traffic>, inner: R) -> Self {
        Self { inner, heard: Heard::new(env, traffic) }
    }

    pub(crate) fn heard(&self) -> Arc<Heard> {
        self.heard.clone()
    }
}

impl<R: AsyncRead + Unpin> AsyncRead for Listening<R> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = out.filled().len();
        let read = Pin::new(&mut self.inner).poll_read(context, out);
        let came = out.filled().len() - before;
        if came > 0 {
            self.heard.partial.fetch_add(came, Ordering::Relaxed);
            *self.heard.at.lock() = self.heard.env.mono();
            self.heard.traffic.came(came as u64);
        }
        read
    }
}
