//! Members that are taken out.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use serde::{Deserialize, Serialize};

use super::Shared;
use super::errors::Problem;

/// What became of a member.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberView {
    /// Its id.
    pub id: String,
    /// What it is now, as the list of peers says it.
    pub state: String,
}

pub(super) async fn drain(
    State(shared): State<Arc<Shared>>,
    Path(node): Path<String>,
) -> Result<Json<MemberView>, Problem> {
    let id = shared.client.drain(&node).await?;
    Ok(Json(MemberView { id, state: "draining".to_owned() }))
}

pub(super) async fn remove(
    State(shared): State<Arc<Shared>>,
    Path(node): Path<String>,
) -> Result<Json<MemberView>, Problem> {
    let id = shared.client.remove_member(&node).await?;
    Ok(Json(MemberView { id, state: "left".to_owned() }))
}
