//! What every request can reach.

use std::fmt;
use std::net::SocketAddr;

use dfs_env::Env;
use dfs_server::Client;
use metrics_exporter_prometheus::PrometheusHandle;

use super::tokens::Tokens;
use super::upload::Rests;
use super::work::Work;

/// What the handlers of one node share.
pub(super) struct Shared {
    pub(super) client: Client,
    pub(super) env: Env,
    /// What a request must show.
    pub(super) tokens: Tokens,
    /// Where the API listens.
    pub(super) addr: SocketAddr,
    /// Names that requests may use for it.
    pub(super) hosts: Vec<String>,
    pub(super) metrics: PrometheusHandle,
    pub(super) rests: Rests,
    pub(super) work: Work,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("addr", &self.addr).finish_non_exhaustive()
    }
}
