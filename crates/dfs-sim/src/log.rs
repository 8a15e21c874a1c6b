//! What the nodes log, kept to be read or searched, with the simulator's time.

use std::io::Write;
use std::sync::{Arc, Mutex, MutexGuard};

use tokio::time::Instant;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::FormatTime;

/// Everything logged; clones share it.
#[derive(Debug, Clone, Default)]
pub struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    /// The bytes.
    ///
    /// # Panics
    /// Never: no holder of the lock does.
    pub fn lock(&self) -> MutexGuard<'_, Vec<u8>> {
        self.0.lock().expect("no holder of this lock panics")
    }

    /// Keeps everything that this thread logs while what it gives is held.
    pub fn keep(&self) -> tracing::subscriber::DefaultGuard {
        let log = self.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(tracing::Level::DEBUG)
            .with_ansi(false)
            .with_timer(SimTime(Arc::default()))
            .with_writer(move || log.clone())
            .finish();
        tracing::subscriber::set_default(subscriber)
    }
}

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// The simulator's clock, for logs: seconds since the first line.
struct SimTime(Arc<Mutex<Option<Instant>>>);

impl FormatTime for SimTime {
    fn format_time(&self, out: &mut Writer<'_>) -> std::fmt::Result {
        let mut start = self.0.lock().map_err(|_| std::fmt::Error)?;
        let start = *start.get_or_insert_with(Instant::now);
        write!(out, "{:9.3}", start.elapsed().as_secs_f64())
    }
}
