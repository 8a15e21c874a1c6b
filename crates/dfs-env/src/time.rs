//! The clocks of an [`Env`], and waiting by them.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, Sleep};

use crate::machine::Machine;
use crate::{Env, real};

/// A future did not end in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Elapsed;

impl fmt::Display for Elapsed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not done in time")
    }
}

impl std::error::Error for Elapsed {}

impl Env {
    /// The wall clock in milliseconds since 1970. It may jump: use it for stamps and validity
    /// only, and [`Env::mono`] for every wait.
    pub fn wall_ms(&self) -> u64 {
        match &self.0.machine {
            Some(machine) => machine.wall_ms(),
            None => real::wall_ms(),
        }
    }

    /// The monotonic clock.
    pub fn mono(&self) -> Instant {
        real::mono()
    }

    /// Waits.
    pub async fn sleep(&self, duration: Duration) {
        real::sleep(self.stretch(duration)).await;
        self.resumed().await;
    }

    /// Waits until the monotonic clock shows `at`.
    pub async fn sleep_until(&self, at: Instant) {
        real::sleep_until(at).await;
        self.resumed().await;
    }

    /// Waits for a future, at most for `limit`.
    ///
    /// # Errors
    /// [`Elapsed`] when it did not end by then; it is dropped.
    pub async fn timeout<F: Future>(
        &self,
        limit: Duration,
        future: F,
    ) -> Result<F::Output, Elapsed> {
        let ended = real::timeout(self.stretch(limit), future).await;
        if ended.is_err() {
            self.resumed().await;
        }
        ended.map_err(|_| Elapsed)
    }

    /// Ticks now and then once in every `period`.
    pub fn ticker(&self, period: Duration) -> Ticker {
        let next = Box::pin(real::sleep_until(self.mono()));
        Ticker { machine: self.0.machine.clone(), period: self.stretch(period), next }
    }

    fn stretch(&self, duration: Duration) -> Duration {
        self.0.machine.as_ref().map_or(duration, |machine| machine.stretch(duration))
    }

    /// Waits while a simulated machine is paused.
    async fn resumed(&self) {
        if let Some(machine) = &self.0.machine {
            machine.resumed().await;
        }
    }
}

/// See [`Env::ticker`].
pub struct Ticker {
    machine: Option<Arc<dyn Machine>>,
    period: Duration,
    next: Pin<Box<Sleep>>,
}

impl Ticker {
    /// Waits for the next tick. After a late one the next comes a whole period later: none are
    /// made up for.
    ///
    /// # Cancel safety
    /// No tick is lost when the future is dropped.
    pub async fn tick(&mut self) {
        self.next.as_mut().await;
        if let Some(machine) = &self.machine {
            machine.resumed().await;
        }
        self.next.as_mut().reset(real::mono() + self.period);
    }
}

impl fmt::Debug for Ticker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ticker").field("period", &self.period).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use tokio::task::AbortHandle;

    use super::*;
    use crate::net::BoxFuture;
    use crate::{MemoryFs, MemoryNet};

    /// Its clock runs at half speed, and it comes back from a pause at `resumed`.
    struct Slow {
        resumed: Instant,
    }

    impl Machine for Slow {
        fn wall_ms(&self) -> u64 {
            0
        }

        fn stretch(&self, wait: Duration) -> Duration {
            wait * 2
        }

        fn resumed(&self) -> BoxFuture<'static, ()> {
            Box::pin(real::sleep_until(self.resumed))
        }

        fn work_time(&self) -> Duration {
            Duration::ZERO
        }

        fn spawned(&self, _task: AbortHandle) {}
    }

    fn slow(resumed: Instant) -> Env {
        Env::simulated(1, MemoryFs::default(), MemoryNet::default(), Arc::new(Slow { resumed }))
    }

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn every_wait_goes_by_the_clock_of_the_machine() {
        let start = real::mono();
        let env = slow(start);
        env.sleep(SECOND).await;
        assert_eq!(env.mono() - start, 2 * SECOND);
        let never = std::future::pending::<()>();
        assert_eq!(env.timeout(SECOND, never).await, Err(Elapsed));
        assert_eq!(env.mono() - start, 4 * SECOND);
        assert_eq!(env.timeout(SECOND, async { 7 }).await, Ok(7));
        env.sleep_until(start + 5 * SECOND).await;
        assert_eq!(env.mono() - start, 5 * SECOND);
        let mut ticker = env.ticker(SECOND);
        for seconds in [5, 7, 9] {
            ticker.tick().await;
            assert_eq!(env.mono() - start, seconds * SECOND);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn no_wait_ends_while_the_machine_is_paused() {
        for wait in 0..4 {
            let resumed = real::mono() + 10 * SECOND;
            let env = slow(resumed);
            match wait {
                0 => env.sleep(SECOND).await,
                1 => env.sleep_until(real::mono() + SECOND).await,
                2 => env.timeout(SECOND, std::future::pending()).await.unwrap_or(()),
                _ => env.ticker(SECOND).tick().await,
            }
            assert_eq!(env.mono(), resumed, "wait {wait}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_ticker_makes_up_for_nothing_and_loses_nothing() {
        let env = Env::in_memory(1, MemoryNet::default());
        let start = env.mono();
        let mut ticker = env.ticker(SECOND);
        ticker.tick().await;
        env.sleep(5 * SECOND).await;
        ticker.tick().await;
        assert_eq!(env.mono() - start, 5 * SECOND);
        // A tick that somebody stopped waiting for comes all the same.
        assert!(env.timeout(SECOND / 2, ticker.tick()).await.is_err());
        ticker.tick().await;
        assert_eq!(env.mono() - start, 6 * SECOND);
    }
}
