//! `/v1/watch` and `/v1/events`: what changes in a directory and in the health of the cluster, told
//! as server-sent events.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::extract::State;
use axum::http::HeaderMap;
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
    let told = stream::unfold(Some(watch), move |watch| next_names(watch, ending.clone()));
    Ok(answer(told.flat_map(stream::iter), (place, busy)))
}

async fn next_names(
    watch: Option<Watch>,
    Ending(ending): Ending,
) -> Option<(Vec<Event>, Option<Watch>)> {
    let mut watch = watch?;
    let happened = tokio::select! {
        biased;
        () = ending.cancelled() => return None,
        happened = watch.next() => happened,
    };
    Some(match happened {
        Ok(happened) => (events_of(happened, watch.mark()), Some(watch)),
        Err(error) => (vec![failure(error.into())], None),
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
) -> Result<Response, Problem> {
    let place = shared.work.watching().await?;
    let told =
        stream::unfold(Some(None), move |told| next_health(told, shared.clone(), ending.clone()));
    Ok(answer(told, (place, busy)))
}

/// `told` is what was told last; `None` after an error, which ends it.
async fn next_health(
    told: Option<Option<Health>>,
    shared: Arc<Shared>,
    Ending(ending): Ending,
) -> Option<(Event, Option<Option<Health>>)> {
    let told = told?;
    loop {
        let health = match shared.client.health().await {
            Ok(health) => health,
            Err(error) => return Some((failure(error.into()), None)),
        };
        // A clock is never twice the same.
        let still = Health { clock_ahead_ms: None, ..health.clone() };
        if told.as_ref() != Some(&still) {
            return Some((event("status", &with_remedy(health)), Some(Some(still))));
        }
        tokio::select! {
            biased;
            () = ending.cancelled() => return None,
            () = shared.env.sleep(HEALTH_EVERY) => {}
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
