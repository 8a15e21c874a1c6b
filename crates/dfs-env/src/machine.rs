//! What a simulated machine decides about the code that runs on it.

use std::time::Duration;

use tokio::task::AbortHandle;

use crate::net::BoxFuture;

/// A machine under a simulator: clocks that are off, pauses, and an end without warning.
pub trait Machine: Send + Sync {
    /// The wall clock, in milliseconds since 1970. It may jump.
    fn wall_ms(&self) -> u64;

    /// How long a wait of `wait` takes by the simulator's clock: clocks drift.
    fn stretch(&self, wait: Duration) -> Duration;

    /// Waits while the machine is paused.
    fn resumed(&self) -> BoxFuture<'static, ()>;

    /// How long the work that just ran had to wait for the disk, told once.
    fn work_time(&self) -> Duration;

    /// A task began; the machine ends it when it dies.
    fn spawned(&self, task: AbortHandle);
}
