//! Ends uses of blobs, and frees the space of unused blobs.

use dfs_core::id::BlobId;
use dfs_core::record::refs::{RefRow, Use};
use tracing::warn;

use super::Store;
use crate::disk::meta::{MetaTx, Removed};
use crate::error::{ReadError, WriteError};

/// A page of blobs that was looked through.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Unused {
    /// Those without a use that counts.
    pub ids: Vec<BlobId>,
    /// The last that was looked at; `None` at the end.
    pub last: Option<BlobId>,
}

impl Store {
    /// Marks uses as ended whose rows are still these. Durable on return. Returns how many were.
    ///
    /// # Errors
    /// [`WriteError`] when the index could not be written.
    pub async fn drop_refs(&self, rows: Vec<RefRow>) -> Result<usize, WriteError> {
        let work = move |tx: &mut MetaTx| {
            let mut dropped = 0;
            for row in &rows {
                dropped += usize::from(tx.drop_ref(row)?);
            }
            Ok(dropped)
        };
        self.0.index.commit(work).await
    }

    /// Returns for each use whether no row of it is here or it has ended.
    ///
    /// # Errors
    /// [`ReadError`] when the index cannot be read.
    pub async fn are_dropped(&self, uses: Vec<Use>) -> Result<Vec<bool>, ReadError> {
        self.0.index.read(move |meta| uses.iter().map(|of| meta.is_dropped(of)).collect()).await
    }

    /// Returns for each use whether a row of it is here, ended or not.
    ///
    /// # Errors
    /// [`ReadError`] when the index cannot be read.
    pub async fn are_known(&self, uses: Vec<Use>) -> Result<Vec<bool>, ReadError> {
        self.0.index.read(move |meta| uses.iter().map(|of| meta.is_known(of)).collect()).await
    }

    /// Forgets uses that have ended here. Durable on return. Returns for each whether it is
    /// gone.
    ///
    /// # Errors
    /// [`WriteError`] when the index could not be written.
    pub async fn forget_dropped(&self, uses: Vec<Use>) -> Result<Vec<bool>, WriteError> {
        let work = move |tx: &mut MetaTx| {
            uses.iter().map(|of| tx.forget_dropped(of)).collect::<Result<_, _>>()
        };
        self.0.index.commit(work).await
    }

    /// Returns for each blob whether a use of it counts here.
    ///
    /// # Errors
    /// [`ReadError`] when the index cannot be read.
    pub async fn are_used(&self, ids: Vec<BlobId>) -> Result<Vec<bool>, ReadError> {
        self.0.index.read(move |meta| ids.iter().map(|id| meta.is_used(id)).collect()).await
    }

    /// Looks through `limit` blobs held, after one, for those without a use that counts.
    ///
    /// # Errors
    /// [`ReadError`] when the index cannot be read.
    pub async fn unused(&self, after: Option<BlobId>, limit: usize) -> Result<Unused, ReadError> {
        let (ids, last) = self.0.index.read(move |meta| meta.unused_after(after, limit)).await?;
        Ok(Unused { ids, last })
    }

    /// Removes a blob unless a use of it counts. Returns the bytes it had; `None` when it stays or
    /// was not held. `still` is called while the blob cannot be stored.
    ///
    /// The index forgets it first, in one transaction with the last look at its uses: a caller that
    /// was told that the blob is held had noted a use before. A file that is left behind by a crash
    /// after that is adopted by [`Store::reconcile`], and collected again.
    ///
    /// # Errors
    /// [`WriteError`] when the index could not be written.
    pub async fn collect(
        &self,
        id: BlobId,
        still: impl FnOnce() -> bool + Send,
    ) -> Result<Option<u64>, WriteError> {
        let order = self.0.rename_lock(&id).await;
        if !still() {
            return Ok(None);
        }
        let space = self.0.space.clone();
        let forget = move |tx: &mut MetaTx| {
            if tx.is_used(&id)? {
                return Ok(None);
            }
            let removed = tx.remove_blob(&id)?;
            removed.iter().for_each(|removed| space.remove(u64::from(removed.len)));
            Ok(removed)
        };
        let Some(removed) = self.0.index.commit(forget).await? else { return Ok(None) };
        let Removed { len, was_packed } = removed;
        if was_packed {
            return Ok(Some(u64::from(len)));
        }
        let (env, chunks) = (self.0.env.clone(), self.0.chunks.clone());
        let unlink = move || {
            let _order = order;
            chunks.remove(&env, &id)
        };
        if let Err(error) = self.0.env.offload(unlink).await {
            warn!(blob = ?id, %error, "the file of a collected blob stays until the next start");
        }
        Ok(Some(u64::from(len)))
    }
}
