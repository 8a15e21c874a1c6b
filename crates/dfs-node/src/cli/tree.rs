//! Many files at once: a few workers, and a count of what went wrong.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

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

/// Runs `work` for every item on a few threads, or on as many as were asked for; it says how many
/// files that was. Failures are reported as they happen; when the node is gone for good, what is
/// left is not tried.
pub(super) fn for_each<T: Send>(
    items: impl Iterator<Item = T> + Send,
    jobs: Option<u8>,
    work: impl Fn(T) -> Result<usize, Failure> + Sync,
) -> Outcome {
    let items = Mutex::new(items);
    let (done, failures) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let worst = Mutex::new(None);
    let is_node_gone = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..limits::transfers_max(jobs.map_or(WORKERS, usize::from)) {
            scope.spawn(|| {
                loop {
                    if is_node_gone.load(Ordering::Relaxed) {
                        return;
                    }
                    let item = items.lock().next();
                    let Some(item) = item else { return };
                    match work(item) {
                        Ok(files) => {
                            done.fetch_add(files, Ordering::Relaxed);
                        }
                        Err(failure) => {
                            failure.report();
                            failures.fetch_add(1, Ordering::Relaxed);
                            if failure.code == Code::NoNode {
                                is_node_gone.store(true, Ordering::Relaxed);
                            }
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
    let rest = if is_node_gone.into_inner() { ", and the rest was not tried" } else { "" };
    let result = match worst {
        None => Ok(()),
        // Nothing was done: the reason is worth more than "partly".
        Some(code) if done == 0 => {
            Err(Failure::new(code, format!("none of {count} files was transferred{rest}")))
        }
        Some(_) => {
            Err(Failure::new(Code::Partly, format!("{failed} of {count} files failed{rest}")))
        }
    };
    Outcome { done, failed, result }
}

/// As many as may be asked for.
pub(super) const WORKERS_MAX: usize = 64;
/// Files under way at once: enough to hide the waiting for a quorum.
pub(super) const WORKERS: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(code: Code, tried_max: usize, expected: &str) {
        let work = |item| match item {
            0 => Ok(1),
            _ => Err(Failure::new(code, "no")),
        };
        let outcome = for_each(0..1000, None, work);
        assert_eq!(outcome.done, 1);
        assert!(outcome.failed <= tried_max, "{}", outcome.failed);
        let failure = outcome.result.unwrap_err();
        assert_eq!(failure.code, Code::Partly);
        assert!(failure.message.ends_with(expected), "{}", failure.message);
    }

    #[test]
    fn one_failure_does_not_stop_the_others_but_a_node_that_is_gone_does() {
        check(Code::Failed, 999, "999 of 1000 files failed");
        check(Code::NoNode, WORKERS, "the rest was not tried");
    }
}
