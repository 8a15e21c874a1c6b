//! Going on by hand after a disaster: `force` where partitions lost too many replicas to be sure of
//! what they held, `recover` where the majority of the voters is gone.
//!
//! What is allowed, and what it makes of the layout, is decided in
//! [`dfs_core::layout::epoch::Loss`].

use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use dfs_core::id::NodeId;
use dfs_core::layout::epoch::{EpochOp, EpochState, Heir, Loss};
use tracing::{info, warn};

use super::Members;
use crate::error::{Error, MemberError};
use crate::replica::layout::Newest;

/// What came of going on by hand without members.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "kebab-case")]
pub enum RecoveryOutcome {
    /// It is decided.
    Decided {
        /// The epoch that decided it, or a later one.
        epoch: u64,
        /// Partitions that go on with fewer replicas than could be sure of everything.
        partitions: usize,
    },
    /// This node was told; others have to be told as well before anything happens.
    Waits {
        /// Those that decide with this one.
        #[serde(skip_serializing_if = "Vec::is_empty", default)]
        nodes: Vec<String>,
    },
}

impl Members {
    /// Gives up members that are gone for ever, though other replicas may lack what they held.
    pub(crate) async fn force(&self, names: &[String]) -> Result<RecoveryOutcome, MemberError> {
        let state = self.replica.joined()?;
        let loss = self.loss(&state, names)?;
        if loss.is_of_majority(&state) {
            return Err(MemberError::MostVotersLost);
        }
        let partitions = loss.at_risk(&state).len();
        if partitions == 0 {
            return Err(MemberError::NothingAtRisk);
        }
        let ops = |state: &EpochState| {
            let mut ops = loss.ops(state);
            // One that left stays no voter: who counts the voters later may count it.
            if !ops.is_empty() && state.voters.iter().any(|voter| loss.lost.contains(voter)) {
                ops.push(EpochOp::SetVoters(loss.electors(state)));
            }
            Ok::<_, MemberError>(ops)
        };
        let epoch = self.proposals.decide_all(ops).await?;
        info!(lost = ?loss.lost, partitions, epoch, "went on without members by hand");
        Ok(RecoveryOutcome::Decided { epoch, partitions })
    }

    /// Makes a new majority of voters from those that are left, once enough of them were told.
    pub(crate) async fn recover(&self, names: &[String]) -> Result<RecoveryOutcome, MemberError> {
        let (state, heir) = self.to_go_on_from()?;
        let loss = Loss { heir, ..self.loss(&state, names)? };
        self.may_recover(&state, &loss)?;
        let loss = self.chain.foreign_loss().unwrap_or(loss);
        let partitions = loss.at_risk(&state).len();
        self.chain.take_operator_loss(loss.clone(), self.replica.env.mono() + OPERATOR_LOSS_FOR);
        warn!(lost = ?loss.lost, "told that members are gone, most voters among them");
        for _ in 0..TRIES {
            self.catch_up_with_all().await;
            let newest = self.replica.layout.newest().ok_or(Error::NotJoined)?;
            if newest.state.generation >= loss.generation {
                let epoch = newest.state.epoch;
                return Ok(RecoveryOutcome::Decided { epoch, partitions });
            }
            if !self.begin_generation(&newest, &loss).await? {
                self.replica.env.sleep(self.proposals.backoff()).await;
            }
        }
        let electors = loss.electors(&state);
        let others = electors.iter().filter(|elector| **elector != self.replica.id);
        Ok(RecoveryOutcome::Waits { nodes: others.map(NodeId::short).collect() })
    }

    /// The layout to go on from, and this node as its heir where it is no member: a machine with an
    /// admin's key, and no gateway is left.
    fn to_go_on_from(&self) -> Result<(Arc<EpochState>, Option<Heir>), MemberError> {
        let error = match self.replica.joined() {
            Ok(state) => return Ok((state, None)),
            Err(error) => error,
        };
        let state = self.replica.layout.current().filter(|_| matches!(error, Error::NotJoined));
        let id = self.replica.id;
        match state.filter(|state| self.replica.proves_admin(state, &id)) {
            Some(state) => {
                let info = self.replica.net().own_info();
                Ok((state, Some(Heir { node: id, zone: info.zone, capacity: info.capacity })))
            }
            None => Err(error.into()),
        }
    }

    fn may_recover(&self, state: &EpochState, loss: &Loss) -> Result<(), MemberError> {
        match self.chain.foreign_loss() {
            // Others have gone on: then this node only has to be told.
            Some(foreign) if foreign.lost == loss.lost => Ok(()),
            Some(foreign) => Err(MemberError::OtherLoss(short(foreign.lost.iter()))),
            None if !loss.is_of_majority(state) => Err(MemberError::VotersRemain),
            None => {
                let is_away = |member: &NodeId| {
                    !loss.lost.contains(member) && !self.replica.is_reachable(member)
                };
                let present: Vec<_> = state.counted().map(|member| member.node_id).collect();
                let away = short(present.iter().filter(|member| is_away(member)));
                if away.is_empty() { Ok(()) } else { Err(MemberError::MembersAway(away)) }
            }
        }
    }

    fn loss(&self, state: &EpochState, names: &[String]) -> Result<Loss, MemberError> {
        let mut lost = BTreeSet::new();
        for name in names {
            let member = self.find(state, name)?;
            // One that only stores may be there and give nothing back: then it is lost as well.
            if self.replica.is_reachable(&member.node_id) && state.may_write(&member.node_id) {
                return Err(MemberError::NotLost(name.clone()));
            }
            lost.insert(member.node_id);
        }
        if lost.is_empty() {
            return Err(MemberError::NoneNamed);
        }
        if state.active().all(|active| lost.contains(&active.node_id)) {
            return Err(MemberError::NoneLeft);
        }
        Ok(Loss::of(state, lost))
    }

    /// One attempt to begin the new generation, if this node is one of those who decide and nobody
    /// that is left knows of a newer layout.
    async fn begin_generation(&self, newest: &Newest, loss: &Loss) -> Result<bool, MemberError> {
        let electors = loss.electors(&newest.state);
        let is_behind = |member: &NodeId| {
            let theirs = self.replica.net().with_info(member, |info| info.durable_epoch);
            !loss.lost.contains(member) && theirs.is_none_or(|epoch| epoch > newest.state.epoch)
        };
        let elects = electors.contains(&self.replica.id) && loss.is_of_majority(&newest.state);
        // A machine that only stores could hold everything up with an epoch that it makes up.
        if !elects || newest.state.electable().any(|member| is_behind(&member.node_id)) {
            return Ok(false);
        }
        let previous = newest.cert.proposal.hash();
        let (_, proposal) = loss.propose(&newest.state, previous, self.replica.id)?;
        match self.proposals.propose(newest, electors, proposal).await {
            Ok(decided) => Ok(decided),
            // Who was not told yet refuses.
            Err(Error::Unavailable(_) | Error::Moving) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    async fn catch_up_with_all(&self) {
        let peers = self.replica.net().peers();
        let up = peers.iter().filter(|peer| peer.down_for.is_none());
        for node in up.map(|peer| peer.info.node_id).collect::<Vec<NodeId>>() {
            if let Err(error) = self.chain.catch_up(&node).await {
                warn!(%error, "a newer layout could not be stored");
            }
        }
    }
}

/// The beginnings of ids.
fn short<'a>(nodes: impl Iterator<Item = &'a NodeId>) -> Vec<String> {
    nodes.map(NodeId::short).collect()
}

/// How long an operator's word counts: a later disaster needs another one.
const OPERATOR_LOSS_FOR: Duration = Duration::from_secs(60 * 60);
/// Attempts to begin a new generation before the others are waited for.
const TRIES: u32 = 4;
