//! One request to many replicas, counted by quorum.
//!
//! A step asks every replica at once and ends as soon as the count is reached or cannot be; what
//! the others still do goes on in the background. A replica that knows a newer layout refuses, the
//! newer layout is fetched, and the caller repeats the step with it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use dfs_core::id::NodeId;
use dfs_core::quorum::{Tally, Verdict};
use dfs_env::{Bug, bug};
use dfs_p2p::message::{Call, Code, Priority, Refusal, Request, Response};
use dfs_p2p::{CallError, Caller};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tracing::debug;

use crate::error::Error;
use crate::node::Node;

/// What one replica is asked.
#[derive(Debug, Clone)]
pub(crate) struct Ask {
    pub(crate) priority: Priority,
    pub(crate) request: Request,
    pub(crate) body: Bytes,
    pub(crate) answer_bytes_max: usize,
    pub(crate) deadline: Duration,
}

impl Ask {
    pub(crate) fn new(priority: Priority, request: Request) -> Self {
        let deadline = ASK_DEADLINE;
        Self { priority, request, body: Bytes::new(), answer_bytes_max: 0, deadline }
    }
}

/// Why one replica did not do what it was asked.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum AskError {
    #[error(transparent)]
    Call(#[from] CallError),
    #[error(transparent)]
    Refused(#[from] Refusal),
}

impl AskError {
    pub(crate) fn code(&self) -> Option<Code> {
        match self {
            Self::Call(_) => None,
            Self::Refused(refusal) => Some(refusal.code),
        }
    }
}

/// How a step ended, when it did not succeed.
#[derive(Debug)]
pub(crate) enum StepError {
    /// The layout was too old; a newer one is here now.
    Stale,
    /// Too few replicas can do it.
    Failed(Error),
}

impl From<Error> for StepError {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

impl From<StepError> for Error {
    /// For whoever does not repeat the step at once: the next time is soon enough.
    fn from(error: StepError) -> Self {
        match error {
            StepError::Stale => Self::Moving,
            StepError::Failed(error) => error,
        }
    }
}

pub(crate) type Replied = (NodeId, Result<(Response, Bytes), AskError>);

/// A finished step.
#[derive(Debug, Default)]
pub(crate) struct Reached {
    /// Who did it in time, and what they said.
    pub(crate) answers: Vec<(NodeId, Response, Bytes)>,
}

impl Reached {
    pub(crate) fn nodes(&self) -> BTreeSet<NodeId> {
        self.answers.iter().map(|(node, ..)| *node).collect()
    }
}

/// Whom a step asks and how many must do it.
pub(crate) struct Step {
    pub(crate) sets: Vec<Vec<NodeId>>,
    pub(crate) needed: fn(usize) -> usize,
    /// The layout the sets come from.
    pub(crate) epoch: u64,
    /// Wait for everyone reachable, not only for enough.
    pub(crate) patient: bool,
    /// Replicas that are not asked and count as failed.
    pub(crate) without: BTreeSet<NodeId>,
}

impl Step {
    /// A write to each of the sets: to a majority, or to anyone and to all in reach.
    pub(crate) fn write(sets: Vec<Vec<NodeId>>, epoch: u64, needs_quorum: bool) -> Self {
        Self {
            sets,
            needed: if needs_quorum {
                Tally::<NodeId>::write_majority
            } else {
                Tally::<NodeId>::any
            },
            epoch,
            patient: !needs_quorum,
            without: BTreeSet::new(),
        }
    }
}

impl Node {
    /// Asks one node, this one included.
    pub(crate) async fn ask(
        self: &Arc<Self>,
        node: &NodeId,
        epoch: u64,
        ask: Ask,
    ) -> Result<(Response, Bytes), AskError> {
        let call = Call {
            priority: ask.priority,
            deadline: ask.deadline,
            epoch,
            request: ask.request,
            body: ask.body,
            answer_bytes_max: ask.answer_bytes_max,
        };
        let answer = if *node == self.id {
            let from = Caller { node: self.id, proved: true };
            self.respond(from, call).await
        } else {
            match self.network().call(node, call.clone()).await {
                // One of two connections to the same peer gave way to the other, or a new one is
                // up already. Every request may be repeated.
                Err(CallError::Lost | CallError::NotConnected)
                    if self.network().is_connected(node) =>
                {
                    self.network().call(node, call).await?
                }
                other => other?,
            }
        };
        if answer.epoch > self.layout.epoch()
            && let Err(error) = self.catch_up(node).await
        {
            debug!(%error, "a newer layout could not be stored");
        }
        Ok((answer.result?, answer.body))
    }

    /// Asks everyone in the sets; `make` gives what to ask of each, or `Err` with an answer that
    /// is known already.
    pub(crate) async fn step(
        self: &Arc<Self>,
        step: Step,
        make: impl Fn(&NodeId) -> Result<Ask, Response>,
    ) -> Result<Reached, StepError> {
        let mut tally = Tally::new(step.sets, step.needed);
        let mut running = FuturesUnordered::new();
        let mut reached = Reached::default();
        let mut failures = Vec::new();
        let mut verdict = tally.verdict();
        for node in tally.nodes() {
            if step.without.contains(&node) {
                verdict = tally.fail(&node);
                continue;
            }
            match make(&node) {
                Err(known) => {
                    reached.answers.push((node, known, Bytes::new()));
                    verdict = tally.ack(&node);
                }
                Ok(ask) => {
                    let (this, epoch) = (self.clone(), step.epoch);
                    running.push(async move {
                        let result = this.ask(&node, epoch, ask).await;
                        (node, result)
                    });
                }
            }
        }
        let patience = self.env.sleep(PATIENCE);
        tokio::pin!(patience);
        let mut out_of_patience = !step.patient;
        loop {
            match verdict {
                Verdict::Reached if out_of_patience || running.is_empty() => break,
                Verdict::Impossible => return Err(failed(failures)),
                Verdict::Reached | Verdict::Pending => {}
            }
            let (node, result): Replied = tokio::select! {
                biased;
                Some(replied) = running.next() => replied,
                () = &mut patience, if !out_of_patience => {
                    out_of_patience = true;
                    continue;
                }
                else => return Err(failed(failures)),
            };
            match result {
                Ok((response, body)) => {
                    reached.answers.push((node, response, body));
                    verdict = tally.ack(&node);
                }
                Err(error) if error.code() == Some(Code::StaleEpoch) => {
                    return Err(StepError::Stale);
                }
                Err(error) => {
                    debug!(peer = ?node, %error, "a replica did not do its part");
                    failures.push((node, error));
                    let ack = bug(Bug::FailuresCountAsAcks);
                    verdict = if ack { tally.ack(&node) } else { tally.fail(&node) };
                }
            }
        }
        for (node, _) in &failures {
            self.sync.owe(*node);
        }
        self.let_finish(running);
        Ok(reached)
    }

    /// Carries on what a step no longer waits for; who fails is brought up to date later.
    pub(crate) fn let_finish<F>(self: &Arc<Self>, running: FuturesUnordered<F>)
    where
        F: Future<Output = Replied> + Send + 'static,
    {
        if running.is_empty() {
            return;
        }
        let this = self.clone();
        self.finish_later(Box::pin(async move {
            running
                .for_each(|(node, result)| {
                    if result.is_err() {
                        this.sync.owe(node);
                    }
                    std::future::ready(())
                })
                .await;
        }));
    }

    /// Repeats `attempt` while the layout moves under it.
    pub(crate) async fn with_layout<T, F>(
        self: &Arc<Self>,
        mut attempt: impl FnMut(Arc<dfs_core::layout::epoch::EpochState>) -> F,
    ) -> Result<T, Error>
    where
        F: Future<Output = Result<T, StepError>>,
    {
        for _ in 0..LAYOUT_TRIES {
            match attempt(self.joined()?).await {
                Ok(value) => return Ok(value),
                Err(StepError::Failed(error)) => return Err(error),
                Err(StepError::Stale) => {}
            }
        }
        Err(Error::Moving)
    }
}

/// The error that failures of single replicas add up to.
pub(crate) fn failed(failures: Vec<(NodeId, AskError)>) -> StepError {
    let all =
        |code| !failures.is_empty() && failures.iter().all(|(_, error)| error.code() == Some(code));
    let any = |code| failures.iter().find(|(_, error)| error.code() == Some(code));
    if any(Code::NoSpace).is_some() {
        return Error::NoSpace.into();
    }
    if all(Code::ClockSkew) {
        let why = failures.first().map(|(_, error)| error.to_string()).unwrap_or_default();
        return Error::ClockSkew(why).into();
    }
    let told = failures.into_iter().map(|(node, error)| (node, error.to_string()));
    Error::Unavailable(told.collect()).into()
}

/// How long a replica may take before the operation goes on without it.
const ASK_DEADLINE: Duration = Duration::from_secs(10);
/// How long an answer that could be given waits for the remaining replicas, to tell of more copies.
const PATIENCE: Duration = Duration::from_secs(2);
/// How often the layout may change under one operation; it changes every few seconds at most.
const LAYOUT_TRIES: usize = 8;
