//! Giving tokens to programs, and taking them back: only with the node's own.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::{Extension, Json};
use serde::Deserialize;

use super::errors::Problem;
use super::query::{Path, Query};
use super::shared::Shared;
use super::tokens::{Access, TokenView};
use crate::exit::Code;

/// The token to make.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct WishedToken {
    name: String,
    read_only: bool,
}

pub(super) async fn create(
    State(shared): State<Arc<Shared>>,
    Extension(access): Extension<Access>,
    Query(wish): Query<WishedToken>,
) -> Result<Json<TokenView>, Problem> {
    need_own(access)?;
    let env = shared.env.clone();
    let made = env.offload(move || shared.tokens.create(&wish.name, wish.read_only)).await;
    Ok(Json(made?))
}

pub(super) async fn list(
    State(shared): State<Arc<Shared>>,
    Extension(access): Extension<Access>,
) -> Result<Json<Vec<TokenView>>, Problem> {
    need_own(access)?;
    Ok(Json(shared.tokens.list()))
}

pub(super) async fn revoke(
    State(shared): State<Arc<Shared>>,
    Extension(access): Extension<Access>,
    Path(name): Path<String>,
) -> Result<Json<TokenView>, Problem> {
    need_own(access)?;
    let env = shared.env.clone();
    Ok(Json(env.offload(move || shared.tokens.revoke(&name)).await?))
}

/// A program that could give tokens would keep its access after its own was revoked.
fn need_own(access: Access) -> Result<(), Problem> {
    match access {
        Access::Own => Ok(()),
        Access::Read | Access::Write => {
            let why = "tokens are given with the node's own token only";
            Err(Problem::new(StatusCode::FORBIDDEN, Code::Key, why))
        }
    }
}
