//! `/v1/files/{path}`: content in and out, as streams.

use std::sync::Arc;
use std::time::SystemTime;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use dfs_core::name::FilePath;
use dfs_server::{AttributeError, Attributes, FileRef, ListedKind, Mode, Stored};
use futures_util::StreamExt;
use serde::Deserialize;

use super::conditions::{condition, refuse_conditions};
use super::errors::Problem;
use super::preconditions::{Current, Verdict};
use super::query::{ModeName, Path, Query, parse};
use super::range::{Wanted, parse_range};
use super::serve::Busy;
use super::shared::Shared;
use super::upload::Upload;
use super::views::OfPath;
use crate::exit::Code;

#[derive(Debug, Deserialize)]
pub(super) struct FileQuery {
    mode: Option<ModeName>,
    version: Option<String>,
    #[serde(default)]
    recursive: bool,
}

impl FileQuery {
    fn mode(&self) -> Mode {
        self.mode.map_or(Mode::Default, ModeName::mode)
    }
}

pub(super) async fn put(
    State(shared): State<Arc<Shared>>,
    Path(path): Path<String>,
    Query(query): Query<FileQuery>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let mut content = Upload::new(&headers, body, shared.work.crowded());
    match store(&shared, &path, &query, &headers, &mut content).await {
        Ok(stored) => Ok((StatusCode::CREATED, Json(stored)).into_response()),
        Err(problem) => {
            // Its client hears of it at once, and may go on sending.
            shared.rests.drop_later(content, problem.status());
            Err(problem)
        }
    }
}

async fn store(
    shared: &Shared,
    path: &str,
    query: &FileQuery,
    headers: &HeaderMap,
    content: &mut Upload,
) -> Result<OfPath<Stored>, Problem> {
    let (condition, said) = (condition(headers)?, said(headers)?);
    let path = parse(path)?;
    let _place = shared.work.transfer().await?;
    if let Some(len) = length(headers) {
        let mode = if condition.is_some() { Mode::Quorum } else { query.mode() };
        shared.client.need_room(len, mode)?;
    }
    let stored = shared.client.store_with(&path, content, said, condition, query.mode()).await;
    count("put", stored.is_ok());
    Ok(OfPath::new(&path, stored?))
}

/// How long a content is, where its client says so.
fn length(headers: &HeaderMap) -> Option<u64> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

pub(super) async fn delete(
    State(shared): State<Arc<Shared>>,
    Path(path): Path<String>,
    Query(query): Query<FileQuery>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    refuse_conditions(&headers)?;
    let path = parse(&path)?;
    let _place = shared.work.naming().await?;
    let removed = if query.recursive {
        shared.client.remove_all(&path, query.mode()).await
    } else {
        shared.client.remove(&path, query.mode()).await.map(|()| 1)
    };
    count("delete", removed.is_ok());
    Ok(Json(serde_json::json!({ "path": path.as_str(), "removed": removed? })).into_response())
}

pub(super) async fn head(
    State(shared): State<Arc<Shared>>,
    Path(path): Path<String>,
    Query(query): Query<FileQuery>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let path = parse(&path)?;
    let _place = shared.work.naming().await?;
    let file = shared.client.find(&path, query.version.as_deref(), query.mode()).await?;
    need_file(file.kind(), &path)?;
    let mut response = match judged(&file, &headers)? {
        Some(not_modified) => not_modified,
        None => Body::empty().into_response(),
    };
    describe(response.headers_mut(), &file, Some(file.bytes()));
    Ok(response)
}

pub(super) async fn get(
    State(shared): State<Arc<Shared>>,
    Path(path): Path<String>,
    Query(query): Query<FileQuery>,
    Extension(busy): Extension<Busy>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let found = open(&shared, &path, &query, &headers, busy).await;
    count("get", found.is_ok());
    found
}

async fn open(
    shared: &Shared,
    path: &str,
    query: &FileQuery,
    headers: &HeaderMap,
    busy: Busy,
) -> Result<Response, Problem> {
    let path = parse(path)?;
    let file = shared.client.find(&path, query.version.as_deref(), query.mode()).await?;
    need_file(file.kind(), &path)?;
    if let Some(mut not_modified) = judged(&file, headers)? {
        describe(not_modified.headers_mut(), &file, None);
        return Ok(not_modified);
    }
    let bytes = file.bytes();
    let version = file.version();
    let fits = current(&version, &file).fits_range(headers, SystemTime::now());
    let wanted = headers.get(header::RANGE).filter(|_| fits).and_then(|range| range.to_str().ok());
    let (status, range) = match wanted.map(|range| parse_range(range, bytes)) {
        None | Some(Wanted::Whole) => (StatusCode::OK, 0..bytes),
        Some(Wanted::Part(range)) => (StatusCode::PARTIAL_CONTENT, range),
        Some(Wanted::Outside) => {
            let why = format!("the range is outside the file's {bytes} bytes");
            let mut response =
                Problem::new(StatusCode::RANGE_NOT_SATISFIABLE, Code::Usage, why).into_response();
            set(response.headers_mut(), header::CONTENT_RANGE, &format!("bytes */{bytes}"));
            return Ok(response);
        }
    };
    let place = shared.work.transfer().await?;
    let download = shared.client.read(&file, range.clone()).await?;
    let held = (place, busy);
    let content = download.content.inspect(move |_| {
        let _until_it_has_left = &held;
    });
    let mut response = Body::from_stream(content).into_response();
    *response.status_mut() = status;
    let headers = response.headers_mut();
    describe(headers, &file, Some(range.end - range.start));
    if status == StatusCode::PARTIAL_CONTENT {
        let shown = format!("bytes {}-{}/{bytes}", range.start, range.end - 1);
        set(headers, header::CONTENT_RANGE, &shown);
    }
    Ok(response)
}

fn need_file(kind: ListedKind, path: &FilePath) -> Result<(), Problem> {
    match kind {
        ListedKind::File => Ok(()),
        ListedKind::Link => Err(dfs_server::Error::IsLink(path.to_string()).into()),
        ListedKind::Dir => Err(dfs_server::Error::IsDirectory(path.to_string()).into()),
    }
}

fn current<'a>(version: &'a str, file: &FileRef) -> Current<'a> {
    Current { version, modified_ms: file.modified_ms() }
}

/// The answer to a request whose conditions end it; `None` where it goes on.
fn judged(file: &FileRef, headers: &HeaderMap) -> Result<Option<Response>, Problem> {
    match current(&file.version(), file).judge(headers) {
        Verdict::GoesOn => Ok(None),
        Verdict::NotModified => Ok(Some(StatusCode::NOT_MODIFIED.into_response())),
        Verdict::Failed => Err(dfs_server::Error::Condition.into()),
    }
}

/// Says of which version an answer is, and how long it is, if it is that at all.
fn describe(headers: &mut HeaderMap, file: &FileRef, len: Option<u64>) {
    let version = file.version();
    set(headers, header::ETAG, &format!("\"{version}\""));
    set(headers, header::LAST_MODIFIED, &current(&version, file).last_modified());
    if let Some(len) = len {
        set(headers, header::CONTENT_LENGTH, &len.to_string());
    }
    set(headers, header::CONTENT_TYPE, "application/octet-stream");
    set(headers, header::ACCEPT_RANGES, "bytes");
    headers.insert("dfs-modified-ms", HeaderValue::from(file.modified_ms()));
    let guarded = if file.is_guarded() { "true" } else { "false" };
    headers.insert(GUARDED, HeaderValue::from_static(guarded));
    let Attributes { permissions, mtime, .. } = file.attributes();
    let text = [permissions.map(|said| said.to_string()), mtime.map(|said| said.to_string())];
    for (name, value) in [PERMISSIONS, MTIME].into_iter().zip(text) {
        if let Some(value) = value {
            set(headers, header::HeaderName::from_static(name), &value);
        }
    }
}

/// What a client says of a file beside its content.
fn said(headers: &HeaderMap) -> Result<Attributes, Problem> {
    let text = |name| match headers.get(name).map(HeaderValue::to_str) {
        None => Ok(None),
        Some(Ok(text)) => Ok(Some(text)),
        Some(Err(_)) => Err(Problem::usage(&format!("{name} is no text"))),
    };
    attributes(text(PERMISSIONS)?, text(MTIME)?)
}

/// The same of a query.
pub(super) fn attributes(
    permissions: Option<&str>,
    mtime: Option<&str>,
) -> Result<Attributes, Problem> {
    let bad = |error: AttributeError| Problem::usage(&error.to_string());
    Ok(Attributes {
        permissions: permissions.map(str::parse).transpose().map_err(bad)?,
        mtime: mtime.map(str::parse).transpose().map_err(bad)?,
        ..Attributes::default()
    })
}

fn set(headers: &mut HeaderMap, name: header::HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}

fn count(op: &'static str, ok: bool) {
    let result = if ok { "ok" } else { "error" };
    metrics::counter!("dfs_gateway_requests_total", "op" => op, "result" => result).increment(1);
}

/// The permissions of a file, four octal digits.
pub(crate) const PERMISSIONS: &str = "dfs-permissions";
/// When its content was last changed where it came from, in seconds since 1970.
pub(crate) const MTIME: &str = "dfs-mtime";
/// Whether gateways answered for a name, and not storage nodes alone.
pub(crate) const GUARDED: &str = "dfs-guarded";
