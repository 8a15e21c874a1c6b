//! The content of files: cut and sealed on its way in, fetched and opened on its way out.

use std::sync::Arc;

use dfs_store::vault::keys::VaultKeys;

use crate::blobs::Blobs;
use crate::replica::Replica;

pub(crate) mod download;
pub(crate) mod upload;

pub(crate) use self::upload::{CHUNK_BYTES, Uploaded};

/// Stores and reads content with the keys of one vault.
pub(crate) struct Content {
    replica: Arc<Replica>,
    blobs: Arc<Blobs>,
    keys: Arc<VaultKeys>,
}

impl Content {
    pub(crate) fn new(replica: Arc<Replica>, blobs: Arc<Blobs>, keys: Arc<VaultKeys>) -> Self {
        Self { replica, blobs, keys }
    }
}
