//! `/v1/status`, `/v1/peers`, `/v1/proofs`, `/readyz` and the note of a key backup.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use dfs_server::health::Health;
use dfs_server::{PeerView, ProofView};
use serde::Deserialize;

use super::errors::Problem;
use super::query::Query;
use super::remedies::{told, with_remedy};
use super::shared::Shared;

pub(super) async fn status(State(shared): State<Arc<Shared>>) -> Result<Json<Health>, Problem> {
    Ok(Json(with_remedy(shared.client.health().await?)))
}

pub(super) async fn peers(State(shared): State<Arc<Shared>>) -> Json<Vec<PeerView>> {
    Json(shared.client.peers())
}

pub(super) async fn proofs(State(shared): State<Arc<Shared>>) -> Json<Vec<ProofView>> {
    Json(shared.client.proofs())
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
    headers: HeaderMap,
) -> Response {
    let reasons = shared.client.not_ready();
    let status = if reasons.is_empty() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let text = match (reasons.is_empty(), query.verbose) {
        (true, Some(_)) if shared.tokens.access(&headers).is_some() => {
            let notes = shared.client.notes().into_iter();
            let notes = notes.map(|note| format!("note: {}\n", told(note)));
            std::iter::once("ready\n".to_owned()).chain(notes).collect()
        }
        (true, _) => "ready\n".to_owned(),
        (false, None) => "not ready\n".to_owned(),
        (false, Some(_)) if shared.tokens.access(&headers).is_some() => {
            reasons.into_iter().map(|reason| format!("{}\n", told(reason))).collect()
        }
        // A probe has no token, and whoever asks without one is not told of peers.
        (false, Some(_)) => reasons.iter().map(|reason| format!("{}\n", reason.short())).collect(),
    };
    (status, text).into_response()
}
