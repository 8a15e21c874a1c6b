//! Many files at once: a few workers, and a count of what went wrong.

use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;

use crate::exit::{Code, Failure};

/// Runs `work` for every item on a few threads. Failures are reported as they happen.
pub(super) fn for_each<T: Send>(
    items: Vec<T>,
    work: impl Fn(T) -> Result<(), Failure> + Sync,
) -> Result<(), Failure> {
    let count = items.len();
    let items = Mutex::new(items.into_iter());
    let failures = AtomicUsize::new(0);
    let worst = Mutex::new(None);
    std::thread::scope(|scope| {
        for _ in 0..WORKERS.min(count) {
            scope.spawn(|| {
                loop {
                    let item = items.lock().next();
                    let Some(item) = item else { return };
                    if let Err(failure) = work(item) {
                        failure.report();
                        failures.fetch_add(1, Ordering::Relaxed);
                        *worst.lock() = Some(failure.code);
                    }
                }
            });
        }
    });
    let worst: Option<Code> = worst.into_inner();
    match (failures.into_inner(), worst) {
        (0, _) => Ok(()),
        // Nothing was done: the reason is worth more than "partly".
        (failed, Some(code)) if failed == count => {
            Err(Failure::new(code, format!("none of {count} files was transferred")))
        }
        (failed, _) => Err(Failure::new(Code::Partly, format!("{failed} of {count} files failed"))),
    }
}

/// Files under way at once: enough to hide the waiting for a quorum.
pub(super) const WORKERS: usize = 8;
