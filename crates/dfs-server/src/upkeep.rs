//! Care for this node's own disk.

use std::sync::Arc;
use std::time::Duration;

use tracing::{info, warn};

use crate::node::Node;

impl Node {
    /// Looks after this node's disk until shutdown.
    pub(crate) async fn upkeep(self: Arc<Self>) {
        self.bring_files_in().await;
        self.shutdown.cancelled().await;
    }

    /// Brings blob files and index together, once. In the background, for it lists every directory,
    /// and after a reset of the identity it reads every file.
    async fn bring_files_in(&self) {
        let mut wait = RETRY_FIRST;
        while !self.store.has_failed() && !self.shutdown.is_cancelled() {
            match self.store.reconcile().await {
                Ok(done) if done == dfs_store::Reconciled::default() => return,
                Ok(done) => {
                    let dfs_store::Reconciled { adopted, set_aside, forgotten, left } = done;
                    info!(adopted, set_aside, forgotten, left, "files and index were apart");
                    return;
                }
                Err(error) => warn!(%error, "files and index could not be compared; trying again"),
            }
            tokio::select! {
                biased;
                () = self.shutdown.cancelled() => return,
                () = self.env.sleep(wait) => {}
            }
            wait = (wait * 2).min(RETRY_MAX);
        }
    }
}

/// The first wait after a failure.
const RETRY_FIRST: Duration = Duration::from_secs(1);
/// The longest wait between attempts.
const RETRY_MAX: Duration = Duration::from_secs(60);
