//! Names: paths to records and back, what a version says and keeps, who writes it and when.

use std::sync::Arc;

use dfs_core::id::Vid;
use dfs_store::vault::keys::VaultKeys;

use crate::blobs::Blobs;
use crate::content::Content;
use crate::records::Records;
use crate::replica::Replica;

mod actors;
pub(crate) mod conditional;
pub(crate) mod history;
pub(crate) mod listings;
pub(crate) mod open;
pub(crate) mod parts;
pub(crate) mod paths;
mod refresh;
pub(crate) mod writer;

use self::listings::Listings;
use self::paths::DirCache;
use self::writer::Writer;

/// The names of one vault.
pub(crate) struct Names {
    pub(crate) replica: Arc<Replica>,
    pub(crate) records: Arc<Records>,
    pub(crate) content: Arc<Content>,
    pub(crate) keys: Arc<VaultKeys>,
    writer: Writer,
    dirs: DirCache,
    pub(crate) listings: Listings,
}

impl Names {
    pub(crate) fn new(records: Arc<Records>, blobs: Arc<Blobs>, writer: Writer) -> Self {
        let (replica, keys) = (writer.replica.clone(), writer.keys.clone());
        let content = Arc::new(Content::new(replica.clone(), blobs, keys.clone()));
        let listings = Listings::new(records.clone(), keys.clone());
        let dirs = DirCache::default();
        Self { replica, records, content, keys, writer, dirs, listings }
    }

    /// A new version's id.
    pub(crate) fn new_vid(&self) -> Vid {
        Vid::new(self.replica.env.random())
    }
}
