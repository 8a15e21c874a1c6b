//! What peers may make this side hold: of each, and of all together.

use std::sync::atomic::{AtomicUsize, Ordering};

use crate::frame::FRAME_BYTES_MAX;
use crate::wire::proto::frame::Kind;

/// Bytes held for the calls of all peers of a node.
#[derive(Debug, Default)]
pub(crate) struct Budget(AtomicUsize);

impl Budget {
    /// Takes `bytes` if there is room for them.
    pub(crate) fn take(&self, bytes: usize) -> bool {
        let more = |held: usize| {
            let held = held.saturating_add(bytes);
            (held <= ALL_PEERS_BYTES_MAX).then_some(held)
        };
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok()
    }

    pub(crate) fn give_back(&self, bytes: usize) {
        self.0.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// Bytes held for calls of a peer, and for their answers until these have left.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Weight {
    /// Of requests and answers, without bodies.
    pub(crate) heads: usize,
    pub(crate) bodies: usize,
}

impl Weight {
    pub(crate) fn of(head: &Kind, body: usize) -> Self {
        Self { heads: head.encoded_len(), bodies: body }
    }

    pub(crate) fn plus(self, other: Self) -> Self {
        Self { heads: self.heads + other.heads, bodies: self.bodies + other.bodies }
    }

    pub(crate) fn minus(self, other: Self) -> Self {
        Self { heads: self.heads - other.heads, bodies: self.bodies - other.bodies }
    }

    /// What of it counts for what all peers may have. A little is free, so that others can be asked
    /// about the layout while some take all there is.
    pub(crate) fn counted(self) -> usize {
        self.bodies + self.heads.saturating_sub(HEADS_FREE_BYTES)
    }
}

/// Bytes one connection may make this side hold, for calls and their answers.
pub(crate) const PEER_BYTES_MAX: usize = 32 * 1024 * 1024;
/// The same for all connections together: eight busy peers, and a bound on any number of them.
pub(crate) const ALL_PEERS_BYTES_MAX: usize = 256 * 1024 * 1024;
/// Of these, what requests and answers without their bodies may have of every connection, whatever
/// the others have: one frame.
pub(crate) const HEADS_FREE_BYTES: usize = FRAME_BYTES_MAX;
