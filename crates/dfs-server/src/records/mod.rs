//! Records and their replicas: read and written by quorum, checked for who signed them.
//!
//! Nothing here can open what a version says; that is the business of [`crate::names`].

use std::sync::Arc;

use crate::replica::Replica;
use crate::rpc::Rpc;

mod certs;
mod dirs;
mod purged;
mod read;
mod remembering;
mod seen;
mod serve;
mod write;

pub(crate) use self::certs::Certs;
pub(crate) use self::dirs::{DirNews, READ_AT_ONCE};
use self::purged::Purged;
pub(crate) use self::remembering::Remembering;
pub(crate) use self::write::{Written, copies_wanted};

/// The records of the cluster.
pub(crate) struct Records {
    replica: Arc<Replica>,
    rpc: Arc<Rpc>,
    pub(crate) certs: Certs,
    pub(crate) purged: Purged,
    seen: seen::Seen,
}

impl Records {
    pub(crate) fn new(rpc: Arc<Rpc>) -> Self {
        let (replica, certs) = (rpc.replica.clone(), Certs::new(rpc.clone()));
        let purged = Purged::new(rpc.clone());
        Self { replica, certs, purged, seen: seen::Seen::new(), rpc }
    }

    /// Whether anything is remembered of a name.
    #[cfg(test)]
    pub(crate) fn has_seen(&self, key: &dfs_core::id::RecordKey) -> bool {
        self.seen.of(&[*key]).iter().any(Option::is_some)
    }

    /// What the replicas of records are called with.
    pub(crate) fn rpc(&self) -> &Arc<Rpc> {
        &self.rpc
    }
}
