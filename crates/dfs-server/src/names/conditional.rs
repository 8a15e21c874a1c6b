//! Conditional writes: decided by a majority of every write set, one writer after the other.
//!
//! A writer first has the replicas promise to take part in nothing older, and learns what they hold
//! and what they accepted before. A version that may have been chosen is completed first. Then the
//! condition is looked at, the new version is accepted by a majority, and only then is it written
//! as a head.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use dfs_core::id::{NodeId, RecordKey, Vid};
use dfs_core::layout::epoch::EpochState;
use dfs_core::name::FilePath;
use dfs_core::paxos::{Ballot, Heard, Next, Proposer, acceptance_of, promise_of};
use dfs_core::record::ballot::{Candidate, SignedBallot, Value};
use dfs_core::record::conditional::Condition;
use dfs_core::record::version::{Record, Version, merge};
use dfs_env::{Bug, bug};
use dfs_p2p::message::{Priority, Request, Response};
use tracing::debug;

use super::Names;
use super::history::NewVersion;
use super::parts::{Part, holds, refuse_directory, superseded};
use crate::config::Mode;
use crate::error::Error;
use crate::records::{Written, copies_wanted};
use crate::replica::millis;
use crate::rpc::{Ask, StepError};

/// A conditional write.
pub(crate) struct WriteIf<'a> {
    pub(crate) key: RecordKey,
    pub(crate) path: &'a FilePath,
    pub(crate) condition: Condition,
    pub(crate) vid: Vid,
    pub(crate) new: NewVersion,
    pub(crate) mode: Mode,
}

/// How an attempt ended.
enum Attempt {
    Written(Written),
    /// The condition does not hold.
    Refused,
    /// Someone else was faster, or another write had to be completed first.
    Again(Option<Ballot>),
    /// This replica told of something forged.
    Without(NodeId),
}

impl Names {
    /// Writes a version if the condition holds when its turn comes. The same `vid` is written once,
    /// however often it is attempted.
    ///
    /// After [`Error::Unavailable`] it may or may not have taken effect, or may yet.
    pub(crate) async fn write_if(&self, write: &WriteIf<'_>) -> Result<Written, Error> {
        let end = self.replica.env.mono() + ATTEMPTS_MAX;
        let mut seen = None;
        let mut sent = Vec::new();
        let mut liars = BTreeSet::new();
        let mut wait = WAIT_FIRST;
        self.replica.need_right_clock().await?;
        while self.replica.env.mono() < end {
            let state = self.replica.joined()?;
            let ballot = self.records.rpc().new_ballot(seen);
            match self.attempt_write(write, &mut sent, &liars, &state, ballot).await {
                Ok(Attempt::Written(written)) => return Ok(written),
                Ok(Attempt::Refused) => return Err(Error::Condition),
                Ok(Attempt::Again(higher)) => seen = seen.max(higher),
                Ok(Attempt::Without(liar)) => {
                    seen = seen.max(Some(ballot));
                    liars.insert(liar);
                    continue;
                }
                Err(StepError::Stale) => continue,
                // Someone may complete what an earlier attempt sent.
                Err(StepError::Failed(error)) if !sent.is_empty() => {
                    return Err(error.once_written(&self.replica.id));
                }
                Err(StepError::Failed(error)) => return Err(error),
            }
            // Two writers that get into each other's way wait for different times.
            self.replica.env.sleep(self.replica.jitter(wait)).await;
            wait = (wait * 2).min(WAIT_MAX);
        }
        Err(Error::Contended)
    }

    async fn attempt_write(
        &self,
        write: &WriteIf<'_>,
        sent: &mut Vec<Version>,
        liars: &BTreeSet<NodeId>,
        state: &Arc<EpochState>,
        ballot: Ballot,
    ) -> Result<Attempt, StepError> {
        let key = write.key;
        let began = self.replica.env.wall_ms();
        let signed = SignedBallot::sign(&self.keys.signing, &key, ballot);
        let mut proposer = Proposer::new(signed, acceptors(state, &key));
        let mut told = BTreeMap::new();
        let prepare = Request::CasPrepare { key, ballot: signed };
        let next = self
            .records
            .rpc()
            .phase(&mut proposer, state.epoch, &ask(prepare), |node, response| {
                let record = self.told_by(&node, response, &key);
                let Some(record) = record.filter(|_| !liars.contains(&node)) else {
                    return Heard::Failed;
                };
                let heard = promise_of(record.register(), signed);
                if matches!(heard, Heard::Promised(_)) {
                    told.insert(node, record);
                }
                heard
            })
            .await?;
        let found = match next {
            Next::Choose(found) => found,
            Next::Lost { higher: None } => return Err(self.too_few(state, &key).into()),
            Next::Lost { higher } => return Ok(Attempt::Again(higher.map(|at| at.ballot()))),
            Next::Wait | Next::Chosen(_) => return Ok(Attempt::Again(None)),
        };
        if let Some(liar) = self.find_liar(&key, &told, state).await? {
            return Ok(Attempt::Without(liar));
        }
        let read = self.bring_heads_together(&key, told, state).await?;
        if sent.iter().any(|version| read.reflects(version)) {
            // An earlier attempt of this write was completed by someone else.
            let wanted = copies_wanted(state, &key);
            let copies = wanted / 2 + 1;
            return Ok(Attempt::Written(Written { copies, wanted, guarded: true }));
        }
        let open = found.and_then(|found| match found.value {
            Value::Open(version) if !read.reflects(&version) => Some(*version),
            _ => None,
        });
        let is_found = open.is_some();
        let version = match open {
            Some(version) => Some(version),
            None if !holds(&self.keys, &key, &read, write.condition)? => {
                if sent.is_empty() {
                    return Ok(Attempt::Refused);
                }
                // Some replica may hold what an earlier attempt sent. Once a majority has accepted
                // nothing, under a higher ballot, nobody can complete that any more.
                None
            }
            None => {
                refuse_directory(&self.keys, &key, &read, write.path)?;
                let part = superseded(&self.keys, &key, &read, Part::File)?;
                let draft = self.draft(key, &part, write.new.clone(), write.mode).await?;
                let version = self.writer.conditional_after(&key, &part, draft).await?;
                sent.push(version.clone());
                Some(version)
            }
        };
        if self.replica.env.wall_ms().saturating_sub(began)
            > millis(self.replica.grace.attempt_max())
        {
            // Replicas may have forgotten meanwhile what they promised: see
            // dfs_core::replica::purge.
            return Ok(Attempt::Again(Some(ballot)));
        }
        self.choose(&mut proposer, write, state, (version, is_found)).await
    }

    /// Phase two, and the write that makes the chosen version a head. Whether the version was found
    /// goes with it.
    async fn choose(
        &self,
        proposer: &mut Proposer<Candidate, SignedBallot>,
        write: &WriteIf<'_>,
        state: &Arc<EpochState>,
        (version, found): (Option<Version>, bool),
    ) -> Result<Attempt, StepError> {
        let (signed, key) = (proposer.ballot(), &write.key);
        let ballot = signed.ballot();
        let candidate = Candidate::sign(&self.keys.signing, key, ballot, version.clone());
        proposer.choose(candidate.clone());
        let candidate = Box::new(candidate);
        let accept = Request::CasAccept { key: *key, ballot: signed, candidate, found };
        let next = self
            .records
            .rpc()
            .phase(proposer, state.epoch, &ask(accept), |node, response| {
                let Some(record) = self.told_by(&node, response, key) else {
                    return Heard::Failed;
                };
                acceptance(&record, signed)
            })
            .await?;
        match next {
            Next::Chosen(_) => {}
            Next::Lost { higher } => {
                let higher = higher.map(|at| at.ballot());
                return Ok(Attempt::Again(higher.max(Some(ballot))));
            }
            Next::Wait | Next::Choose(_) => return Ok(Attempt::Again(Some(ballot))),
        }
        let Some(version) = version else { return Ok(Attempt::Refused) };
        let is_own = version.vid == write.vid;
        let written = self.records.write_chosen(key, Record::of(version), state).await?;
        debug!(?key, is_own, "a conditional write was decided");
        Ok(if is_own { Attempt::Written(written) } else { Attempt::Again(Some(ballot)) })
    }

    /// The record that an acceptor answered with, if its register is genuine.
    fn told_by(&self, node: &NodeId, response: Response, key: &RecordKey) -> Option<Record> {
        let record = record_of(response, key)?;
        let is_genuine = *node == self.replica.id || record.verify_register(key).is_ok();
        is_genuine.then_some(record)
    }

    /// The first replica that told of a version which no writer of the vault signed, or whose
    /// certificate it cannot show, or which was deleted long ago.
    async fn find_liar(
        &self,
        key: &RecordKey,
        told: &BTreeMap<NodeId, Record>,
        state: &Arc<EpochState>,
    ) -> Result<Option<NodeId>, Error> {
        let records = &self.records;
        let trusted = |record: &Record| {
            let mut gateways = told.iter().filter(|(node, _)| state.is_gateway(node));
            gateways.any(|(_, other)| other.heads().eq(record.heads()))
        };
        for (node, record) in told.iter().filter(|(node, _)| **node != self.replica.id) {
            if records.certs.verify_record(node, key, record).await.is_err() {
                return Ok(Some(*node));
            }
            let purged = || async {
                let told = [(*key, record.clone())];
                records.purged.tells_of_purged(node, &told, state).await
            };
            if !trusted(record) && purged().await? {
                return Ok(Some(*node));
            }
        }
        Ok(None)
    }

    /// Merges the records that replicas told of, all genuine; where they differ, a majority has the
    /// merged one before anyone is told what it says.
    async fn bring_heads_together(
        &self,
        key: &RecordKey,
        told: BTreeMap<NodeId, Record>,
        state: &Arc<EpochState>,
    ) -> Result<Record, StepError> {
        let mut merged = Record::default();
        for record in told.values() {
            merged = merge(&merged, record);
        }
        let same = |record: &Record| record.heads().eq(merged.heads());
        if !told.values().all(same) {
            self.records.write_back(vec![(*key, merged.clone())], true, state).await?;
        }
        Ok(merged)
    }

    fn too_few(&self, state: &EpochState, key: &RecordKey) -> Error {
        let away = state.holders(key.partition(state.bits)).into_iter();
        let away = away.filter(|node| !self.replica.is_reachable(node));
        Error::Unavailable(away.map(|node| (node, "it does not answer".to_owned())).collect())
    }
}

/// The sets of which each must have a majority: the write sets, and the gateways among them. Else
/// two writers could both win, each with a majority in which another storage member lies.
fn acceptors(state: &EpochState, key: &RecordKey) -> Vec<Vec<NodeId>> {
    let mut sets = state.write_sets(key.partition(state.bits));
    sets.extend(state.guards(&sets));
    sets
}

/// What an acceptor's answer to an accept means, from what its record says then.
fn acceptance(record: &Record, ballot: SignedBallot) -> Heard<Candidate, SignedBallot> {
    let accepted = record.register().accepted().map(|(accepted, _)| *accepted);
    if bug(Bug::MergedAcceptanceCounts) && accepted == Some(ballot) {
        return Heard::Accepted;
    }
    acceptance_of(record.register(), ballot)
}

fn ask(request: Request) -> Ask {
    Ask::new(Priority::Records, request)
}

fn record_of(response: Response, key: &RecordKey) -> Option<Record> {
    match response {
        Response::Records { mut records, .. } if records.len() == 1 && records[0].0 == *key => {
            records.pop().map(|(_, record)| record)
        }
        _ => None,
    }
}

/// How long a conditional write is attempted while others write the same name.
const ATTEMPTS_MAX: Duration = Duration::from_secs(10);
/// The longest first wait between attempts: about one write.
const WAIT_FIRST: Duration = Duration::from_millis(50);
/// The longest wait between attempts.
const WAIT_MAX: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use dfs_core::id::{DirId, Tag, VaultId};
    use ed25519_dalek::SigningKey;

    use super::*;

    #[test]
    fn what_an_acceptor_took_over_and_refused_counts_for_nobody() {
        let root = SigningKey::from_bytes(&[7; 32]);
        let key = RecordKey {
            vault: VaultId::new([1; 16]),
            dir: DirId::new([2; 16]),
            tag: Tag::new([3; 16]),
        };
        let ballot = |round| Ballot { round, node: NodeId::new([4; 32]) };
        let [low, high] = [1, 2].map(|round| SignedBallot::sign(&root, &key, ballot(round)));
        let candidate = Candidate::sign(&root, &key, low.ballot(), None);
        let mut accepting = Record::default();
        accepting.prepare(low);
        accepting.accept(low, candidate.clone());
        assert_eq!(acceptance(&accepting, low), Heard::Accepted);
        // A read, or a comparison of rows, brings it to one that promised more since.
        let mut promising = Record::default();
        promising.prepare(high);
        let mut promising = merge(&promising, &accepting);
        promising.accept(low, candidate);
        assert_eq!(acceptance(&promising, low), Heard::Refused(high));
    }
}
