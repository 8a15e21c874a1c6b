//! The newest versions that a gateway has seen of names, kept in a file over a restart: what it
//! holds against a replica that lies while every gateway that holds the name is away.
//!
//! The file is a hint. It is written every few minutes and at the end: what a crash loses, or a
//! disk, this node has not seen.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use dfs_env::write_replacing;
use parking_lot::Mutex;
use tracing::{debug, warn};

use super::Records;
use super::seen::SEEN_BYTES_MAX;

/// Keeps what was seen of names.
pub(crate) struct Remembering {
    records: Arc<Records>,
    file: PathBuf,
    /// The hash of what is in the file.
    kept: Mutex<Option<[u8; 32]>>,
}

impl Remembering {
    /// With what an earlier start of this node has kept in `file`, if there is any.
    pub(crate) async fn open(records: Arc<Records>, file: PathBuf) -> Self {
        let (env, path) = (records.replica.env.clone(), file.clone());
        let read = move || env.fs().read(&path, SEEN_BYTES_MAX).ok();
        if let Some(bytes) = records.replica.env.offload(read).await {
            let names = records.seen.take_in(bytes.into());
            debug!(?names, "what was seen of names before the start");
        }
        Self { records, file, kept: Mutex::default() }
    }

    /// Keeps it every now and then until shutdown.
    pub(crate) async fn run(self: Arc<Self>) {
        let replica = self.records.replica.clone();
        loop {
            tokio::select! {
                biased;
                () = replica.shutdown.cancelled() => return,
                () = replica.env.sleep(KEEP_EVERY) => {}
            }
            self.keep().await;
        }
    }

    /// Keeps what was seen so far, if there is anything new.
    pub(crate) async fn keep(&self) {
        let env = self.records.replica.env.clone();
        let (records, path, kept) = (self.records.clone(), self.file.clone(), *self.kept.lock());
        let write = move || {
            let bytes = records.seen.to_bytes();
            let hash = *blake3::hash(&bytes).as_bytes();
            if kept == Some(hash) {
                return Ok(hash);
            }
            write_replacing(records.replica.env.fs(), &path, &bytes).map(|()| hash)
        };
        match env.offload(write).await {
            Ok(hash) => *self.kept.lock() = Some(hash),
            Err(error) => warn!(%error, "what was seen of names could not be kept"),
        }
    }
}

/// How often it is written: at most 8 MiB, on machines that serve users.
const KEEP_EVERY: Duration = Duration::from_secs(5 * 60);
