//! The content of a request, and what happens to the rest of it when the request is refused.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, StatusCode, header};
use dfs_env::{Env, Task};
use futures_util::stream::{self, BoxStream, StreamExt, TryStreamExt};
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncReadExt, ReadBuf};
use tokio::time::Instant;
use tokio_util::io::StreamReader;
use tracing::warn;

use super::patient::STILL_LOOK;
use super::work::Crowded;

/// Content that a client sends.
pub(super) struct Upload {
    content: StreamReader<BoxStream<'static, io::Result<Bytes>>, Bytes>,
    /// When the client began to wait for "100 Continue"; `None` when it does not wait, or was told
    /// to go on.
    waits_since: Option<Instant>,
    /// Its client was given up, and sends nothing that could be dropped.
    is_given_up: bool,
}

impl Upload {
    pub(super) fn new(headers: &HeaderMap, body: Body, crowded: Crowded) -> Self {
        let content = body.into_data_stream().map_err(io::Error::other).boxed();
        let content = stream::unfold((content, crowded), async |(mut content, crowded)| {
            let mut silent = Duration::ZERO;
            let next = loop {
                match tokio::time::timeout(STILL_LOOK, content.next()).await {
                    Ok(next) => break next,
                    Err(_) => silent += STILL_LOOK,
                }
                if silent >= SILENCE_MAX || crowded() {
                    break Some(Err(fell_silent()));
                }
            };
            next.map(|piece| (piece, (content, crowded)))
        });
        let content = content.boxed();
        let waits_since = headers.contains_key(header::EXPECT).then(Instant::now);
        Self { content: StreamReader::new(content), waits_since, is_given_up: false }
    }

    /// Reads and drops what the client still sends, within bounds. Returns `false` when there is
    /// more: a connection that is closed with unread content is reset, and the client then sees a
    /// broken pipe instead of the refusal.
    async fn drain(mut self) -> bool {
        if self.is_given_up {
            return true;
        }
        // It hears the refusal before it sends anything.
        if self.waits_since.is_some_and(|since| since.elapsed() < WAITS_MIN) {
            return true;
        }
        let mut rest = (&mut self).take(DRAIN_BYTES_MAX);
        let mut nowhere = tokio::io::sink();
        let dropped = tokio::io::copy(&mut rest, &mut nowhere);
        match tokio::time::timeout(DRAIN_WAIT_MAX, dropped).await {
            Ok(Ok(bytes)) => bytes < DRAIN_BYTES_MAX,
            // A client that breaks off needs no answer, and one that sends for longer gets none.
            Ok(Err(_)) => true,
            Err(_) => false,
        }
    }
}

/// Drops the rest of refused contents, while their clients hear the refusal: most break off then.
#[derive(Debug)]
pub(super) struct Rests {
    env: Env,
    dropping: Mutex<Vec<Task<()>>>,
}

impl Rests {
    pub(super) fn new(env: &Env) -> Self {
        Self { env: env.clone(), dropping: Mutex::default() }
    }

    /// Begins to drop the rest of a content. Where too many are being dropped already its client
    /// may see its connection break.
    pub(super) fn drop_later(&self, rest: Upload, refused: StatusCode) {
        let mut dropping = self.dropping.lock();
        dropping.retain(|task| !task.is_finished());
        if dropping.len() >= RESTS_MAX {
            return;
        }
        dropping.push(self.env.spawn("rest", async move {
            if !rest.drain().await {
                // Its client is told to look here. The reason may name a file, the status does not.
                warn!(status = %refused, "a refusal midway may not have reached its client");
            }
        }));
    }
}

fn fell_silent() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "its client sent nothing for too long")
}

impl AsyncRead for Upload {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        // Reading is what makes the server say "100 Continue".
        self.waits_since = None;
        let read = Pin::new(&mut self.content).poll_read(context, out);
        if matches!(&read, Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::TimedOut) {
            self.is_given_up = true;
        }
        read
    }
}

/// How long a client may send nothing in the midst of its content: a line that is up brings
/// something far sooner.
const SILENCE_MAX: Duration = Duration::from_secs(60);
/// Bytes dropped at most: a client that does not hear the refusal while it sends still hears it at
/// the end, if that comes soon.
const DRAIN_BYTES_MAX: u64 = 4 * 1024 * 1024 * 1024;
/// How long dropping may take.
const DRAIN_WAIT_MAX: Duration = Duration::from_secs(60);
/// Contents whose rest is dropped at once: as many as there may be transfers.
const RESTS_MAX: usize = 128;
/// A client waits for "100 Continue" at least this long before it sends without it: curl for one
/// second, `dfs` for two.
const WAITS_MIN: Duration = Duration::from_millis(900);

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    use axum::http::HeaderValue;

    use super::*;

    const PIECE: usize = 1024 * 1024;

    /// Pieces of content, and how many bytes of them were taken.
    fn content(pieces: usize) -> (Body, Arc<AtomicU64>) {
        let taken = Arc::new(AtomicU64::new(0));
        let counted = taken.clone();
        let pieces = stream::iter(0..pieces).map(move |_| {
            counted.fetch_add(PIECE as u64, Ordering::Relaxed);
            io::Result::Ok(Bytes::from_static(&[0; PIECE]))
        });
        (Body::from_stream(pieces), taken)
    }

    fn never() -> Crowded {
        Arc::new(|| false)
    }

    fn expecting() -> HeaderMap {
        HeaderMap::from_iter([(header::EXPECT, HeaderValue::from_static("100-continue"))])
    }

    #[tokio::test]
    async fn the_rest_is_dropped_up_to_a_bound() {
        let (body, taken) = content(3);
        assert!(Upload::new(&HeaderMap::new(), body, never()).drain().await);
        assert_eq!(taken.load(Ordering::Relaxed), 3 * PIECE as u64);
        let (body, taken) = content(5000);
        assert!(!Upload::new(&HeaderMap::new(), body, never()).drain().await);
        assert_eq!(taken.load(Ordering::Relaxed), DRAIN_BYTES_MAX);
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_falls_silent_is_let_go() {
        let pieces = stream::iter([io::Result::Ok(Bytes::from_static(b"half"))]);
        let body = Body::from_stream(pieces.chain(stream::pending()));
        let since = Instant::now();
        let mut content = Vec::new();
        let mut upload = Upload::new(&HeaderMap::new(), body, never());
        let ended = upload.read_to_end(&mut content).await;
        assert_eq!(ended.unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert_eq!((&content[..], since.elapsed()), (&b"half"[..], SILENCE_MAX));
        // Nor is it waited for once more before its connection is closed.
        assert!(upload.drain().await);
        assert_eq!(since.elapsed(), SILENCE_MAX);
    }

    #[tokio::test]
    async fn content_that_was_not_asked_for_stays_where_it_is() {
        let (body, taken) = content(3);
        assert!(Upload::new(&expecting(), body, never()).drain().await);
        assert_eq!(taken.load(Ordering::Relaxed), 0);
        let (body, taken) = content(3);
        let mut begun = Upload::new(&expecting(), body, never());
        begun.read_exact(&mut [0; 8]).await.unwrap();
        assert!(begun.drain().await);
        assert_eq!(taken.load(Ordering::Relaxed), 3 * PIECE as u64);
    }
}
