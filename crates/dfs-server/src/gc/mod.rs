//! Giving up what no version needs: the rounds in which everything that may be forgotten is looked
//! through. The rules are in [`dfs_core::replica::purge`].

use std::sync::Arc;

use parking_lot::Mutex;
use tracing::{debug, info};

use self::blobs::BlobCollector;
use self::evidence::Evidence;
use self::refs::RefAudit;
use self::relist::Relist;
use self::tombstones::Tombstones;
use crate::blobs::Blobs;
use crate::error::Error;
use crate::records::Records;
use crate::replica::Replica;
use crate::rpc::Rpc;

mod blobs;
mod evidence;
mod refs;
mod relist;
mod serve;
mod tombstones;

/// What a node has given up since it started, because no version needs it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Collected {
    /// How often everything was looked through to its end.
    pub looks: u64,
    /// Tombstones purged from all replicas, where this node asked for it.
    pub tombstones: u64,
    /// Uses of blobs found to have ended.
    pub uses: u64,
    /// Blobs given up.
    pub blobs: u64,
    /// Bytes of these blobs.
    pub bytes: u64,
}

/// Looks for what may be forgotten.
pub(crate) struct Gc {
    replica: Arc<Replica>,
    records: Arc<Records>,
    blobs: Arc<Blobs>,
    evidence: Arc<Evidence>,
    collected: Mutex<Collected>,
}

/// What is carried from round to round.
struct Rounds {
    tombstones: Tombstones,
    refs: RefAudit,
    blobs: BlobCollector,
    relist: Relist,
}

impl Gc {
    pub(crate) fn new(rpc: Arc<Rpc>, records: Arc<Records>, blobs: Arc<Blobs>) -> Self {
        let replica = rpc.replica.clone();
        let evidence = Arc::new(Evidence::new(rpc));
        Self { replica, records, blobs, evidence, collected: Mutex::default() }
    }

    /// What was given up since the start.
    pub(crate) fn collected(&self) -> Collected {
        *self.collected.lock()
    }

    /// Looks for what may be forgotten until shutdown.
    pub(crate) async fn run(self: Arc<Self>) {
        let mut rounds = self.rounds();
        let every = self.replica.grace.audit_every;
        // The nodes of a cluster that starts do not all look at once.
        let mut wait = self.replica.jitter(every);
        loop {
            tokio::select! {
                biased;
                () = self.replica.shutdown.cancelled() => return,
                () = self.replica.env.sleep(wait) => {}
            }
            wait = every;
            if self.replica.joined().is_ok()
                && let Err(error) = self.round(&mut rounds).await
            {
                debug!(%error, "what may be forgotten could not be looked through");
            }
        }
    }

    fn rounds(&self) -> Rounds {
        let Self { replica, records, blobs, evidence, .. } = self;
        Rounds {
            tombstones: Tombstones::new(replica.clone(), evidence.clone()),
            refs: RefAudit::new(replica.clone(), records.clone(), evidence.clone()),
            blobs: BlobCollector::new(replica.clone(), evidence.clone()),
            relist: Relist::new(replica.clone(), blobs.clone(), evidence.clone()),
        }
    }

    /// One round: first tombstones, then the uses that end with them, then blobs, then uses that no
    /// row says.
    async fn round(&self, rounds: &mut Rounds) -> Result<(), Error> {
        let tombstones = rounds.tombstones.purge_old().await? as u64;
        let (uses, forgotten) = rounds.refs.audit().await?;
        let (blobs, bytes) = rounds.blobs.collect().await?;
        if tombstones > 0 || uses > 0 || forgotten > 0 || blobs > 0 {
            info!(tombstones, uses, forgotten, blobs, bytes, "what no version needs is given up");
        }
        self.count(&Collected { looks: 1, tombstones, uses: uses as u64, blobs, bytes });
        rounds.relist.relist().await
    }

    fn count(&self, more: &Collected) {
        metrics::counter!("dfs_purged_tombstones_total").increment(more.tombstones);
        metrics::counter!("dfs_ended_references_total").increment(more.uses);
        metrics::counter!("dfs_collected_blobs_total").increment(more.blobs);
        metrics::counter!("dfs_collected_bytes_total").increment(more.bytes);
        let mut all = self.collected.lock();
        all.looks += more.looks;
        all.tombstones += more.tombstones;
        all.uses += more.uses;
        all.blobs += more.blobs;
        all.bytes += more.bytes;
    }
}
