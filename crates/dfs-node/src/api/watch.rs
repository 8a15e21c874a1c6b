//! `/v1/watch` and `/v1/events`: what changes in a directory and in the health of the cluster, told
//! as server-sent events.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use dfs_server::health::Health;
use dfs_server::{Happened, Watch, WatchMark};
use futures_util::StreamExt;
use futures_util::stream::{self, Stream};
use serde::{Deserialize, Serialize};
use tokio::sync::OwnedSemaphorePermit;
use tokio_util::sync::CancellationToken;

use super::errors::Problem;
use super::query::{ModeQuery, Query, parse_dir};
use super::remedies::with_remedy;
use super::serve::Busy;
use super::shared::Shared;
use crate::exit::Code;

/// Ends what would go on for ever.
#[derive(Debug, Clone)]
pub(super) struct Ending(pub(super) CancellationToken);

#[derive(Debug, Deserialize)]
pub(super) struct WatchQuery {
    #[serde(default)]
    dir: String,
    #[serde(flatten)]
    mode: ModeQuery,
}

/// Tells what changes right below a directory.
pub(super) async fn names(
    State(shared): State<Arc<Shared>>,
    Query(query): Query<WatchQuery>,
    Extension(busy): Extension<Busy>,
    Extension(ending): Extension<Ending>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let dir = parse_dir(&query.dir)?;
    let since = headers.get(LAST_EVENT_ID).and_then(|id| parse_mark(id.to_str().ok()?));
    let place = shared.work.watching().await?;
    let watch = shared.client.watch(&dir, since, query.mode.mode()).await?;
    let listener = Listener { shared, ending, headers };
    let told = stream::unfold(Some((watch, listener)), next_names);
    Ok(answer(told.flat_map(stream::iter), (place, busy)))
}

/// Whoever is told.
struct Listener {
    shared: Arc<Shared>,
    ending: Ending,
    /// What it asked with.
    headers: HeaderMap,
}

impl Listener {
    /// Whether its token still opens this.
    fn may_listen(&self) -> Result<(), Problem> {
        match self.shared.tokens.access(&self.headers) {
            Some(_) => Ok(()),
            None => Err(Problem::new(StatusCode::UNAUTHORIZED, Code::Key, "the token was revoked")),
        }
    }
}

async fn next_names(
    watch: Option<(Watch, Listener)>,
) -> Option<(Vec<Event>, Option<(Watch, Listener)>)> {
    let (mut watch, listener) = watch?;
    let happened = tokio::select! {
        biased;
        () = listener.ending.0.cancelled() => return None,
        happened = watch.next() => happened,
    };
    let happened = listener.may_listen().and_then(|()| Ok(happened?));
    Some(match happened {
        Ok(happened) => (events_of(happened, watch.mark()), Some((watch, listener))),
        Err(problem) => (vec![failure(problem)], None),
    })
}

/// The last one has the mark: a client whose connection breaks before that is told all of them
/// again.
fn events_of(happened: Happened, mark: Option<WatchMark>) -> Vec<Event> {
    let mut events = match happened {
        Happened::Listed => vec![event("list", &serde_json::json!({}))],
        Happened::Changed(changed) => changed.iter().map(|one| event("change", one)).collect(),
    };
    if let Some((mark, last)) = mark.zip(events.pop()) {
        events.push(last.id(format!("{:016x}-{:x}", mark.log, mark.at)));
    }
    events
}

fn parse_mark(text: &str) -> Option<WatchMark> {
    let (log, at) = text.split_once('-')?;
    let number = |text| u64::from_str_radix(text, 16).ok();
    Some(WatchMark { log: number(log)?, at: number(at)? })
}

/// Tells how the cluster is, at first and whenever that is another.
pub(super) async fn health(
    State(shared): State<Arc<Shared>>,
    Extension(busy): Extension<Busy>,
    Extension(ending): Extension<Ending>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let place = shared.work.watching().await?;
    let listener = Listener { shared, ending, headers };
    Ok(answer(stream::unfold(Some((None, listener)), next_health), (place, busy)))
}

/// What was told last, and to whom; `None` after an error, which ends it.
type ToldHealth = Option<(Option<Health>, Listener)>;

async fn next_health(told: ToldHealth) -> Option<(Event, ToldHealth)> {
    let (told, listener) = told?;
    let ended = listener.ending.0.clone();
    tokio::select! {
        biased;
        () = ended.cancelled() => None,
        next = another_health(told, listener) => Some(next),
    }
}

async fn another_health(told: Option<Health>, listener: Listener) -> (Event, ToldHealth) {
    let shared = &listener.shared;
    loop {
        if told.is_some() {
            shared.env.sleep(HEALTH_EVERY).await;
        }
        let health = shared.client.health().await.map_err(Problem::from);
        let health = match listener.may_listen().and(health) {
            Ok(health) => health,
            Err(problem) => return (failure(problem), None),
        };
        // A clock is never twice the same.
        let still = Health { clock_ahead_ms: None, ..health.clone() };
        if told.as_ref() != Some(&still) {
            let event = event("status", &with_remedy(health));
            return (event, Some((Some(still), listener)));
        }
    }
}

fn event(name: &str, data: &impl Serialize) -> Event {
    // What cannot be said in JSON is not among what is told.
    Event::default().event(name).json_data(data).unwrap_or_default()
}

fn failure(problem: Problem) -> Event {
    event("error", &problem.told())
}

/// Answers with events; `held` is kept until the last has left.
fn answer(
    events: impl Stream<Item = Event> + Send + 'static,
    held: (OwnedSemaphorePermit, Busy),
) -> Response {
    let events = events.map(Ok::<_, Infallible>).inspect(move |_| {
        let _until_it_has_left = &held;
    });
    Sse::new(events).keep_alive(KeepAlive::new().interval(KEPT_ALIVE_EVERY)).into_response()
}

const LAST_EVENT_ID: &str = "last-event-id";
/// How often it is looked how the cluster is.
const HEALTH_EVERY: Duration = Duration::from_secs(1);
/// A line without meaning is sent where nothing else was for so long: whoever listens knows that
/// the connection stands.
const KEPT_ALIVE_EVERY: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_come_back_as_they_were_told() {
        for mark in [WatchMark { log: 0, at: 0 }, WatchMark { log: u64::MAX, at: u64::MAX }] {
            assert_eq!(parse_mark(&format!("{:016x}-{:x}", mark.log, mark.at)), Some(mark));
        }
        for text in ["", "-", "1", "1-", "-1", "1-2-3", "g-1", "11111111111111111-1", "1 - 2"] {
            assert_eq!(parse_mark(text), None, "{text:?}");
        }
    }
}
