//! `/v1/copy`, `/v1/move`, `/v1/mkdir`, `/v1/rmdir`, `/v1/link` and `/v1/attributes`: names change,
//! and content stays where it is.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use dfs_server::{Mode, Onto};
use serde::Deserialize;

use super::errors::Problem;
use super::files::attributes;
use super::query::{ModeName, ModeQuery, Path, Query, parse};
use super::shared::Shared;
use super::views::OfPath;

#[derive(Debug, Deserialize)]
pub(super) struct MoveQuery {
    to: String,
    /// Copies this version of a file.
    version: Option<String>,
    /// Copies directories too.
    #[serde(default)]
    recursive: bool,
    /// Replaces files that are there.
    #[serde(default = "yes")]
    replace: bool,
    /// Goes into a directory that has entries.
    #[serde(default)]
    merge: bool,
    mode: Option<ModeName>,
}

#[derive(Debug, Deserialize)]
pub(super) struct DirQuery {
    #[serde(default)]
    parents: bool,
    permissions: Option<String>,
    mtime: Option<String>,
    mode: Option<ModeName>,
}

#[derive(Debug, Deserialize)]
pub(super) struct LinkQuery {
    target: String,
    /// Replaces a file or link that is there.
    #[serde(default)]
    replace: bool,
    mtime: Option<String>,
    mode: Option<ModeName>,
}

#[derive(Debug, Deserialize)]
pub(super) struct AttributesQuery {
    permissions: Option<String>,
    mtime: Option<String>,
    mode: Option<ModeName>,
}

fn yes() -> bool {
    true
}

impl MoveQuery {
    fn onto(&self) -> Onto {
        let mode = self.mode.map_or(Mode::Default, ModeName::mode);
        Onto { replace: self.replace, merge: self.merge, mode }
    }
}

pub(super) async fn copy(
    State(shared): State<Arc<Shared>>,
    Path(path): Path<String>,
    Query(query): Query<MoveQuery>,
) -> Result<Response, Problem> {
    let (from, to) = (parse(&path)?, parse(&query.to)?);
    if query.recursive {
        let copied = shared.client.copy_all(&from, &to, query.onto()).await?;
        return Ok((StatusCode::CREATED, Json(OfPath::new(&to, copied))).into_response());
    }
    let stored = shared.client.copy(&from, query.version.as_deref(), &to, query.onto()).await?;
    Ok((StatusCode::CREATED, Json(OfPath::new(&to, stored))).into_response())
}

pub(super) async fn rename(
    State(shared): State<Arc<Shared>>,
    Path(path): Path<String>,
    Query(query): Query<MoveQuery>,
) -> Result<Response, Problem> {
    let (from, to) = (parse(&path)?, parse(&query.to)?);
    let moved = shared.client.rename(&from, &to, query.onto()).await?;
    Ok((StatusCode::CREATED, Json(OfPath::new(&to, moved))).into_response())
}

pub(super) async fn make_dir(
    State(shared): State<Arc<Shared>>,
    Path(path): Path<String>,
    Query(query): Query<DirQuery>,
) -> Result<Response, Problem> {
    let path = parse(&path)?;
    let said = attributes(query.permissions.as_deref(), query.mtime.as_deref())?;
    let mode = query.mode.map_or(Mode::Default, ModeName::mode);
    shared.client.make_dir_as(&path, query.parents, &said, mode).await?;
    Ok((StatusCode::CREATED, Json(serde_json::json!({ "path": path.as_str() }))).into_response())
}

pub(super) async fn remove_dir(
    State(shared): State<Arc<Shared>>,
    Path(path): Path<String>,
    Query(query): Query<ModeQuery>,
) -> Result<Response, Problem> {
    let path = parse(&path)?;
    shared.client.remove_dir(&path, query.mode()).await?;
    Ok(Json(serde_json::json!({ "path": path.as_str() })).into_response())
}

pub(super) async fn make_link(
    State(shared): State<Arc<Shared>>,
    Path(path): Path<String>,
    Query(query): Query<LinkQuery>,
) -> Result<Response, Problem> {
    let path = parse(&path)?;
    let LinkQuery { target, replace, mtime, mode } = query;
    let said = attributes(None, mtime.as_deref())?;
    let mode = mode.map_or(Mode::Default, ModeName::mode);
    let stored = shared.client.make_link(&path, &target, said, replace, mode).await?;
    Ok((StatusCode::CREATED, Json(OfPath::new(&path, stored))).into_response())
}

pub(super) async fn set_attributes(
    State(shared): State<Arc<Shared>>,
    Path(path): Path<String>,
    Query(query): Query<AttributesQuery>,
) -> Result<Response, Problem> {
    let path = parse(&path)?;
    let said = attributes(query.permissions.as_deref(), query.mtime.as_deref())?;
    let mode = query.mode.map_or(Mode::Default, ModeName::mode);
    shared.client.set_attributes(&path, &said, mode).await?;
    Ok(Json(serde_json::json!({ "path": path.as_str() })).into_response())
}
