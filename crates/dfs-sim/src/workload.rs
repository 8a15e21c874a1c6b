//! Clients at work: they store, read, list and delete, and note what they saw.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;
use dfs_core::name::FilePath;
use dfs_server::{Client, Depth, Error, Mode};
use futures_util::TryStreamExt;
use tokio::time::{Instant, timeout};

use crate::checker::{Action, Operation, Value};
use crate::cluster::{Cluster, Handle};
use crate::options::Options;
use crate::rng::Rng;
use crate::trace::Trace;

/// What clients know: every write they made, and what each operation saw.
#[derive(Clone)]
pub struct History(Arc<Mutex<Inner>>);

struct Inner {
    start: Instant,
    needle: Vec<u8>,
    seed: u64,
    /// The size of each write's content.
    written: Vec<usize>,
    operations: BTreeMap<String, Vec<Operation>>,
    /// Writes whose condition is said not to have held.
    refused: BTreeSet<u64>,
    /// Whether only guarded answers count: see [`History::need_guards`].
    needs_guards: bool,
    acknowledged: u64,
    errors: BTreeMap<String, u64>,
    /// What must never happen, in words.
    violations: Vec<String>,
    trace: Trace,
}

impl History {
    /// Nothing yet. Every content and every name has `needle` in it.
    pub fn new(seed: u64, needle: Vec<u8>, trace: Trace) -> Self {
        Self(Arc::new(Mutex::new(Inner {
            start: Instant::now(),
            needle,
            seed,
            written: Vec::new(),
            operations: BTreeMap::new(),
            refused: BTreeSet::new(),
            needs_guards: false,
            acknowledged: 0,
            errors: BTreeMap::new(),
            violations: Vec::new(),
            trace,
        })))
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().expect("no holder of this lock panics")
    }

    /// The time of the simulator, in nanoseconds since the beginning.
    pub fn now(&self) -> u64 {
        let inner = self.inner();
        u64::try_from(inner.start.elapsed().as_nanos()).unwrap_or(u64::MAX) + 1
    }

    /// Notes something that must never happen.
    pub fn violation(&self, what: String) {
        let mut inner = self.inner();
        inner.trace.say(|| format!("VIOLATION {what}"));
        inner.violations.push(what);
    }

    /// What must never happen, and did.
    pub fn violations(&self) -> Vec<String> {
        self.inner().violations.clone()
    }

    /// Writes and deletes that were acknowledged.
    pub fn acknowledged(&self) -> u64 {
        self.inner().acknowledged
    }

    /// Counts a write that was acknowledged.
    pub fn acknowledge(&self) {
        self.inner().acknowledged += 1;
    }

    /// Whether from now on only guarded answers say something about the order of operations. Beside
    /// one replica that lies, another that was away may be asked, and these two are a majority of
    /// three: a read may see then what was replaced, and a write may be seen late.
    pub fn need_guards(&self, need: bool) {
        self.inner().needs_guards = need;
    }

    /// Now, unless an answer that is guarded or not says nothing.
    fn end(&self, guarded: bool) -> Option<u64> {
        let counts = guarded || !self.inner().needs_guards;
        counts.then(|| self.now())
    }

    /// Notes a write that was told that it is refused: nobody may ever see it.
    pub fn refuse(&self, id: u64) {
        self.inner().refused.insert(id);
    }

    /// Whether a write was told that it is refused.
    pub fn is_refused(&self, id: u64) -> bool {
        self.inner().refused.contains(&id)
    }

    /// How often each kind of error was answered.
    pub fn errors(&self) -> BTreeMap<String, u64> {
        self.inner().errors.clone()
    }

    /// Every operation, by name.
    pub fn operations(&self) -> BTreeMap<String, Vec<Operation>> {
        self.inner().operations.clone()
    }

    /// How the name with this number is written: each third one in a directory.
    pub fn name(&self, number: usize) -> String {
        let needle = String::from_utf8_lossy(&self.inner().needle).into_owned();
        match number % 3 {
            0 => format!("d{}-{needle}/n{number}", number % 2),
            _ => format!("n{number}-{needle}"),
        }
    }

    /// A new content: the needle, the number of the write, and bytes that follow from both.
    pub fn new_content(&self, len: usize) -> (u64, Vec<u8>) {
        let mut inner = self.inner();
        inner.written.push(len);
        let id = inner.written.len() as u64;
        (id, inner.content(id, len))
    }

    /// Which write these bytes are; `None` when they are none.
    fn identify(&self, bytes: &[u8]) -> Option<u64> {
        let inner = self.inner();
        let at = inner.needle.len();
        let id = u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?);
        let len = *inner.written.get(usize::try_from(id).ok()?.checked_sub(1)?)?;
        (inner.content(id, len) == bytes).then_some(id)
    }

    /// Notes an operation.
    pub fn note(&self, name: &str, operation: Operation) {
        let mut inner = self.inner();
        let numbers = match operation.action {
            Action::Write(value) => [1, value.unwrap_or(0), u64::from(operation.end.is_some())],
            Action::Read(value) => [2, value.unwrap_or(0), 1],
        };
        inner.trace.event("operation", &numbers);
        inner.trace.say(|| format!("{name:.4} {operation:?}"));
        inner.operations.entry(name.to_owned()).or_default().push(operation);
    }

    /// Counts what a client was told.
    pub fn note_error(&self, error: &Error) {
        let kind = format!("{error:?}");
        let kind = kind.split(['(', ' ']).next().unwrap_or_default().to_owned();
        let mut inner = self.inner();
        let shown = error.to_string();
        inner.trace.say(|| format!("error {shown}"));
        *inner.errors.entry(kind).or_default() += 1;
    }
}

impl Inner {
    fn content(&self, id: u64, len: usize) -> Vec<u8> {
        let mut content = self.needle.clone();
        content.extend_from_slice(&id.to_le_bytes());
        let mut rng = Rng::new(self.seed ^ id).fork(3);
        while content.len() < len {
            content.extend_from_slice(&rng.draw().to_le_bytes());
        }
        content
    }
}

/// One client: works until `end`, against whichever node it finds running.
pub async fn client(
    number: usize,
    options: Arc<Options>,
    cluster: Arc<tokio::sync::Mutex<Cluster>>,
    history: History,
    end: Instant,
) {
    let mut rng = Rng::new(options.seed).fork(100 + number as u64);
    let think = u64::try_from(options.think.as_micros()).unwrap_or(u64::MAX);
    while Instant::now() < end {
        tokio::time::sleep(Duration::from_micros(rng.between(1, think))).await;
        let handle = cluster.lock().await.any_with_vault(&mut rng);
        let Some(handle) = handle else { continue };
        let name = history.name(rng.below(options.names));
        let mode = if options.available { Mode::Available } else { Mode::Quorum };
        match rng.below(100) {
            0..50 => {
                let len = size(&mut rng);
                put(&handle, &history, &name, len, mode).await;
            }
            50..88 => {
                get(&handle, &history, &name, mode).await;
            }
            88..95 => remove(&handle, &history, &name, mode).await,
            _ => list(&handle, &history, mode).await,
        }
    }
}

fn size(rng: &mut Rng) -> usize {
    let size = match rng.below(100) {
        0..70 => rng.between(32, 400),
        70..85 => rng.between(400, 16_000),
        85..97 => rng.between(17_000, 200_000),
        _ => rng.between(1_000_000, 2_500_000),
    };
    usize::try_from(size).expect("a small size")
}

/// Waits for an operation, unless its node dies or it takes for ever: then nobody knows.
pub async fn outcome<T>(
    handle: &Handle,
    history: &History,
    operation: impl Future<Output = Result<T, Error>>,
) -> Option<Result<T, Error>> {
    tokio::select! {
        biased;
        () = handle.gone.cancelled() => None,
        done = timeout(OPERATION_MAX, operation) => {
            if done.is_err() {
                history.violation(format!("an operation takes longer than {OPERATION_MAX:?}"));
            }
            done.ok()
        }
    }
}

async fn put(handle: &Handle, history: &History, name: &str, len: usize, mode: Mode) {
    let path = FilePath::parse(name).expect("a name of ours");
    let (id, content) = history.new_content(len);
    let start = history.now();
    let done = outcome(handle, history, handle.client.store(&path, &content[..], mode)).await;
    let end = match done {
        Some(Ok(stored)) => {
            history.acknowledge();
            history.end(stored.guarded)
        }
        Some(Err(error)) => {
            history.note_error(&error);
            if is_refused(&error) {
                history.refuse(id);
                return;
            }
            None
        }
        None => None,
    };
    history.note(name, Operation { start, end, action: Action::Write(Some(id)) });
}

/// Whether nothing of a write has taken effect, nor ever may.
pub fn is_refused(error: &Error) -> bool {
    matches!(error, Error::ClockSkew(_))
}

/// Deletes a name.
///
/// # Panics
/// When `name` is not one of ours.
pub async fn remove(handle: &Handle, history: &History, name: &str, mode: Mode) {
    let path = FilePath::parse(name).expect("a name of ours");
    let start = history.now();
    let done = outcome(handle, history, handle.client.remove(&path, mode)).await;
    let (end, action) = match done {
        Some(Ok(())) => {
            history.acknowledge();
            // It does not say whether it was guarded.
            (history.end(false), Action::Write(None))
        }
        Some(Err(Error::NotFound(_))) => (history.end(false), Action::Read(None)),
        Some(Err(error)) => {
            history.note_error(&error);
            if is_refused(&error) {
                return;
            }
            (None, Action::Write(None))
        }
        None => (None, Action::Write(None)),
    };
    history.note(name, Operation { start, end, action });
}

/// Reads a name and checks every byte; says what it saw.
pub async fn get(handle: &Handle, history: &History, name: &str, mode: Mode) -> Option<Value> {
    let start = history.now();
    let (value, guarded) = match outcome(handle, history, read(&handle.client, name, mode)).await? {
        Ok((content, guarded)) => {
            let id = history.identify(&content);
            if id.is_none() {
                history
                    .violation(format!("{} bytes were returned that nobody wrote", content.len()));
            }
            (id, guarded)
        }
        Err(Error::NotFound(_)) => (None, false),
        Err(error) => {
            if matches!(error, Error::Lost(_) | Error::Unverified(_)) {
                history.violation(format!("a read says: {error}"));
            }
            history.note_error(&error);
            return None;
        }
    };
    let end = history.end(guarded);
    history.note(name, Operation { start, end, action: Action::Read(value) });
    Some(value)
}

/// What a name holds, all of it, and whether that was guarded.
///
/// # Errors
/// What the node says.
pub async fn read(client: &Client, name: &str, mode: Mode) -> Result<(Vec<u8>, bool), Error> {
    let file = client.find(&FilePath::parse(name)?, None, mode).await?;
    let download = client.read(&file, 0..u64::MAX).await?;
    let parts: Vec<Bytes> = download.content.try_collect().await?;
    Ok((parts.concat(), file.is_guarded()))
}

async fn list(handle: &Handle, history: &History, mode: Mode) {
    let listed =
        outcome(handle, history, handle.client.list("", Depth::Files, "", LISTED_MAX, mode)).await;
    match listed {
        Some(Ok(page)) => {
            let order: Vec<String> = page.entries.iter().map(dfs_server::Listed::order).collect();
            if !order.is_sorted_by(|a, b| a < b) {
                history.violation("a listing is out of order".to_owned());
            }
        }
        Some(Err(error)) => history.note_error(&error),
        None => {}
    }
}

/// Longer than any deadline inside a node: an operation that takes longer hangs.
const OPERATION_MAX: Duration = Duration::from_secs(120);
/// More names than a run has.
const LISTED_MAX: usize = 1000;
