//! Bringing files and index together: a file that the index does not know is checked and adopted,
//! a blob whose file is gone is no longer held.
//!
//! A crash between a file and its index entry leaves the first; so does an index that was replaced
//! by an empty one. Only names are compared; what the index does not know is read and hashed. The
//! index is sorted by id and the files by directory, so they are compared one slice of the
//! directories at a time, in as many passes over the index as the bound on memory requires.

use std::ops::RangeInclusive;
use std::sync::atomic::Ordering;

use dfs_core::id::BlobId;
use dfs_env::Env;
use tokio::sync::OwnedMutexGuard;
use tracing::{error, warn};

use super::{Inner, Store};
use crate::disk::chunks::{Chunks, Listed, Vouched};
use crate::disk::meta::MetaTx;
use crate::error::{ReconcileError, WriteError};

/// What [`Store::reconcile`] did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Reconciled {
    /// Files the index did not know, which verified: held from now on.
    pub adopted: u64,
    /// Files that did not verify or do not belong where they lay: in quarantine now.
    pub set_aside: u64,
    /// Blobs whose file is gone: no longer held, and returned by [`Store::set_aside`].
    pub forgotten: u64,
    /// Files and directories left as they are: of a newer format, or not readable now.
    pub left: u64,
}

/// One comparison under way.
pub(super) struct Reconciler<'a> {
    store: &'a Store,
    done: Reconciled,
}

impl<'a> Reconciler<'a> {
    pub(super) fn new(store: &'a Store) -> Self {
        Self { store, done: Reconciled::default() }
    }

    /// Compares all files with all entries.
    pub(super) async fn run(mut self) -> Result<Reconciled, ReconcileError> {
        let inner = &self.store.0;
        self.count_rows().await;
        let count = inner.index.read(|meta| meta.count_blobs()).await?.count;
        let (env, chunks) = (inner.env.clone(), inner.chunks.clone());
        let tops = inner.env.offload(move || chunks.tops(&env)).await;
        let tops = tops.map_err(WriteError::from)?;
        for slice in slices(count) {
            self.reconcile_slice(slice, &tops).await?;
        }
        Ok(self.done)
    }

    /// What the rows take that there were when the store was opened. Where it cannot be told, for a
    /// page of the index is damaged, the guess stays that there was.
    async fn count_rows(&self) {
        let inner = &self.store.0;
        if let Ok(rows) = inner.index.count_rows_at_first().await {
            inner.space.set_rows_at_first(rows);
        }
    }

    async fn reconcile_slice(
        &mut self,
        slice: RangeInclusive<u8>,
        tops: &[u8],
    ) -> Result<(), ReconcileError> {
        let (chunks, inside) = (self.store.0.chunks.clone(), slice.clone());
        let known = move |id: &BlobId| inside.contains(&chunks.top(id));
        let known = self.store.0.index.read(move |meta| meta.files_where(known)).await?;
        let mut seen = vec![false; known.len()];
        for top in tops.iter().copied().filter(|top| slice.contains(top)) {
            let (env, chunks) = (self.store.0.env.clone(), self.store.0.chunks.clone());
            let Listed { ids, strays, failed } =
                self.store.0.env.offload(move || chunks.list_below(&env, top)).await;
            let mut unknown = Vec::new();
            for id in ids {
                match known.binary_search(&id) {
                    Ok(at) => seen[at] = true,
                    Err(_) => unknown.push(id),
                }
            }
            self.done.set_aside += strays;
            self.done.left += failed;
            for batch in unknown.chunks(ADOPTED_AT_ONCE) {
                self.adopt_all(batch).await?;
            }
        }
        let absent = known.into_iter().zip(seen).filter(|(_, seen)| !seen);
        let absent: Vec<BlobId> = absent.map(|(id, _)| id).collect();
        // In order of ids, so that those which share a lock follow each other.
        for group in absent.chunk_by(|a, b| Inner::lock_of(a) == Inner::lock_of(b)) {
            for batch in group.chunks(FORGOTTEN_AT_ONCE) {
                self.done.forgotten += self.forget_absent(batch).await?;
            }
        }
        Ok(())
    }

    /// Checks files that the index does not know. Those that verify are made durable, because the
    /// process that wrote them may have died before that, and are then held.
    pub(super) async fn adopt_all(&mut self, ids: &[BlobId]) -> Result<(), ReconcileError> {
        let order = self.rename_locks(ids).await;
        // One that is being stored was renamed before its entry was made.
        let held = self.store.has_blobs(ids.to_vec()).await?;
        let ids: Vec<_> =
            ids.iter().zip(held).filter(|(_, held)| !held).map(|(id, _)| *id).collect();
        if ids.is_empty() {
            return Ok(());
        }
        let check = move |env: &Env, chunks: &Chunks| {
            let check = |id| (id, chunks.vouch(env, &id));
            (ids.into_iter().map(check).collect::<Vec<_>>(), order)
        };
        let (checked, _order) = self.store.with_files(check).await;
        let mut good = Vec::new();
        for (id, vouched) in checked {
            match vouched {
                Ok(Vouched::Good(len)) => good.push((id, len)),
                Ok(Vouched::SetAside) => {
                    warn!(blob = ?id, "a file that the index does not know is bad and set aside");
                    self.store.0.corrupt.fetch_add(1, Ordering::Relaxed);
                    self.done.set_aside += 1;
                }
                Ok(Vouched::Newer) => self.done.left += 1,
                Ok(Vouched::Gone) => {}
                Err(error) => {
                    error!(blob = ?id, %error, "a file that the index does not know stays unread");
                    self.done.left += 1;
                }
            }
        }
        self.done.adopted += self.hold(good).await?;
        Ok(())
    }

    /// Enters durable files into the index. Returns how many are new.
    async fn hold(&self, blobs: Vec<(BlobId, u32)>) -> Result<u64, ReconcileError> {
        if blobs.is_empty() {
            return Ok(0);
        }
        let space = self.store.0.space.clone();
        let add = move |tx: &mut MetaTx| {
            let mut added = 0;
            for (id, len) in &blobs {
                if tx.add_blob(id, *len)? {
                    space.add(u64::from(*len));
                    added += 1;
                }
            }
            Ok(added)
        };
        Ok(self.store.0.index.commit(add).await?)
    }

    /// Forgets the blobs, all under one lock, whose file is really gone.
    async fn forget_absent(&self, ids: &[BlobId]) -> Result<u64, ReconcileError> {
        let order = self.rename_locks(ids).await;
        let (env, chunks, ids) =
            (self.store.0.env.clone(), self.store.0.chunks.clone(), ids.to_vec());
        let look = move || {
            let gone = ids.into_iter().filter(|id| chunks.is_gone(&env, id));
            (gone.collect::<Vec<_>>(), order)
        };
        let (gone, _order) = self.store.0.env.offload(look).await;
        let (space, aside) = (self.store.0.space.clone(), self.store.0.set_aside.clone());
        let forget = move |tx: &mut MetaTx| {
            let mut forgotten = 0;
            for id in gone {
                if let Some(removed) = tx.remove_blob(&id)? {
                    space.remove(u64::from(removed.len));
                    aside.lock().insert(id);
                    forgotten += 1;
                }
            }
            Ok(forgotten)
        };
        let forgotten: u64 = self.store.0.index.commit(forget).await?;
        if forgotten > 0 {
            warn!(blobs = forgotten, "files of blobs are gone; they are no longer held");
            self.store.0.corrupt.fetch_add(forgotten, Ordering::Relaxed);
        }
        Ok(forgotten)
    }

    /// Takes the locks of some blobs, always in the same order, so that there is no deadlock.
    async fn rename_locks(&self, ids: &[BlobId]) -> Vec<OwnedMutexGuard<()>> {
        let mut places: Vec<usize> = ids.iter().map(Inner::lock_of).collect();
        places.sort_unstable();
        places.dedup();
        let mut locks = Vec::with_capacity(places.len());
        for at in places {
            locks.push(self.store.0.renaming[at].clone().lock_owned().await);
        }
        locks
    }
}

/// Cuts the top directories into as many ranges as keep the ids of each few enough.
fn slices(blobs: u64) -> impl Iterator<Item = RangeInclusive<u8>> {
    let wanted = (blobs / IDS_IN_SLICE + 1).next_power_of_two().min(256);
    let width = 256 / usize::try_from(wanted).unwrap_or(256);
    let first = (0..=u8::MAX).step_by(width);
    first.map(move |first| first..=u8::try_from(usize::from(first) + width - 1).unwrap_or(u8::MAX))
}

/// Ids held in memory at once: 8 MiB. A million blobs, a TiB, are four passes over the index.
const IDS_IN_SLICE: u64 = 262_144;
/// Files checked under one set of locks: a writer of one of them waits for 16 MiB to be read.
const ADOPTED_AT_ONCE: usize = 16;
/// Blobs forgotten in one change.
const FORGOTTEN_AT_ONCE: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slices_cover_every_directory_once() {
        for blobs in [0, 1, IDS_IN_SLICE, 5 * IDS_IN_SLICE, u64::MAX / 2] {
            let all: Vec<u8> = slices(blobs).flatten().collect();
            assert_eq!(all, (0..=u8::MAX).collect::<Vec<_>>(), "{blobs} blobs");
        }
        assert_eq!(slices(1_000_000).count(), 4);
        assert_eq!(slices(u64::MAX / 2).count(), 256);
    }
}
