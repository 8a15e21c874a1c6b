//! Comparing rows: with whom, when, and which partitions differ.
//!
//! Two replicas compare one fingerprint for each partition. Where they differ each pulls the rows
//! it lacks; merging is a union, so it does not matter who begins or how often. The same pull
//! fills a node that a partition moves to.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use dfs_core::hlc::Hlc;
use dfs_core::id::{NodeId, Partition};
use dfs_core::layout::epoch::EpochState;
use dfs_core::replica::sync::{Root, Table};
use dfs_env::{Bug, TaskMap, bug};
use dfs_p2p::message::{Priority, Request, Response};
use tracing::debug;

use super::pull::unexpected;
use super::{RowSync, incoming};
use crate::error::Error;
use crate::rpc::Ask;

/// The partitions that were brought together with one peer, and the layout they are of.
type Compared = Option<(Arc<EpochState>, Vec<Partition>)>;

/// Partitions whose fingerprints differ, and the floors that were told.
type Differing = (Vec<Partition>, Vec<(Partition, Hlc)>);

impl RowSync {
    /// Compares and pulls until shutdown.
    pub(crate) async fn run(self: Arc<Self>) {
        let mut running = TaskMap::new(&self.replica.env, "compare");
        // Beside each other: a peer that claims a newer layout and shows none holds up nobody.
        let mut catching_up = TaskMap::new(&self.replica.env, "catch up");
        loop {
            tokio::select! {
                biased;
                () = self.replica.shutdown.cancelled() => return,
                Some((node, ended)) = running.join_next() => {
                    // A comparison that panicked is one that failed.
                    self.note_compared(node, ended.unwrap_or_default());
                    self.replica.wakes.publish.notify_one();
                }
                Some(_) = catching_up.join_next() => {}
                () = self.replica.owed.wake.notified() => {}
                () = self.replica.env.sleep(LOOK_EVERY) => {}
            }
            for node in self.replica.owed.take_ahead(|node| !catching_up.contains(node)) {
                catching_up.spawn(node, self.clone().catch_up(node));
            }
            for node in self.due(&running) {
                running.spawn(node, self.clone().compare(node));
            }
        }
    }

    async fn catch_up(self: Arc<Self>, node: NodeId) {
        if let Err(error) = self.chain.catch_up(&node).await {
            debug!(%error, "a newer layout could not be stored");
        }
    }

    /// Peers to compare with now.
    fn due(&self, running: &TaskMap<NodeId, Compared>) -> Vec<NodeId> {
        let Ok(state) = self.replica.joined() else { return Vec::new() };
        let (sources, now) = (self.move_sources(&state), self.replica.env.mono());
        let others = state.present().map(|member| member.node_id);
        let others = others.filter(|node| *node != self.replica.id && !running.contains(node));
        let connected = others.filter(|node| self.replica.net().is_connected(node));
        connected
            .filter(|node| self.replica.owed.begin(*node, sources.contains(node), now))
            .collect()
    }

    /// Members to pull from for moves in which this node receives.
    fn move_sources(&self, state: &EpochState) -> BTreeSet<NodeId> {
        let incoming = incoming(state, &self.replica.id).into_iter();
        let to_pull = incoming.filter(|from| {
            let of = (from.partition, from.prepare_epoch);
            !self.replica.owed.pulled(&of).contains(&from.source)
        });
        to_pull.map(|from| from.source).collect()
    }

    async fn compare(self: Arc<Self>, node: NodeId) -> Compared {
        match self.bring_up_to_date(&node).await {
            Ok(compared) => Some(compared),
            Err(error) => {
                debug!(peer = ?node, %error, "comparing rows failed");
                None
            }
        }
    }

    fn note_compared(&self, node: NodeId, compared: Compared) {
        let owed = &self.replica.owed;
        let Some((state, partitions)) = compared else {
            // Again once it has rested, if it is still connected.
            owed.owe(node);
            return;
        };
        let brought: BTreeSet<Partition> = partitions.iter().copied().collect();
        owed.ended(node, partitions);
        for from in incoming(&state, &self.replica.id) {
            if from.source == node && brought.contains(&from.partition) {
                owed.pulled_from(node, (from.partition, from.prepare_epoch));
            }
        }
    }

    /// Pulls every row that a peer has and this node lacks, of the partitions both should hold.
    async fn bring_up_to_date(
        &self,
        node: &NodeId,
    ) -> Result<(Arc<EpochState>, Vec<Partition>), Error> {
        let state = self.replica.joined()?;
        let theirs: BTreeSet<_> = state.partitions_of(node).into_iter().collect();
        let mut shared = self.replica.partitions(&state);
        shared.retain(|partition| theirs.contains(partition));
        let mut incomplete = BTreeSet::new();
        for table in [Table::Records, Table::Refs] {
            for partitions in shared.chunks(ROOTS_IN_CALL_MAX) {
                let (differ, mut floors) =
                    self.differing_with(node, table, partitions, &state).await?;
                for partition in differ {
                    if bug(Bug::SyncSkipsPartitions) && partition % 2 == 1 {
                        continue;
                    }
                    let complete = match table {
                        Table::Records => self.pull_records(node, partition, &state).await?,
                        Table::Refs => self.pull_refs(node, partition, &state).await?,
                    };
                    if !complete {
                        incomplete.insert(partition);
                    }
                }
                // All is here now that counted there, and what was deleted is known by its absence.
                floors.retain(|(partition, _)| !incomplete.contains(partition));
                if table == Table::Records && state.is_gateway(node) {
                    self.take_over_floors(floors).await?;
                }
            }
        }
        shared.retain(|partition| !incomplete.contains(partition));
        Ok((state, shared))
    }

    /// Keeps what a gateway knows of deletions that are forgotten, where that is more than is known
    /// here.
    async fn take_over_floors(&self, mut told: Vec<(Partition, Hlc)>) -> Result<(), Error> {
        let of = told.iter().map(|(partition, _)| *partition).collect();
        let mut own = self.replica.store.floors(of).await?.into_iter();
        told.retain(|(_, floor)| own.next().flatten().is_none_or(|own| own < *floor));
        if !told.is_empty() {
            self.replica.store.raise_floors(told).await?;
        }
        Ok(())
    }

    /// The partitions whose fingerprints differ from a peer's, and the floors it tells of.
    pub(crate) async fn differing_with(
        &self,
        node: &NodeId,
        table: Table,
        partitions: &[Partition],
        state: &EpochState,
    ) -> Result<Differing, Error> {
        let ours = self.replica.store.roots(table, state.bits).await?;
        let roots = partitions.iter().map(|p| (*p, ours[usize::from(*p)])).collect();
        self.differing_from(node, table, roots, state).await
    }

    /// The partitions whose fingerprints at a peer are not these.
    pub(super) async fn differing_from(
        &self,
        node: &NodeId,
        table: Table,
        roots: Vec<(Partition, Root)>,
        state: &EpochState,
    ) -> Result<Differing, Error> {
        let asked: Vec<Partition> = roots.iter().map(|(partition, _)| *partition).collect();
        // With the epoch, so that the peer has it on disk before it answers.
        let ask = Ask::new(Priority::Records, Request::SyncRoots { table, roots });
        match self.rpc.ask(node, state.epoch, ask).await {
            Ok((Response::Differing { mut partitions, mut floors }, _)) => {
                partitions.retain(|partition| asked.contains(partition));
                floors.retain(|(partition, _)| asked.contains(partition));
                Ok((partitions, floors))
            }
            Ok(_) => Err(unexpected(node)),
            Err(error) => Err(Error::failed(node, error.to_string())),
        }
    }
}

/// How often the loop looks without being told.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Fingerprints in one call: 50 bytes each, half a frame.
const ROOTS_IN_CALL_MAX: usize = 2048;
