//! Records and their replicas: read and written by quorum, checked for who signed them.
//!
//! Nothing here can open what a version says; that is the business of [`crate::names`].

use std::sync::Arc;

use crate::replica::Replica;
use crate::rpc::Rpc;

mod certs;
mod read;
mod scan;
mod serve;
mod write;

pub(crate) use self::certs::Certs;
pub(crate) use self::scan::ScanReach;
pub(crate) use self::write::{Written, copies_wanted};

/// The records of the cluster.
pub(crate) struct Records {
    replica: Arc<Replica>,
    rpc: Arc<Rpc>,
    pub(crate) certs: Certs,
}

impl Records {
    pub(crate) fn new(rpc: Arc<Rpc>) -> Self {
        Self { replica: rpc.replica.clone(), certs: Certs::new(rpc.clone()), rpc }
    }

    /// What the replicas of records are called with.
    pub(crate) fn rpc(&self) -> &Arc<Rpc> {
        &self.rpc
    }
}
