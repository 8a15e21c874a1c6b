//! How much the connections of one node carry together.

use std::sync::atomic::{AtomicU64, Ordering};

/// What went and came, over all connections.
#[derive(Debug, Default)]
pub(crate) struct Traffic {
    delivered: AtomicU64,
    received: AtomicU64,
}

impl Traffic {
    /// Notes bytes that a peer is known to have got.
    pub(crate) fn went(&self, bytes: u64) {
        self.delivered.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Notes bytes that came.
    pub(crate) fn came(&self, bytes: u64) {
        self.received.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Bytes that peers are known to have got.
    pub(crate) fn delivered(&self) -> u64 {
        self.delivered.load(Ordering::Relaxed)
    }

    /// Bytes that came from peers.
    pub(crate) fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }
}
