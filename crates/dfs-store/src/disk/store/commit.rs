//! Group commit: whoever waits shares one transaction, and is answered when it is durable.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use dfs_env::Env;
use tokio::sync::{mpsc, oneshot};
use tracing::error;

use super::Store;
use crate::disk::meta::{Meta, MetaResult, MetaTx, SharedError};
use crate::error::WriteError;

pub(super) type Completion = Box<dyn FnOnce(Result<(), SharedError>) + Send>;
/// A change that waits for its commit.
pub(super) type Job = Box<dyn FnOnce(&mut MetaTx) -> MetaResult<Completion> + Send>;

impl Store {
    /// Runs a change in the next transaction. Durable on return.
    pub(crate) async fn commit<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut MetaTx) -> MetaResult<T> + Send + 'static,
    ) -> Result<T, WriteError> {
        let (answer, answered) = oneshot::channel();
        let job: Job = Box::new(move |tx| {
            let value = work(tx)?;
            let complete = move |result: Result<(), SharedError>| {
                // Whoever asked may have gone; the change is made all the same.
                let _ = answer.send(result.map(|()| value));
            };
            Ok(Box::new(complete) as Completion)
        });
        let jobs = self.0.jobs.lock().clone();
        let jobs = jobs.ok_or(WriteError::Closed)?;
        jobs.send(job).await.map_err(|_| WriteError::Closed)?;
        drop(jobs);
        answered.await.map_err(|_| WriteError::Closed)?.map_err(WriteError::Failed)
    }
}

/// Runs what waits, one transaction at a time, until the store is closed or the disk fails.
pub(super) async fn commit_all(
    env: Env,
    meta: Arc<Meta>,
    failed: Arc<AtomicBool>,
    mut waiting: mpsc::Receiver<Job>,
) {
    // However this ends, short of being closed, nothing more becomes durable.
    let mut failing = FailOnDrop(Some(failed));
    let mut batch = Vec::new();
    while waiting.recv_many(&mut batch, JOBS_IN_BATCH_MAX).await > 0 {
        let (meta, jobs) = (meta.clone(), std::mem::take(&mut batch));
        let (completions, result) = env.offload(move || commit_batch(&meta, jobs)).await;
        let result = result.map_err(Arc::new);
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

/// Notes a failure unless it is disarmed: a committer that panics must not look healthy.
struct FailOnDrop(Option<Arc<AtomicBool>>);

impl Drop for FailOnDrop {
    fn drop(&mut self) {
        if let Some(failed) = &self.0 {
            failed.store(true, Ordering::Relaxed);
        }
    }
}

fn commit_batch(meta: &Meta, jobs: Vec<Job>) -> (Vec<Completion>, MetaResult<()>) {
    let mut completions = Vec::with_capacity(jobs.len());
    let result = meta.write(|tx| {
        for job in jobs {
            completions.push(job(tx)?);
        }
        Ok(())
    });
    (completions, result)
}

/// Changes in one commit: enough to share its cost, few enough to answer soon.
const JOBS_IN_BATCH_MAX: usize = 256;
