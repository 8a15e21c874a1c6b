//! The index at work: reads beside each other, changes in group commits.
//!
//! All changes that wait share one transaction, and are answered when it is durable.

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, OnceLock};

use dfs_core::replica::dir_changes::DirChanges;
use dfs_env::{Brief, Env, Task};
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::{mpsc, oneshot};
use tracing::error;

use crate::disk::meta::{Meta, MetaReader, MetaResult, MetaTx, SharedError, guarded};
use crate::error::{ReadError, ReconcileError, WriteError};

/// An index, and the task that commits what changes in it.
#[derive(Debug)]
pub(crate) struct Index {
    env: Env,
    meta: Arc<Meta>,
    failed: Arc<AtomicBool>,
    /// What the disk said then.
    why: Arc<OnceLock<String>>,
    /// What is listed otherwise than before, noted before whoever changed it hears so.
    changes: Arc<Mutex<DirChanges>>,
    /// Bytes by which records and reference rows have grown since this was opened.
    grown: Arc<AtomicI64>,
    /// Gone once the index is closed.
    jobs: Mutex<Option<mpsc::Sender<Job>>>,
    committer: tokio::sync::Mutex<Option<Task<()>>>,
    /// How long it takes to find a few rows.
    finding: Arc<Brief>,
}

impl Index {
    /// Starts the committer. `grown` counts the bytes by which records and reference rows grow.
    pub(crate) fn start(env: Env, meta: Meta, grown: Arc<AtomicI64>) -> Self {
        let (meta, failed) = (Arc::new(meta), Arc::new(AtomicBool::new(false)));
        let why = Arc::new(OnceLock::new());
        let changes = Arc::new(Mutex::new(DirChanges::new(env.random_u64())));
        let (jobs, waiting) = mpsc::channel(JOBS_WAITING_MAX);
        let commit = Committer {
            env: env.clone(),
            meta: meta.clone(),
            failed: failed.clone(),
            why: why.clone(),
            changes: changes.clone(),
            grown: grown.clone(),
        };
        let committer = env.spawn("committer", commit.run(waiting));
        let committer = tokio::sync::Mutex::new(Some(committer));
        let (jobs, finding) = (Mutex::new(Some(jobs)), Arc::default());
        Self { env, meta, failed, why, changes, grown, jobs, committer, finding }
    }

    /// The newest changes of what is listed.
    pub(crate) fn changes(&self) -> MutexGuard<'_, DirChanges> {
        self.changes.lock()
    }

    /// Counts the bytes of records and reference rows that there were when this was opened. Reads
    /// all of them; changes go on meanwhile.
    pub(crate) async fn count_rows_at_first(&self) -> Result<i64, ReconcileError> {
        let (meta, grown) = (self.meta.clone(), self.grown.clone());
        // Between two commits, so that what is read and what has grown belong together.
        let snapshot = move |_: &mut MetaTx| Ok((meta.reader()?, grown.load(Ordering::Relaxed)));
        let (reader, grown) = self.commit(snapshot).await?;
        let count = move || guarded(|| reader.count_row_bytes());
        let bytes = self.env.offload(count).await.map_err(|error| self.read_failed(error))?;
        Ok(bytes - grown)
    }

    /// Refuses further changes and waits for those under way.
    pub(crate) async fn close(&self) {
        drop(self.jobs.lock().take());
        if let Some(committer) = self.committer.lock().await.take() {
            let _ = committer.await;
        }
    }

    /// Whether a failed disk made this refuse changes.
    pub(crate) fn has_failed(&self) -> bool {
        self.failed.load(Ordering::Relaxed)
    }

    /// What the disk said when it made this refuse changes, if it did.
    pub(crate) fn failure(&self) -> Option<String> {
        let unknown = || "its index ended".to_owned();
        self.has_failed().then(|| self.why.get().cloned().unwrap_or_else(unknown))
    }

    /// How many rows were found not to decode since this was opened.
    pub(crate) fn damaged_rows(&self) -> u64 {
        self.meta.damaged_rows()
    }

    /// Reads from a snapshot.
    pub(crate) async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&MetaReader) -> MetaResult<T> + Send + 'static,
    ) -> Result<T, ReadError> {
        let meta = self.meta.clone();
        let read = move || guarded(|| work(&meta.reader()?));
        self.env.offload(read).await.map_err(|error| self.read_failed(error))
    }

    /// An index that met an error of the disk answers nothing more until it is opened again, also
    /// where it was only read: whoever asks must hear so, and not only who writes next.
    fn read_failed(&self, error: redb::Error) -> ReadError {
        let is_shut = matches!(error, redb::Error::Io(_) | redb::Error::PreviousIo);
        if is_shut && !self.failed.swap(true, Ordering::Relaxed) {
            error!(%error, "the index could not be read; nothing more is accepted");
            let _ = self.why.set(error.to_string());
        }
        ReadError::Index(Arc::new(error))
    }

    /// The same for so many rows whose places are known. A few are in memory as a rule.
    pub(crate) async fn find<T: Send + 'static>(
        &self,
        rows: usize,
        work: impl FnOnce(&MetaReader) -> MetaResult<T> + Send + 'static,
    ) -> Result<T, ReadError> {
        if rows > FEW_ROWS {
            return self.read(work).await;
        }
        let meta = self.meta.clone();
        let read = move || guarded(|| work(&meta.reader()?));
        let found = self.env.offload_unless_brief(&self.finding, read).await;
        found.map_err(|error| self.read_failed(error))
    }

    /// Runs a change in the next transaction. Durable on return.
    pub(crate) async fn commit<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut MetaTx) -> MetaResult<T> + Send + 'static,
    ) -> Result<T, WriteError> {
        let (answer, answered) = oneshot::channel();
        let job: Job = Box::new(move |tx| {
            let value = work(tx)?;
            let complete = move |result: Result<(), SharedError>| {
                // The caller may have gone; the change is made all the same.
                let _ = answer.send(result.map(|()| value));
            };
            Ok(Box::new(complete) as Completion)
        });
        let jobs = self.jobs.lock().clone().ok_or(WriteError::Closed)?;
        jobs.send(job).await.map_err(|_| WriteError::Closed)?;
        drop(jobs);
        answered.await.map_err(|_| WriteError::Closed)?.map_err(WriteError::Failed)
    }
}

/// Tells a caller how its change ended.
type Completion = Box<dyn FnOnce(Result<(), SharedError>) + Send>;
/// A change that waits for its commit.
type Job = Box<dyn FnOnce(&mut MetaTx) -> MetaResult<Completion> + Send>;

/// Rows that are found where they are asked for: at their largest a millisecond of work.
const FEW_ROWS: usize = 16;

/// Makes changes durable.
struct Committer {
    env: Env,
    meta: Arc<Meta>,
    failed: Arc<AtomicBool>,
    why: Arc<OnceLock<String>>,
    changes: Arc<Mutex<DirChanges>>,
    grown: Arc<AtomicI64>,
}

impl Committer {
    /// Runs what waits, one transaction at a time, until the store is closed or the disk fails.
    async fn run(self, mut waiting: mpsc::Receiver<Job>) {
        // However this ends, short of being closed, nothing more becomes durable.
        let mut failing = FailOnDrop(Some(self.failed));
        let mut batch = Vec::new();
        while waiting.recv_many(&mut batch, JOBS_IN_BATCH_MAX).await > 0 {
            let (meta, jobs) = (self.meta.clone(), std::mem::take(&mut batch));
            let (changes, grown) = (self.changes.clone(), self.grown.clone());
            let commit = move || commit_batch(&meta, jobs, &changes, &grown);
            let (completions, result) = self.env.offload(commit).await;
            let result = result.map_err(Arc::new);
            if let Err(error) = &result {
                let _ = self.why.set(error.to_string());
            }
            for complete in completions {
                complete(result.clone());
            }
            if let Err(error) = result {
                error!(%error, "the index could not be made durable; nothing more is accepted");
                return;
            }
        }
        failing.0 = None;
    }
}

/// Notes a failure unless it is disarmed: a committer that panics must not look healthy.
struct FailOnDrop(Option<Arc<AtomicBool>>);

impl Drop for FailOnDrop {
    fn drop(&mut self) {
        if let Some(failed) = &self.0 {
            failed.store(true, Ordering::Relaxed);
        }
    }
}

fn commit_batch(
    meta: &Meta,
    jobs: Vec<Job>,
    changes: &Mutex<DirChanges>,
    grown: &AtomicI64,
) -> (Vec<Completion>, MetaResult<()>) {
    let mut completions = Vec::with_capacity(jobs.len());
    let changed = meta.write(|tx| {
        for job in jobs {
            completions.push(job(tx)?);
        }
        Ok(tx.take_changes())
    });
    let noted = changed.map(|(relisted, bytes)| {
        grown.fetch_add(bytes, Ordering::Relaxed);
        let mut changes = changes.lock();
        relisted.iter().for_each(|key| changes.note((key.vault, key.dir), key.tag));
    });
    (completions, noted)
}

/// Changes in one commit: enough to share its cost, few enough to answer soon.
const JOBS_IN_BATCH_MAX: usize = 256;
/// Changes that wait for a commit; beyond it callers wait to be taken in.
const JOBS_WAITING_MAX: usize = 1024;
