//! Deciding epochs: proposing them as a steward, promising and accepting them as a voter.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use dfs_core::id::NodeId;
use dfs_core::layout::epoch::{EpochCert, EpochError, EpochOp, EpochProposal, EpochState, Vote};
use dfs_core::layout::steward::plan;
use dfs_core::layout::voters::turn;
use dfs_core::paxos::{Ballot, Heard, Next, Proposer, acceptance_of, promise_of};
use dfs_p2p::message::{Call, Code, Priority, Refusal, Request, Response};
use tracing::{debug, warn};

use crate::coordinate::{Ask, StepError};
use crate::error::Error;
use crate::layout::{CHAIN_DEADLINE, Newest};
use crate::node::Node;

/// Something to propose that waits for its turn.
type Waiting = Option<(u64, tokio::time::Instant)>;

impl Node {
    /// Proposes epochs while this node is a voter, until shutdown. The first live voter proposes at
    /// once, the others only what stays undone.
    pub(crate) async fn steward(self: Arc<Self>) {
        let mut waiting: Waiting = None;
        loop {
            tokio::select! {
                biased;
                () = self.shutdown.cancelled() => return,
                () = self.facts_changed.notified() => {}
                () = self.env.sleep(self.until_next_look(&waiting)) => {}
            }
            if self.retired.get().is_some() {
                return;
            }
            let Some((newest, ops)) = self.to_propose(&mut waiting) else { continue };
            match self.decide(&newest, ops).await {
                Ok(true) => waiting = None,
                Ok(false) => self.env.sleep(self.backoff()).await,
                Err(error) => {
                    warn!(%error, "an epoch could not be decided");
                    self.env.sleep(self.backoff()).await;
                }
            }
        }
    }

    /// When to look next without being told: what was learned too soon after the newest epoch
    /// waits no longer than it must.
    fn until_next_look(&self, waiting: &Waiting) -> Duration {
        let newest = self.layout.newest();
        let rest = |newest: &Newest| EPOCHS_APART.saturating_sub(newest.since.elapsed());
        let otherwise = if waiting.is_some() { STEWARD_EVERY } else { STEWARD_IDLE };
        newest.as_ref().map(rest).filter(|rest| !rest.is_zero()).unwrap_or(otherwise)
    }

    /// What this node should propose now, if anything.
    fn to_propose(&self, waiting: &mut Waiting) -> Option<(Newest, Vec<EpochOp>)> {
        let newest = self.layout.newest().clone()?;
        let waited = newest.since.elapsed();
        let turn = turn(&newest.state, &self.id, self)?;
        // Before its turn a voter only looks now and then whether something stays undone.
        let looks = waited.as_millis() / LOOK_EVERY.as_millis();
        let now = self.env.mono();
        if waited < EPOCHS_APART || (!turn.is_zero() && waiting.is_none() && looks == 0) {
            return None;
        }
        let ops = plan(&newest.state, &self.layout.joiners(), waited, self);
        if ops.is_empty() {
            *waiting = None;
            return None;
        }
        let since = match *waiting {
            Some((epoch, since)) if epoch == newest.state.epoch => since,
            _ => now,
        };
        *waiting = Some((newest.state.epoch, since));
        (now - since >= turn).then_some((newest, ops))
    }

    pub(crate) fn backoff(&self) -> Duration {
        BACKOFF_MIN + self.share_of(BACKOFF_MAX - BACKOFF_MIN)
    }

    /// Has a change decided, also when others come before it: `left` says what of it a layout still
    /// lacks. Gives the epoch that lacks nothing.
    pub(crate) async fn decide_all(
        self: &Arc<Self>,
        left: impl Fn(&EpochState) -> Result<Vec<EpochOp>, Error>,
    ) -> Result<u64, Error> {
        let end = self.env.mono() + DECIDE_MAX;
        loop {
            let newest = self.layout.newest().clone().ok_or(Error::NotJoined)?;
            let ops = left(&newest.state)?;
            if ops.is_empty() {
                return Ok(newest.state.epoch);
            }
            let failed = match self.decide(&newest, ops).await {
                // This change, or another: then it is tried again on top of that.
                Ok(true) if self.layout.epoch() > newest.state.epoch => continue,
                Ok(_) => Error::Moving,
                Err(error) => error,
            };
            if self.env.mono() >= end {
                return Err(failed);
            }
            self.env.sleep(self.backoff()).await;
        }
    }

    /// One attempt to have an epoch decided; says whether one was, this or another.
    pub(crate) async fn decide(
        self: &Arc<Self>,
        newest: &Newest,
        ops: Vec<EpochOp>,
    ) -> Result<bool, Error> {
        let proposed = newest.state.propose(newest.cert.proposal.hash(), ops, self.id);
        let proposal = match proposed {
            Ok((_, proposal)) => proposal,
            Err(error) => {
                warn!(%error, "a planned change is not allowed");
                return Ok(false);
            }
        };
        self.propose(newest, newest.state.voters.clone(), proposal).await
    }

    /// The same for a proposal, among these acceptors.
    pub(crate) async fn propose(
        self: &Arc<Self>,
        newest: &Newest,
        acceptors: Vec<NodeId>,
        proposal: EpochProposal,
    ) -> Result<bool, Error> {
        let ballot = self.new_ballot(*self.layout.ballot());
        let decided = match self.attempt_epoch(&newest.state, acceptors, ballot, proposal).await {
            Ok(decided) => decided,
            // Someone knows a newer layout, and it is here by now.
            Err(StepError::Stale) => return Ok(true),
            Err(StepError::Failed(error)) => return Err(error),
        };
        match decided {
            Ok(cert) => {
                self.adopt(cert.clone()).await?;
                self.spread(cert);
                Ok(true)
            }
            Err(higher) => {
                debug!(epoch = newest.state.epoch + 1, "an attempt to decide an epoch failed");
                let mut seen = self.layout.ballot();
                *seen = (*seen).max(higher).max(Some(ballot));
                Ok(false)
            }
        }
    }

    /// Both phases; `Err` with the highest ballot heard of when they did not succeed.
    async fn attempt_epoch(
        self: &Arc<Self>,
        state: &EpochState,
        acceptors: Vec<NodeId>,
        ballot: Ballot,
        own: EpochProposal,
    ) -> Result<Result<EpochCert, Option<Ballot>>, StepError> {
        let mut proposer = Proposer::new(ballot, vec![acceptors]);
        let prepare = Request::EpochPrepare { epoch: own.epoch, ballot };
        let next = self
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
    fn spread(self: &Arc<Self>, cert: EpochCert) {
        for peer in self.network().peers().iter().filter(|peer| peer.down_for.is_none()) {
            let node = peer.info.node_id;
            let call = Call {
                priority: Priority::Layout,
                deadline: CHAIN_DEADLINE,
                epoch: 0,
                request: Request::EpochDecided(Box::new(cert.clone())),
                body: Bytes::new(),
                answer_bytes_max: 0,
            };
            let network = self.network().clone();
            self.finish_later(Box::pin(async move {
                let _ = network.call(&node, call).await;
            }));
        }
    }

    /// Answers phase one.
    pub(crate) async fn on_epoch_prepare(
        &self,
        epoch: u64,
        ballot: Ballot,
    ) -> Result<Response, Refusal> {
        self.need_next(epoch)?;
        self.change_vote(epoch, move |register| {
            // Refused or not: the caller sees it in the register.
            let _ = register.prepare(ballot);
        })
        .await
    }

    /// Answers phase two. What may not follow this node's layout is not accepted, so that a broken
    /// proposer cannot break the table.
    pub(crate) async fn on_epoch_accept(
        &self,
        ballot: Ballot,
        proposal: EpochProposal,
    ) -> Result<Response, Refusal> {
        self.need_next(proposal.epoch)?;
        let newest = self.layout.newest().clone();
        let newest = newest.ok_or_else(not_yet)?;
        let previous = newest.cert.proposal.hash();
        let checked = match self.told_loss().filter(|loss| *loss == proposal.loss()) {
            Some(loss) => loss.check(&newest.state, previous, &proposal),
            None => newest.state.check(previous, &proposal),
        };
        match checked {
            Ok(_) => {}
            Err(EpochError::NotNext) => return Err(stale()),
            Err(error) => {
                warn!(%error, "a proposed epoch is refused");
                return Err(Refusal::new(Code::Malformed, error.to_string()));
            }
        }
        let vote = proposal.vote(newest.state.cluster_id, ballot, self.data_dir.node_key());
        let value = proposal.clone();
        let accepted = self.change_vote(proposal.epoch, move |register| {
            let _ = register.accept(ballot, value);
        });
        match accepted.await? {
            Response::EpochRegister { register, .. } => {
                let signature = register.stands_by(ballot, &proposal).then_some(vote.signature);
                Ok(Response::EpochRegister { register, signature })
            }
            other => Ok(other),
        }
    }

    fn need_next(&self, epoch: u64) -> Result<(), Refusal> {
        let state = self.layout.current().ok_or_else(not_yet)?;
        if let Some(loss) = self.told_loss().filter(|loss| loss.epoch() == epoch) {
            return match loss.electors(&state).contains(&self.id) {
                true => Ok(()),
                false => Err(Refusal::new(Code::NotMember, "this node does not decide about that")),
            };
        }
        if !state.voters.contains(&self.id) {
            return Err(Refusal::new(Code::NotMember, "this node is no voter"));
        }
        match state.epoch.checked_add(1) {
            Some(next) if next == epoch => Ok(()),
            Some(next) if next > epoch => Err(stale()),
            _ => Err(not_yet()),
        }
    }

    async fn change_vote(
        &self,
        epoch: u64,
        change: impl FnOnce(&mut dfs_core::paxos::Register<EpochProposal>) + Send + 'static,
    ) -> Result<Response, Refusal> {
        let register = self.store.vote(epoch, change).await.map_err(|error| {
            tracing::error!(%error, "a vote could not be stored");
            Refusal::new(Code::Internal, "the vote could not be stored")
        })?;
        let register = Box::new(register.ok_or_else(stale)?);
        Ok(Response::EpochRegister { register, signature: None })
    }
}

fn ask(request: Request) -> Ask {
    Ask { deadline: CHAIN_DEADLINE, ..Ask::new(Priority::Layout, request) }
}

fn stale() -> Refusal {
    Refusal::new(Code::StaleEpoch, "that epoch is decided")
}

fn not_yet() -> Refusal {
    Refusal::new(Code::Internal, "this node does not know the epoch before that one yet")
}

/// How often a steward looks without being told, while something waits for its turn.
const STEWARD_EVERY: Duration = Duration::from_millis(500);
/// The same while nothing does: every new fact wakes it, but for the time that members are away.
const STEWARD_IDLE: Duration = Duration::from_secs(2);
/// Epochs follow each other no faster, so that every node keeps up.
const EPOCHS_APART: Duration = Duration::from_millis(300);
/// How old a layout is before voters other than the first look whether something stays undone.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// How long a change may take to be decided while proposers get into each other's way.
const DECIDE_MAX: Duration = Duration::from_secs(20);
/// Two stewards that got into each other's way wait for different times.
const BACKOFF_MIN: Duration = Duration::from_millis(500);
const BACKOFF_MAX: Duration = Duration::from_secs(5);
