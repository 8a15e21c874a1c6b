//! The repair of this node, and the files that cannot be read.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, Query, State};
use dfs_server::{Fate, Mode, RepairState, RepairView, Unreadable};
use serde::{Deserialize, Serialize};

use super::errors::Problem;
use super::history::LogLine;
use super::query::{ModeName, parse_dir};
use super::shared::Shared;

/// How far a node is with fetching what it should hold and does not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RepairStatus {
    /// `idle`, `running` or `paused`.
    pub state: String,
    /// Pieces that it should hold and does not.
    pub missing: u64,
    /// Of these, pieces of existing files of which no replica has a good copy.
    pub lost: u64,
    /// Of these, pieces that only members may have that are away.
    pub away: u64,
    /// Whether everything was looked at: else more may be missing.
    pub looked_through: bool,
    /// Bytes a second, measured over the last seconds.
    pub bytes_per_second: u64,
    /// Bytes to fetch, estimated from those that came last.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub bytes_left: Option<u64>,
    /// How many seconds that takes at this speed.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub seconds_left: Option<u64>,
}

impl From<RepairView> for RepairStatus {
    fn from(view: RepairView) -> Self {
        let state = match view.state {
            RepairState::Idle => "idle",
            RepairState::Running => "running",
            RepairState::Paused => "paused",
        };
        Self {
            state: state.to_owned(),
            missing: view.missing,
            lost: view.lost,
            away: view.away,
            looked_through: view.looked_through,
            bytes_per_second: view.bytes_per_second,
            bytes_left: view.bytes_left,
            seconds_left: view.time_left.map(|left| left.as_secs()),
        }
    }
}

/// A version of which a piece cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnreadableLine {
    /// The whole path.
    pub path: String,
    /// `lost` when every node that could have the piece answered, `out-of-reach` otherwise.
    pub fate: String,
    /// The version.
    #[serde(flatten)]
    pub version: LogLine,
}

impl From<Unreadable> for UnreadableLine {
    fn from(unreadable: Unreadable) -> Self {
        let fate = match unreadable.fate {
            Fate::Lost => "lost",
            Fate::OutOfReach => "out-of-reach",
        };
        let version = unreadable.version.into();
        Self { path: unreadable.path, fate: fate.to_owned(), version }
    }
}

/// A page of the versions that cannot be read.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct UnreadableList {
    /// In byte order of their paths.
    pub unreadable: Vec<UnreadableLine>,
    /// What to give as `after` for the next page; absent on the last.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub next: Option<String>,
}

#[derive(Debug, Deserialize)]
pub(super) struct UnreadableQuery {
    #[serde(default)]
    dir: String,
    #[serde(default)]
    after: String,
    mode: Option<ModeName>,
}

pub(super) async fn status(State(shared): State<Arc<Shared>>) -> Json<RepairStatus> {
    Json(shared.client.repair().into())
}

pub(super) async fn tell(
    State(shared): State<Arc<Shared>>,
    Path(verb): Path<String>,
) -> Result<Json<RepairStatus>, Problem> {
    let client = &shared.client;
    let view = match verb.as_str() {
        "start" => client.start_repair().await?,
        "pause" => client.pause_repair().await?,
        "resume" => client.resume_repair().await?,
        _ => return Err(Problem::no_endpoint()),
    };
    Ok(Json(view.into()))
}

pub(super) async fn unreadable(
    State(shared): State<Arc<Shared>>,
    Query(query): Query<UnreadableQuery>,
) -> Result<Json<UnreadableList>, Problem> {
    let dir = parse_dir(&query.dir)?;
    let mode = query.mode.map_or(Mode::Default, ModeName::mode);
    let page = shared.client.unreadable(&dir, &query.after, mode).await?;
    let unreadable = page.unreadable.into_iter().map(UnreadableLine::from).collect();
    Ok(Json(UnreadableList { unreadable, next: page.next }))
}
