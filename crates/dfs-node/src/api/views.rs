//! What the API shows, as JSON: the names that other programs rely on.

use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use axum::Json;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use dfs_core::name::FilePath;
use dfs_server::health::Health;
use dfs_server::{Listed, ListedKind, Mode, PeerState, PeerView, Stat, Stored};
use serde::{Deserialize, Serialize};

use super::Shared;
use super::errors::Problem;
use super::scrub;
use crate::exit::Code;

/// A consistency mode as it is written.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum ModeName {
    Quorum,
    Available,
}

impl ModeName {
    pub(crate) fn mode(self) -> Mode {
        match self {
            Self::Quorum => Mode::Quorum,
            Self::Available => Mode::Available,
        }
    }
}

/// A stored file.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct StoredView {
    /// Its path.
    pub path: String,
    /// Its version.
    pub version: String,
    /// Bytes of content.
    pub bytes: u64,
    /// Durable copies of the least replicated piece.
    pub copies: usize,
    /// Copies there will be.
    pub wanted: usize,
    /// `quorum` or `available`.
    pub mode: String,
}

impl StoredView {
    pub(crate) fn new(path: &FilePath, stored: Stored) -> Self {
        Self {
            path: path.to_string(),
            version: stored.version,
            bytes: stored.bytes,
            copies: stored.copies,
            wanted: stored.wanted,
            mode: if stored.quorum { "quorum" } else { "available" }.to_owned(),
        }
    }
}

/// One line of a listing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileView {
    /// The whole path.
    pub path: String,
    /// `file` or `dir`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Bytes of content.
    pub bytes: u64,
    /// When it was written, in RFC 3339.
    pub modified: String,
    /// Its version.
    pub version: String,
}

impl From<Listed> for FileView {
    fn from(listed: Listed) -> Self {
        Self {
            path: listed.path,
            kind: kind_name(listed.kind).to_owned(),
            bytes: listed.bytes,
            modified: rfc3339(listed.modified_ms),
            version: listed.version,
        }
    }
}

pub(super) fn kind_name(kind: ListedKind) -> &'static str {
    match kind {
        ListedKind::File => "file",
        ListedKind::Dir => "dir",
    }
}

/// A page of a listing.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ListPage {
    /// Entries in byte order of their paths.
    pub entries: Vec<FileView>,
    /// What to give as `after` for the next page; absent on the last.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub next: Option<String>,
}

/// Everything about one file.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct StatView {
    /// Its path.
    pub path: String,
    /// `file` or `dir`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Its version.
    pub version: String,
    /// Bytes of content.
    pub bytes: u64,
    /// When it was written, in RFC 3339.
    pub modified: String,
    /// Chunks of content.
    pub chunks: u64,
    /// Durable copies of the least replicated piece, counted now.
    pub copies: usize,
    /// Copies there should be.
    pub wanted: usize,
    /// Other versions that wait for a decision.
    pub conflicts: usize,
}

impl StatView {
    pub(super) fn new(path: &FilePath, stat: Stat) -> Self {
        Self {
            path: path.to_string(),
            kind: kind_name(stat.kind).to_owned(),
            version: stat.version,
            bytes: stat.bytes,
            modified: rfc3339(stat.modified_ms),
            chunks: stat.chunks,
            copies: stat.copies,
            wanted: stat.wanted,
            conflicts: stat.conflicts,
        }
    }
}

/// One peer.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PeerLine {
    /// The node's id.
    pub id: String,
    /// Where it listens.
    pub addr: String,
    /// Its failure domain.
    pub zone: String,
    /// How it is doing.
    pub state: String,
    /// Whether it is the node that was asked.
    #[serde(rename = "self")]
    pub is_self: bool,
    /// Bytes it holds.
    pub bytes: u64,
    /// Bytes it offers.
    pub capacity: u64,
}

impl From<PeerView> for PeerLine {
    fn from(peer: PeerView) -> Self {
        let state = match peer.state {
            PeerState::Joining => "joining",
            PeerState::Alive => "alive",
            PeerState::Suspect => "suspect",
            PeerState::Down => "down",
            PeerState::Draining => "draining",
            PeerState::Out => "out",
            PeerState::Left => "left",
        };
        Self {
            id: peer.id,
            addr: peer.addr,
            zone: peer.zone,
            state: state.to_owned(),
            is_self: peer.is_self,
            bytes: peer.bytes,
            capacity: peer.capacity,
        }
    }
}

/// A moment as RFC 3339 in UTC, to the second.
pub(super) fn rfc3339(unix_ms: u64) -> String {
    let moment = UNIX_EPOCH + Duration::from_millis(unix_ms.min(LAST_MOMENT_MS));
    humantime::format_rfc3339_seconds(moment).to_string()
}

#[derive(Debug, Deserialize)]
pub(super) struct ListQuery {
    #[serde(default)]
    prefix: String,
    delimiter: Option<String>,
    #[serde(default)]
    after: String,
    limit: Option<usize>,
    mode: Option<ModeName>,
}

pub(super) async fn list(
    State(shared): State<Arc<Shared>>,
    Query(query): Query<ListQuery>,
) -> Result<Json<ListPage>, Problem> {
    let recursive = match query.delimiter.as_deref() {
        None | Some("") => true,
        Some("/") => false,
        Some(_) => {
            return Err(Problem::new(
                StatusCode::BAD_REQUEST,
                Code::Usage,
                "the only delimiter is '/'",
            ));
        }
    };
    let limit = query.limit.unwrap_or(LIST_DEFAULT).clamp(1, LIST_MAX);
    let mode = query.mode.map_or(Mode::Default, ModeName::mode);
    let (prefix, after) = (&query.prefix, &query.after);
    let page = shared.client.list(prefix, recursive, after, limit, mode).await?;
    let next = page.entries.last().filter(|_| page.more).map(Listed::order);
    Ok(Json(ListPage { entries: page.entries.into_iter().map(FileView::from).collect(), next }))
}

#[derive(Debug, Deserialize)]
pub(super) struct ModeQuery {
    mode: Option<ModeName>,
}

impl ModeQuery {
    pub(super) fn mode(&self) -> Mode {
        self.mode.map_or(Mode::Default, ModeName::mode)
    }
}

#[derive(Debug, Deserialize)]
pub(super) struct StatQuery {
    mode: Option<ModeName>,
    version: Option<String>,
}

/// A path as it is in a URL.
pub(super) fn parse(path: &str) -> Result<FilePath, Problem> {
    FilePath::parse(path).map_err(|error| dfs_server::Error::Name(error).into())
}

pub(super) async fn stat(
    State(shared): State<Arc<Shared>>,
    Path(path): Path<String>,
    Query(query): Query<StatQuery>,
) -> Result<Json<StatView>, Problem> {
    let path = parse(&path)?;
    let mode = query.mode.map_or(Mode::Default, ModeName::mode);
    let stat = shared.client.stat_version(&path, query.version.as_deref(), mode).await?;
    Ok(Json(StatView::new(&path, stat)))
}

pub(super) async fn status(State(shared): State<Arc<Shared>>) -> Result<Json<Health>, Problem> {
    let health = shared.client.health().await?;
    let message = with_remedy(&shared.client, health.message);
    Ok(Json(Health { message, ..health }))
}

pub(super) async fn peers(State(shared): State<Arc<Shared>>) -> Json<Vec<PeerLine>> {
    Json(shared.client.peers().into_iter().map(PeerLine::from).collect())
}

pub(super) async fn key_backup(State(shared): State<Arc<Shared>>) -> Result<StatusCode, Problem> {
    shared.client.note_key_backup().await?;
    Ok(StatusCode::NO_CONTENT)
}

#[derive(Debug, Deserialize)]
pub(super) struct ReadyQuery {
    verbose: Option<String>,
}

pub(super) async fn readyz(
    State(shared): State<Arc<Shared>>,
    Query(query): Query<ReadyQuery>,
) -> Response {
    let reasons = shared.client.not_ready();
    let status = if reasons.is_empty() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let text = match (reasons.is_empty(), query.verbose) {
        (true, _) => "ready\n".to_owned(),
        (false, None) => "not ready\n".to_owned(),
        (false, Some(_)) => {
            let told = reasons.into_iter().map(|reason| with_remedy(&shared.client, reason));
            told.map(|reason| format!("{reason}\n")).collect()
        }
    };
    (status, text).into_response()
}

pub(super) async fn metrics(State(shared): State<Arc<Shared>>) -> Result<String, Problem> {
    let health = shared.client.health().await?;
    let gauge = |name: &'static str, value: u64| {
        #[allow(clippy::cast_precision_loss, reason = "a gauge is a float")]
        metrics::gauge!(name).set(value as f64);
    };
    gauge("dfs_members", health.nodes as u64);
    gauge("dfs_members_alive", health.alive as u64);
    gauge("dfs_cluster_quorum", u64::from(shared.client.not_ready().is_empty()));
    gauge("dfs_layout_epoch", health.epoch);
    gauge("dfs_partitions_moving", health.moving as u64);
    gauge("dfs_files", health.files);
    gauge("dfs_file_bytes", health.bytes);
    gauge("dfs_chunks_under_replicated", health.under_replicated);
    gauge("dfs_chunks_unrecoverable", health.unrecoverable);
    gauge("dfs_repair_queue_chunks", health.repair_queue);
    gauge("dfs_conflicts", health.conflicts);
    gauge("dfs_next_failure_cost", health.next_failure.cost as u64);
    gauge("dfs_unreadable_pieces", health.unreadable);
    gauge("dfs_repair_paused", u64::from(health.repair_paused));
    let copying = health.copying;
    gauge("dfs_repair_missing_chunks", copying.map_or(0, |copying| copying.pieces));
    gauge("dfs_repair_bytes_left", copying.and_then(|copying| copying.bytes).unwrap_or(0));
    gauge("dfs_repair_bytes_per_second", copying.map_or(0, |copying| copying.bytes_per_second));
    gauge("dfs_repair_seconds_left", copying.and_then(|copying| copying.seconds).unwrap_or(0));
    scrub::gauges(&shared.client.scrub());
    for peer in shared.client.peers().into_iter().filter(|peer| peer.is_self) {
        gauge("dfs_chunk_bytes_stored", peer.bytes);
        gauge("dfs_capacity_bytes", peer.capacity);
    }
    metrics::gauge!("dfs_build_info", "version" => env!("CARGO_PKG_VERSION")).set(1.0);
    Ok(shared.metrics.render())
}

/// The end of the year 9999, the last that RFC 3339 can write.
const LAST_MOMENT_MS: u64 = 253_402_300_799_000;
/// Entries of a page unless the caller says otherwise.
pub(super) const LIST_DEFAULT: usize = 1000;
/// Entries of a page at most: a few MiB of JSON.
pub(super) const LIST_MAX: usize = 10_000;
