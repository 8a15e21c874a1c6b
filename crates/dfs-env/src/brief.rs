//! How long a kind of work takes: what is brief is not worth the way to another thread and back.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

/// How long work of one kind took lately. The first is taken to be long.
///
/// For reads of an index, say, that are in memory as a rule: some microseconds, where handing them
/// over and being woken costs tens. Once a disk has to be waited for they go elsewhere, and come
/// back when that is over.
#[derive(Debug)]
pub struct Brief {
    /// An average that forgets: an eighth of it is the last one.
    nanos: AtomicU64,
    /// Whether some runs at once just now.
    at_once: AtomicBool,
}

impl Default for Brief {
    fn default() -> Self {
        Self { nanos: AtomicU64::new(2 * BRIEF_NANOS), at_once: AtomicBool::new(false) }
    }
}

impl Brief {
    /// Whether work may run at once, and the place for it. There is one: a disk that does not
    /// answer holds up one thread of the runtime and not all.
    pub(crate) fn at_once(&self) -> Option<AtOnce<'_>> {
        let is_brief = self.nanos.load(Ordering::Relaxed) < BRIEF_NANOS;
        let is_free = is_brief && !self.at_once.swap(true, Ordering::Acquire);
        is_free.then(|| AtOnce(self))
    }

    pub(crate) fn note(&self, took: Duration) {
        let took = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX).min(TOOK_MAX_NANOS);
        // Of two at once one may not count.
        let before = self.nanos.load(Ordering::Relaxed);
        self.nanos.store(before - before / 8 + took / 8, Ordering::Relaxed);
    }
}

/// Work that runs at once.
pub(crate) struct AtOnce<'a>(&'a Brief);

impl Drop for AtOnce<'_> {
    fn drop(&mut self) {
        self.0.at_once.store(false, Ordering::Release);
    }
}

/// What a runtime's thread can do between two tasks without anybody noticing.
const BRIEF_NANOS: u64 = 100_000;
/// One that took longer counts as this: it is forgotten after some dozens.
const TOOK_MAX_NANOS: u64 = 20_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_is_brief_once_it_was_for_a_while_and_not_after_a_long_one() {
        let brief = Brief::default();
        let is_brief = || brief.at_once().is_some();
        let short = || {
            (0..200).position(|_| {
                brief.note(Duration::from_micros(5));
                is_brief()
            })
        };
        assert!(!is_brief());
        assert!(short().is_some_and(|count| count < 10));
        brief.note(Duration::from_millis(3));
        assert!(!is_brief());
        assert!(short().is_some_and(|count| count < 40));
        brief.note(Duration::from_secs(100));
        assert!(!is_brief());
        assert!(short().is_some_and(|count| count < 60));
        // One at a time.
        let held = brief.at_once();
        assert!(held.is_some() && !is_brief() && !is_brief());
        drop(held);
        assert!(is_brief());
    }
}
