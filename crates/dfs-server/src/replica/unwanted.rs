//! Blobs on this disk that no row here needs, and since when.

use dfs_core::id::BlobId;
use dfs_core::replica::marks::Marks;
use parking_lot::Mutex;
use tokio::time::Instant;

/// The marks of blobs that no row needs.
#[derive(Debug)]
pub(crate) struct Unwanted(Mutex<Marks<BlobId, Instant>>);

impl Default for Unwanted {
    fn default() -> Self {
        Self(Mutex::new(Marks::new(MARKS_MAX)))
    }
}

impl Unwanted {
    /// Whether no row needs the blob, as far as was looked.
    pub(crate) fn is_marked(&self, id: &BlobId) -> bool {
        self.0.lock().get(id).is_some()
    }

    /// Someone stores the blob anew, or is about to note a use: it counts as needed again.
    pub(crate) fn spare(&self, id: &BlobId) {
        self.0.lock().clear(id);
    }

    /// Returns since when no row needs the blob: `now`, if one did till now. `None` when there is
    /// no room to remember.
    pub(crate) fn note(&self, id: BlobId, now: Instant) -> Option<Instant> {
        self.0.lock().note(id, now)
    }

    /// Whether no row has needed the blob since.
    pub(crate) fn is_since(&self, id: &BlobId, since: Instant) -> bool {
        self.0.lock().get(id) == Some(&since)
    }

    /// Forgets what was needed in the round that ends.
    pub(crate) fn end_round(&self) {
        self.0.lock().end_round();
    }
}

/// Blobs remembered from round to round: 8 MiB of memory, 64 GiB of disk. Those beyond have their
/// turn when these are gone.
const MARKS_MAX: usize = 65_536;
