//! Invites of machines into the cluster.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use dfs_core::address::Address;
use dfs_server::{InviteView, InviteWish, NewInvite};
use serde::Deserialize;

use super::errors::Problem;
use super::query::{Path, Query};
use super::shared::Shared;
use crate::config::parse_time;

/// What a new invite should grant.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct WishQuery {
    role: Option<String>,
    cap: Option<u64>,
    expires: Option<String>,
    name: String,
    address: Option<String>,
}

impl WishQuery {
    fn wish(self) -> Result<InviteWish, Problem> {
        let gateway = match self.role.as_deref() {
            None | Some("storage") => false,
            Some("gateway") => true,
            Some(_) => return Err(Problem::usage("a role is storage or gateway")),
        };
        let lives = self.expires.map(|text| parse_time(&text)).transpose();
        let lives = lives.map_err(|why| Problem::usage(&why))?;
        let parse = |text: &str| text.parse::<Address>();
        let addrs = self.address.as_deref().map(|all| all.split(',').map(parse).collect());
        let addrs = addrs.transpose().map_err(|why: dfs_core::address::AddressError| {
            Problem::usage(&format!("address: {why}"))
        })?;
        let addrs = addrs.unwrap_or_default();
        Ok(InviteWish { gateway, cap: self.cap, lives, name: self.name, addrs })
    }
}

pub(super) async fn make(
    State(shared): State<Arc<Shared>>,
    Query(query): Query<WishQuery>,
) -> Result<Json<NewInvite>, Problem> {
    Ok(Json(shared.client.invite(query.wish()?).await?))
}

pub(super) async fn list(
    State(shared): State<Arc<Shared>>,
) -> Result<Json<Vec<InviteView>>, Problem> {
    Ok(Json(shared.client.invites().await?))
}

pub(super) async fn revoke(
    State(shared): State<Arc<Shared>>,
    Path(id): Path<String>,
) -> Result<Json<InviteView>, Problem> {
    Ok(Json(shared.client.revoke_invite(&id).await?))
}
