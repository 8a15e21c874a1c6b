//! Which blobs are being fetched just now, and for whom: over a slow line none should come twice.

use std::collections::{BTreeMap, BTreeSet};

use dfs_core::id::BlobId;
use parking_lot::Mutex;
use tokio::sync::Notify;

/// Blobs on their way here.
#[derive(Debug, Default)]
pub(super) struct Fetching {
    /// For users, and for how many of them.
    wanted: Mutex<BTreeMap<BlobId, usize>>,
    /// For this disk.
    repaired: Mutex<BTreeSet<BlobId>>,
    /// One of the latter has ended.
    ended: Notify,
}

impl Fetching {
    /// Notes that a user waits for a blob, until the guard is dropped.
    pub(super) fn want(&self, id: BlobId) -> Wanted<'_> {
        *self.wanted.lock().entry(id).or_default() += 1;
        Wanted { of: self, id }
    }

    /// Notes that a blob is fetched for this disk, until the guard is dropped; `None` when a user
    /// waits for it: what comes is kept.
    pub(super) fn repair(&self, id: BlobId) -> Option<Repaired<'_>> {
        let is_wanted = self.wanted.lock().contains_key(&id);
        (!is_wanted && self.repaired.lock().insert(id)).then_some(Repaired { of: self, id })
    }

    pub(super) fn is_repaired(&self, id: &BlobId) -> bool {
        self.repaired.lock().contains(id)
    }

    /// Waits until some blob is no longer being fetched for this disk.
    pub(super) async fn one_ended(&self) {
        self.ended.notified().await;
    }
}

/// See [`Fetching::want`].
pub(super) struct Wanted<'a> {
    of: &'a Fetching,
    id: BlobId,
}

impl Drop for Wanted<'_> {
    fn drop(&mut self) {
        let mut wanted = self.of.wanted.lock();
        if let Some(count) = wanted.get_mut(&self.id) {
            *count -= 1;
            if *count == 0 {
                wanted.remove(&self.id);
            }
        }
    }
}

/// See [`Fetching::repair`].
pub(super) struct Repaired<'a> {
    of: &'a Fetching,
    id: BlobId,
}

impl Drop for Repaired<'_> {
    fn drop(&mut self) {
        self.of.repaired.lock().remove(&self.id);
        self.of.ended.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_user_waits_for_is_not_repaired_and_the_other_way_round_it_is_known() {
        let (fetching, id) = (Fetching::default(), BlobId::new([1; 32]));
        let (one, other) = (fetching.want(id), fetching.want(id));
        drop(one);
        assert!(fetching.repair(id).is_none());
        drop(other);
        let repaired = fetching.repair(id);
        assert!(repaired.is_some() && fetching.is_repaired(&id));
        assert!(fetching.repair(id).is_none(), "once is enough");
        drop(repaired);
        assert!(!fetching.is_repaired(&id) && fetching.repair(id).is_some());
    }
}
