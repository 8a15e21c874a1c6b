//! The content of files: cut and sealed on its way in, fetched and opened on its way out.

use std::sync::Arc;

use dfs_core::replica::pace::Pace;
use dfs_store::vault::keys::VaultKeys;
use parking_lot::Mutex;

use crate::blobs::Blobs;
use crate::replica::Replica;

mod ahead;
pub(crate) mod download;
pub(crate) mod upload;

pub(crate) use self::upload::{CHUNK_BYTES, Uploaded};

/// Stores and reads content with the keys of one vault.
pub(crate) struct Content {
    replica: Arc<Replica>,
    blobs: Arc<Blobs>,
    keys: Arc<VaultKeys>,
    /// How many chunks at once the line bears on their way in and out, whoever's they are.
    pace_in: Arc<Mutex<Pace>>,
    pace_out: Arc<Mutex<Pace>>,
}

impl Content {
    pub(crate) fn new(replica: Arc<Replica>, blobs: Arc<Blobs>, keys: Arc<VaultKeys>) -> Self {
        let pace = |most| Arc::new(Mutex::new(Pace::up_to(most)));
        let (pace_in, pace_out) = (pace(upload::WINDOW_CHUNKS), pace(download::WINDOW_CHUNKS));
        Self { replica, blobs, keys, pace_in, pace_out }
    }
}
