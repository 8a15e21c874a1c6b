//! What happened, as a hash to compare runs by, and which faults fired.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use tokio::time::Instant;

/// Shared by every part of one run; clones share it.
#[derive(Debug, Clone)]
pub struct Trace(Arc<Mutex<Inner>>);

#[derive(Debug)]
struct Inner {
    start: Instant,
    hasher: blake3::Hasher,
    events: u64,
    fired: BTreeMap<&'static str, u64>,
    /// The last lines, when someone wants to read them.
    lines: Option<Vec<String>>,
}

impl Trace {
    /// An empty trace that begins now; `keep` keeps readable lines as well.
    pub fn new(keep: bool) -> Self {
        Self(Arc::new(Mutex::new(Inner {
            start: Instant::now(),
            hasher: blake3::Hasher::new(),
            events: 0,
            fired: BTreeMap::new(),
            lines: keep.then(Vec::new),
        })))
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().expect("no holder of this lock panics")
    }

    /// Notes an event: numbers that depend on the seed alone. Never ciphertext, whose keys are
    /// drawn outside the simulation.
    pub fn event(&self, what: &'static str, numbers: &[u64]) {
        let mut inner = self.inner();
        let at = u64::try_from(inner.start.elapsed().as_micros()).unwrap_or(u64::MAX);
        inner.hasher.update(what.as_bytes()).update(&at.to_le_bytes());
        for number in numbers {
            inner.hasher.update(&number.to_le_bytes());
        }
        inner.events += 1;
    }

    /// Notes that a kind of fault fired.
    pub fn fired(&self, kind: &'static str) {
        self.event(kind, &[]);
        *self.inner().fired.entry(kind).or_default() += 1;
    }

    /// Notes that a kind of fault fired so many times.
    pub fn fired_often(&self, kind: &'static str, count: u64) {
        self.event(kind, &[count]);
        *self.inner().fired.entry(kind).or_default() += count;
    }

    /// Notes a line for people, when lines are kept.
    pub fn say(&self, line: impl FnOnce() -> String) {
        let mut inner = self.inner();
        let at = inner.start.elapsed();
        if let Some(lines) = &mut inner.lines {
            lines.push(format!("{:9.3} {}", at.as_secs_f64(), line()));
        }
    }

    /// The lines kept.
    pub fn lines(&self) -> Vec<String> {
        self.inner().lines.clone().unwrap_or_default()
    }

    /// The hash of everything noted so far, and how many events there were.
    pub fn hash(&self) -> ([u8; 32], u64) {
        let inner = self.inner();
        (*inner.hasher.finalize().as_bytes(), inner.events)
    }

    /// How often each kind of fault fired.
    pub fn coverage(&self) -> BTreeMap<&'static str, u64> {
        self.inner().fired.clone()
    }
}
