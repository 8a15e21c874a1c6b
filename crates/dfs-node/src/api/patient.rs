//! A client that takes nothing of what it asked for is let go; one that takes it slowly is not.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

use super::heads::Heads;
use super::work::Crowded;

/// A stream whose writes fail once the other side has taken nothing for [`STILL_MAX`], or for
/// [`STILL_LOOK`] where others wait for its place.
pub(super) struct Patient<S> {
    inner: S,
    crowded: Crowded,
    heads: Arc<Heads>,
    /// Runs while a write waits, and how often it has run out.
    waits: Option<(Pin<Box<Sleep>>, u32)>,
}

impl<S> Patient<S> {
    pub(super) fn new(inner: S, crowded: Crowded) -> Self {
        Self { inner, crowded, heads: Arc::default(), waits: None }
    }

    /// What the heads of the requests say that come over it.
    pub(super) fn heads(&self) -> Arc<Heads> {
        self.heads.clone()
    }
}

impl<S: Unpin> Patient<S> {
    /// What a write comes to that may have to wait.
    fn within<T>(
        &mut self,
        context: &mut Context<'_>,
        written: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.waits = None;
            return written;
        }
        let begin = || (Box::pin(tokio::time::sleep(STILL_LOOK)), 0);
        let (waits, looks) = self.waits.get_or_insert_with(begin);
        loop {
            ready!(waits.as_mut().poll(context));
            *looks += 1;
            if STILL_LOOK * *looks >= STILL_MAX || (self.crowded)() {
                let why = "its client takes nothing";
                return Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, why)));
            }
            waits.as_mut().reset(Instant::now() + STILL_LOOK);
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Patient<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = out.filled().len();
        ready!(Pin::new(&mut self.inner).poll_read(context, out))?;
        self.heads.read(&out.filled()[before..]);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Patient<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.inner).poll_write(context, bytes);
        self.within(context, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.inner).poll_write_vectored(context, parts);
        self.within(context, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.inner).poll_flush(context);
        self.within(context, flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(context)
    }
}

/// How long a client may take nothing: a line that is up takes something far sooner.
const STILL_MAX: Duration = Duration::from_secs(60);
/// How often that is looked at: so long it may where every place is taken.
pub(super) const STILL_LOOK: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn where_others_wait_a_client_that_takes_nothing_is_let_go_sooner() {
        let (_client, server) = tokio::io::duplex(16);
        let mut server = Patient::new(server, Arc::new(|| true));
        let began = Instant::now();
        assert!(server.write_all(&[7; 160]).await.is_err());
        assert!(began.elapsed() < STILL_MAX / 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_takes_nothing_is_let_go_and_a_slow_one_is_not() {
        let (mut client, server) = tokio::io::duplex(16);
        let mut server = Patient::new(server, Arc::new(|| false));
        let serving = tokio::spawn(async move {
            let ended = server.write_all(&[7; 160]).await;
            (ended.map_err(|error| error.kind()), Instant::now())
        });
        // Ten pieces, each just in time.
        let mut piece = [0; 16];
        for _ in 0..5 {
            tokio::time::advance(STILL_MAX / 2).await;
            client.read_exact(&mut piece).await.unwrap();
        }
        let last = Instant::now();
        let (ended, at) = serving.await.unwrap();
        assert_eq!(ended, Err(io::ErrorKind::TimedOut));
        assert!(at - last >= STILL_MAX);
    }
}
