//! Reading records by quorum: replicas that differ are brought together before anyone sees them.

use std::collections::BTreeMap;
use std::sync::Arc;

use dfs_core::id::{NodeId, RecordKey};
use dfs_core::layout::epoch::{EpochState, Stage};
use dfs_core::record::version::Record;
use dfs_core::replica::op::Failure;
use dfs_core::replica::op::read::{
    Read as ReadOp, ReadAnswer, ReadEvent, ReadResult, ReadSpec, ReadTask,
};
use dfs_env::{Bug, bug};
use dfs_p2p::message::{Priority, Request, Response};

use super::Records;
use super::seen::Mark;
use crate::config::Mode;
use crate::error::Error;
use crate::rpc::drive::{Running, counting_reads};
use crate::rpc::{Ask, AskError, StepError};

/// Records as a quorum knows them.
#[derive(Debug, Clone)]
pub(crate) struct Read {
    pub(crate) records: Vec<Record>,
    /// Whether so many answered that every acknowledged write is seen.
    pub(crate) quorum: bool,
    /// Whether the gateways among the replicas would have told of what others hid.
    pub(crate) guarded: bool,
}

impl Records {
    /// Reads records, in the order of the keys. Replicas that differ are brought together first,
    /// so that no later read sees less.
    pub(crate) async fn read_records(
        self: &Arc<Self>,
        keys: &[RecordKey],
        mode: Mode,
    ) -> Result<Read, Error> {
        self.rpc.with_layout(|state| self.read_attempt(keys, mode, state)).await
    }

    /// Reads one record.
    pub(crate) async fn read_record(
        self: &Arc<Self>,
        key: RecordKey,
        mode: Mode,
    ) -> Result<(Record, bool), Error> {
        let mut read = self.read_records(&[key], mode).await?;
        Ok((read.records.pop().unwrap_or_default(), read.quorum))
    }

    async fn read_attempt(
        self: &Arc<Self>,
        keys: &[RecordKey],
        mode: Mode,
        state: Arc<EpochState>,
    ) -> Result<Read, StepError> {
        // Keys on the same replicas travel together.
        let mut groups: BTreeMap<Vec<NodeId>, Vec<usize>> = BTreeMap::new();
        for (at, key) in keys.iter().enumerate() {
            groups.entry(state.read_set(key.partition(state.bits))).or_default().push(at);
        }
        let mut records = vec![Record::default(); keys.len()];
        let (mut quorum, mut guarded) = (true, true);
        let reads = groups.into_iter().map(|(set, places)| {
            let state = &state;
            async move {
                let wanted = places.iter().map(|at| keys[*at]).collect::<Vec<_>>();
                let read = self.read_group(&wanted, set, mode, state).await?;
                Ok::<_, StepError>((places, read))
            }
        });
        for done in futures_util::future::join_all(reads).await {
            let (places, read) = done?;
            quorum &= read.quorum;
            guarded &= read.guarded;
            for (at, record) in places.into_iter().zip(read.records) {
                records[at] = record;
            }
        }
        Ok(Read { records, quorum, guarded })
    }

    async fn read_group(
        self: &Arc<Self>,
        keys: &[RecordKey],
        set: Vec<NodeId>,
        mode: Mode,
        state: &Arc<EpochState>,
    ) -> Result<ReadResult, StepError> {
        let needs_quorum = self.replica.is_quorum(mode, state);
        let moves = |key: &RecordKey| state.row(key.partition(state.bits)).stage != Stage::Stable;
        let spec = ReadSpec {
            keys: keys.to_vec(),
            me: self.replica.id,
            counting: counting_reads(needs_quorum),
            needs_quorum,
            all_in_reach: set.iter().all(|node| self.replica.is_reachable(node)),
            is_moving: keys.iter().any(moves),
            guards: state.guards(std::slice::from_ref(&set)),
            set,
        };
        let (asked, seen) = (spec.set.clone(), self.seen.of(keys));
        let perform = |task| Some(self.begin_read(task, keys, needs_quorum, state));
        let read = self.rpc.drive(ReadOp::new(spec), perform).await??;
        if needs_quorum {
            self.hold_against(&seen, keys, &read, &asked)?;
        }
        Ok(read)
    }

    /// Refuses an answer without enough gateways in it that is older than what was seen here before
    /// anyone was asked.
    fn hold_against(
        &self,
        seen: &[Option<Mark>],
        keys: &[RecordKey],
        read: &ReadResult,
        asked: &[NodeId],
    ) -> Result<(), Error> {
        let (now, age) = (self.replica.unix_ms(), self.replica.grace.purge_age());
        let is_hidden = |(mark, record): (&Option<Mark>, &Record)| {
            mark.as_ref().is_some_and(|mark| mark.is_hidden_in(record, now, age))
        };
        if !read.guarded && seen.iter().zip(&read.records).any(is_hidden) {
            let state = self.replica.joined()?;
            let why = |node: &NodeId| match state.is_gateway(node) {
                true => (*node, "this gateway does not answer".to_owned()),
                false => (*node, "it shows an older version than was seen before".to_owned()),
            };
            let not_here = asked.iter().filter(|node| **node != self.replica.id);
            return Err(Error::Unavailable(not_here.map(why).collect()));
        }
        for ((key, record), before) in keys.iter().zip(&read.records).zip(seen) {
            self.seen.note(key, record, before.as_ref());
        }
        Ok(())
    }

    /// Whether any of these is older than what was seen here before.
    pub(crate) fn show_less(&self, keys: &[RecordKey], records: &[Record]) -> bool {
        let (now, age) = (self.replica.unix_ms(), self.replica.grace.purge_age());
        let marks = self.seen.of(keys);
        let mut told = marks.iter().zip(records);
        told.any(|(mark, record)| mark.as_ref().is_some_and(|m| m.is_hidden_in(record, now, age)))
    }

    fn begin_read(
        self: &Arc<Self>,
        task: ReadTask<NodeId>,
        keys: &[RecordKey],
        needs_quorum: bool,
        state: &Arc<EpochState>,
    ) -> Running<ReadEvent<NodeId, AskError>> {
        let (this, state) = (self.clone(), state.clone());
        match task {
            ReadTask::Ask { node, keys, digest_only } => {
                let ask = Ask::new(Priority::Records, Request::RecordGet { keys, digest_only });
                self.rpc.asking(node, state.epoch, ask, |node, told| {
                    ReadEvent::Answered(node, told.map(answer))
                })
            }
            ReadTask::Verify { node, records } => Box::pin(async move {
                for (key, record) in &records {
                    if this.certs.verify_record(&node, key, record).await.is_err() {
                        if bug(Bug::ForgedAnswerEndsRead) {
                            return Err(Error::failed(&node, "it told of something forged"));
                        }
                        return Ok(ReadEvent::Verified(node, false));
                    }
                }
                let is_genuine = node == this.replica.id
                    || !this.purged.tells_of_purged(&node, &records, &state).await?;
                Ok(ReadEvent::Verified(node, is_genuine))
            }),
            ReadTask::LookHere => {
                let keys = keys.to_vec();
                Box::pin(
                    async move { Ok(ReadEvent::Here(this.replica.store.records(keys).await?)) },
                )
            }
            ReadTask::WriteBack(records) => Box::pin(async move {
                match this.write_back(records, needs_quorum, &state).await {
                    Ok(guarded) => Ok(ReadEvent::WrittenBack(Ok(guarded))),
                    Err(StepError::Stale) => Ok(ReadEvent::WrittenBack(Err(Failure::Stale))),
                    Err(StepError::Failed(error)) => Err(error),
                }
            }),
        }
    }

    /// Records of one node, verified, in the order of the keys.
    pub(crate) async fn fetch_records(
        &self,
        node: &NodeId,
        keys: &[RecordKey],
        epoch: u64,
    ) -> Result<Vec<Record>, Error> {
        let request = Request::RecordGet { keys: keys.to_vec(), digest_only: false };
        let told = self.rpc.ask(node, epoch, Ask::new(Priority::Records, request)).await;
        match told {
            Ok((Response::Records { records, .. }, _)) => {
                self.complete(node, keys, records, epoch).await
            }
            Ok(_) => Err(Error::failed(node, "an unexpected answer")),
            Err(error) => Err(Error::failed(node, error.to_string())),
        }
    }

    /// Checks what one node sent, and asks again for what did not fit its answer.
    async fn complete(
        &self,
        node: &NodeId,
        keys: &[RecordKey],
        mut sent: Vec<(RecordKey, Record)>,
        epoch: u64,
    ) -> Result<Vec<Record>, Error> {
        while sent.len() < keys.len() {
            let rest = keys[sent.len()..].to_vec();
            let request = Request::RecordGet { keys: rest, digest_only: false };
            let more = self.rpc.ask(node, epoch, Ask::new(Priority::Records, request)).await;
            match more {
                Ok((Response::Records { records, .. }, _)) if !records.is_empty() => {
                    sent.extend(records);
                }
                _ => {
                    let why = "it did not send all records".to_owned();
                    return Err(Error::failed(node, why));
                }
            }
        }
        let mut records = Vec::with_capacity(keys.len());
        for (key, (sent_key, record)) in keys.iter().zip(sent) {
            if *key != sent_key {
                let why = "it sent other records than asked for".to_owned();
                return Err(Error::failed(node, why));
            }
            // Our own disk holds what was verified before it was stored.
            if *node != self.replica.id {
                self.certs
                    .verify_record(node, key, &record)
                    .await
                    .map_err(|error| error.of(node))?;
            }
            records.push(record);
        }
        Ok(records)
    }
}

fn answer(response: Response) -> ReadAnswer {
    match response {
        Response::StateHashes(hashes) => ReadAnswer::Hashes(hashes),
        Response::Records { records, .. } => ReadAnswer::Records(records),
        _ => ReadAnswer::Other,
    }
}
