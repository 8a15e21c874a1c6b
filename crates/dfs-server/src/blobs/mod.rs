//! Sealed blobs on their replicas: stored, fetched from whoever has them, counted, referenced.
//!
//! Nothing here can open a blob; that is the business of [`crate::content`].

use std::sync::Arc;
use std::time::Duration;

use dfs_core::replica::line::Line;
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::replica::Replica;
use crate::rpc::Rpc;

mod copies;
mod fetch;
mod fetching;
mod prove;
mod serve;
mod store;
mod uses;

use self::fetching::Fetching;
use self::prove::Challenged;
pub(crate) use self::store::{Copies, Lag};
pub(crate) use self::uses::{bound_holds, hold_until, note_uses, reuse};

/// The blobs of the cluster.
pub(crate) struct Blobs {
    replica: Arc<Replica>,
    rpc: Arc<Rpc>,
    /// What comes in over the line, as those see it who wait for blobs.
    line: Mutex<Line>,
    /// What its times count from.
    began: Instant,
    fetching: Fetching,
    /// What this node is challenged to show.
    pub(crate) challenged: Challenged,
}

impl Blobs {
    pub(crate) fn new(rpc: Arc<Rpc>) -> Self {
        let replica = rpc.replica.clone();
        let challenged = Challenged::new(replica.clone());
        let (line, began) = (Mutex::default(), replica.env.mono());
        Self { challenged, line, began, fetching: Fetching::default(), replica, rpc }
    }
}

/// How long a peer may bring and take nothing of a blob; one that does either has all the time that
/// its line needs.
const BLOB_DEADLINE: Duration = Duration::from_secs(10);
