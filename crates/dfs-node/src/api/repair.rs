//! The repair of this node, and the files that cannot be read.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use dfs_server::{Mode, RepairView, UnreadablePage};
use serde::Deserialize;

use super::errors::Problem;
use super::query::{ModeName, Path, Query, parse_dir};
use super::shared::Shared;

#[derive(Debug, Deserialize)]
pub(super) struct UnreadableQuery {
    #[serde(default)]
    dir: String,
    #[serde(default)]
    after: String,
    mode: Option<ModeName>,
}

pub(super) async fn status(State(shared): State<Arc<Shared>>) -> Json<RepairView> {
    Json(shared.client.repair())
}

pub(super) async fn tell(
    State(shared): State<Arc<Shared>>,
    Path(verb): Path<String>,
) -> Result<Json<RepairView>, Problem> {
    let client = &shared.client;
    let view = match verb.as_str() {
        "start" => client.start_repair().await?,
        "pause" => client.pause_repair().await?,
        "resume" => client.resume_repair().await?,
        _ => return Err(Problem::no_endpoint()),
    };
    Ok(Json(view))
}

pub(super) async fn unreadable(
    State(shared): State<Arc<Shared>>,
    Query(query): Query<UnreadableQuery>,
) -> Result<Json<UnreadablePage>, Problem> {
    let dir = parse_dir(&query.dir)?;
    let mode = query.mode.map_or(Mode::Default, ModeName::mode);
    Ok(Json(shared.client.unreadable(&dir, &query.after, mode).await?))
}
