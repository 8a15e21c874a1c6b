//! What every part of a running node shares.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::time::Duration;

use dfs_core::hlc::{Clock, Hlc};
use dfs_core::id::{CertId, NodeId, RecordKey};
use dfs_core::layout::epoch::EpochState;
use dfs_core::node::member::{Clean, MoveFact};
use dfs_core::record::writer::WriterCert;
use dfs_env::{BoxFuture, Env};
use dfs_p2p::Network;
use dfs_store::Store;
use dfs_store::disk::data_dir::DataDir;
use dfs_store::vault::keys::VaultKeys;
use ed25519_dalek::SigningKey;
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;
use tracing::{debug, error};

use crate::actors::Actors;
use crate::collect::Unwanted;
use crate::config::{Grace, Mode};
use crate::error::Error;
use crate::foreground::Foreground;
use crate::form::Joining;
use crate::layout::Layout;
use crate::liveness::Liveness;
use crate::namespace::DirCache;
use crate::repair::Repair;
use crate::scrub::Scrubber;
use crate::views::Collected;

/// A running node.
pub(crate) struct Node {
    pub(crate) env: Env,
    pub(crate) id: NodeId,
    pub(crate) data_dir: DataDir,
    pub(crate) store: Store,
    pub(crate) vault: Option<Vault>,
    pub(crate) layout: Layout,
    pub(crate) joining: Joining,
    pub(crate) liveness: Liveness,
    /// Why this node takes part in nothing any more.
    pub(crate) retired: OnceLock<String>,
    pub(crate) repair: Repair,
    pub(crate) scrub: Scrubber,
    pub(crate) foreground: Foreground,
    pub(crate) sync: crate::sync::Schedule,
    pub(crate) dirs: DirCache,
    pub(crate) health: crate::health::Cache,
    /// Set once the port is bound.
    pub(crate) network: OnceLock<Network>,
    pub(crate) shutdown: CancellationToken,
    /// Replies that an operation no longer waits for, carried to their end.
    pub(crate) finishing: mpsc::Sender<Finishing>,
    /// How many rows here were other nodes' when it was last looked.
    pub(crate) strays_seen: AtomicU64,
    /// Partitions this node once held and has nothing of any more.
    pub(crate) emptied: Mutex<Vec<MoveFact>>,
    /// When it was last looked and there were none.
    pub(crate) clean: Mutex<Clean>,
    /// Blobs that nobody wants.
    pub(crate) unwanted: Unwanted,
    pub(crate) collected: Mutex<Collected>,
    pub(crate) grace: Grace,
    /// What wakes the handing over of other nodes' rows.
    pub(crate) handoff: Notify,
    /// What wakes the steward.
    pub(crate) facts_changed: Notify,
    clock: Mutex<Clock>,
    actors: Mutex<Actors>,
    certs: Mutex<BTreeMap<CertId, Arc<WriterCert>>>,
    writing: Vec<tokio::sync::Mutex<()>>,
}

/// Work that goes on after an operation has been answered.
pub(crate) type Finishing = BoxFuture<'static, ()>;

/// The keys of the vault this node may open, and its right to write.
pub(crate) struct Vault {
    pub(crate) keys: Arc<VaultKeys>,
    pub(crate) writer: SigningKey,
    /// Renewed long before it ends.
    pub(crate) cert: tokio::sync::Mutex<Arc<WriterCert>>,
}

/// What a start opened on disk.
pub(crate) struct Opened {
    pub(crate) data_dir: DataDir,
    pub(crate) store: Store,
    pub(crate) vault: Option<Vault>,
}

impl Node {
    pub(crate) fn new(
        env: Env,
        opened: Opened,
        grace: Grace,
        layout: Layout,
        joining: Joining,
        finishing: mpsc::Sender<Finishing>,
    ) -> Self {
        let Opened { data_dir, store, vault } = opened;
        let id = NodeId::new(data_dir.node_key().verifying_key().to_bytes());
        let actors = Mutex::new(Actors::new([0; 3].map(|_| env.random_u64())));
        Self {
            liveness: Liveness::new(env.mono()),
            repair: Repair::new(env.mono()),
            scrub: Scrubber::new(&env, &id),
            foreground: Foreground::default(),
            env,
            id,
            data_dir,
            store,
            vault,
            layout,
            joining,
            retired: OnceLock::new(),
            sync: crate::sync::Schedule::default(),
            dirs: DirCache::default(),
            health: crate::health::Cache::default(),
            network: OnceLock::new(),
            shutdown: CancellationToken::new(),
            finishing,
            strays_seen: AtomicU64::new(0),
            clean: Mutex::default(),
            emptied: Mutex::default(),
            unwanted: Unwanted::default(),
            collected: Mutex::default(),
            grace,
            handoff: Notify::new(),
            facts_changed: Notify::new(),
            clock: Mutex::new(Clock::default()),
            actors,
            certs: Mutex::default(),
            writing: (0..WRITE_LOCKS).map(|_| tokio::sync::Mutex::new(())).collect(),
        }
    }

    /// The network.
    pub(crate) fn network(&self) -> &Network {
        self.network.get().expect("the network is set before anything runs")
    }

    /// The keys, on a node that has them.
    pub(crate) fn vault(&self) -> Result<&Vault, Error> {
        self.vault.as_ref().ok_or(Error::NoVaultKey)
    }

    /// The layout, once this node is a member.
    pub(crate) fn joined(&self) -> Result<Arc<EpochState>, Error> {
        if let Some(why) = self.retired.get() {
            return Err(Error::Retired(why.clone()));
        }
        let state = self.layout.current().ok_or(Error::NotJoined)?;
        if let Some(why) = self.left(&state) {
            return Err(Error::Retired(why));
        }
        if state.is_member(&self.id) { Ok(state) } else { Err(Error::NotJoined) }
    }

    /// Takes part in nothing from now on: what this node holds may be older than what it once
    /// promised. The mark on its disk outlives a restart, whose boot counter would be higher.
    pub(crate) fn retire(self: &Arc<Self>, why: &str) {
        let why = format!("{RETIRED}: {why}");
        error!(why, "this node is retired; start it with an empty data directory");
        if self.retired.set(why.clone()).is_err() {
            return;
        }
        let node = self.clone();
        self.finish_later(Box::pin(async move {
            if let Err(error) = node.store.put_state(RETIRED_MARK, why.into_bytes()).await {
                error!(%error, "that this node is retired could not be noted");
            }
        }));
    }

    /// What `mode` means with this layout.
    pub(crate) fn is_quorum(&self, mode: Mode, state: &EpochState) -> bool {
        match mode {
            Mode::Quorum => true,
            Mode::Available => false,
            Mode::Default => {
                let fewest = state.rows.iter().map(|row| row.current.len()).min();
                fewest.unwrap_or(0) >= QUORUM_BY_DEFAULT_FROM
            }
        }
    }

    /// The next stamp.
    pub(crate) fn tick(&self) -> Hlc {
        self.clock.lock().expect("no holder of this lock panics").tick(self.env.wall_ms())
    }

    /// Held from the read of a record to the end of the write that follows it: two writes of one
    /// name by one actor must not overlap, or the later would seem to have seen the earlier.
    pub(crate) async fn write_lock(&self, key: &RecordKey) -> tokio::sync::MutexGuard<'_, ()> {
        let at = usize::from(key.tag.as_bytes()[0]) % self.writing.len();
        self.writing[at].lock().await
    }

    /// This moment, as a stamp that is given to nothing.
    pub(crate) fn now(&self) -> Hlc {
        Hlc::from_unix_ms(self.env.wall_ms())
    }

    /// The actors this process writes under.
    pub(crate) fn actors(&self) -> MutexGuard<'_, Actors> {
        self.actors.lock().expect("no holder of this lock panics")
    }

    /// Takes new actors: a write that a majority does not have may not be seen by the next read,
    /// and the same actor's next write would seem to have superseded it.
    pub(crate) fn renew_actors(&self) {
        *self.actors() = Actors::new([0; 3].map(|_| self.env.random_u64()));
    }

    /// Whether the node can be called now.
    pub(crate) fn is_reachable(&self, node: &NodeId) -> bool {
        *node == self.id || self.network().is_connected(node)
    }

    /// Carries work to its end after the operation it belongs to has been answered. When too much
    /// of it waits already it is dropped: comparing rows brings the laggard up to date later.
    pub(crate) fn finish_later(&self, work: Finishing) {
        if self.finishing.try_send(work).is_err() {
            debug!("too much waits to be finished; comparing rows will do it");
        }
    }

    pub(crate) fn known_cert(&self, id: &CertId) -> Option<Arc<WriterCert>> {
        self.certs.lock().expect("no holder of this lock panics").get(id).cloned()
    }

    pub(crate) fn remember_cert(&self, cert: WriterCert) -> Arc<WriterCert> {
        let mut certs = self.certs.lock().expect("no holder of this lock panics");
        if certs.len() >= CERTS_CACHED_MAX {
            certs.clear();
        }
        let cert = Arc::new(cert);
        certs.insert(cert.id(), cert.clone());
        cert
    }
}

/// A time in milliseconds.
pub(crate) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// The note that this node is retired, and why.
pub(crate) const RETIRED_MARK: &str = "retired";
const RETIRED: &str = "its data directory is a copy, or was restored from an older state";
/// With fewer replicas a majority is all of them, and one dead node would stop every write.
const QUORUM_BY_DEFAULT_FROM: usize = 3;
/// Names are spread over this many locks; two that share one only wait for each other.
const WRITE_LOCKS: usize = 256;
/// Certificates kept in memory; the store has them all.
const CERTS_CACHED_MAX: usize = 1024;
