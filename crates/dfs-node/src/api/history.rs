//! `/v1/log`, `/v1/history`, `/v1/restore`, `/v1/purge` and `/v1/conflicts`: what names were, and
//! what waits for a decision.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use dfs_server::{ConflictPage, HistoryCursor, HistoryPage, Logged, Mode};
use serde::Deserialize;

use super::errors::Problem;
use super::query::{ModeName, ModeQuery, PageQuery, Path, Query, page_len, parse, parse_dir};
use super::shared::Shared;
use super::views::OfPath;

#[derive(Debug, Deserialize)]
pub(super) struct RestoreQuery {
    version: String,
    mode: Option<ModeName>,
}

#[derive(Debug, Deserialize)]
pub(super) struct HistoryQuery {
    #[serde(default)]
    dir: String,
    #[serde(default)]
    after: String,
    mode: Option<ModeName>,
}

#[derive(Debug, Deserialize)]
pub(super) struct PurgeQuery {
    /// As `12h` or `30d`.
    older_than: Option<String>,
    mode: Option<ModeName>,
}

pub(super) async fn log(
    State(shared): State<Arc<Shared>>,
    Path(path): Path<String>,
    Query(query): Query<ModeQuery>,
) -> Result<Json<Vec<Logged>>, Problem> {
    Ok(Json(shared.client.log(&parse(&path)?, query.mode()).await?))
}

pub(super) async fn history(
    State(shared): State<Arc<Shared>>,
    Query(query): Query<HistoryQuery>,
) -> Result<Json<HistoryPage>, Problem> {
    let dir = parse_dir(&query.dir)?;
    let from = match query.after.as_str() {
        "" => HistoryCursor::default(),
        after => after.parse().map_err(|error| Problem::usage(&format!("after: {error}")))?,
    };
    let mode = query.mode.map_or(Mode::Default, ModeName::mode);
    Ok(Json(shared.client.dir_history(&dir, from, mode).await?))
}

pub(super) async fn purge(
    State(shared): State<Arc<Shared>>,
    Path(path): Path<String>,
    Query(query): Query<PurgeQuery>,
) -> Result<Response, Problem> {
    let path = parse(&path)?;
    let older_than = match query.older_than.as_deref() {
        None => Duration::ZERO,
        Some(text) => humantime::parse_duration(text)
            .map_err(|error| Problem::usage(&format!("older_than: {error}")))?,
    };
    let mode = query.mode.map_or(Mode::Default, ModeName::mode);
    let purged = shared.client.purge(&path, older_than, mode).await?;
    Ok(Json(OfPath::new(&path, purged)).into_response())
}

pub(super) async fn restore(
    State(shared): State<Arc<Shared>>,
    Path(path): Path<String>,
    Query(query): Query<RestoreQuery>,
) -> Result<Response, Problem> {
    let path = parse(&path)?;
    let mode = query.mode.map_or(Mode::Default, ModeName::mode);
    let stored = shared.client.restore(&path, &query.version, mode).await?;
    Ok((StatusCode::CREATED, Json(OfPath::new(&path, stored))).into_response())
}

pub(super) async fn conflicts(
    State(shared): State<Arc<Shared>>,
    Query(query): Query<PageQuery>,
) -> Result<Json<ConflictPage>, Problem> {
    let dir = parse_dir(&query.dir)?;
    let limit = page_len(query.limit);
    let mode = query.mode.map_or(Mode::Default, ModeName::mode);
    Ok(Json(shared.client.conflicts(&dir, &query.after, limit, mode).await?))
}
