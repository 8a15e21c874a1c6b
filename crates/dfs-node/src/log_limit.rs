//! One line a cause a minute: what a request, a peer or a loop can repeat does not fill the disk
//! that the log is on.
//!
//! A cause is a place in the code with what it says. Of one place, [`LINES_MAX`] different lines a
//! minute are written. Only warnings and errors are limited: the rest tells of what has changed.

use std::collections::{BTreeSet, HashMap};
use std::fmt::{self, Write};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use dfs_env::Env;
use parking_lot::Mutex;
use tokio::time::Instant;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber, callsite::Identifier};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

/// Writes events as `Inner` does, but for those that say again what was said just now.
pub(crate) struct Limited<Inner> {
    inner: Inner,
    is_json: bool,
    env: Env,
    places: Mutex<HashMap<Identifier, Place>>,
}

/// What one place in the code has said in the minute that began at `since`.
#[derive(Debug)]
struct Place {
    since: Instant,
    said: BTreeSet<u64>,
    left_out: u64,
}

impl Place {
    fn new(now: Instant) -> Self {
        Self { since: now, said: BTreeSet::new(), left_out: 0 }
    }

    /// Whether a line is written, and how many like it were left out before it.
    fn admits(&mut self, now: Instant, line: u64) -> Option<u64> {
        if now >= self.since + WINDOW {
            (self.since, self.said) = (now, BTreeSet::new());
        }
        if self.said.len() >= LINES_MAX || !self.said.insert(line) {
            self.left_out += 1;
            return None;
        }
        Some(std::mem::take(&mut self.left_out))
    }
}

impl<Inner> Limited<Inner> {
    pub(crate) fn new(inner: Inner, is_json: bool) -> Self {
        Self { inner, is_json, env: Env::real(), places: Mutex::default() }
    }

    fn admits(&self, event: &Event<'_>) -> Option<u64> {
        if *event.metadata().level() > Level::WARN {
            return Some(0);
        }
        let mut said = Said(DefaultHasher::new());
        event.record(&mut said);
        let now = self.env.mono();
        // As many places as the code has.
        let mut places = self.places.lock();
        let place = places.entry(event.metadata().callsite());
        place.or_insert_with(|| Place::new(now)).admits(now, said.0.finish())
    }
}

impl<S, N, Inner> FormatEvent<S, N> for Limited<Inner>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
    Inner: FormatEvent<S, N>,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let Some(left_out) = self.admits(event) else { return Ok(()) };
        self.inner.format_event(context, writer.by_ref(), event)?;
        match left_out {
            0 => Ok(()),
            left_out if self.is_json => writeln!(writer, "{{\"left_out\":{left_out}}}"),
            left_out => writeln!(writer, "  and {left_out} more from there were left out before"),
        }
    }
}

/// What an event says, as a number.
struct Said(DefaultHasher);

impl Visit for Said {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        field.name().hash(&mut self.0);
        // Hashing takes whatever is written.
        let _ = write!(Hashing(&mut self.0), "{value:?}");
    }
}

struct Hashing<'a>(&'a mut DefaultHasher);

impl Write for Hashing<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.write(text.as_bytes());
        Ok(())
    }
}

/// So long a line is not written again.
const WINDOW: Duration = Duration::from_secs(60);
/// Different lines of one place in that time: enough to see which peers or pieces it is about.
const LINES_MAX: usize = 10;

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::Arc;

    use tracing::{error, info, warn};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_place_says_the_same_once_a_minute_and_ten_things_at_most() {
        let began = Instant::now();
        let mut place = Place::new(began);
        assert_eq!(place.admits(began, 1), Some(0));
        assert_eq!(place.admits(began, 1), None);
        let others = (2..100).filter(|line| place.admits(began, *line).is_some()).count();
        assert_eq!(others, LINES_MAX - 1);
        let later = began + WINDOW;
        assert_eq!(place.admits(later - Duration::from_secs(1), 1), None);
        assert_eq!(place.admits(later, 1), Some(98 - 9 + 1));
        assert_eq!(place.admits(later, 2), Some(0));
    }

    #[derive(Clone, Default)]
    struct Log(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Log {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_loop_that_fails_writes_one_line_and_changes_are_all_written() {
        let log = Log::default();
        let written = log.clone();
        let format = tracing_subscriber::fmt::format();
        let subscriber = tracing_subscriber::fmt()
            .event_format(Limited::new(format, false))
            .with_writer(move || log.clone())
            .finish();
        tracing::subscriber::with_default(subscriber, || {
            for number in 0..1000 {
                error!(error = "read-only", "the store could not be written");
                warn!(blob = number, "no good copy");
                info!("a change");
            }
        });
        let text = String::from_utf8(written.0.lock().clone()).unwrap();
        let count = |what: &str| text.lines().filter(|line| line.contains(what)).count();
        assert_eq!(count("could not be written"), 1);
        assert_eq!(count("no good copy"), LINES_MAX);
        assert_eq!(count("a change"), 1000);
    }
}
