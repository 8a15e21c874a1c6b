//! Blobs that users wait for: scrub and repair give way to them.

use std::sync::atomic::{AtomicUsize, Ordering};

/// How many blobs are being stored or fetched for someone who waits.
///
/// Rows do not count: nodes compare them all the time, and a reader of one asks little of the disk.
#[derive(Debug, Default)]
pub(crate) struct Load(AtomicUsize);

/// One such blob, until it is dropped.
pub(crate) struct Waited<'a>(&'a AtomicUsize);

impl Load {
    /// Counts one until the returned guard is dropped.
    pub(crate) fn begin(&self) -> Waited<'_> {
        self.0.fetch_add(1, Ordering::Relaxed);
        Waited(&self.0)
    }

    pub(crate) fn is_busy(&self) -> bool {
        self.0.load(Ordering::Relaxed) > 0
    }
}

impl Drop for Waited<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
