//! A clock that can be set ahead.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use dfs_env::{BoxFuture, Env, Machine};
use tokio::task::AbortHandle;

/// The wall clock of this machine and so many milliseconds. Nothing else is simulated.
pub(crate) struct Ahead {
    real: Env,
    ms: AtomicU64,
}

impl Ahead {
    pub(crate) fn new() -> Self {
        Self { real: Env::real(), ms: AtomicU64::new(0) }
    }

    pub(crate) fn advance(&self, by: Duration) {
        self.ms.fetch_add(u64::try_from(by.as_millis()).unwrap(), Ordering::SeqCst);
    }
}

impl Machine for Ahead {
    fn wall_ms(&self) -> u64 {
        self.real.wall_ms() + self.ms.load(Ordering::SeqCst)
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
