//! How much of each kind of work is done for clients at once, so that much of one kind holds up no
//! other: files going in and out, questions about names, and questions about the node. Whether it
//! lives and is ready is told in any case.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::errors::Problem;
use super::shared::Shared;
use crate::exit::Code;

/// Places for work.
#[derive(Debug)]
pub(super) struct Work {
    content: Kind,
    names: Kind,
    node: Kind,
    watches: Kind,
}

/// Tells whether every place for a transfer is taken: then a client that stands still is let go
/// sooner.
pub(super) type Crowded = Arc<dyn Fn() -> bool + Send + Sync>;

#[derive(Debug)]
struct Kind {
    places: Arc<Semaphore>,
    what: &'static str,
}

impl Default for Work {
    fn default() -> Self {
        let kind = |most, what| Kind { places: Arc::new(Semaphore::new(most)), what };
        Self {
            content: kind(CONTENT_MAX, "transfers"),
            names: kind(NAMES_MAX, "questions about names"),
            node: kind(NODE_MAX, "questions about the node"),
            watches: kind(WATCHES_MAX, "clients that watch"),
        }
    }
}

impl Work {
    /// A place for one file going in or out, to be kept until it has.
    pub(super) async fn transfer(&self) -> Result<OwnedSemaphorePermit, Problem> {
        self.content.place().await
    }

    /// See [`Crowded`].
    pub(super) fn crowded(&self) -> Crowded {
        let places = self.content.places.clone();
        Arc::new(move || places.available_permits() == 0)
    }

    /// A place for whoever wants to be told of what changes, to be kept until it has gone.
    pub(super) async fn watching(&self) -> Result<OwnedSemaphorePermit, Problem> {
        self.watches.place().await
    }

    /// A place for a question about a name, or for its removal.
    pub(super) async fn naming(&self) -> Result<OwnedSemaphorePermit, Problem> {
        self.names.place().await
    }
}

impl Kind {
    async fn place(&self) -> Result<OwnedSemaphorePermit, Problem> {
        let place = self.places.clone().acquire_owned();
        match tokio::time::timeout(PLACE_WAIT_MAX, place).await {
            Ok(Ok(place)) => Ok(place),
            Ok(Err(_)) | Err(_) => {
                let why = format!("too many {} at once", self.what);
                let busy = Problem::new(StatusCode::SERVICE_UNAVAILABLE, Code::Retryable, why);
                Err(busy.hint("try again when others are done"))
            }
        }
    }
}

/// Answers what needs other nodes, once they have been dialled: right after the start that waits.
pub(super) async fn after_first_dials(
    State(shared): State<Arc<Shared>>,
    request: Request,
    next: Next,
) -> Response {
    shared.client.first_dials().await;
    next.run(request).await
}

/// Answers a question about names when there is a place.
pub(super) async fn among_names(
    State(shared): State<Arc<Shared>>,
    request: Request,
    next: Next,
) -> Response {
    within(&shared.work.names, request, next).await
}

/// Answers a question about the node when there is a place.
pub(super) async fn about_node(
    State(shared): State<Arc<Shared>>,
    request: Request,
    next: Next,
) -> Response {
    within(&shared.work.node, request, next).await
}

async fn within(kind: &Kind, request: Request, next: Next) -> Response {
    match kind.place().await {
        Ok(_place) => next.run(request).await,
        Err(busy) => {
            let mut response = busy.into_response();
            response.headers_mut().insert(header::RETRY_AFTER, RETRY_SECONDS.into());
            response
        }
    }
}

/// Files going in and out at once: sixteen `dfs put -r` of eight files each. Each holds a window of
/// chunks in memory.
const CONTENT_MAX: usize = 128;
/// Questions about names at once: each may hold pages of a listing.
const NAMES_MAX: usize = 64;
/// Questions about the node at once: they are answered from what is known.
const NODE_MAX: usize = 64;
/// Clients that watch at once: each directory that is watched costs two round trips a second.
const WATCHES_MAX: usize = 128;
/// How long one waits for a place: longer than clients that stand still keep theirs then. What
/// takes longer is better told to the client.
const PLACE_WAIT_MAX: Duration = Duration::from_secs(20);
/// When a client should try again.
const RETRY_SECONDS: u16 = 5;

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_full_kind_refuses_after_a_while_and_takes_up_no_other() {
        let work = Work::default();
        let crowded = work.crowded();
        assert!(!crowded());
        let mut held = Vec::new();
        for _ in 0..CONTENT_MAX {
            held.push(work.transfer().await.unwrap());
        }
        assert!(crowded());
        let refused = work.transfer().await.unwrap_err();
        assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert!(work.names.place().await.is_ok() && work.node.place().await.is_ok());
        held.pop();
        assert!(!crowded() && work.transfer().await.is_ok());
    }
}
