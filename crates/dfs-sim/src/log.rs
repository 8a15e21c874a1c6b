//! What the nodes log, kept to be read or searched, with the simulator's time.

use std::io::Write;
use std::sync::{Arc, Mutex, MutexGuard};

use tokio::time::Instant;
use tracing::Level;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::FormatTime;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::{Layer, Registry};

use crate::lineage::{self, Lineage};

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
}

/// Follows what this thread logs while the answer is held: for `lineage`, and in `log` if given.
pub fn follow(lineage: &Lineage, log: Option<&Log>) -> tracing::subscriber::DefaultGuard {
    let targets = Targets::new().with_target(lineage::TARGET, Level::DEBUG);
    let lines = log.cloned().map(|log| {
        let layer = tracing_subscriber::fmt::layer().with_ansi(false);
        let layer = layer.with_timer(SimTime(Arc::default())).with_writer(move || log.clone());
        layer.with_filter(LevelFilter::DEBUG)
    });
    let lineage = lineage.clone().with_filter(targets);
    tracing::subscriber::set_default(Registry::default().with(lineage).with(lines))
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
