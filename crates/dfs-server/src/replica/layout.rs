//! The newest layout on this node's disk.

use std::sync::Arc;

use dfs_core::layout::epoch::{EpochCert, EpochState};
use parking_lot::Mutex;
use tokio::time::Instant;

/// The newest layout, if there is one. Only [`crate::chain`] replaces it.
pub(crate) struct Layout(Mutex<Option<Newest>>);

/// A layout, its proof, and since when it is in force here.
#[derive(Clone)]
pub(crate) struct Newest {
    pub(crate) state: Arc<EpochState>,
    pub(crate) cert: Arc<EpochCert>,
    pub(crate) since: Instant,
}

impl Layout {
    pub(crate) fn new(known: Option<(EpochState, EpochCert)>, now: Instant) -> Self {
        let newest = known.map(|(state, cert)| Newest {
            state: Arc::new(state),
            cert: Arc::new(cert),
            since: now,
        });
        Self(Mutex::new(newest))
    }

    /// The newest layout with its proof.
    pub(crate) fn newest(&self) -> Option<Newest> {
        self.0.lock().clone()
    }

    /// The newest layout, if any.
    pub(crate) fn current(&self) -> Option<Arc<EpochState>> {
        self.0.lock().as_ref().map(|newest| newest.state.clone())
    }

    /// Its number; 0 for none.
    pub(crate) fn epoch(&self) -> u64 {
        self.0.lock().as_ref().map_or(0, |newest| newest.state.epoch)
    }

    /// Puts a layout in force.
    pub(crate) fn set(&self, newest: Newest) {
        *self.0.lock() = Some(newest);
    }
}
