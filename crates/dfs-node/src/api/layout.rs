//! Going on by hand without members that are gone.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use dfs_server::WentOn;
use serde::{Deserialize, Serialize};

use super::errors::Problem;
use super::shared::Shared;

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WentOnView {
    /// `decided`, or `waits` while other nodes have to be told as well.
    pub state: String,
    /// The epoch that decided it, or a later one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub epoch: Option<u64>,
    /// Partitions that go on with too few replicas to be sure of everything.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub partitions: Option<usize>,
    /// The nodes that decide together with this one, by the beginnings of their ids.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub nodes: Vec<String>,
}

impl From<WentOn> for WentOnView {
    fn from(went_on: WentOn) -> Self {
        let (state, epoch, partitions, nodes) = match went_on {
            WentOn::Decided { epoch, partitions } => {
                ("decided", Some(epoch), Some(partitions), Vec::new())
            }
            WentOn::Waits { nodes } => ("waits", None, None, nodes),
        };
        Self { state: state.to_owned(), epoch, partitions, nodes }
    }
}

pub(super) async fn go_on(
    State(shared): State<Arc<Shared>>,
    Path((how, nodes)): Path<(String, String)>,
) -> Result<Json<WentOnView>, Problem> {
    let nodes: Vec<String> = nodes.split(',').map(str::to_owned).collect();
    let client = &shared.client;
    let went_on = match how.as_str() {
        "force" => client.force_layout(&nodes).await?,
        "recover" => client.recover_layout(&nodes).await?,
        _ => return Err(Problem::no_endpoint()),
    };
    Ok(Json(went_on.into()))
}
