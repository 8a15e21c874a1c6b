//! What replicas confirm and members publish: the grounds for forgetting something.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use dfs_core::hlc::Hlc;
use dfs_core::id::{NodeId, Partition, RecordKey};
use dfs_core::layout::epoch::EpochState;
use dfs_core::node::member::Clean;
use dfs_core::replica::purge::Grounds;
use dfs_p2p::message::{Priority, Request, Response};

use crate::replica::{Replica, millis};
use crate::rpc::{Ask, Rpc};

/// A record key, and the hash of its record's state.
pub(crate) type KeyedHash = (RecordKey, [u8; 32]);

/// When each member last kept nothing for others, as far as it is known here.
pub(crate) struct Published(BTreeMap<NodeId, Clean>);

/// What is known about one record.
pub(crate) struct Evident<'a> {
    pub(crate) published: &'a Published,
    /// Who confirmed its state; `None` takes the word of whoever asks for that.
    pub(crate) confirmed: Option<&'a BTreeSet<NodeId>>,
    pub(crate) at_rest: bool,
}

impl Grounds for Evident<'_> {
    fn confirmed(&self, node: &NodeId) -> bool {
        self.confirmed.is_none_or(|confirmed| confirmed.contains(node))
    }

    fn clean(&self, node: &NodeId) -> Clean {
        self.published.0.get(node).copied().unwrap_or_default()
    }

    fn at_rest(&self) -> bool {
        self.at_rest
    }
}

/// Gathers evidence.
pub(crate) struct Evidence {
    replica: Arc<Replica>,
    rpc: Arc<Rpc>,
}

impl Evidence {
    pub(crate) fn new(rpc: Arc<Rpc>) -> Self {
        Self { replica: rpc.replica.clone(), rpc }
    }

    /// What every member published last.
    pub(crate) fn published(&self, state: &EpochState) -> Published {
        let own = (self.replica.id, self.replica.net().own_info().clean);
        let others = state.members.iter().filter_map(|member| {
            let info = self.replica.net().info(&member.node_id)?;
            Some((info.node_id, info.clean))
        });
        // A clock that runs far ahead says nothing about now.
        let latest = Hlc::from_unix_ms(self.replica.unix_ms().saturating_add(millis(AHEAD_MAX)));
        let said = others.chain([own]).filter(|(_, clean)| clean.at <= latest);
        Published(said.collect())
    }

    /// For each record, which of its replicas hold it in exactly this state now. The keys are of
    /// one read set. A replica that does not answer, or with another layout in mind, has not
    /// confirmed.
    pub(crate) async fn confirmed(
        &self,
        set: &[NodeId],
        records: &[KeyedHash],
        state: &Arc<EpochState>,
    ) -> Vec<BTreeSet<NodeId>> {
        let mut confirmed = vec![BTreeSet::new(); records.len()];
        for node in set {
            let told = self.hashes_at(node, records, state).await;
            for ((known, (_, hash)), told) in confirmed.iter_mut().zip(records).zip(told) {
                if *hash == told {
                    known.insert(*node);
                }
            }
        }
        confirmed
    }

    /// The hashes that a node tells of some records, in their order: of all, or of those before it
    /// failed. Each answer may tell of the first records only.
    async fn hashes_at(
        &self,
        node: &NodeId,
        records: &[KeyedHash],
        state: &Arc<EpochState>,
    ) -> Vec<[u8; 32]> {
        let mut told = Vec::with_capacity(records.len());
        while told.len() < records.len() {
            let keys = records[told.len()..].iter().map(|(key, _)| *key).collect();
            let request = Request::RecordGet { keys, digest_only: true };
            let ask = Ask::new(Priority::Background, request);
            match self.rpc.ask(node, state.epoch, ask).await {
                Ok((Response::StateHashes(more), _)) if !more.is_empty() => told.extend(more),
                _ => break,
            }
        }
        told
    }

    /// Asks a node about several things; `None` when it did not answer about each.
    pub(crate) async fn ask_of_each(
        &self,
        node: &NodeId,
        request: Request,
        count: usize,
        state: &EpochState,
    ) -> Option<Vec<bool>> {
        let ask = Ask::new(Priority::Background, request);
        match self.rpc.ask(node, state.epoch, ask).await {
            Ok((Response::Held(told), _)) if told.len() == count => Some(told),
            _ => None,
        }
    }

    /// Whether every version of a partition is here that is stamped no later than a tombstone and
    /// counts: rows were compared with all other replicas, long enough after it for whatever was on
    /// its way then. If not, they will be soon.
    pub(crate) fn has_all_before(
        &self,
        partition: Partition,
        tombstone: Hlc,
        state: &EpochState,
    ) -> bool {
        let (replica, now) = (&self.replica, self.replica.env.mono());
        let age_ms = replica.unix_ms().saturating_sub(tombstone.unix_ms());
        let recent = COMPARED_MAX.min(Duration::from_millis(age_ms / 2));
        let since = now.checked_sub(recent);
        let others = state.read_set(partition).into_iter().filter(|node| *node != replica.id);
        let unknown: Vec<NodeId> = others
            .filter(|node| {
                let is_since = |since| replica.owed.compared_since(node, partition, since);
                !since.map_or_else(|| replica.owed.has_compared(node, partition), is_since)
            })
            .collect();
        for node in &unknown {
            replica.owed.owe(*node);
        }
        unknown.is_empty()
    }

    /// Whether this node is the one of a partition's replicas that asks the others to forget.
    pub(crate) fn asks_for(&self, partition: Partition, state: &EpochState) -> bool {
        state.collector(partition) == Some(self.replica.id)
    }
}

/// What a member says of a later time does not count: as far as writers' clocks may be ahead.
const AHEAD_MAX: Duration = Duration::from_secs(5 * 60);
/// Replicas that are connected compare rows far more often.
const COMPARED_MAX: Duration = Duration::from_secs(10 * 60);
