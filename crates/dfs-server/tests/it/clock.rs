//! A clock that can be set.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use dfs_env::{BoxFuture, Env, Machine};
use tokio::task::AbortHandle;

/// The wall clock of this machine and so many milliseconds. Nothing else is simulated.
pub(crate) struct Ahead {
    real: Env,
    ms: AtomicI64,
}

impl Ahead {
    pub(crate) fn new() -> Self {
        Self { real: Env::real(), ms: AtomicI64::new(0) }
    }

    pub(crate) fn advance(&self, by: Duration) {
        self.ms.fetch_add(i64::try_from(by.as_millis()).unwrap(), Ordering::SeqCst);
    }

    /// Sets it so many milliseconds ahead of that of this machine, or behind it.
    pub(crate) fn set(&self, ahead_ms: i64) {
        self.ms.store(ahead_ms, Ordering::SeqCst);
    }
}

impl Machine for Ahead {
    fn wall_ms(&self) -> u64 {
        self.real.wall_ms().saturating_add_signed(self.ms.load(Ordering::SeqCst))
    }

    fn stretch(&self, wait: Duration) -> Duration {
        wait
    }

    fn resumed(&self) -> BoxFuture<'static, ()> {
        Box::pin(async {})
    }

    fn work_time(&self) -> Duration {
        Duration::ZERO
    }

    fn spawned(&self, _task: AbortHandle) {}
}
