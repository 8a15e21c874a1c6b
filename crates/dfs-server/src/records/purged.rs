//! Versions that somebody tells of although they were deleted, so long ago that their tombstone is
//! forgotten: genuine, and brought back by a member that kept them, or an old disk.
//!
//! A replica remembers of each partition the latest stamp of the tombstones that it forgot there,
//! its *floor*: it compared its rows with those of all other replicas before, so that a version
//! which is stamped no later and counts is one that it holds. What it does not hold it refuses,
//! whoever brings it. One to which a partition moves takes over the floor of a gateway, with its
//! rows.

use std::sync::Arc;

use dfs_core::hlc::Hlc;
use dfs_core::id::{NodeId, Partition, RecordKey};
use dfs_core::layout::epoch::EpochState;
use dfs_core::record::version::{Kind, Record};
use dfs_core::replica::op::write::batches;
use dfs_core::replica::purge::without_purged;
use dfs_p2p::message::{Code, Origin, Priority, Request};
use tracing::debug;

use crate::error::Error;
use crate::replica::{Replica, millis};
use crate::rpc::{Ask, Rpc};

/// Tells which versions were deleted long ago.
pub(crate) struct Purged {
    replica: Arc<Replica>,
    rpc: Arc<Rpc>,
}

/// A record and its key.
type Keyed = (RecordKey, Record);

impl Purged {
    pub(super) fn new(rpc: Arc<Rpc>) -> Self {
        Self { replica: rpc.replica.clone(), rpc }
    }

    /// Whether a node tells of a version that was deleted long ago, as this node knows, or else a
    /// gateway that holds the name: it is given what was told, and takes it in or refuses it. Only
    /// what is old enough is looked at.
    pub(crate) async fn tells_of_purged(
        &self,
        node: &NodeId,
        told: &[Keyed],
        state: &Arc<EpochState>,
    ) -> Result<bool, Error> {
        let old = told.iter().filter(|(_, record)| self.is_old(record));
        let is_own =
            |(key, _): &&Keyed| state.is_replica(key.partition(state.bits), &self.replica.id);
        let (own, others): (Vec<_>, Vec<_>) = old.partition(is_own);
        if !own.is_empty() && self.are_purged_here(&own, state).await? {
            return Ok(true);
        }
        if state.is_gateway(node) {
            return Ok(false);
        }
        let others = others.into_iter().cloned().collect();
        for (partition, batch) in batches(others, state.bits, dfs_p2p::KEYS_MAX, GIVEN_BYTES) {
            let replicas = state.read_set(partition).into_iter();
            let mut gateways = replicas.filter(|of| of != node && state.is_gateway(of));
            let Some(gateway) = gateways.find(|of| self.replica.is_reachable(of)) else { continue };
            let put = Request::RecordPut { records: batch, origin: Origin::Repair };
            let taken = self.rpc.ask(&gateway, state.epoch, Ask::new(Priority::Records, put)).await;
            if taken.is_err_and(|error| error.code() == Some(Code::PreconditionFailed)) {
                debug!(peer = ?node, ?gateway, "it tells of what was deleted long ago");
                return Ok(true);
            }
        }
        Ok(false)
    }

    async fn are_purged_here(&self, told: &[&Keyed], state: &EpochState) -> Result<bool, Error> {
        let partitions = told.iter().map(|(key, _)| key.partition(state.bits)).collect();
        let floors = self.replica.store.floors(partitions).await?;
        let below = told.iter().zip(floors).filter_map(|(told, floor)| Some((told, floor?)));
        for ((key, record), floor) in below {
            let ours = self.replica.store.record(*key).await?;
            if without_purged(record, &ours, floor).is_some() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Whether what a storage member brings of a partition waits, because it may have been deleted:
    /// this node does not know yet what was, and a gateway does that holds it.
    pub(crate) fn waits(&self, from: &NodeId, partition: Partition, state: &EpochState) -> bool {
        let is_free = *from == self.replica.id || state.may_write(from);
        let mut knowing = state.read_set(partition).into_iter().filter(|node| {
            *node != self.replica.id && state.is_gateway(node) && self.replica.is_reachable(node)
        });
        let is_known = |node: &NodeId| self.replica.owed.has_compared(node, partition);
        !is_free && knowing.any(|node| !is_known(&node))
    }

    /// Those of some records that wait, and those that are taken in now: see [`Purged::waits`].
    pub(crate) async fn sift(
        &self,
        from: &NodeId,
        records: Vec<Keyed>,
        state: &EpochState,
    ) -> Result<(Vec<Keyed>, Vec<Keyed>), Error> {
        let may_wait = |(key, record): &Keyed| {
            self.is_old(record) && self.waits(from, key.partition(state.bits), state)
        };
        let (suspect, mut taken): (Vec<_>, Vec<_>) = records.into_iter().partition(may_wait);
        let partitions = suspect.iter().map(|(key, _)| key.partition(state.bits)).collect();
        let floors = self.replica.store.floors(partitions).await?;
        // Where there is a floor, that says what counts.
        let mut floors = floors.into_iter();
        let (known, waiting): (Vec<_>, Vec<_>) =
            suspect.into_iter().partition(|_| floors.next().flatten().is_some());
        taken.extend(known);
        Ok((waiting, taken))
    }

    /// Whether a record has a version of a time whose tombstones may be forgotten.
    fn is_old(&self, record: &Record) -> bool {
        let age = millis(self.replica.grace.purge_age());
        let latest = Hlc::from_unix_ms(self.replica.unix_ms().saturating_sub(age));
        record.heads().any(|head| head.kind == Kind::Live && head.hlc <= latest)
    }
}

/// Records given to a gateway in one call: half a frame.
const GIVEN_BYTES: usize = 128 * 1024;
