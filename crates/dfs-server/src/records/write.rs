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
        for (_, batch) in batches(records, state.bits, dfs_p2p::KEYS_MAX, WRITE_BACK_BYTES) {
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
                        this.replica.store.merge_records(records).await?;
                        this.replica.wakes.handoff.notify_one();
                        Ok(WriteEvent::Kept)
                    })
                }
            })
        };
        Ok(self.rpc.drive(Write::new(spec), perform).await??)
    }

    /// Writes a new version of a record as `mode` asks. Also returns whether a majority of every
    /// write set took it.
    pub(crate) async fn put_new(
        self: &Arc<Self>,
        key: RecordKey,
        record: Record,
        mode: Mode,
    ) -> Result<(Written, bool), Error> {
        let put = |state: Arc<EpochState>| {
            let records = vec![(key, record.clone())];
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
            self.seen.note(&key, &record, None);
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

/// Records given back in one call: half a frame.
const WRITE_BACK_BYTES: usize = 128 * 1024;
