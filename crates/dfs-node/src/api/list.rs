//! `/v1/list`, `/v1/stat` and `/v1/usage`: what is there.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use dfs_server::{Depth, Listed, Mode, Stat, UsagePage};
use serde::Deserialize;

use super::errors::Problem;
use super::query::{ModeName, PageQuery, Path, Query, page_len, parse, parse_dir};
use super::shared::Shared;
use super::views::{ListPage, OfPath};
use crate::exit::Code;

#[derive(Debug, Deserialize)]
pub(super) struct ListQuery {
    #[serde(default)]
    prefix: String,
    delimiter: Option<String>,
    /// Lists directories too where it goes into them.
    #[serde(default)]
    dirs: bool,
    #[serde(default)]
    after: String,
    limit: Option<usize>,
    mode: Option<ModeName>,
}

pub(super) async fn list(
    State(shared): State<Arc<Shared>>,
    Query(query): Query<ListQuery>,
) -> Result<Json<ListPage>, Problem> {
    let depth = match query.delimiter.as_deref() {
        None | Some("") if query.dirs => Depth::Tree,
        None | Some("") => Depth::Files,
        Some("/") => Depth::Names,
        Some(_) => {
            return Err(Problem::new(
                StatusCode::BAD_REQUEST,
                Code::Usage,
                "the only delimiter is '/'",
            ));
        }
    };
    let limit = page_len(query.limit);
    let mode = query.mode.map_or(Mode::Default, ModeName::mode);
    let (prefix, after) = (&query.prefix, &query.after);
    let page = shared.client.list(prefix, depth, after, limit, mode).await?;
    let next = page.entries.last().filter(|_| page.more).map(Listed::order);
    Ok(Json(ListPage { entries: page.entries, next, guarded: page.guarded }))
}

#[derive(Debug, Deserialize)]
pub(super) struct StatQuery {
    mode: Option<ModeName>,
    version: Option<String>,
}

pub(super) async fn stat(
    State(shared): State<Arc<Shared>>,
    Path(path): Path<String>,
    Query(query): Query<StatQuery>,
) -> Result<Json<OfPath<Stat>>, Problem> {
    let path = parse(&path)?;
    let mode = query.mode.map_or(Mode::Default, ModeName::mode);
    let stat = shared.client.stat_version(&path, query.version.as_deref(), mode).await?;
    Ok(Json(OfPath::new(&path, stat)))
}

pub(super) async fn usage(
    State(shared): State<Arc<Shared>>,
    Query(query): Query<PageQuery>,
) -> Result<Json<UsagePage>, Problem> {
    let (dir, limit) = (parse_dir(&query.dir)?, page_len(query.limit));
    let mode = query.mode.map_or(Mode::Default, ModeName::mode);
    Ok(Json(shared.client.usage(&dir, &query.after, limit, mode).await?))
}
