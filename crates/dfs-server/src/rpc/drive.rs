//! Carrying out the operations that [`dfs_core::replica::op`] decides on: one loop for all of them.

use std::sync::Arc;
use std::time::Duration;

use dfs_core::id::NodeId;
use dfs_core::quorum::Tally;
use dfs_core::replica::op::fan_out::{FanOut, FanOutSpec, Patience, Reached};
use dfs_core::replica::op::{Action, Counting, Fails, Failure, Fault, Op};
use dfs_env::{BoxFuture, Bug, bug};
use dfs_p2p::CallError;
use dfs_p2p::message::{Code, Response};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tracing::debug;

use super::call::{Ask, AskError, Rpc};
use super::layout::StepError;
use crate::error::Error;

/// A task under way. It fails when this node itself cannot go on, its own disk above all.
pub(crate) type Running<E> = BoxFuture<'static, Result<E, Error>>;

impl Fails for AskError {
    fn fault(&self) -> Fault {
        match self.code() {
            None if matches!(self, Self::Call(CallError::Deadline)) => Fault::Silent,
            Some(Code::StaleEpoch) => Fault::Stale,
            Some(Code::NoSpace) => Fault::NoSpace,
            Some(Code::ClockSkew) => Fault::ClockSkew,
            Some(Code::NotFound | Code::Corrupt | Code::NotReplica) => Fault::Missing,
            None | Some(_) => Fault::Other,
        }
    }
}

impl From<Failure<NodeId, AskError>> for StepError {
    fn from(failure: Failure<NodeId, AskError>) -> Self {
        match failure {
            Failure::Stale => Self::Stale,
            Failure::NoSpace => Error::NoSpace.into(),
            Failure::ClockSkew(error) => {
                let why = format!("the clock of this node is too far from its peers': {error}");
                Error::ClockSkew(why).into()
            }
            Failure::TooFew(away) => Error::Unavailable(told(away)).into(),
        }
    }
}

/// What nodes said that failed, as an error shows it.
pub(crate) fn told(away: Vec<(NodeId, AskError)>) -> Vec<(NodeId, String)> {
    away.into_iter().map(|(node, error)| (node, error.to_string())).collect()
}

/// How a write counts its answers.
pub(crate) fn counting_writes(needs_quorum: bool) -> Counting<NodeId> {
    seeded(Counting::write(needs_quorum))
}

/// How a read counts its answers.
pub(crate) fn counting_reads(needs_quorum: bool) -> Counting<NodeId> {
    seeded(Counting::read(needs_quorum && !bug(Bug::ReadAsksOne)))
}

fn seeded(mut counting: Counting<NodeId>) -> Counting<NodeId> {
    if bug(Bug::FailuresCountAsAcks) {
        counting.failure = Tally::ack;
    }
    counting
}

impl Rpc {
    /// Runs an operation to its end. `perform` begins one task; `None` says that it has no reply.
    ///
    /// # Errors
    /// What this node itself could not do; the operation is given up then.
    ///
    /// # Cancel safety
    /// Dropping this drops what runs, but not what was detached.
    pub(crate) async fn drive<O>(
        &self,
        mut op: O,
        mut perform: impl FnMut(O::Task) -> Option<Running<O::Event>>,
    ) -> Result<O::Outcome, Error>
    where
        O: Op<Node = NodeId>,
        O::Event: Send + 'static,
    {
        let env = &self.replica.env;
        let began = env.mono();
        let since = || env.mono().duration_since(began);
        let mut running = FuturesUnordered::new();
        let mut out = Vec::new();
        op.start(Duration::ZERO, &mut out);
        loop {
            for action in out.drain(..) {
                match action {
                    Action::Do(task) => running.extend(perform(task)),
                    Action::Owe(node) => self.replica.owed.owe(node),
                    Action::Detach => {
                        let left = std::mem::take(&mut running);
                        self.let_end(left.map(|event| event.ok().as_ref().and_then(O::owed)));
                    }
                    Action::Finish(outcome) => return Ok(outcome),
                }
            }
            let deadline = op.deadline();
            let wait = deadline.map_or(Duration::ZERO, |at| at.saturating_sub(since()));
            let wake = env.sleep(wait);
            tokio::select! {
                biased;
                Some(event) = running.next() => op.on(since(), event?, &mut out),
                () = wake, if deadline.is_some() => op.on_deadline(since(), &mut out),
                else => unreachable!("an operation that is not over waits for something"),
            }
        }
    }

    /// Carries on what an operation no longer waits for. The nodes that `ending` gives may lack
    /// something, and are brought up to date later.
    pub(super) fn let_end(
        &self,
        ending: impl futures_util::Stream<Item = Option<NodeId>> + Send + 'static,
    ) {
        let replica = self.replica.clone();
        self.replica.finisher.finish_later(ending.for_each(move |owed| {
            owed.into_iter().for_each(|node| replica.owed.owe(node));
            std::future::ready(())
        }));
    }

    /// Asks one node, as a task: `event` makes of what it answered what the operation understands.
    pub(crate) fn asking<E: 'static>(
        self: &Arc<Self>,
        node: NodeId,
        epoch: u64,
        ask: Ask,
        event: impl FnOnce(NodeId, Result<Response, AskError>) -> E + Send + 'static,
    ) -> Running<E> {
        let rpc = self.clone();
        Box::pin(async move {
            let result = rpc.ask(&node, epoch, ask).await;
            if let Err(error) = &result {
                debug!(peer = ?node, %error, "a replica did not do its part");
            }
            Ok(event(node, result.map(|(response, _)| response)))
        })
    }

    /// Asks every node of some write sets the same: a majority of each must do it, or anyone.
    pub(crate) async fn ask_all(
        self: &Arc<Self>,
        sets: Vec<Vec<NodeId>>,
        epoch: u64,
        needs_quorum: bool,
        ask: &Ask,
    ) -> Result<Reached<NodeId, Response>, StepError> {
        let patience = Patience::for_quorum(needs_quorum);
        let spec = FanOutSpec::new(sets, counting_writes(needs_quorum), patience);
        let perform = |node| Some(self.asking(node, epoch, ask.clone(), |node, told| (node, told)));
        Ok(self.drive(FanOut::new(spec), perform).await??)
    }
}
