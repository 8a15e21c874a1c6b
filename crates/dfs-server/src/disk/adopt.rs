//! Bringing blob files and the index together after a start.

use std::sync::Arc;
use std::time::Duration;

use tracing::{info, warn};

use crate::replica::Replica;

/// Brings blob files and index together, once, then waits for shutdown.
pub(crate) async fn run(replica: Arc<Replica>) {
    bring_together(&replica).await;
    replica.shutdown.cancelled().await;
}

/// In the background, for it lists every directory, and after a reset of the identity it reads
/// every file.
async fn bring_together(replica: &Replica) {
    let mut wait = RETRY_FIRST;
    while !replica.store.has_failed() && !replica.shutdown.is_cancelled() {
        match replica.store.reconcile().await {
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
            () = replica.shutdown.cancelled() => return,
            () = replica.env.sleep(wait) => {}
        }
        wait = (wait * 2).min(RETRY_MAX);
    }
}

/// The first wait after a failure.
const RETRY_FIRST: Duration = Duration::from_secs(1);
/// The longest wait between attempts.
const RETRY_MAX: Duration = Duration::from_secs(60);
