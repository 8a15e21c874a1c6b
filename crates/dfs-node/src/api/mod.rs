//! The local HTTP API: what the CLI uses, and any program of the same user may.
//!
//! Loopback by default; every request carries a token: of a file that only this user can read, or
//! one that was given to a program.
//! `Host` and `Origin` are checked, so that no web page can reach it through a browser.

mod conditions;
#[cfg(test)]
mod contract;
mod errors;
mod files;
mod heads;
mod history;
mod hosts;
mod invites;
mod layout;
mod list;
mod members;
mod metrics;
mod moving;
mod openapi;
mod patient;
mod preconditions;
mod query;
mod range;
mod remedies;
mod repair;
mod scrub;
mod serve;
mod shared;
mod status;
mod token_verbs;
mod tokens;
mod upload;
mod views;
mod watch;
mod well_formed;
mod work;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::StatusCode;
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get, post};
use axum::{Extension, Router};
use dfs_env::{BoxFuture, Env};
use dfs_server::Client;
use metrics_exporter_prometheus::PrometheusBuilder;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

pub use errors::ErrorBody;
pub use tokens::{TokenView, Tokens};
pub use views::{AdmittedView, ListPage, MemberView, OfPath};

use crate::exit::Code;
use crate::limits::connections_max;
use errors::Problem;
pub(crate) use files::{GUARDED, MTIME, PERMISSIONS};
use shared::Shared;
use tokens::Access;
use upload::{Rests, Upload};
use work::Work;

/// The API of one node.
#[derive(Debug)]
pub struct Api {
    shared: Arc<Shared>,
}

impl Api {
    /// Prepares the API.
    ///
    /// # Errors
    /// A second metrics recorder in one process.
    pub fn new(
        env: &Env,
        client: Client,
        tokens: Tokens,
        addr: SocketAddr,
        hosts: Vec<String>,
    ) -> anyhow::Result<Self> {
        let metrics = PrometheusBuilder::new().install_recorder()?;
        let (rests, work) = (Rests::new(env), Work::default());
        Ok(Self {
            shared: Arc::new(Shared {
                env: env.clone(),
                client,
                tokens,
                addr,
                hosts,
                metrics,
                rests,
                work,
            }),
        })
    }

    /// Serves until `stop`, then lets requests under way finish.
    // The future is boxed here, so that the program does not build all of it once more.
    pub fn serve(self, listener: TcpListener, stop: CancellationToken) -> BoxFuture<'static, ()> {
        Box::pin(self.route(listener, stop))
    }

    async fn route(self, listener: TcpListener, stop: CancellationToken) {
        let files = get(files::get).head(files::head).put(files::put).delete(files::delete);
        let about_node = Router::new()
            .route("/v1/status", get(status::status))
            .route("/v1/peers", get(status::peers))
            .route("/v1/proofs", get(status::proofs))
            .route("/v1/repair", get(repair::status))
            .route("/v1/repair/{verb}", post(repair::tell))
            .route("/v1/scrub", get(scrub::status))
            .route("/v1/scrub/{verb}", post(scrub::tell))
            .route("/metrics", get(metrics::metrics))
            .route_layer(middleware::from_fn_with_state(self.shared.clone(), work::about_node));
        let among_names = Router::new()
            .route("/v1/list", get(list::list))
            .route("/v1/stat/{*path}", get(list::stat))
            .route("/v1/usage", get(list::usage))
            .route("/v1/log/{*path}", get(history::log))
            .route("/v1/history", get(history::history))
            .route("/v1/purge/{*path}", post(history::purge))
            .route("/v1/restore/{*path}", post(history::restore))
            .route("/v1/copy/{*path}", post(moving::copy))
            .route("/v1/move/{*path}", post(moving::rename))
            .route("/v1/mkdir/{*path}", post(moving::make_dir))
            .route("/v1/rmdir/{*path}", post(moving::remove_dir))
            .route("/v1/link/{*path}", post(moving::make_link))
            .route("/v1/attributes/{*path}", post(moving::set_attributes))
            .route("/v1/conflicts", get(history::conflicts))
            .route("/v1/unreadable", get(repair::unreadable))
            .route("/v1/invites", get(invites::list).post(invites::make))
            .route("/v1/invites/{id}/revoke", post(invites::revoke))
            .route("/v1/members/{node}/admit", post(members::admit))
            .route("/v1/members/{node}/drain", post(members::drain))
            .route("/v1/members/{node}/remove", post(members::remove))
            .route("/v1/layout/{how}/{nodes}", post(layout::go_on))
            .route("/v1/tokens", get(token_verbs::list).post(token_verbs::create))
            .route("/v1/tokens/{name}/revoke", post(token_verbs::revoke))
            .route("/v1/key-backup", post(status::key_backup))
            .route_layer(middleware::from_fn_with_state(self.shared.clone(), work::among_names));
        let watches = Router::new()
            .route("/v1/watch", get(watch::names))
            .route("/v1/events", get(watch::health))
            .layer(Extension(watch::Ending(stop.clone())));
        let guarded = Router::new()
            .route("/v1/files/{*path}", files)
            .route("/v1/files/", any(async || Problem::usage("the name is empty")))
            .merge(among_names)
            .merge(watches)
            .route_layer(middleware::from_fn_with_state(
                self.shared.clone(),
                work::after_first_dials,
            ))
            .merge(about_node)
            .layer(DefaultBodyLimit::disable())
            .layer(middleware::from_fn_with_state(self.shared.clone(), authorize));
        let crowded = self.shared.work.crowded();
        let app = Router::new()
            .merge(guarded)
            .route("/livez", get(async || "ok\n"))
            .route("/readyz", get(status::readyz))
            .route("/v1/openapi.json", get(openapi::document))
            .fallback(async || Problem::no_endpoint())
            .layer(middleware::from_fn(well_formed::refuse_malformed))
            .layer(middleware::from_fn_with_state(self.shared.clone(), hosts::refuse_browsers))
            .with_state(self.shared);
        serve::serve(listener, app, connections_max(), crowded, stop).await;
    }
}

async fn authorize(
    State(shared): State<Arc<Shared>>,
    mut request: Request<Body>,
    next: Next,
) -> Response {
    let access = shared.tokens.access(request.headers());
    let asks = request.method().is_safe();
    let (status, why) = match access {
        Some(Access::Read) if !asks => {
            (StatusCode::FORBIDDEN, "this token may only read; its owner can give another")
        }
        Some(access) => {
            request.extensions_mut().insert(access);
            return next.run(request).await;
        }
        None => (StatusCode::UNAUTHORIZED, "a bearer token is required"),
    };
    let (parts, body) = request.into_parts();
    let rest = Upload::new(&parts.headers, body, shared.work.crowded());
    shared.rests.drop_later(rest, status);
    Problem::new(status, Code::Key, why).into_response()
}

/// How long requests under way may take when the node stops.
pub const DRAIN_MAX: Duration = Duration::from_secs(4);
