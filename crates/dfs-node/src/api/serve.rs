//! Accepts connections to the API: a bounded number, each with a bounded wait for its requests.

use std::collections::BTreeMap;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum::http::{HeaderValue, header};
use axum::middleware::{self, Next};
use axum::response::IntoResponse;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::patient::Patient;
use super::well_formed::refuse_length;
use super::work::Crowded;

/// Serves up to `connections_max` connections at once until `stop`, then lets requests under way
/// finish. One more than that takes the place of the one that has asked nothing for longest; while
/// each is being answered it waits in the kernel's queue.
///
/// # Cancel safety
/// Dropping this future aborts every request.
pub(super) async fn serve(
    listener: TcpListener,
    app: Router,
    connections_max: usize,
    crowded: Crowded,
    stop: CancellationToken,
) {
    let mut connections = JoinSet::new();
    let open = Arc::new(Open::default());
    loop {
        let has_place = connections.len() < connections_max || open.has_idle();
        tokio::select! {
            biased;
            () = stop.cancelled() => break,
            Some(ended) = connections.join_next() => log_end(ended),
            accepted = listener.accept(), if has_place => {
                match accepted {
                    Ok((stream, _)) => {
                        if connections.len() >= connections_max {
                            open.let_idle_go();
                        }
                        let place = open.enter(stop.child_token());
                        let stream = Patient::new(prepared(stream), crowded.clone());
                        connections.spawn(converse(stream, app.clone(), place));
                    }
                    Err(error) => {
                        warn!(%error, "accept failed");
                        tokio::time::sleep(ACCEPT_RETRY).await;
                    }
                }
            }
            () = open.changed.notified(), if !has_place => {}
        }
    }
    drop(listener);
    while let Some(ended) = connections.join_next().await {
        log_end(ended);
    }
}

/// The connections there are, by whether anything is asked on them.
#[derive(Debug, Default)]
struct Open {
    state: Mutex<OpenState>,
    /// One fell idle.
    changed: Notify,
}

#[derive(Debug, Default)]
struct OpenState {
    /// Counts requests and connections: what was idle since a lower number is idle for longer.
    turn: u64,
    idle: BTreeMap<u64, CancellationToken>,
}

/// One connection's place among those that are open.
#[derive(Debug)]
struct Place {
    open: Arc<Open>,
    closing: CancellationToken,
    /// Since which turn it is idle; `None` while something is asked.
    idle_since: Mutex<Option<u64>>,
}

impl Open {
    fn enter(self: &Arc<Self>, closing: CancellationToken) -> Arc<Place> {
        let place = Place { open: self.clone(), closing, idle_since: Mutex::default() };
        place.rest();
        Arc::new(place)
    }

    fn has_idle(&self) -> bool {
        !self.state.lock().idle.is_empty()
    }

    /// Closes the connection that has been idle for longest.
    fn let_idle_go(&self) {
        if let Some((_, closing)) = self.state.lock().idle.pop_first() {
            closing.cancel();
        }
    }
}

impl Place {
    /// Something is asked until the last clone of the returned guard is dropped.
    fn busy(self: &Arc<Self>) -> Busy {
        let turn = self.idle_since.lock().take();
        if let Some(turn) = turn {
            self.open.state.lock().idle.remove(&turn);
        }
        Busy { _guard: Arc::new(Guard(self.clone())) }
    }

    fn rest(&self) {
        let turn = {
            let mut state = self.open.state.lock();
            state.turn += 1;
            let turn = state.turn;
            state.idle.insert(turn, self.closing.clone());
            turn
        };
        *self.idle_since.lock() = Some(turn);
        self.open.changed.notify_one();
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(turn) = self.idle_since.get_mut().take() {
            self.open.state.lock().idle.remove(&turn);
        }
    }
}

/// A request under way, among the extensions of the request. An answer that is made while it leaves
/// keeps it until it has left.
#[derive(Debug, Clone)]
pub(super) struct Busy {
    _guard: Arc<Guard>,
}

#[derive(Debug)]
struct Guard(Arc<Place>);

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.rest();
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
async fn converse<S>(stream: Patient<S>, app: Router, place: Arc<Place>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let heads = stream.heads();
    let mut builder = Builder::new(TokioExecutor::new()).http1_only();
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEADER_WAIT_MAX);
    let closing = place.closing.clone();
    let answering = middleware::from_fn(move |mut request: Request, next: Next| {
        let busy = place.busy();
        let bad_length = heads.next();
        let ends_here =
            bad_length.is_some() || request.headers().contains_key(header::TRANSFER_ENCODING);
        request.extensions_mut().insert(busy.clone());
        async move {
            let mut response = match bad_length {
                Some(bad) => refuse_length(bad).into_response(),
                None => next.run(request).await,
            };
            if ends_here {
                // Of what may follow such a body nobody has read the head.
                response.headers_mut().insert(header::CONNECTION, CLOSE);
            }
            drop(busy);
            response
        }
    });
    let service = TowerToHyperService::new(app.layer(answering));
    let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service));
    let ended = tokio::select! {
        biased;
        ended = connection.as_mut() => ended,
        () = closing.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        let error = io::Error::other(error);
        debug!(%error, "a connection to the API broke");
    }
}

const CLOSE: HeaderValue = HeaderValue::from_static("close");
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

    fn never() -> Crowded {
        Arc::new(|| false)
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
            converse(
                Patient::new(server, never()),
                app(),
                Arc::<Open>::default().enter(CancellationToken::new()),
            )
            .await;
            assert!(since.elapsed() >= HEADER_WAIT_MAX);
        }
    }

    #[tokio::test]
    async fn a_connection_above_the_bound_takes_the_place_of_the_one_idle_for_longest() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let serving = tokio::spawn(serve(listener, app(), 2, never(), stop.clone()));
        let mut silent = TcpStream::connect(addr).await.unwrap();
        let mut polite = TcpStream::connect(addr).await.unwrap();
        // It asks, and stays for the next time.
        polite.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
        let mut answered = [0; 15];
        polite.read_exact(&mut answered).await.unwrap();
        assert_eq!(&answered, b"HTTP/1.1 200 OK");
        let mut third = TcpStream::connect(addr).await.unwrap();
        third.write_all(REQUEST).await.unwrap();
        assert!(answer(&mut third).await.ends_with("here"));
        assert_eq!(silent.read(&mut [0; 9]).await.unwrap(), 0, "it was let go");
        polite.write_all(REQUEST).await.unwrap();
        assert!(answer(&mut polite).await.ends_with("here"));
        stop.cancel();
        serving.await.unwrap();
    }

    #[tokio::test]
    async fn a_connection_whose_request_is_under_way_keeps_its_place() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let (begun, go_on) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let (seen, waits) = (begun.clone(), go_on.clone());
        let slow = async move || {
            seen.notify_one();
            waits.notified().await;
            "late"
        };
        let app = app().route("/slow", get(slow));
        let stop = CancellationToken::new();
        let serving = tokio::spawn(serve(listener, app, 1, never(), stop.clone()));
        let mut first = TcpStream::connect(addr).await.unwrap();
        let request = b"GET /slow HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
        first.write_all(request).await.unwrap();
        begun.notified().await;
        let mut second = TcpStream::connect(addr).await.unwrap();
        second.write_all(REQUEST).await.unwrap();
        go_on.notify_one();
        assert!(answer(&mut first).await.ends_with("late"));
        assert!(answer(&mut second).await.ends_with("here"));
        stop.cancel();
        serving.await.unwrap();
    }

    #[tokio::test]
    async fn a_request_of_two_lengths_is_refused_and_nothing_after_it_is_read() {
        for (fields, expected) in [
            ("Content-Length: 4\r\nTransfer-Encoding: chunked", "400"),
            ("Transfer-Encoding: chunked\r\nContent-Length: 4", "400"),
            ("Content-Length: 1\r\nContent-Length: 1", "400"),
            ("Transfer-Encoding: chunked", "200"),
        ] {
            let (mut client, server) = tokio::io::duplex(1024);
            let (head, next) =
                ("GET / HTTP/1.1\r\nHost: a\r\n", "GET / HTTP/1.1\r\nHost: a\r\n\r\n");
            let sent = format!("{head}{fields}\r\n\r\n1\r\nx\r\n0\r\n\r\n{next}");
            client.write_all(sent.as_bytes()).await.unwrap();
            let open = Arc::<Open>::default();
            converse(Patient::new(server, never()), app(), open.enter(CancellationToken::new()))
                .await;
            let answered = answer(&mut client).await;
            assert!(answered.starts_with(&format!("HTTP/1.1 {expected}")), "{answered}");
            assert_eq!(answered.matches("HTTP/1.1").count(), 1, "{answered}");
        }
    }

    #[tokio::test]
    async fn a_stop_lets_idle_connections_go_at_once() {
        let (_client, server) = tokio::io::duplex(1024);
        let stop = CancellationToken::new();
        stop.cancel();
        converse(Patient::new(server, never()), app(), Arc::<Open>::default().enter(stop)).await;
    }
}
