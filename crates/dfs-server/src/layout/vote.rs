//! Votes: the acceptor's side of each epoch.

use std::sync::Arc;

use dfs_core::layout::epoch::{EpochError, EpochProposal};
use dfs_core::paxos::{Ballot, Register};
use dfs_env::{Bug, bug};
use dfs_p2p::message::{Code, Refusal, Response};
use tracing::{error, warn};

use crate::chain::Chain;
use crate::replica::Replica;

/// This node's votes.
pub(crate) struct Voting {
    replica: Arc<Replica>,
    chain: Arc<Chain>,
}

impl Voting {
    pub(crate) fn new(replica: Arc<Replica>, chain: Arc<Chain>) -> Self {
        Self { replica, chain }
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
        let newest = self.replica.layout.newest();
        let newest = newest.ok_or_else(not_yet)?;
        let previous = newest.cert.proposal.hash();
        let checked = match self.chain.operator_loss().filter(|loss| *loss == proposal.loss()) {
            Some(loss) => loss.check(&newest.state, previous, &proposal),
            None => newest.state.check(previous, &proposal),
        };
        match checked {
            Ok(_) => {}
            Err(EpochError::NotNext) => return Err(stale()),
            Err(EpochError::NotAuthorized) if bug(Bug::UnsignedEpochTaken) => {}
            Err(error) => {
                warn!(%error, "a proposed epoch is refused");
                return Err(Refusal::new(Code::Malformed, error.to_string()));
            }
        }
        let vote = proposal.vote(newest.state.cluster_id, ballot, self.chain.data_dir().node_key());
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
        let state = self.replica.layout.current().ok_or_else(not_yet)?;
        if let Some(loss) = self.chain.operator_loss().filter(|loss| loss.epoch() == epoch) {
            return match loss.electors(&state).contains(&self.replica.id) {
                true => Ok(()),
                false => Err(Refusal::new(Code::NotMember, "this node does not decide about that")),
            };
        }
        if !state.voters.contains(&self.replica.id) {
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
        change: impl FnOnce(&mut Register<EpochProposal>) + Send + 'static,
    ) -> Result<Response, Refusal> {
        let register = self.replica.store.vote(epoch, change).await.map_err(|error| {
            error!(%error, "a vote could not be stored");
            Refusal::new(Code::Internal, "the vote could not be stored")
        })?;
        let register = Box::new(register.ok_or_else(stale)?);
        Ok(Response::EpochRegister { register, signature: None })
    }
}

fn stale() -> Refusal {
    Refusal::new(Code::StaleEpoch, "that epoch is decided")
}

fn not_yet() -> Refusal {
    Refusal::new(Code::Internal, "this node does not know the epoch before that one yet")
}
