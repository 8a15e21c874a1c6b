//! The scrub of this node: how far it is, and telling it what to do.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use dfs_server::ScrubView;

use super::errors::Problem;
use super::query::Path;
use super::shared::Shared;

pub(super) async fn status(State(shared): State<Arc<Shared>>) -> Json<ScrubView> {
    Json(shared.client.scrub())
}

pub(super) async fn tell(
    State(shared): State<Arc<Shared>>,
    Path(verb): Path<String>,
) -> Result<Json<ScrubView>, Problem> {
    let client = &shared.client;
    let view = match verb.as_str() {
        "start" => client.start_scrub().await?,
        "pause" => client.pause_scrub().await?,
        "resume" => client.resume_scrub().await?,
        _ => return Err(Problem::no_endpoint()),
    };
    Ok(Json(view))
}
