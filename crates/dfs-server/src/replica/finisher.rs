//! Work that goes on after the operation it belongs to has been answered.

use std::panic::AssertUnwindSafe;

use dfs_env::BoxFuture;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::{debug, error};

type Work = BoxFuture<'static, ()>;

/// Takes work that no one waits for.
#[derive(Debug)]
pub(crate) struct Finisher(mpsc::Sender<Work>);

/// What was taken and not yet carried out; [`run`] does that.
#[derive(Debug)]
pub(crate) struct ToFinish(mpsc::Receiver<Work>);

impl Finisher {
    pub(crate) fn new() -> (Self, ToFinish) {
        let (sender, receiver) = mpsc::channel(WAITING_MAX);
        (Self(sender), ToFinish(receiver))
    }

    /// Carries work to its end in the background. When too much of it waits already it is dropped:
    /// comparing rows brings the laggard up to date later.
    pub(crate) fn finish_later(&self, work: impl Future<Output = ()> + Send + 'static) {
        if self.0.try_send(Box::pin(work)).is_err() {
            debug!("too much waits to be finished; comparing rows will do it");
        }
    }
}

/// Carries out work as it comes until shutdown, and then what is there. Work that panics ends
/// alone.
pub(crate) async fn run(ToFinish(mut waiting): ToFinish, shutdown: CancellationToken) {
    let mut running = FuturesUnordered::new();
    loop {
        tokio::select! {
            biased;
            Some(()) = running.next() => {}
            work = waiting.recv(), if running.len() < RUNNING_MAX => match work {
                Some(work) => running.push(guarded(work)),
                None => break,
            },
            () = shutdown.cancelled() => break,
        }
    }
    while let Ok(work) = waiting.try_recv() {
        running.push(guarded(work));
    }
    while running.next().await.is_some() {}
}

async fn guarded(work: Work) {
    if AssertUnwindSafe(work).catch_unwind().await.is_err() {
        error!("work that no one waits for panicked; comparing rows will do it");
    }
}

/// Left-over work carried out at once.
const RUNNING_MAX: usize = 256;
/// Left-over work that waits to be carried out.
const WAITING_MAX: usize = 256;

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::*;

    #[tokio::test]
    async fn work_that_panics_does_not_end_the_rest() {
        let (finisher, to_finish) = Finisher::new();
        let (done, was_done) = oneshot::channel();
        finisher.finish_later(async { panic!("as a bug would") });
        finisher.finish_later(async move {
            let _ = done.send(());
        });
        let shutdown = CancellationToken::new();
        tokio::join!(run(to_finish, shutdown.clone()), async {
            was_done.await.unwrap();
            shutdown.cancel();
        });
    }
}
