//! Sealed blobs on their replicas: stored, fetched from whoever has them, counted, referenced.
//!
//! Nothing here can open a blob; that is the business of [`crate::content`].

use std::sync::Arc;
use std::time::Duration;

use crate::replica::Replica;
use crate::rpc::Rpc;

mod copies;
mod fetch;
mod prove;
mod serve;
mod store;
mod uses;

use self::prove::Challenged;
pub(crate) use self::store::{Copies, Lag};
pub(crate) use self::uses::{bound_holds, hold_until, note_uses, reuse};

/// The blobs of the cluster.
pub(crate) struct Blobs {
    replica: Arc<Replica>,
    rpc: Arc<Rpc>,
    /// What this node is challenged to show.
    pub(crate) challenged: Challenged,
}

impl Blobs {
    pub(crate) fn new(rpc: Arc<Rpc>) -> Self {
        let replica = rpc.replica.clone();
        Self { challenged: Challenged::new(replica.clone()), replica, rpc }
    }
}

/// A blob of 1 MiB at 100 KiB/s, when it has the line for itself.
const BLOB_DEADLINE: Duration = Duration::from_secs(10);
