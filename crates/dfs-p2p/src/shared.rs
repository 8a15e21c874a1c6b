//! What the tasks of one network share.

use std::net::SocketAddr;
use std::sync::Arc;

use dfs_core::id::NodeId;
use dfs_env::{Env, Task};
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::budget::Budget;
use crate::config::Config;
use crate::handler::Handler;
use crate::hello::Credentials;
use crate::own::Own;
use crate::registry::Registry;
use crate::secure::Tls;
use crate::traffic::Traffic;

/// Who we are, for greetings.
pub(crate) struct Identity {
    pub(crate) node: NodeId,
    pub(crate) incarnation: u64,
    pub(crate) credentials: Credentials,
    pub(crate) tls: Tls,
}

/// The state of one network. Of its locks only one is held at a time.
pub(crate) struct Shared {
    pub(crate) env: Env,
    pub(crate) config: Config,
    pub(crate) identity: Identity,
    pub(crate) handler: Arc<dyn Handler>,
    pub(crate) listen: SocketAddr,
    registry: Mutex<Registry>,
    own: Mutex<Own>,
    pub(crate) budget: Arc<Budget>,
    pub(crate) traffic: Arc<Traffic>,
    /// Something changed that may make a dial due.
    pub(crate) dial_wake: Notify,
    pub(crate) gossip_wake: Notify,
    /// A dial brought a connection or was in vain.
    pub(crate) dialled_once: Notify,
    pub(crate) shutdown: CancellationToken,
    /// Ends every connection at once.
    pub(crate) force: CancellationToken,
    pub(crate) tasks: Mutex<Vec<Task<()>>>,
}

impl Shared {
    pub(crate) fn new(
        env: Env,
        config: Config,
        identity: Identity,
        handler: Arc<dyn Handler>,
        listen: SocketAddr,
        registry: Registry,
        own: Own,
    ) -> Self {
        Self {
            env,
            config,
            identity,
            handler,
            listen,
            registry: Mutex::new(registry),
            own: Mutex::new(own),
            budget: Arc::default(),
            traffic: Arc::default(),
            dial_wake: Notify::new(),
            gossip_wake: Notify::new(),
            dialled_once: Notify::new(),
            shutdown: CancellationToken::new(),
            force: CancellationToken::new(),
            tasks: Mutex::default(),
        }
    }

    pub(crate) fn registry(&self) -> MutexGuard<'_, Registry> {
        self.registry.lock()
    }

    pub(crate) fn own(&self) -> MutexGuard<'_, Own> {
        self.own.lock()
    }
}
