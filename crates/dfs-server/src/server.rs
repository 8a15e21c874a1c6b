//! Start, run and shut down one node; every task has its owner here.

use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use dfs_core::codec::Canonical;
use dfs_core::id::NodeId;
use dfs_core::record::writer::WriterCert;
use dfs_env::{Env, Task};
use dfs_p2p::{Network, OwnFacts};
use dfs_store::disk::data_dir::DataDir;
use dfs_store::vault::keys::VaultKeys;
use dfs_store::{Store, WriteError};
use ed25519_dalek::SigningKey;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};
use zeroize::Zeroizing;

use crate::client::Client;
use crate::config::{Config, VaultConfig};
use crate::error::{Error, StartServerError};
use crate::form::Joining;
use crate::handler::Answering;
use crate::layout::{self, Layout};
use crate::node::{Finishing, Node, Opened, RETIRED_MARK, Vault, millis};

/// A running node.
#[derive(Debug)]
pub struct Server {
    client: Client,
    tasks: Mutex<Vec<Task<()>>>,
}

impl Server {
    /// Opens the data directory, binds the port, and begins to serve, to look for peers and to
    /// join. Does not wait for peers.
    ///
    /// # Errors
    /// [`StartServerError`] when the directory, a key or the port cannot be used.
    ///
    /// # Panics
    /// Never: the network is set once.
    pub async fn start(env: Env, config: Config) -> Result<Self, StartServerError> {
        let data_dir = {
            let (env, root) = (env.clone(), config.data_dir.clone());
            env.clone().offload(move || DataDir::open(&env, &root)).await?
        };
        let store_config =
            dfs_store::Config { root: config.data_dir.clone(), capacity: config.capacity };
        let store = Store::open(env.clone(), store_config).await?;
        if let Some(why) = store.state(RETIRED_MARK).await? {
            let why = String::from_utf8_lossy(&why).into_owned();
            return Err(StartServerError::Retired(why));
        }
        let vault = match &config.vault {
            None => None,
            Some(vault) => Some(open_vault(&env, vault, &data_dir, &store).await?),
        };
        let listener = Network::bind(&env, config.listen).await?;
        let mut epoch = store.epoch().await?;
        // Only now: a node that cannot listen must not leave a cluster of its own behind.
        let joining = Joining::open(&env, &store, &data_dir, epoch.is_some()).await?;
        if epoch.is_none() && (config.init || (config.bootstrap.is_empty() && joining.is_free())) {
            epoch = Some(layout::found(&env, &store, &data_dir, &config.zone).await?);
            joining.done();
        }
        let durable_epoch = epoch.as_ref().map_or(0, |(state, _)| state.epoch);
        let layout = Layout::new(epoch, config.out_after, env.mono());
        let (finishing, to_finish) = mpsc::channel(FINISHING_WAITING_MAX);
        let network_config = dfs_p2p::Config {
            bootstrap: config.bootstrap.clone(),
            node_key: data_dir.node_key().clone(),
            incarnation: data_dir.instance(),
            cluster_key: Zeroizing::new(*config.cluster_key.expose()),
            zone: config.zone.clone(),
            build: config.build.clone(),
            book: Some(config.data_dir.join("peers.book")),
        };
        let facts = OwnFacts {
            capacity: store.capacity(),
            used: store.used(),
            durable_epoch,
            ..OwnFacts::default()
        };
        let opened = Opened { data_dir, store, vault };
        let node = Node::new(env.clone(), opened, config.grace, layout, joining, finishing);
        let node = Arc::new(node);
        node.load_scrub().await?;
        node.load_repair().await?;
        let handler = Arc::new(Answering(Arc::downgrade(&node)));
        let network =
            Network::start(env.clone(), listener, network_config, facts, handler, |network| {
                // Before the first connection, so that every call finds it.
                let _ = node.network.set(network.clone());
            })
            .await?;
        let node_id: NodeId = network.node_id();
        info!(node = %node_id, listen = %network.listen_addr(), "serving");
        let tasks = vec![
            env.spawn("finish", finish(to_finish, node.shutdown.clone())),
            env.spawn("steward", for_ever("steward", node.clone(), Node::steward)),
            env.spawn("join", for_ever("join", node.clone(), Node::join)),
            env.spawn("liveness", for_ever("liveness", node.clone(), Node::watch_liveness)),
            env.spawn("sync", for_ever("sync", node.clone(), Node::sync_loop)),
            env.spawn("handoff", for_ever("handoff", node.clone(), Node::handoff_loop)),
            env.spawn("repair", for_ever("repair", node.clone(), Node::repair_loop)),
            env.spawn("scrub", for_ever("scrub", node.clone(), Node::scrub_loop)),
            env.spawn("collect", for_ever("collect", node.clone(), Node::collect_loop)),
            env.spawn("upkeep", for_ever("upkeep", node.clone(), Node::upkeep)),
        ];
        Ok(Self { client: Client(node), tasks: Mutex::new(tasks) })
    }

    /// The face of the node.
    pub fn client(&self) -> Client {
        self.client.clone()
    }

    /// The bound peer address.
    pub fn listen_addr(&self) -> std::net::SocketAddr {
        self.client.0.network().listen_addr()
    }

    /// This node's id.
    pub fn node_id(&self) -> NodeId {
        self.client.0.id
    }

    /// Stops taking work, finishes what is under way within a limit, and closes the store.
    ///
    /// # Panics
    /// Never: no holder of its locks does.
    pub async fn shutdown(&self) {
        let node = &self.client.0;
        node.shutdown.cancel();
        let tasks = std::mem::take(&mut *self.tasks.lock().expect("no holder panics"));
        let (finisher, others) = split_finisher(tasks);
        // They end at their next wait; after that the data directory is free for another start.
        others.iter().for_each(Task::abort);
        let _ = timeout(FINISH_MAX, futures_util::future::join_all(others)).await;
        if let Some(finisher) = finisher
            && timeout(FINISH_MAX, finisher).await.is_err()
        {
            warn!("some copies were not finished in time; comparing rows will complete them");
        }
        node.network().shutdown().await;
        node.store.close().await;
    }
}

impl Drop for Server {
    /// Without a [`Server::shutdown`] before, the node ends as in a crash: at once.
    fn drop(&mut self) {
        self.client.0.network().abort();
    }
}

/// Runs a loop of the node until it ends, and starts it anew when it panics: a bug that one blob or
/// one peer brings out must not end the care for all others.
async fn for_ever<F>(name: &'static str, node: Arc<Node>, run: impl Fn(Arc<Node>) -> F)
where
    F: Future<Output = ()>,
{
    while AssertUnwindSafe(run(node.clone())).catch_unwind().await.is_err() {
        error!(name, "a background task panicked and is started anew");
        node.env.sleep(RESTART_AFTER).await;
    }
}

fn split_finisher(mut tasks: Vec<Task<()>>) -> (Option<Task<()>>, Vec<Task<()>>) {
    if tasks.is_empty() {
        return (None, tasks);
    }
    let others = tasks.split_off(1);
    (tasks.pop(), others)
}

/// Carries work to its end after the operation it belongs to has been answered; at shutdown, what
/// there is.
async fn finish(mut waiting: mpsc::Receiver<Finishing>, shutdown: CancellationToken) {
    let mut running = FuturesUnordered::new();
    loop {
        tokio::select! {
            biased;
            Some(()) = running.next() => {}
            work = waiting.recv(), if running.len() < FINISHING_MAX => match work {
                Some(work) => running.push(work),
                None => break,
            },
            () = shutdown.cancelled() => break,
        }
    }
    while let Ok(work) = waiting.try_recv() {
        running.push(work);
    }
    while running.next().await.is_some() {}
}

/// Derives the vault's keys and makes sure that this node's writer key is certified.
async fn open_vault(
    env: &Env,
    config: &VaultConfig,
    data_dir: &DataDir,
    store: &Store,
) -> Result<Vault, StartServerError> {
    let keys = Arc::new(config.key.derive());
    let writer = data_dir.writer_key(env)?;
    let now = env.wall_ms();
    let known = store.state(OWN_CERT).await?;
    let known = known.and_then(|bytes| WriterCert::from_canonical(bytes).ok());
    let public = writer.verifying_key().to_bytes();
    let usable = known
        .filter(|cert| cert.vault == keys.vault && cert.writer == public && cert.verify().is_ok());
    let cert = match usable {
        Some(cert) => cert,
        None => new_cert(store, &keys, &writer, now).await?,
    };
    Ok(Vault { keys, writer, cert: tokio::sync::Mutex::new(Arc::new(cert)) })
}

/// A certificate for this node's writer key, kept before it is used.
async fn new_cert(
    store: &Store,
    keys: &VaultKeys,
    writer: &SigningKey,
    now: u64,
) -> Result<WriterCert, WriteError> {
    let public = writer.verifying_key().to_bytes();
    let cert = WriterCert::issue(&keys.signing, public, now + millis(CERT_LIFE));
    store.put_cert(&cert).await?;
    store.put_state(OWN_CERT, cert.to_canonical()).await?;
    Ok(cert)
}

impl Node {
    /// The certificate to write under, renewed once less than half of its life is left.
    pub(crate) async fn own_cert(&self) -> Result<Arc<WriterCert>, Error> {
        let vault = self.vault()?;
        let mut cert = vault.cert.lock().await;
        let now = self.env.wall_ms();
        if cert.not_after_unix_ms <= now + millis(CERT_LIFE / 2) {
            *cert = Arc::new(new_cert(&self.store, &vault.keys, &vault.writer, now).await?);
        }
        Ok(cert.clone())
    }
}

const OWN_CERT: &str = "own-cert";
/// How long a certificate is valid; it is renewed at half of that.
const CERT_LIFE: Duration = Duration::from_secs(365 * 24 * 60 * 60);
/// A task that panics again and again does not keep a core busy.
const RESTART_AFTER: Duration = Duration::from_secs(1);
/// Left-over replies carried at once.
const FINISHING_MAX: usize = 256;
/// Left-over replies that wait to be carried.
const FINISHING_WAITING_MAX: usize = 256;
/// How long a shutdown waits for copies that slow replicas still owe, and for tasks to end.
const FINISH_MAX: Duration = Duration::from_secs(2);
