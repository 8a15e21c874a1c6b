//! Members that are let in and taken out.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use dfs_server::{CAP, PeerState, Running};
use serde::Deserialize;

use super::errors::Problem;
use super::query::{Path, Query};
use super::shared::Shared;
use super::views::{AdmittedView, MemberView};

pub(super) async fn drain(
    State(shared): State<Arc<Shared>>,
    Path(node): Path<String>,
) -> Result<Json<MemberView>, Problem> {
    let member = shared.client.drain(&node).await?;
    Ok(Json(MemberView::new(member, PeerState::Draining)))
}

#[derive(Debug, Deserialize)]
pub(super) struct AdmitQuery {
    cap: Option<u64>,
}

pub(super) async fn admit(
    State(shared): State<Arc<Shared>>,
    Path(node): Path<String>,
    Query(query): Query<AdmitQuery>,
) -> Result<Json<AdmittedView>, Problem> {
    let admitted = shared.client.admit(&node, query.cap.unwrap_or(CAP)).await?;
    Ok(Json(AdmittedView::new(admitted)))
}

#[derive(Debug, Deserialize)]
pub(super) struct RemoveQuery {
    #[serde(default)]
    force: bool,
}

pub(super) async fn remove(
    State(shared): State<Arc<Shared>>,
    Path(node): Path<String>,
    Query(query): Query<RemoveQuery>,
) -> Result<Json<MemberView>, Problem> {
    let running = if query.force { Running::Evicted } else { Running::Stays };
    let member = shared.client.remove_member(&node, running).await?;
    Ok(Json(MemberView::new(member, PeerState::Left)))
}
