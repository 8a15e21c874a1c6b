//! A line of so many bytes a second, which all connections of a [`crate::MemoryNet`] share.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};
use tokio::time::{Instant, Sleep};

use crate::real;

/// How much leaves in a second, over all connections and both ways.
#[derive(Debug, Clone, Default)]
pub(crate) struct MemoryLine(Arc<Mutex<Paced>>);

#[derive(Debug, Default)]
struct Paced {
    /// 0 is no limit.
    bytes_per_second: u64,
    /// When the next packet may leave.
    free_at: Option<Instant>,
}

impl MemoryLine {
    /// From now on the line carries so many bytes a second; 0 is no limit.
    pub(crate) fn set(&self, bytes_per_second: u64) {
        *self.0.lock() = Paced { bytes_per_second, free_at: None };
    }

    /// How much of so many bytes leaves at once.
    fn packet(&self, bytes: usize) -> usize {
        match self.0.lock().bytes_per_second {
            0 => bytes,
            _ => bytes.min(PACKET_BYTES),
        }
    }

    /// Takes a turn for a packet of so many bytes; gives when it comes, if that is not now. Turns
    /// come in the order in which they were taken.
    fn take_turn(&self, now: Instant, bytes: usize) -> Option<Instant> {
        let mut paced = self.0.lock();
        let nanos = (bytes as u64).saturating_mul(1_000_000_000);
        let takes = nanos.checked_div(paced.bytes_per_second)?;
        let turn = paced.free_at.map_or(now, |at| at.max(now));
        paced.free_at = Some(turn + Duration::from_nanos(takes));
        (turn > now).then_some(turn)
    }
}

/// One end of a connection, which sends over the line.
#[derive(Debug)]
pub(crate) struct Slowed {
    inner: DuplexStream,
    line: MemoryLine,
    /// Whether a turn was taken for the packet that comes next.
    has_turn: bool,
    /// Until it comes.
    waits: Option<Pin<Box<Sleep>>>,
}

impl Slowed {
    pub(crate) fn new(inner: DuplexStream, line: MemoryLine) -> Self {
        Self { inner, line, has_turn: false, waits: None }
    }
}

impl AsyncRead for Slowed {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(context, out)
    }
}

impl AsyncWrite for Slowed {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        let packet = &bytes[..this.line.packet(bytes.len())];
        if !this.has_turn {
            let turn = this.line.take_turn(real::mono(), packet.len());
            this.waits = turn.map(|turn| Box::pin(real::sleep_until(turn)));
            this.has_turn = true;
        }
        if let Some(waits) = &mut this.waits {
            ready!(waits.as_mut().poll(context));
            this.waits = None;
        }
        let sent = ready!(Pin::new(&mut this.inner).poll_write(context, packet));
        this.has_turn = false;
        Poll::Ready(sent)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(context)
    }
}

/// Bytes that leave at once: connections take turns after each.
const PACKET_BYTES: usize = 4 * 1024;

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn connections_share_what_the_line_carries() {
        let line = MemoryLine::default();
        line.set(10_000);
        let began = real::mono();
        let mut transfers = Vec::new();
        for _ in 0..2 {
            let (one, mut other) = tokio::io::duplex(1 << 20);
            let mut sender = Slowed::new(one, line.clone());
            transfers.push(async move {
                sender.write_all(&[7; 50_000]).await.unwrap();
                drop(sender);
                let mut got = Vec::new();
                other.read_to_end(&mut got).await.unwrap();
                assert_eq!(got.len(), 50_000);
            });
        }
        futures_util::future::join_all(transfers).await;
        let took = (real::mono() - began).as_secs_f64();
        assert!((8.0..=10.0).contains(&took), "{took}");
    }
}
