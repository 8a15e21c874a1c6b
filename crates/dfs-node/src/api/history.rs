//! `/v1/log`, `/v1/restore` and `/v1/conflicts`: what a name was, and what waits for a decision.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use dfs_server::{Conflict, Logged, Mode, VersionState};
use serde::{Deserialize, Serialize};

use super::errors::Problem;
use super::query::{ModeName, ModeQuery, page_len, parse, parse_dir};
use super::shared::Shared;
use super::views::{StoredView, kind_name, rfc3339};

/// One version in the history of a name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogLine {
    /// The version's id.
    pub version: String,
    /// `file` or `dir`; absent for a deletion.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none", default)]
    pub kind: Option<String>,
    /// When it was written, in RFC 3339.
    pub modified: String,
    /// Bytes of content.
    pub bytes: u64,
    /// Whether it is the one that is shown.
    pub current: bool,
    /// `current`, `conflict`, `old` or `deleted`.
    pub state: String,
    /// The certificate it was signed under.
    pub writer: String,
}

impl From<Logged> for LogLine {
    fn from(logged: Logged) -> Self {
        let state = match logged.state {
            VersionState::Current => "current",
            VersionState::Conflict => "conflict",
            VersionState::Old => "old",
            VersionState::Deleted => "deleted",
        };
        Self {
            version: logged.version,
            kind: logged.kind.map(|kind| kind_name(kind).to_owned()),
            modified: rfc3339(logged.modified_ms),
            bytes: logged.bytes,
            current: logged.state == VersionState::Current,
            state: state.to_owned(),
            writer: logged.writer,
        }
    }
}

/// A name with several versions that nobody has chosen between.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConflictView {
    /// The whole path.
    pub path: String,
    /// The versions, the one that is shown first.
    pub versions: Vec<LogLine>,
}

impl From<Conflict> for ConflictView {
    fn from(conflict: Conflict) -> Self {
        let versions = conflict.versions.into_iter().map(LogLine::from).collect();
        Self { path: conflict.path, versions }
    }
}

/// A page of the names with conflicts.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ConflictList {
    /// In byte order of their paths.
    pub conflicts: Vec<ConflictView>,
    /// What to give as `after` for the next page; absent on the last.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub next: Option<String>,
}

#[derive(Debug, Deserialize)]
pub(super) struct RestoreQuery {
    version: String,
    mode: Option<ModeName>,
}

#[derive(Debug, Deserialize)]
pub(super) struct ConflictsQuery {
    #[serde(default)]
    dir: String,
    #[serde(default)]
    after: String,
    limit: Option<usize>,
    mode: Option<ModeName>,
}

pub(super) async fn log(
    State(shared): State<Arc<Shared>>,
    Path(path): Path<String>,
    Query(query): Query<ModeQuery>,
) -> Result<Json<Vec<LogLine>>, Problem> {
    let log = shared.client.log(&parse(&path)?, query.mode()).await?;
    Ok(Json(log.into_iter().map(LogLine::from).collect()))
}

pub(super) async fn restore(
    State(shared): State<Arc<Shared>>,
    Path(path): Path<String>,
    Query(query): Query<RestoreQuery>,
) -> Result<Response, Problem> {
    let path = parse(&path)?;
    let mode = query.mode.map_or(Mode::Default, ModeName::mode);
    let stored = shared.client.restore(&path, &query.version, mode).await?;
    Ok((StatusCode::CREATED, Json(StoredView::new(&path, stored))).into_response())
}

pub(super) async fn conflicts(
    State(shared): State<Arc<Shared>>,
    Query(query): Query<ConflictsQuery>,
) -> Result<Json<ConflictList>, Problem> {
    let dir = parse_dir(&query.dir)?;
    let limit = page_len(query.limit);
    let mode = query.mode.map_or(Mode::Default, ModeName::mode);
    let page = shared.client.conflicts(&dir, &query.after, limit, mode).await?;
    let conflicts = page.conflicts.into_iter().map(ConflictView::from).collect();
    Ok(Json(ConflictList { conflicts, next: page.next }))
}
