//! Blobs of a store: written durably, checked on every read, set aside when bad.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use dfs_core::id::BlobId;
use dfs_env::{Bug, Env, bug};
use tokio::sync::OwnedMutexGuard;
use tracing::{error, warn};

use super::Store;
use crate::blob::{Blob, Header};
use crate::disk::chunks::{Chunks, FileFound, judged};
use crate::disk::meta::{MetaTx, Place, Removed};
use crate::disk::space::{Need, Purpose};
use crate::error::{ReadError, WriteError};

impl Store {
    /// Stores a blob. Durable on return; storing it again is cheap.
    ///
    /// # Errors
    /// [`WriteError`]; the blob does not count as stored then.
    pub async fn put_blob(&self, id: BlobId, bytes: Bytes) -> Result<(), WriteError> {
        let len = bytes.len();
        self.put(id, len, Purpose::Blob, move || Blob::checked(id, bytes)).await
    }

    /// Stores a blob that this node should hold already: it may use space that new blobs may not.
    ///
    /// # Errors
    /// As [`Store::put_blob`].
    pub async fn restore_blob(&self, blob: Blob) -> Result<(), WriteError> {
        self.put(blob.id, blob.bytes.len(), Purpose::Restored, move || Some(blob)).await
    }

    /// Whether there is room for blobs that this node should hold already.
    pub async fn has_room(&self) -> bool {
        self.admits(Need::any(Purpose::Restored)).await.unwrap_or(true)
    }

    /// `check` runs off the async threads, because it hashes, and only if the blob is not here.
    pub(super) async fn put(
        &self,
        id: BlobId,
        len: usize,
        purpose: Purpose,
        check: impl FnOnce() -> Option<Blob> + Send + 'static,
    ) -> Result<(), WriteError> {
        let inner = &self.0;
        if inner.index.has_failed() {
            return Err(WriteError::Closed);
        }
        let order = inner.rename_lock(&id).await;
        // Under the lock, because it may be collected at this moment.
        if self.has_blob(id).await.unwrap_or(false) {
            return Ok(());
        }
        if len <= inner.packed_max {
            return self.pack(id, len, purpose, check, order).await;
        }
        let len = u32::try_from(len).map_err(|_| WriteError::WrongId(id))?;
        let place = inner.writing.clone().acquire_owned().await.map_err(|_| WriteError::Closed)?;
        if bug(Bug::IndexBeforeFile) {
            self.add_blob(id, len).await?;
        }
        let (env, chunks) = (inner.env.clone(), inner.chunks.clone());
        let (space, refuses) = (inner.space.clone(), inner.refuses.clone());
        let write = move || {
            let _place = place;
            // Only now: what waited for its turn must not count on room that others used meanwhile.
            if !space.admits(&env, Need::file(purpose, u64::from(len)))? {
                return Err(WriteError::NoSpace);
            }
            let blob = check().filter(|blob| Header::parse(&blob.bytes).is_ok());
            let blob = blob.ok_or(WriteError::WrongId(id))?;
            // Repair must not push what users read often out of memory.
            let read_soon = purpose != Purpose::Restored;
            let written = chunks.write(&env, &id, &blob.bytes, read_soon);
            *refuses.lock() = written.as_ref().err().map(ToString::to_string);
            written?;
            Ok::<_, WriteError>(order)
        };
        let _order = inner.env.offload(write).await?;
        self.add_blob(id, len).await
    }

    /// Stores a blob in the index.
    async fn pack(
        &self,
        id: BlobId,
        len: usize,
        purpose: Purpose,
        check: impl FnOnce() -> Option<Blob>,
        order: OwnedMutexGuard<()>,
    ) -> Result<(), WriteError> {
        if !self.admits(Need::packed(purpose, len as u64)).await? {
            return Err(WriteError::NoSpace);
        }
        // Some microseconds.
        let blob = check().filter(|blob| Header::parse(&blob.bytes).is_ok());
        let blob = blob.ok_or(WriteError::WrongId(id))?;
        let space = self.0.space.clone();
        let add = move |tx: &mut MetaTx| {
            // Held until then, also when the caller is gone.
            let _order = order;
            if tx.add_packed(&id, &blob.bytes)? {
                space.add(len as u64);
            }
            Ok(())
        };
        self.0.index.commit(add).await
    }

    pub(super) async fn add_blob(&self, id: BlobId, len: u32) -> Result<(), WriteError> {
        let space = self.0.space.clone();
        let add = move |tx: &mut MetaTx| {
            if tx.add_blob(&id, len)? {
                space.add(u64::from(len));
            }
            Ok(())
        };
        self.0.index.commit(add).await
    }

    /// Reads a blob and checks every byte of it.
    ///
    /// # Errors
    /// [`ReadError`]; after `Corrupt` the blob is set aside and no longer held.
    pub async fn get_blob(&self, id: BlobId) -> Result<Blob, ReadError> {
        match self.find_blob(id, Chunks::read).await? {
            None => Err(ReadError::NotHeld(id)),
            Some(FileFound::Good(bytes)) => Ok(Blob { id, bytes: bytes.into() }),
            // It was collected or set aside after the index was asked.
            Some(FileFound::Bad) if !self.has_blob(id).await? => Err(ReadError::NotHeld(id)),
            Some(FileFound::Bad) => {
                self.set_bad_aside(id).await;
                Err(ReadError::Corrupt(id))
            }
        }
    }

    /// Reads a blob from where it lies, and checks every byte; `None` when it is not held.
    pub(super) async fn find_blob(
        &self,
        id: BlobId,
        read: fn(&Chunks, &Env, &BlobId) -> std::io::Result<FileFound>,
    ) -> Result<Option<FileFound>, ReadError> {
        match self.0.index.find(1, move |meta| meta.place_of(&id)).await? {
            Place::Nowhere => Ok(None),
            Place::File => self.read_file(id, read).await.map(Some),
            Place::Here(bytes) => Ok(Some(judged(&id, bytes))),
        }
    }

    pub(super) async fn set_bad_aside(&self, id: BlobId) {
        warn!(blob = ?id, "a blob failed its check and is set aside");
        self.0.corrupt.fetch_add(1, Ordering::Relaxed);
        if let Err(error) = self.quarantine(id).await {
            error!(blob = ?id, %error, "a bad blob could not be set aside");
        }
    }

    pub(super) async fn read_file(
        &self,
        id: BlobId,
        read: fn(&Chunks, &Env, &BlobId) -> std::io::Result<FileFound>,
    ) -> Result<FileFound, ReadError> {
        let read = self.with_files(move |env, chunks| read(chunks, env, &id));
        read.await.map_err(|error| ReadError::Io(id, error))
    }

    /// Runs work that reads files, when it is its turn.
    pub(super) async fn with_files<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Env, &Chunks) -> T + Send + 'static,
    ) -> T {
        let place = self.0.reading.clone().acquire_owned().await;
        let (env, chunks) = (self.0.env.clone(), self.0.chunks.clone());
        let read = move || {
            let _place = place;
            work(&env, &chunks)
        };
        self.0.env.offload(read).await
    }

    /// Returns the blobs that were set aside and not [asked for again](Store::asked_for): they are
    /// no longer held, and should be fetched. Includes those whose reader did not wait for the end.
    pub fn set_aside(&self) -> BTreeSet<BlobId> {
        self.0.set_aside.lock().clone()
    }

    /// Notes that someone else keeps in mind that these are missing. To be called after that is so:
    /// in between they count twice, and never not at all.
    pub fn asked_for(&self, ids: &BTreeSet<BlobId>) {
        self.0.set_aside.lock().retain(|id| !ids.contains(id));
    }

    /// Returns how many blobs [`Store::set_aside`] would return.
    pub fn set_aside_count(&self) -> u64 {
        self.0.set_aside.lock().len() as u64
    }

    /// Forgets a blob first, so that nothing relies on it, then sets the file aside, unless a good
    /// copy has arrived in between.
    async fn quarantine(&self, id: BlobId) -> Result<(), WriteError> {
        let order = self.0.rename_lock(&id).await;
        let (space, aside) = (self.0.space.clone(), self.0.set_aside.clone());
        let forget = move |tx: &mut MetaTx| {
            if bug(Bug::QuarantineKeepsIndex) {
                return Ok(false);
            }
            if tx.packed(&id)?.is_some_and(|bytes| judged(&id, bytes).is_good()) {
                // It has arrived anew since the bad one was read.
                return Ok(true);
            }
            let removed = tx.remove_blob(&id)?;
            if let Some(Removed { len, .. }) = removed {
                space.remove(u64::from(len));
                aside.lock().insert(id);
            }
            Ok(removed.is_some_and(|removed| removed.was_packed))
        };
        if self.0.index.commit(forget).await? {
            return Ok(());
        }
        let set_aside = move |env: &Env, chunks: &Chunks| {
            let good = match chunks.read(env, &id)? {
                FileFound::Good(bytes) => u32::try_from(bytes.len()).ok(),
                FileFound::Bad => chunks.quarantine(env, &id).map(|()| None)?,
            };
            Ok::<_, std::io::Error>((good, order))
        };
        let (good, _order) = self.with_files(set_aside).await.map_err(WriteError::from)?;
        match good {
            Some(len) => self.add_blob(id, len).await,
            None => Ok(()),
        }
    }

    /// Whether a blob is held durably. Its content is checked when it is read.
    ///
    /// # Errors
    /// [`ReadError`] when the index cannot be read.
    pub async fn has_blob(&self, id: BlobId) -> Result<bool, ReadError> {
        self.0.index.find(1, move |meta| meta.has_blob(&id)).await
    }

    /// For each id, whether it is held durably.
    ///
    /// # Errors
    /// [`ReadError`] when the index cannot be read.
    pub async fn has_blobs(&self, ids: Vec<BlobId>) -> Result<Vec<bool>, ReadError> {
        self.0
            .index
            .find(ids.len(), move |meta| ids.iter().map(|id| meta.has_blob(id)).collect())
            .await
    }
}
