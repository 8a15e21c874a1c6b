//! Accepts connections to the API: a bounded number, each with a bounded wait for its requests.

use std::io;
use std::pin::pin;
use std::time::Duration;

use axum::Router;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

/// Serves up to `connections_max` connections at once until `stop`, then lets requests under way
/// finish. More connections than that wait in the kernel's queue.
///
/// # Cancel safety
/// Dropping this future aborts every request.
pub(super) async fn serve(
    listener: TcpListener,
    app: Router,
    connections_max: usize,
    stop: CancellationToken,
) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => break,
            Some(ended) = connections.join_next() => log_end(ended),
            accepted = listener.accept(), if connections.len() < connections_max => {
                match accepted {
                    Ok((stream, _)) => {
                        connections.spawn(converse(prepared(stream), app.clone(), stop.clone()));
                    }
                    Err(error) => {
                        warn!(%error, "accept failed");
                        tokio::time::sleep(ACCEPT_RETRY).await;
                    }
                }
            }
        }
    }
    drop(listener);
    while let Some(ended) = connections.join_next().await {
        log_end(ended);
    }
}

fn prepared(stream: TcpStream) -> TcpStream {
    // An answer in two writes must not wait for an acknowledgement.
    let _ = stream.set_nodelay(true);
    stream
}

fn log_end(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended {
        warn!(%error, "a request ended badly");
    }
}

/// Answers the requests of one connection.
async fn converse(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    app: Router,
    stop: CancellationToken,
) {
    let mut builder = Builder::new(TokioExecutor::new()).http1_only();
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEADER_WAIT_MAX);
    let service = TowerToHyperService::new(app);
    let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service));
    let ended = tokio::select! {
        biased;
        ended = connection.as_mut() => ended,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        let error = io::Error::other(error);
        debug!(%error, "a connection to the API broke");
    }
}

/// Connections at once: sixteen `dfs put -r` of eight files each, and an eighth of the descriptors
/// that a process has where the limit cannot be raised.
pub(super) const CONNECTIONS_MAX: usize = 128;
/// How long a client may take to send the head of its next request. Longer than `dfs` keeps a
/// connection for the next file (15 s), so that none is closed under a request.
const HEADER_WAIT_MAX: Duration = Duration::from_secs(30);
/// Descriptors may be free again by then.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use axum::routing::get;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::time::Instant;

    use super::*;

    const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";

    fn app() -> Router {
        Router::new().route("/", get(async || "here"))
    }

    async fn answer(stream: &mut (impl AsyncRead + Unpin)) -> String {
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        text
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_sends_no_request_is_let_go() {
        for begun in [&b""[..], b"GET / HTTP/1.1\r\nHost: lo"] {
            let (mut client, server) = tokio::io::duplex(1024);
            client.write_all(begun).await.unwrap();
            let since = Instant::now();
            converse(server, app(), CancellationToken::new()).await;
            assert!(since.elapsed() >= HEADER_WAIT_MAX);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_above_the_bound_waits_for_one_to_end() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let serving = tokio::spawn(serve(listener, app(), 1, stop.clone()));
        let since = Instant::now();
        let _silent = TcpStream::connect(addr).await.unwrap();
        let mut second = TcpStream::connect(addr).await.unwrap();
        second.write_all(REQUEST).await.unwrap();
        assert!(answer(&mut second).await.ends_with("here"));
        assert!(since.elapsed() >= HEADER_WAIT_MAX);
        stop.cancel();
        serving.await.unwrap();
    }

    #[tokio::test]
    async fn a_stop_lets_idle_connections_go_at_once() {
        let (_client, server) = tokio::io::duplex(1024);
        let stop = CancellationToken::new();
        stop.cancel();
        converse(server, app(), stop).await;
    }
}
