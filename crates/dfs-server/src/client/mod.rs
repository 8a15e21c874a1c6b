//! What the HTTP API, and any gateway to come, asks of a node.

use std::sync::Arc;

use crate::blobs::Blobs;
use crate::disk::Scrubber;
use crate::error::Error;
use crate::gc::Gc;
use crate::layout::{Invites, Members};
use crate::names::Names;
use crate::proof::Prover;
use crate::records::Records;
use crate::repair::Repair;
use crate::replica::Replica;
use crate::status::Status;

mod admin;
pub(crate) mod attributes;
mod files;
mod moving;
pub(crate) mod past;
mod publish;
pub(crate) mod purge;
mod removing;
mod together;
mod tree;
pub(crate) mod types;
mod unreadable;
pub(crate) mod usage;
mod versions;
mod walk;
pub(crate) mod watch;

pub use self::files::FileRef;
pub use self::moving::{Moved, Onto};

/// A handle on a running node; cheap to clone.
#[derive(Clone)]
pub struct Client(pub(crate) Arc<Parts>);

/// The parts of a running node that its users reach.
pub(crate) struct Parts {
    pub(crate) replica: Arc<Replica>,
    pub(crate) records: Arc<Records>,
    pub(crate) blobs: Arc<Blobs>,
    pub(crate) repair: Arc<Repair>,
    pub(crate) gc: Arc<Gc>,
    pub(crate) scrub: Arc<Scrubber>,
    pub(crate) proof: Arc<Prover>,
    pub(crate) members: Members,
    pub(crate) invites: Arc<Invites>,
    pub(crate) status: Status,
    /// On a node that has a vault's key.
    pub(crate) names: Option<Arc<Names>>,
}

impl Parts {
    /// The names, on a node that can open them.
    pub(crate) fn names(&self) -> Result<&Arc<Names>, Error> {
        self.names.as_ref().ok_or(Error::NoVaultKey)
    }
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Client").field(&self.0.replica.id).finish()
    }
}
