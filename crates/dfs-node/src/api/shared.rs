//! What every request can reach.

use std::fmt;
use std::net::SocketAddr;

use dfs_server::Client;
use metrics_exporter_prometheus::PrometheusHandle;

use super::upload::Rests;
use super::work::Work;

/// What the handlers of one node share.
pub(super) struct Shared {
    pub(super) client: Client,
    /// What a request must show.
    pub(super) token: String,
    /// Where the API listens.
    pub(super) addr: SocketAddr,
    pub(super) metrics: PrometheusHandle,
    pub(super) rests: Rests,
    pub(super) work: Work,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("addr", &self.addr).finish_non_exhaustive()
    }
}
