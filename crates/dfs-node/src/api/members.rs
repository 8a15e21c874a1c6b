//! Members that are taken out.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use dfs_server::PeerState;

use super::errors::Problem;
use super::shared::Shared;
use super::views::MemberView;

pub(super) async fn drain(
    State(shared): State<Arc<Shared>>,
    Path(node): Path<String>,
) -> Result<Json<MemberView>, Problem> {
    let member = shared.client.drain(&node).await?;
    Ok(Json(MemberView::new(member, PeerState::Draining)))
}

pub(super) async fn remove(
    State(shared): State<Arc<Shared>>,
    Path(node): Path<String>,
) -> Result<Json<MemberView>, Problem> {
    let member = shared.client.remove_member(&node).await?;
    Ok(Json(MemberView::new(member, PeerState::Left)))
}
