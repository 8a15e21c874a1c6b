//! Pieces fetched ahead of the reader, in order, as many at once as the line bears.

use std::sync::Arc;
use std::time::Duration;

use dfs_core::replica::pace::Pace;
use futures_util::stream::{self, FuturesOrdered};
use futures_util::{Stream, StreamExt};
use parking_lot::Mutex;

/// What the pieces of `ids` become, in their order. Each piece says how long it took.
pub(super) fn ahead<I, F, T>(
    ids: impl Stream<Item = I> + Send + Unpin + 'static,
    piece: impl FnMut(I) -> F + Send + 'static,
    pace: Arc<Mutex<Pace>>,
) -> impl Stream<Item = T> + Send
where
    I: Send + 'static,
    F: Future<Output = (T, Duration)> + Send + 'static,
    T: Send + 'static,
{
    let begin = Ahead { ids, piece, pace, running: FuturesOrdered::new(), is_at_end: false };
    stream::unfold(begin, async |mut ahead| ahead.next().await.map(|piece| (piece, ahead)))
}

struct Ahead<S, P, F: Future> {
    ids: S,
    piece: P,
    pace: Arc<Mutex<Pace>>,
    running: FuturesOrdered<F>,
    is_at_end: bool,
}

impl<S, P, F, T> Ahead<S, P, F>
where
    S: Stream + Unpin,
    P: FnMut(S::Item) -> F,
    F: Future<Output = (T, Duration)>,
{
    async fn next(&mut self) -> Option<T> {
        loop {
            let window = self.pace.lock().window();
            let has_room = self.running.len() < window;
            let (ended, took) = tokio::select! {
                biased;
                id = self.ids.next(), if has_room && !self.is_at_end => {
                    match id {
                        Some(id) => self.running.push_back((self.piece)(id)),
                        None => self.is_at_end = true,
                    }
                    continue;
                }
                Some(ended) = self.running.next() => ended,
                else => return None,
            };
            self.pace.lock().took(took);
            return Some(ended);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    /// The most pieces at once, of a hundred that took so long each.
    async fn most_at_once(took: Duration) -> usize {
        let (running, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let pace = Arc::new(Mutex::new(Pace::up_to(8)));
        let seen = most.clone();
        let piece = move |id| {
            let running = running.clone();
            seen.fetch_max(running.fetch_add(1, Ordering::Relaxed) + 1, Ordering::Relaxed);
            async move {
                for _ in 0..id % 5 {
                    tokio::task::yield_now().await;
                }
                running.fetch_sub(1, Ordering::Relaxed);
                (id, took)
            }
        };
        let pieces: Vec<_> = ahead(stream::iter(0..100), piece, pace).collect().await;
        assert_eq!(pieces, (0..100).collect::<Vec<_>>());
        most.load(Ordering::Relaxed)
    }

    #[tokio::test]
    async fn pieces_come_in_order_and_as_many_at_once_as_the_line_bears() {
        assert_eq!(most_at_once(Duration::from_millis(1)).await, 8);
        assert_eq!(most_at_once(Duration::from_secs(9)).await, 2);
    }

    #[tokio::test]
    async fn nothing_to_fetch_is_the_end() {
        let pace = Arc::new(Mutex::new(Pace::up_to(8)));
        let piece = |id: u8| async move { (id, Duration::ZERO) };
        assert_eq!(ahead(stream::empty(), piece, pace).collect::<Vec<_>>().await, []);
    }
}
