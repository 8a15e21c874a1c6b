//! That this node takes part in nothing any more, and that a restart will know it.

use std::sync::OnceLock;
use std::time::Duration;

use dfs_store::Store;
use tracing::error;

use super::Replica;

/// Why this node takes part in nothing any more, once it does not.
#[derive(Debug, Default)]
pub(crate) struct Retirement(OnceLock<String>);

impl Retirement {
    /// The reason, once there is one.
    pub(crate) fn why(&self) -> Option<&str> {
        self.0.get().map(String::as_str)
    }
}

impl Replica {
    /// Takes part in nothing from now on: what this node holds may be older than what it once
    /// promised. [`Replica::keep_retirement`] makes it durable.
    pub(crate) fn retire(&self, why: &str) {
        let why = format!("{RETIRED}: {why}");
        error!(why, "this node is retired; start it with --new-node and an empty data directory");
        if self.retirement.0.set(why).is_ok() {
            self.wakes.retirement.notify_one();
        }
    }

    /// Waits for this node to be retired, and notes it on the disk however often that takes: a
    /// restart, whose boot counter would be higher, must not bring the node back.
    pub(crate) async fn keep_retirement(&self) {
        while self.retirement.why().is_none() {
            tokio::select! {
                biased;
                () = self.shutdown.cancelled() => return,
                () = self.wakes.retirement.notified() => {}
            }
        }
        while !self.note_retirement().await {
            tokio::select! {
                biased;
                () = self.shutdown.cancelled() => return,
                () = self.env.sleep(RETRY_AFTER) => {}
            }
        }
    }

    /// Notes on the disk why this node is retired, if it is; returns whether nothing is left to
    /// note.
    pub(crate) async fn note_retirement(&self) -> bool {
        let Some(why) = self.retirement.why() else { return true };
        match self.store.put_state(MARK, why.as_bytes().to_vec()).await {
            Ok(()) => true,
            Err(error) => {
                error!(%error, "that this node is retired could not be noted yet");
                false
            }
        }
    }
}

/// Why the node of this store was retired by an earlier start.
///
/// # Errors
/// [`dfs_store::ReadError`] when the index cannot be read.
pub(crate) async fn noted(store: &Store) -> Result<Option<String>, dfs_store::ReadError> {
    let why = store.state(MARK).await?;
    Ok(why.map(|why| String::from_utf8_lossy(&why).into_owned()))
}

/// What the note is kept under.
const MARK: &str = "retired";
const RETIRED: &str = "its data directory is a copy, or was restored from an older state";
/// A disk that refused may take it in a moment.
const RETRY_AFTER: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests;
