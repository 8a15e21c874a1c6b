//! Going on by hand without members that are gone.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use dfs_server::RecoveryOutcome;

use super::errors::Problem;
use super::query::Path;
use super::shared::Shared;

pub(super) async fn go_on(
    State(shared): State<Arc<Shared>>,
    Path((how, nodes)): Path<(String, String)>,
) -> Result<Json<RecoveryOutcome>, Problem> {
    let nodes: Vec<String> = nodes.split(',').map(str::to_owned).collect();
    let client = &shared.client;
    let outcome = match how.as_str() {
        "force" => client.force_layout(&nodes).await?,
        "recover" => client.recover_layout(&nodes).await?,
        _ => return Err(Problem::no_endpoint()),
    };
    Ok(Json(outcome))
}
