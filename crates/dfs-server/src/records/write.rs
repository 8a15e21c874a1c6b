//! Writing records: to a majority of every write set, or to whoever is in reach.

use std::sync::Arc;

use dfs_core::id::{NodeId, RecordKey};
use dfs_core::layout::epoch::EpochState;
use dfs_core::quorum::Tally;
use dfs_core::record::version::Record;
use dfs_core::replica::op::write::{Put, Write, WriteEvent, WriteSpec, WriteTask, batches};
use dfs_env::{Bug, bug};
use dfs_p2p::message::{Origin, Priority, Request};

use super::Records;
use crate::config::Mode;
use crate::error::Error;
use crate::rpc::drive::{Running, counting_writes};
use crate::rpc::{Ask, AskError, StepError};

/// A written version.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Written {
    /// Durable copies when it was acknowledged.
    pub(crate) copies: usize,
    /// Copies there should be.
    pub(crate) wanted: usize,
    /// Whether enough of the gateways among the replicas are among them.
    pub(crate) guarded: bool,
}

impl Written {
    /// What holds of two that were written together.
    fn and(self, other: Self) -> Self {
        Self {
            copies: self.copies.min(other.copies),
            wanted: self.wanted.max(other.wanted),
            guarded: self.guarded && other.guarded,
        }
    }
}

/// How many copies of a record there should be.
pub(crate) fn copies_wanted(state: &EpochState, key: &RecordKey) -> usize {
    let sets = state.write_sets(key.partition(state.bits));
    sets.iter().map(Vec::len).max().unwrap_or(0)
}

impl Records {
    /// Gives merged records back to their replicas, as many in a call as fit. Returns whether the
    /// gateways among these have them as well.
    pub(crate) async fn write_back(
        self: &Arc<Self>,
        records: Vec<(RecordKey, Record)>,
        needs_quorum: bool,
        state: &Arc<EpochState>,
    ) -> Result<bool, StepError> {
        if bug(Bug::NoWriteBack) {
            return Ok(true);
        }
        let mut guarded = true;
        for (_, batch) in batches(records, state.bits, dfs_p2p::KEYS_MAX, CALL_BYTES) {
            let key = batch[0].0;
            let put = self.put_records(&key, batch, Origin::Repair, needs_quorum, state).await?;
            guarded &= put.guarded;
        }
        Ok(guarded)
    }

    /// Gives records of one partition to its replicas. Returns who has them durably.
    async fn put_records(
        self: &Arc<Self>,
        key: &RecordKey,
        records: Vec<(RecordKey, Record)>,
        origin: Origin,
        needs_quorum: bool,
        state: &Arc<EpochState>,
    ) -> Result<Put<NodeId>, StepError> {
        let sets = state.write_sets(key.partition(state.bits));
        let counting = counting_writes(needs_quorum && !bug(Bug::WriteNeedsOne));
        let guards = state.guards(&sets);
        let spec = WriteSpec { sets, guards, counting, needs_quorum, me: self.replica.id };
        let request = Request::RecordPut { records: records.clone(), origin };
        let perform = |task| -> Option<Running<WriteEvent<NodeId, AskError>>> {
            Some(match task {
                WriteTask::Put(node) => {
                    let ask = Ask::new(Priority::Records, request.clone());
                    self.rpc.asking(node, state.epoch, ask, |node, told| {
                        WriteEvent::Put(node, told.map(drop))
                    })
                }
                WriteTask::KeepHere => {
                    let (this, records) = (self.clone(), records.clone());
                    Box::pin(async move {
                        match origin {
                            Origin::Client => this.replica.store.put_records(records).await?,
                            Origin::Repair => this.replica.store.merge_records(records).await?,
                        };
                        this.replica.wakes.handoff.notify_one();
                        Ok(WriteEvent::Kept)
                    })
                }
            })
        };
        Ok(self.rpc.drive(Write::new(spec), perform).await??)
    }

    /// Writes new versions of records as `mode` asks: those of one partition, in one call to each
    /// replica, as many as fit. Also returns whether a majority of every write set took them. After
    /// an error some may be written.
    pub(crate) async fn put_new(
        self: &Arc<Self>,
        records: Vec<(RecordKey, Record)>,
        mode: Mode,
    ) -> Result<(Written, bool), Error> {
        let bits = self.replica.joined()?.bits;
        let mut all = (Written { copies: usize::MAX, wanted: 0, guarded: true }, true);
        let calls = batches(records, bits, dfs_p2p::KEYS_MAX, CALL_BYTES);
        for (at, (_, batch)) in calls.into_iter().enumerate() {
            let put = self.put_batch(batch, mode).await;
            let (written, by_majority) = put.map_err(|error| match at {
                0 => error,
                _ => error.once_written(&self.replica.id),
            })?;
            all = (all.0.and(written), all.1 && by_majority);
        }
        Ok(all)
    }

    async fn put_batch(
        self: &Arc<Self>,
        records: Vec<(RecordKey, Record)>,
        mode: Mode,
    ) -> Result<(Written, bool), Error> {
        let key = records[0].0;
        let put = |state: Arc<EpochState>| {
            let records = records.clone();
            async move {
                let quorum = self.replica.is_quorum(mode, &state);
                let put = self.put_records(&key, records, Origin::Client, quorum, &state).await?;
                let Put { nodes, guarded } = put;
                let by_majority = |set: &Vec<_>| {
                    let have = set.iter().filter(|node| nodes.contains(node)).count();
                    have >= Tally::<NodeId>::write_majority(set.len())
                };
                let sets = state.write_sets(key.partition(state.bits));
                let (copies, wanted) = (nodes.len(), copies_wanted(&state, &key));
                let written = Written { copies, wanted, guarded };
                Ok((written, sets.iter().all(by_majority)))
            }
        };
        let put = self.rpc.with_layout(put).await?;
        if put.1 {
            records.iter().for_each(|(key, record)| self.seen.note(key, record, None));
        }
        Ok(put)
    }

    /// Makes a chosen version a head on a majority of every write set.
    pub(crate) async fn write_chosen(
        self: &Arc<Self>,
        key: &RecordKey,
        record: Record,
        state: &Arc<EpochState>,
    ) -> Result<Written, StepError> {
        let put = vec![(*key, record.clone())];
        let Put { nodes, guarded } =
            self.put_records(key, put, Origin::Repair, true, state).await?;
        self.seen.note(key, &record, None);
        Ok(Written { copies: nodes.len(), wanted: copies_wanted(state, key), guarded })
    }
}

/// Bytes of records in one call: half a frame.
const CALL_BYTES: usize = 128 * 1024;
