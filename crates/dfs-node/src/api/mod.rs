//! The local HTTP API: what the CLI uses, and any program of the same user may.
//!
//! Loopback by default; every request carries the token of a file that only this user can read.
//! `Host` and `Origin` are checked, so that no web page can reach it through a browser.

mod conditions;
#[cfg(test)]
mod contract;
mod errors;
mod files;
mod heads;
mod history;
mod invites;
mod layout;
mod list;
mod members;
mod metrics;
mod moving;
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
mod upload;
mod views;
mod well_formed;
mod work;

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get, post};
use dfs_core::id::hex;
use dfs_env::{BoxFuture, Env, write_replacing};
use dfs_server::Client;
use metrics_exporter_prometheus::PrometheusBuilder;
use subtle::ConstantTimeEq;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

pub use errors::ErrorBody;
pub use views::{AdmittedView, ListPage, MemberView, OfPath};

use crate::exit::Code;
use crate::limits::connections_max;
use errors::Problem;
pub(crate) use files::GUARDED;
use shared::Shared;
use upload::{Rests, Upload};
use work::Work;

/// The API of one node.
#[derive(Debug)]
pub struct Api {
    shared: Arc<Shared>,
}

/// Makes a token that only this user can read, new at every start.
///
/// # Errors
/// The disk refuses.
pub fn new_token(env: &Env, path: &Path) -> std::io::Result<String> {
    let token = hex(&env.random::<32>());
    write_replacing(env.fs(), path, token.as_bytes())?;
    Ok(token)
}

impl Api {
    /// Prepares the API.
    ///
    /// # Errors
    /// A second metrics recorder in one process.
    pub fn new(env: &Env, client: Client, token: String, addr: SocketAddr) -> anyhow::Result<Self> {
        let metrics = PrometheusBuilder::new().install_recorder()?;
        let (rests, work) = (Rests::new(env), Work::default());
        Ok(Self { shared: Arc::new(Shared { client, token, addr, metrics, rests, work }) })
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
            .route("/v1/log/{*path}", get(history::log))
            .route("/v1/restore/{*path}", post(history::restore))
            .route("/v1/copy/{*path}", post(moving::copy))
            .route("/v1/move/{*path}", post(moving::rename))
            .route("/v1/mkdir/{*path}", post(moving::make_dir))
            .route("/v1/conflicts", get(history::conflicts))
            .route("/v1/unreadable", get(repair::unreadable))
            .route("/v1/invites", get(invites::list).post(invites::make))
            .route("/v1/invites/{id}/revoke", post(invites::revoke))
            .route("/v1/members/{node}/admit", post(members::admit))
            .route("/v1/members/{node}/drain", post(members::drain))
            .route("/v1/members/{node}/remove", post(members::remove))
            .route("/v1/layout/{how}/{nodes}", post(layout::go_on))
            .route("/v1/key-backup", post(status::key_backup))
            .route_layer(middleware::from_fn_with_state(self.shared.clone(), work::among_names));
        let guarded = Router::new()
            .route("/v1/files/{*path}", files)
            .route("/v1/files/", any(async || Problem::usage("the name is empty")))
            .merge(among_names)
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
            .fallback(async || Problem::no_endpoint())
            .layer(middleware::from_fn(well_formed::refuse_malformed))
            .layer(middleware::from_fn_with_state(self.shared.clone(), refuse_browsers))
            .with_state(self.shared);
        serve::serve(listener, app, connections_max(), crowded, stop).await;
    }
}

/// A page in a browser can send requests here, but not without its `Origin`. After DNS rebinding it
/// has none, but then `Host` is the name of its own site.
async fn refuse_browsers(
    State(shared): State<Arc<Shared>>,
    request: Request,
    next: Next,
) -> Response {
    let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok());
    let known_host = host.is_some_and(|host| is_own_host(host, shared.addr));
    if request.headers().contains_key(header::ORIGIN) || !known_host {
        let why = "requests from web pages are refused";
        return Problem::new(StatusCode::FORBIDDEN, Code::Key, why).into_response();
    }
    next.run(request).await
}

fn is_own_host(host: &str, addr: SocketAddr) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    let name = name.trim_start_matches('[').trim_end_matches(']');
    match name.parse::<IpAddr>() {
        Ok(ip) => ip.is_loopback() || ip == addr.ip() || !addr.ip().is_loopback(),
        Err(_) => name == "localhost",
    }
}

async fn authorize(
    State(shared): State<Arc<Shared>>,
    request: Request<Body>,
    next: Next,
) -> Response {
    if !has_token(request.headers(), &shared) {
        let (parts, body) = request.into_parts();
        let rest = Upload::new(&parts.headers, body, shared.work.crowded());
        shared.rests.drop_later(rest, StatusCode::UNAUTHORIZED);
        let why = "a bearer token is required";
        return Problem::new(StatusCode::UNAUTHORIZED, Code::Key, why).into_response();
    }
    next.run(request).await
}

/// Whether a request carries this node's token.
fn has_token(headers: &HeaderMap, shared: &Shared) -> bool {
    let given = headers.get(header::AUTHORIZATION);
    let given = given.and_then(|value| value.as_bytes().strip_prefix(b"Bearer "));
    given.is_some_and(|given| bool::from(given.ct_eq(shared.token.as_bytes())))
}

/// How long requests under way may take when the node stops.
pub const DRAIN_MAX: Duration = Duration::from_secs(4);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_addresses_of_this_host_are_accepted_as_host() {
        let addr: SocketAddr = "127.0.0.1:4321".parse().unwrap();
        for host in ["127.0.0.1:4321", "localhost:4321", "[::1]:4321", "127.0.0.1"] {
            assert!(is_own_host(host, addr), "{host}");
        }
        for host in ["evil.example:4321", "10.0.0.1:4321", ""] {
            assert!(!is_own_host(host, addr), "{host}");
        }
    }
}
