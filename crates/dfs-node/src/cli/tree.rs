//! Many files at once: a few workers, and a count of what went wrong.

use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;

use crate::exit::{Code, Failure};
use crate::limits;

/// What became of many items.
pub(super) struct Outcome {
    pub(super) done: usize,
    pub(super) failed: usize,
    /// As what the whole counts.
    pub(super) result: Result<(), Failure>,
}

/// Runs `work` for every item on a few threads. Failures are reported as they happen.
pub(super) fn for_each<T: Send>(
    items: impl Iterator<Item = T> + Send,
    work: impl Fn(T) -> Result<(), Failure> + Sync,
) -> Outcome {
    let items = Mutex::new(items);
    let (done, failures) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let worst = Mutex::new(None);
    std::thread::scope(|scope| {
        for _ in 0..limits::transfers_max(WORKERS) {
            scope.spawn(|| {
                loop {
                    let item = items.lock().next();
                    let Some(item) = item else { return };
                    match work(item) {
                        Ok(()) => {
                            done.fetch_add(1, Ordering::Relaxed);
                        }
                        Err(failure) => {
                            failure.report();
                            failures.fetch_add(1, Ordering::Relaxed);
                            *worst.lock() = Some(failure.code);
                        }
                    }
                }
            });
        }
    });
    let worst: Option<Code> = worst.into_inner();
    let (done, failed) = (done.into_inner(), failures.into_inner());
    let count = done + failed;
    let result = match worst {
        None => Ok(()),
        // Nothing was done: the reason is worth more than "partly".
        Some(code) if done == 0 => {
            Err(Failure::new(code, format!("none of {count} files was transferred")))
        }
        Some(_) => Err(Failure::new(Code::Partly, format!("{failed} of {count} files failed"))),
    };
    Outcome { done, failed, result }
}

/// Files under way at once: enough to hide the waiting for a quorum.
pub(super) const WORKERS: usize = 8;
