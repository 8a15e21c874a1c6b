//! Start, run and shut down one node: here its parts are put together, and every task has its
//! owner.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use dfs_core::id::NodeId;
use dfs_env::{BoxFuture, Env, Task};
use dfs_p2p::{Handler, Network, OwnFacts};
use dfs_store::Store;
use dfs_store::disk::data_dir::DataDir;
use futures_util::FutureExt;
use futures_util::future::join_all;
use parking_lot::Mutex;
use tracing::{error, info, warn};
use zeroize::Zeroizing;

use crate::blobs::Blobs;
use crate::chain::{self, Chain, Governor, Joining};
use crate::client::{Client, Parts};
use crate::config::{Config, VaultConfig};
use crate::disk::{Scrubber, adopt};
use crate::error::StartServerError;
use crate::gc::Gc;
use crate::layout::{InviteKeys, Invites, Members, Proposals, Reachability, Steward, Voting};
use crate::names::Names;
use crate::names::writer::Writer;
use crate::proof::Prover;
use crate::records::{Records, Remembering};
use crate::repair::Repair;
use crate::replica::finisher::{self, Finisher};
use crate::replica::layout::Layout;
use crate::replica::{Replica, retirement};
use crate::rpc::Rpc;
use crate::serve::{Answering, Service};
use crate::status::count::Counter;
use crate::status::{Behind, Status};
use crate::sync::{Handoff, Publisher, RowSync};

/// A running node.
pub struct Server {
    client: Client,
    /// What answers peers; the network does not keep it alive.
    _service: Arc<Service>,
    /// On a gateway.
    remembering: Option<Arc<Remembering>>,
    tasks: Mutex<Option<Tasks>>,
}

struct Tasks {
    finish: Task<()>,
    others: Vec<Task<()>>,
}

/// What a node governs its cluster with.
struct Governing {
    governor: Option<Governor>,
    invites: InviteKeys,
}

/// The keys that invites are made with and bring: the cluster's, and with it the vault's for a
/// gateway.
fn invite_keys(config: &Config) -> InviteKeys {
    let storage = Zeroizing::new(config.cluster_key.expose().to_vec());
    // With room for all: what grows leaves copies behind that nothing wipes.
    let mut gateway = Zeroizing::new(Vec::with_capacity(2 * storage.len()));
    gateway.extend_from_slice(&storage);
    if let Some(vault) = &config.vault {
        gateway.extend_from_slice(vault.key.expose());
    }
    let secrets = config.vault.as_ref().map(|vault| vault.key.invites());
    InviteKeys { secrets, storage, gateway }
}

/// The parts of a node, before it runs.
struct Node {
    parts: Parts,
    service: Arc<Service>,
    answering: Arc<Answering>,
    publisher: Arc<Publisher>,
}

/// A node that starts.
pub type Starting = BoxFuture<'static, Result<Server, StartServerError>>;

/// Puts something before what answers peers.
type Wrap = Box<dyn FnOnce(Arc<dyn Handler>) -> Arc<dyn Handler> + Send>;

impl Server {
    /// Opens the data directory, binds the port, and begins to serve, to look for peers and to
    /// join. Does not wait for peers.
    ///
    /// # Errors
    /// [`StartServerError`] when the directory, a key or the port cannot be used.
    pub fn start(env: Env, config: Config) -> Starting {
        Self::start_wrapped(env, config, |answering| answering)
    }

    /// The same for a node that answers its peers through `wrap`: for tests of what a member can
    /// do to others that answers as it likes.
    ///
    /// # Errors
    /// As [`Server::start`].
    #[doc(hidden)]
    pub fn start_wrapped(
        env: Env,
        config: Config,
        wrap: impl FnOnce(Arc<dyn Handler>) -> Arc<dyn Handler> + Send + 'static,
    ) -> Starting {
        Self::start_boxed(env, config, Box::new(wrap))
    }

    /// Without generics, and boxed: else every program would build the whole node once more.
    fn start_boxed(env: Env, config: Config, wrap: Wrap) -> Starting {
        Box::pin(Self::start_with(env, config, wrap))
    }

    async fn start_with(env: Env, config: Config, wrap: Wrap) -> Result<Self, StartServerError> {
        let data_dir = {
            let (env, root) = (env.clone(), config.data_dir.clone());
            env.clone().offload(move || DataDir::open(&env, &root)).await?
        };
        let store_config = dfs_store::Config {
            root: config.data_dir.clone(),
            capacity: config.capacity,
            packed_max: config.packed_max,
        };
        let store = Store::open(env.clone(), store_config).await?;
        if let Some(why) = retirement::noted(&store).await? {
            return Err(StartServerError::Retired(why));
        }
        let listener = Network::bind(&env, config.listen).await?;
        let mut epoch = store.epoch().await?;
        let governor = config
            .vault
            .as_ref()
            .map(|VaultConfig { key }| Governor { admin: key.admin(), vault: key.vault() });
        let admin = governor.as_ref().map(|governor| governor.admin.clone());
        // Only now: a node that cannot listen must not leave a cluster of its own behind.
        let in_cluster = epoch.is_some();
        let joining = Joining::open(&env, &store, &data_dir, in_cluster, &config).await?;
        let alone = config.founds && config.bootstrap.is_empty() && joining.is_free();
        if epoch.is_none() && (config.init || alone) {
            let governor = governor.as_ref().ok_or(StartServerError::NoVaultKey)?;
            epoch = Some(chain::found(&env, &store, &data_dir, &config.zone, governor).await?);
            joining.done();
        }
        let network_config = dfs_p2p::Config {
            bootstrap: config.bootstrap.clone(),
            node_key: data_dir.node_key().clone(),
            incarnation: data_dir.instance(),
            cluster_key: Zeroizing::new(*config.cluster_key.expose()),
            admin,
            invite: config.invite.clone(),
            zone: config.zone.clone(),
            build: config.build.clone(),
            book: Some(config.data_dir.join("peers.book")),
        };
        let facts = OwnFacts {
            capacity: store.capacity(),
            used: store.held(),
            durable_epoch: epoch.as_ref().map_or(0, |(state, _)| state.epoch),
            ..OwnFacts::default()
        };
        let id = NodeId::new(data_dir.node_key().verifying_key().to_bytes());
        let (finisher, to_finish) = Finisher::new();
        let layout = Layout::new(epoch, env.mono());
        let (grace, cadence) = (config.grace, config.cadence);
        let replica = Replica::new(env.clone(), id, store, layout, grace, cadence, finisher);
        let replica = Arc::new(replica);
        replica.layout.current().iter().for_each(|state| replica.keep_to_cap(state));
        let writer = match &config.vault {
            None => None,
            Some(vault) => {
                let key = data_dir.writer_key(&env)?;
                Some(Writer::open(replica.clone(), &vault.key, key).await?)
            }
        };
        let invited_into = config.invite.as_ref().map(|invite| invite.cluster);
        let chain = Chain::new(replica.clone(), data_dir, joining, governor.clone(), invited_into);
        let proposals = Governing { governor, invites: invite_keys(&config) };
        let node = Node::assemble(Arc::new(chain), proposals, writer, config.out_after);
        node.parts.scrub.load().await?;
        node.parts.repair.load().await?;
        node.parts.proof.load().await?;
        let seen = config.vault.is_some().then(|| config.data_dir.join("seen"));
        let remembering = match seen {
            Some(seen) => Some(Remembering::open(node.service.records.clone(), seen).await),
            None => None,
        };
        let remembering = remembering.map(Arc::new);
        let handler = wrap(node.answering.clone());
        replica.note_start().await;
        let set = |network: &Network| replica.set_network(network.clone());
        let network = Network::start(env, listener, network_config, facts, handler, set).await?;
        info!(node = %network.node_id(), listen = %network.listen_addr(), "serving");
        let shutdown = replica.shutdown.clone();
        let finish = replica.env.spawn("finish", finisher::run(to_finish, shutdown));
        let mut others = node.spawn();
        others
            .extend(remembering.iter().map(|it| spawn(&replica, "remember", it, Remembering::run)));
        let tasks = Tasks { finish, others };
        let Node { service, parts, .. } = node;
        let client = Client(Arc::new(parts));
        Ok(Self { client, _service: service, remembering, tasks: Mutex::new(Some(tasks)) })
    }

    /// What the node's users ask it with.
    pub fn client(&self) -> Client {
        self.client.clone()
    }

    /// The bound peer address.
    pub fn listen_addr(&self) -> std::net::SocketAddr {
        self.replica().net().listen_addr()
    }

    /// This node's id.
    pub fn node_id(&self) -> NodeId {
        self.replica().id
    }

    /// Waits until this node must end, and returns why: it has the address of a member that does
    /// not answer, and was not told that it is another node.
    pub async fn given_up(&self) -> String {
        self.client.0.status.chain.given_up().await
    }

    /// What the node calls its peers with: for the same tests.
    #[doc(hidden)]
    pub fn network(&self) -> Network {
        self.replica().net().clone()
    }

    /// What answers peers, once every background task has been ended: for tests of single answers.
    #[cfg(test)]
    pub(crate) fn at_rest(&self) -> Arc<Service> {
        let tasks = self.tasks.lock().take();
        tasks.iter().flat_map(|tasks| &tasks.others).for_each(Task::abort);
        self._service.clone()
    }

    /// Keeps what was seen of names, as a shutdown does.
    #[cfg(test)]
    pub(crate) async fn keep_seen(&self) {
        if let Some(remembering) = &self.remembering {
            remembering.keep().await;
        }
    }

    fn replica(&self) -> &Replica {
        &self.client.0.replica
    }

    /// Stops taking work, finishes what is under way within a limit, and closes the store.
    pub async fn shutdown(&self) {
        let replica = self.replica();
        replica.shutdown.cancel();
        let Some(Tasks { finish, others }) = self.tasks.lock().take() else { return };
        // They end at their next wait; after that the data directory is free for another start.
        others.iter().for_each(Task::abort);
        let _ = replica.env.timeout(FINISH_MAX, join_all(others)).await;
        if replica.env.timeout(FINISH_MAX, finish).await.is_err() {
            warn!("some copies were not finished in time; comparing rows will complete them");
        }
        replica.net().shutdown().await;
        if let Some(remembering) = &self.remembering {
            remembering.keep().await;
        }
        replica.note_retirement().await;
        replica.note_clock().await;
        replica.store.close().await;
    }
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Server").field(&self.node_id()).finish()
    }
}

impl Drop for Server {
    /// Without a [`Server::shutdown`] before, the node ends as in a crash: at once.
    fn drop(&mut self) {
        self.replica().net().abort();
    }
}

impl Node {
    /// Puts the parts together, from the lowest up.
    fn assemble(
        chain: Arc<Chain>,
        governing: Governing,
        writer: Option<Writer>,
        out_after: Duration,
    ) -> Self {
        let replica = chain.replica().clone();
        let rpc = Arc::new(Rpc::new(replica.clone(), chain.clone()));
        let records = Arc::new(Records::new(rpc.clone()));
        let blobs = Arc::new(Blobs::new(rpc.clone()));
        let sync = Arc::new(RowSync::new(chain.clone(), rpc.clone(), records.clone()));
        let handoff = Handoff::new(rpc.clone(), records.clone(), blobs.clone(), sync.clone());
        let handoff = Arc::new(handoff);
        let publisher = Arc::new(Publisher::new(replica.clone(), handoff.clone()));
        let repair = Repair::new(records.clone(), blobs.clone(), replica.clone());
        let gc = Arc::new(Gc::new(rpc.clone(), records.clone(), blobs.clone()));
        let proof = Arc::new(Prover::new(records.clone(), blobs.clone()));
        let reach = Arc::new(Reachability::new(replica.clone()));
        let Governing { governor, invites } = governing;
        let vault = governor.as_ref().map(|governor| governor.vault);
        let admin = governor.map(|governor| governor.admin);
        let proposals = Arc::new(Proposals::new(chain.clone(), rpc.clone(), admin));
        let invites = Arc::new(Invites::new(proposals.clone(), invites));
        let members = Members::new(proposals.clone());
        let steward = Steward::new(replica.clone(), proposals, reach.clone(), vault, out_after);
        let service = Arc::new(Service {
            replica: replica.clone(),
            chain: chain.clone(),
            records: records.clone(),
            blobs: blobs.clone(),
            sync: sync.clone(),
            gc: gc.clone(),
            steward: Arc::new(steward),
            voting: Voting::new(replica.clone(), chain.clone()),
            invites: invites.clone(),
        });
        let answering = Arc::new(Answering::new(Arc::downgrade(&service)));
        rpc.answer_with(answering.clone());
        let names = writer.map(|writer| Names::new(records.clone(), blobs.clone(), writer));
        let names = names.map(Arc::new);
        let counter = Arc::new(Counter::new(replica.clone(), names.clone()));
        let scrub = Arc::new(Scrubber::new(replica.clone()));
        let behind = Arc::new(Behind::new(replica.clone(), sync.clone()));
        let status =
            Status { replica, chain, handoff, scrub: scrub.clone(), reach, counter, behind };
        let replica = status.replica.clone();
        let repair = Arc::new(repair);
        let parts = Parts {
            replica,
            records,
            blobs,
            repair,
            gc,
            scrub,
            proof,
            members,
            invites,
            status,
            names,
        };
        Self { parts, service, answering, publisher }
    }

    /// Starts the long-running tasks; each runs until shutdown.
    fn spawn(&self) -> Vec<Task<()>> {
        let Parts { replica, repair, gc, scrub, proof, status, .. } = &self.parts;
        let Status { chain, handoff, reach, counter, behind, .. } = status;
        let sync = &self.service.sync;
        let steward = &self.service.steward;
        vec![
            spawn(replica, "retirement", replica, |r| async move { r.keep_retirement().await }),
            spawn(replica, "steward", steward, Steward::run),
            spawn(replica, "join", chain, Chain::join),
            spawn(replica, "reachability", reach, Reachability::run),
            spawn(replica, "sync", sync, RowSync::run),
            spawn(replica, "handoff", handoff, Handoff::run),
            spawn(replica, "publish", &self.publisher, Publisher::run),
            spawn(replica, "repair", repair, Repair::run),
            spawn(replica, "scrub", scrub, Scrubber::run),
            spawn(replica, "proof", proof, Prover::run),
            spawn(replica, "collect", gc, Gc::run),
            spawn(replica, "adopt", replica, adopt::run),
            spawn(replica, "count", counter, Counter::run),
            spawn(replica, "behind", behind, Behind::run),
        ]
    }
}

/// Runs a loop of a part until it ends, and starts it anew when it panics: a bug that one blob or
/// one peer brings out must not end the care for all others.
fn spawn<T, F>(
    replica: &Arc<Replica>,
    name: &'static str,
    part: &Arc<T>,
    run: impl Fn(Arc<T>) -> F + Send + 'static,
) -> Task<()>
where
    T: Send + Sync + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    let (env, part) = (replica.env.clone(), part.clone());
    replica.env.spawn(name, async move {
        while AssertUnwindSafe(run(part.clone())).catch_unwind().await.is_err() {
            error!(name, "a background task panicked and is started anew");
            env.sleep(RESTART_AFTER).await;
        }
    })
}

/// A task that panics again and again does not keep a core busy.
const RESTART_AFTER: Duration = Duration::from_secs(1);
/// How long a shutdown waits for copies that slow replicas still owe, and for tasks to end.
const FINISH_MAX: Duration = Duration::from_secs(2);
