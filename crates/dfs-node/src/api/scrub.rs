//! The scrub of this node: how far it is, and telling it what to do.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use dfs_server::{ScrubState, ScrubView};
use serde::{Deserialize, Serialize};

use super::errors::Problem;
use super::shared::Shared;
use super::views::rfc3339;

/// How far a node is with reading its disk back.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ScrubStatus {
    /// `idle`, `running` or `paused`.
    pub state: String,
    /// How much of the disk it went through.
    pub percent: f64,
    /// Bytes of blobs that were read and are as they should be.
    pub bytes_verified: u64,
    /// Bytes of blobs that are held.
    pub bytes_total: u64,
    /// Blobs that were gone or not what they should be.
    pub bad: u64,
    /// Blobs that the disk could not read at the time.
    pub unread: u64,
    /// Sums of the index that were not those of their rows.
    pub sums_mended: u64,
    /// Rows of the index that do not decode.
    pub rows_damaged: u64,
    /// Bytes a second, measured over the last seconds.
    pub bytes_per_second: u64,
    /// When the pass under way began, in RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub began: Option<String>,
    /// When the last pass came to its end, in RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub last_complete: Option<String>,
    /// When the next one begins by itself, in RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub next: Option<String>,
}

impl From<ScrubView> for ScrubStatus {
    fn from(view: ScrubView) -> Self {
        let state = match view.state {
            ScrubState::Idle => "idle",
            ScrubState::Running => "running",
            ScrubState::Paused => "paused",
        };
        Self {
            state: state.to_owned(),
            percent: f64::from(view.permille) / 10.0,
            bytes_verified: view.bytes_verified,
            bytes_total: view.bytes_total,
            bad: view.bad,
            unread: view.unread,
            sums_mended: view.sums_mended,
            rows_damaged: view.rows_damaged,
            bytes_per_second: view.bytes_per_second,
            began: view.began_ms.map(rfc3339),
            last_complete: view.last_complete_ms.map(rfc3339),
            next: view.next_ms.map(rfc3339),
        }
    }
}

pub(super) async fn status(State(shared): State<Arc<Shared>>) -> Json<ScrubStatus> {
    Json(shared.client.scrub().into())
}

pub(super) async fn tell(
    State(shared): State<Arc<Shared>>,
    Path(verb): Path<String>,
) -> Result<Json<ScrubStatus>, Problem> {
    let client = &shared.client;
    let view = match verb.as_str() {
        "start" => client.start_scrub().await?,
        "pause" => client.pause_scrub().await?,
        "resume" => client.resume_scrub().await?,
        _ => return Err(Problem::no_endpoint()),
    };
    Ok(Json(view.into()))
}
