//! Having a change of the layout decided: the proposer's side of each epoch.

use std::sync::Arc;
use std::time::Duration;

use dfs_core::id::{AdminId, NodeId};
use dfs_core::layout::epoch::{EpochCert, EpochOp, EpochProposal, EpochState, Vote};
use dfs_core::paxos::{Ballot, Heard, Next, Proposer, acceptance_of, promise_of};
use dfs_p2p::message::{Call, Priority, Request, Response};
use ed25519_dalek::SigningKey;
use parking_lot::Mutex;
use tracing::debug;

use crate::chain::Chain;
use crate::error::Error;
use crate::replica::Replica;
use crate::replica::layout::Newest;
use crate::rpc::{Ask, Rpc, StepError};

/// Proposes epochs.
pub(crate) struct Proposals {
    pub(super) replica: Arc<Replica>,
    pub(super) chain: Arc<Chain>,
    rpc: Arc<Rpc>,
    /// Signs what this node proposes; a node without a vault proposes nothing.
    admin: Option<SigningKey>,
    /// The highest ballot heard of, to go above.
    ballot: Mutex<Option<Ballot>>,
}

impl Proposals {
    pub(crate) fn new(chain: Arc<Chain>, rpc: Arc<Rpc>, admin: Option<SigningKey>) -> Self {
        Self { replica: rpc.replica.clone(), chain, rpc, admin, ballot: Mutex::default() }
    }

    pub(crate) fn backoff(&self) -> Duration {
        BACKOFF_MIN + self.replica.jitter(BACKOFF_MAX - BACKOFF_MIN)
    }

    /// Has a change decided, also when others come before it: `left` returns what of it a layout
    /// still lacks. Returns the epoch that lacks nothing.
    pub(crate) async fn decide_all<E: From<Error>>(
        &self,
        left: impl Fn(&EpochState) -> Result<Vec<EpochOp>, E>,
    ) -> Result<u64, E> {
        let end = self.replica.env.mono() + DECIDE_MAX;
        loop {
            let newest = self.replica.layout.newest().ok_or(Error::NotJoined)?;
            let ops = left(&newest.state)?;
            if ops.is_empty() {
                return Ok(newest.state.epoch);
            }
            let failed = match self.decide(&newest, ops).await {
                // This change, or another: then it is tried again on top of that.
                Ok(true) if self.replica.layout.epoch() > newest.state.epoch => continue,
                Ok(_) => Error::Moving,
                // This node may not ask for anything: that does not change by waiting.
                Err(error @ (Error::NoVaultKey | Error::NotAdmin | Error::NotAllowed(_))) => {
                    return Err(error.into());
                }
                Err(error) => error,
            };
            if self.replica.env.mono() >= end {
                return Err(failed.into());
            }
            self.replica.env.sleep(self.backoff()).await;
        }
    }

    /// One attempt to have an epoch decided; says whether one was, this or another.
    pub(crate) async fn decide(&self, newest: &Newest, ops: Vec<EpochOp>) -> Result<bool, Error> {
        let previous = newest.cert.proposal.hash();
        let (_, proposal) = newest.state.propose(previous, ops, self.replica.id)?;
        self.propose(newest, newest.state.voters.clone(), proposal).await
    }

    /// The same for a proposal, among these acceptors.
    ///
    /// # Errors
    /// Besides others [`Error::NoVaultKey`] and [`Error::NotAdmin`] when this node may not.
    pub(crate) async fn propose(
        &self,
        newest: &Newest,
        acceptors: Vec<NodeId>,
        proposal: EpochProposal,
    ) -> Result<bool, Error> {
        let key = self.admin.as_ref().ok_or(Error::NoVaultKey)?;
        let admins = &newest.state.admins;
        if !admins.is_empty() && !admins.contains(&AdminId::of(key)) {
            return Err(Error::NotAdmin);
        }
        let proposal = proposal.authorized(key, |_| newest.state.cluster_id);
        let ballot = self.rpc.new_ballot(*self.ballot.lock());
        let decided = match self.attempt_epoch(&newest.state, acceptors, ballot, proposal).await {
            Ok(decided) => decided,
            // Someone knows a newer layout, and it is here by now.
            Err(StepError::Stale) => return Ok(true),
            Err(StepError::Failed(error)) => return Err(error),
        };
        match decided {
            Ok(cert) => {
                self.chain.adopt(cert.clone()).await?;
                self.spread(cert);
                Ok(true)
            }
            Err(higher) => {
                debug!(epoch = newest.state.epoch + 1, "an attempt to decide an epoch failed");
                let mut seen = self.ballot.lock();
                *seen = (*seen).max(higher).max(Some(ballot));
                Ok(false)
            }
        }
    }

    /// Both phases; `Err` with the highest ballot heard of when they did not succeed.
    async fn attempt_epoch(
        &self,
        state: &EpochState,
        acceptors: Vec<NodeId>,
        ballot: Ballot,
        own: EpochProposal,
    ) -> Result<Result<EpochCert, Option<Ballot>>, StepError> {
        let mut proposer = Proposer::new(ballot, vec![acceptors]);
        let prepare = Request::EpochPrepare { epoch: own.epoch, ballot };
        let next = self
            .rpc
            .phase(&mut proposer, state.epoch, &ask(prepare), |_, response| match response {
                Response::EpochRegister { register, .. } => promise_of(&register, ballot),
                _ => Heard::Failed,
            })
            .await?;
        let proposal = match next {
            // What may have been decided already must be what is decided; but for one that goes on
            // from another loss, which those of this one were not told of.
            Next::Choose(found) => {
                let is_ordinary = own.generation == state.generation;
                found.filter(|found| is_ordinary || found.loss() == own.loss()).unwrap_or(own)
            }
            Next::Lost { higher } => return Ok(Err(higher)),
            Next::Wait | Next::Chosen(_) => return Ok(Err(None)),
        };
        proposer.choose(proposal.clone());
        let mut votes = Vec::new();
        let accept = Request::EpochAccept { ballot, proposal: Box::new(proposal.clone()) };
        let next = self
            .rpc
            .phase(&mut proposer, state.epoch, &ask(accept), |voter, response| {
                let Response::EpochRegister { register, signature } = response else {
                    return Heard::Failed;
                };
                let heard = acceptance_of(&register, ballot);
                if matches!(heard, Heard::Accepted) {
                    // Counted are those whose votes make up the certificate, and no others.
                    let vote = signature.map(|signature| Vote { voter, signature });
                    let is_genuine =
                        |vote: &Vote| vote.is_genuine(state.cluster_id, ballot, &proposal);
                    let Some(vote) = vote.filter(is_genuine) else { return Heard::Failed };
                    votes.push(vote);
                }
                heard
            })
            .await?;
        match next {
            Next::Chosen(proposal) => Ok(Ok(EpochCert { proposal, ballot, votes })),
            Next::Lost { higher } => Ok(Err(higher)),
            Next::Wait | Next::Choose(_) => Ok(Err(None)),
        }
    }

    /// Tells everyone in reach of a decided epoch. Whoever misses it sees the newer epoch in our
    /// info and asks.
    fn spread(&self, cert: EpochCert) {
        for peer in self.replica.net().peers().iter().filter(|peer| peer.down_for.is_none()) {
            let node = peer.info.node_id;
            let request = Request::EpochDecided(Box::new(cert.clone()));
            let call = Call::new(Priority::Layout, ANSWER_MAX, request);
            let network = self.replica.net().clone();
            self.replica.finisher.finish_later(async move {
                let _ = network.call(&node, call).await;
            });
        }
    }
}

fn ask(request: Request) -> Ask {
    Ask { deadline: ANSWER_MAX, ..Ask::new(Priority::Layout, request) }
}

/// A vote is one small durable write; a peer that does not manage is not waited for.
const ANSWER_MAX: Duration = Duration::from_secs(5);
/// How long a change may take to be decided while proposers get into each other's way.
const DECIDE_MAX: Duration = Duration::from_secs(20);
/// Two stewards that got into each other's way wait for different times.
const BACKOFF_MIN: Duration = Duration::from_millis(500);
const BACKOFF_MAX: Duration = Duration::from_secs(5);
