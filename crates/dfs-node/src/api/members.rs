//! Members that are taken out.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use dfs_server::Departure;
use serde::{Deserialize, Serialize};

use super::errors::Problem;
use super::shared::Shared;

/// What became of a member.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberView {
    /// Its id.
    pub id: String,
    /// What it is now, as the list of peers says it.
    pub state: String,
    /// How many copies of everything there are without it.
    pub copies: usize,
    /// How many there should be.
    pub copies_wanted: usize,
}

pub(super) fn view(member: Departure, state: &str) -> Json<MemberView> {
    let Departure { id, copies, copies_wanted } = member;
    Json(MemberView { id, state: state.to_owned(), copies, copies_wanted })
}

pub(super) async fn drain(
    State(shared): State<Arc<Shared>>,
    Path(node): Path<String>,
) -> Result<Json<MemberView>, Problem> {
    Ok(view(shared.client.drain(&node).await?, "draining"))
}

pub(super) async fn remove(
    State(shared): State<Arc<Shared>>,
    Path(node): Path<String>,
) -> Result<Json<MemberView>, Problem> {
    Ok(view(shared.client.remove_member(&node).await?, "left"))
}
