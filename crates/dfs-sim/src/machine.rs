//! One machine: its disk, its clock, and the process that runs on it now.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use dfs_env::{BoxFuture, Machine};
use tokio::task::AbortHandle;
use tokio::time::Instant;

use crate::fs::SimFs;
use crate::net::{Host, SimNet};

/// A wall clock: it runs beside the simulator's, faster or slower, and jumps.
#[derive(Debug)]
pub struct WallClock {
    start: Instant,
    /// Milliseconds that this clock is ahead.
    ahead_ms: AtomicI64,
    /// The clock's speed in millionths: 1,000,000 is true.
    speed: AtomicU64,
    /// The reading at which it stands still, or 0.
    frozen_at: AtomicU64,
}

impl WallClock {
    /// A true clock.
    pub fn new() -> Self {
        Self {
            start: Instant::now(),
            ahead_ms: AtomicI64::new(0),
            speed: AtomicU64::new(1_000_000),
            frozen_at: AtomicU64::new(0),
        }
    }

    /// The reading.
    pub fn read(&self) -> u64 {
        let frozen = self.frozen_at.load(Ordering::Relaxed);
        if frozen > 0 {
            return frozen;
        }
        let elapsed = u64::try_from(self.start.elapsed().as_micros()).unwrap_or(0);
        let elapsed = elapsed.saturating_mul(self.speed.load(Ordering::Relaxed)) / 1_000_000;
        let ahead = self.ahead_ms.load(Ordering::Relaxed);
        BEGIN_UNIX_MS.saturating_add(elapsed / 1000).saturating_add_signed(ahead)
    }

    /// Moves the clock.
    pub fn jump(&self, ms: i64) {
        self.ahead_ms.fetch_add(ms, Ordering::Relaxed);
    }

    /// Lets the clock run faster or slower, in millionths of the true speed.
    pub fn set_speed(&self, millionths: u64) {
        self.speed.store(millionths, Ordering::Relaxed);
    }

    /// Stops the clock, or lets it run again where it should be.
    pub fn set_frozen(&self, frozen: bool) {
        let at = if frozen { self.read() } else { 0 };
        self.frozen_at.store(at, Ordering::Relaxed);
    }

    /// The true time again.
    pub fn heal(&self) {
        self.frozen_at.store(0, Ordering::Relaxed);
        self.speed.store(1_000_000, Ordering::Relaxed);
        self.ahead_ms.store(0, Ordering::Relaxed);
    }
}

impl Default for WallClock {
    fn default() -> Self {
        Self::new()
    }
}

/// The life of one process on a machine.
pub struct Process {
    host: Host,
    net: SimNet,
    clock: Arc<WallClock>,
    fs: SimFs,
    tasks: Mutex<Vec<AbortHandle>>,
}

impl Process {
    /// A process on `host`.
    pub fn new(host: Host, net: SimNet, clock: Arc<WallClock>, fs: SimFs) -> Self {
        Self { host, net, clock, fs, tasks: Mutex::default() }
    }

    /// Ends every task, without letting any of them do another thing to the disk.
    pub fn kill(&self) {
        self.fs.kill();
        for task in self.tasks().drain(..) {
            task.abort();
        }
    }

    /// Tasks that have not ended.
    pub fn task_count(&self) -> usize {
        let mut tasks = self.tasks();
        tasks.retain(|task| !task.is_finished());
        tasks.len()
    }

    fn tasks(&self) -> std::sync::MutexGuard<'_, Vec<AbortHandle>> {
        self.tasks.lock().expect("no holder of this lock panics")
    }
}

impl Machine for Process {
    fn wall_ms(&self) -> u64 {
        self.clock.read()
    }

    fn stretch(&self, wait: Duration) -> Duration {
        let speed = self.clock.speed.load(Ordering::Relaxed).max(1);
        wait.mul_f64(1_000_000.0 / f64::from(u32::try_from(speed).unwrap_or(u32::MAX)))
    }

    fn resumed(&self) -> BoxFuture<'static, ()> {
        self.net.resumed(self.host)
    }

    fn work_time(&self) -> Duration {
        self.fs.take_owed()
    }

    fn spawned(&self, task: AbortHandle) {
        let mut tasks = self.tasks();
        if tasks.len() >= TASKS_KEPT {
            tasks.retain(|task| !task.is_finished());
        }
        tasks.push(task);
    }
}

/// Where every simulation's wall clocks begin: 2026-01-01T00:00:00Z.
const BEGIN_UNIX_MS: u64 = 1_767_225_600_000;
/// Handles kept before those of ended tasks are thrown away.
const TASKS_KEPT: usize = 4096;
