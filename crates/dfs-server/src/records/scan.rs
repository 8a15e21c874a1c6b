//! All records of a directory, as a quorum of its replicas knows them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use dfs_core::id::{DirId, NodeId, RecordKey, VaultId, dir_partition};
use dfs_core::layout::epoch::EpochState;
use dfs_core::quorum::Tally;
use dfs_core::record::version::{Record, merge};
use dfs_p2p::message::{Code, Priority, Request, Response};

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;

use super::Records;
use crate::config::Mode;
use crate::error::Error;
use crate::rpc::{Ask, StepError};
use dfs_store::disk::store::PageLimit;

/// Which replicas a scan asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ScanReach {
    /// As many as the mode needs.
    Enough,
    /// Everyone who can be reached, gateways among them: before a directory is removed.
    Everyone,
}

impl Records {
    /// All records of a directory, as a read quorum knows them.
    pub(crate) async fn scan_dir(
        self: &Arc<Self>,
        vault: VaultId,
        dir: DirId,
        mode: Mode,
        whom: ScanReach,
    ) -> Result<BTreeMap<RecordKey, Record>, Error> {
        self.rpc.with_layout(|state| self.scan_attempt(vault, dir, mode, whom, state)).await
    }

    async fn scan_attempt(
        self: &Arc<Self>,
        vault: VaultId,
        dir: DirId,
        mode: Mode,
        whom: ScanReach,
        state: Arc<EpochState>,
    ) -> Result<BTreeMap<RecordKey, Record>, StepError> {
        let needs_quorum = self.replica.is_quorum(mode, &state);
        let partition = dir_partition(&vault, &dir, state.bits);
        let set = state.read_set(partition);
        let guard = guard_of(&set, &state);
        let enough = if needs_quorum { Tally::<NodeId>::read_majority(set.len()) } else { 1 };
        let reachable = set.iter().filter(|node| self.replica.is_reachable(node)).count();
        let enough = match whom {
            ScanReach::Enough => enough,
            ScanReach::Everyone => enough.max(reachable),
        };
        // The nearest first: this node, then whoever is connected. One that fails is replaced.
        let mut order = set;
        let comes_first = |node: &NodeId| guard.contains(node) && self.replica.is_reachable(node);
        order.sort_by_key(|node| {
            (!comes_first(node), *node != self.replica.id, !self.replica.is_reachable(node))
        });
        let guards = order.iter().filter(|node| comes_first(node)).count();
        let at_first = enough.max(guards.min(Tally::<NodeId>::read_majority(guard.len().max(1))));
        let mut order = order.into_iter();
        let epoch = state.epoch;
        let scan = |node| async move { (node, self.scan_one(&node, vault, dir, epoch).await) };
        let mut scanning: FuturesUnordered<_> = order.by_ref().take(at_first).map(scan).collect();
        let mut all: BTreeMap<RecordKey, Record> = BTreeMap::new();
        let mut copies: BTreeMap<RecordKey, usize> = BTreeMap::new();
        let mut differ = Vec::new();
        let (mut answered, mut guarded, mut failures) = (0, 0, Vec::new());
        while let Some((node, scanned)) = scanning.next().await {
            match scanned {
                Ok(records) => {
                    answered += 1;
                    guarded += usize::from(guard.contains(&node));
                    for (key, record) in records {
                        *copies.entry(key).or_default() += 1;
                        let ours = all.entry(key).or_insert_with(|| record.clone());
                        if *ours != record {
                            *ours = merge(ours, &record);
                            differ.push(key);
                        }
                    }
                }
                Err(StepError::Stale) => return Err(StepError::Stale),
                Err(StepError::Failed(error)) => {
                    failures.push((node, error.to_string()));
                    scanning.extend(order.next().map(scan));
                }
            }
        }
        if !needs_quorum && !state.is_replica(partition, &self.replica.id) {
            // What is kept here for replicas that were out of reach.
            answered += 1;
            for (key, record) in self.own_rows(vault, dir).await? {
                *copies.entry(key).or_default() += 1;
                let ours = all.entry(key).or_default();
                *ours = merge(ours, &record);
            }
        }
        let needs_guard = needs_quorum && whom == ScanReach::Everyone && !guard.is_empty();
        let is_hidden = needs_guard && guarded < Tally::<NodeId>::read_majority(guard.len());
        if answered < enough || is_hidden {
            return Err(Error::Unavailable(failures).into());
        }
        differ.extend(copies.iter().filter(|(_, n)| **n < answered).map(|(key, _)| *key));
        differ.sort_unstable();
        differ.dedup();
        let apart = differ.into_iter().map(|key| (key, all[&key].clone())).collect();
        self.write_back(apart, needs_quorum, &state).await?;
        Ok(all)
    }

    async fn own_rows(
        &self,
        vault: VaultId,
        dir: DirId,
    ) -> Result<Vec<(RecordKey, Record)>, Error> {
        let (mut all, mut after) = (Vec::new(), None);
        loop {
            let limit = PageLimit::of_rows(ROWS_AT_ONCE);
            let page = self.replica.store.scan_dir(vault, dir, after, limit).await?;
            let Some((last, _)) = page.rows.last() else { return Ok(all) };
            after = Some(*last.tag.as_bytes());
            all.extend(page.rows);
        }
    }

    async fn scan_one(
        &self,
        node: &NodeId,
        vault: VaultId,
        dir: DirId,
        epoch: u64,
    ) -> Result<Vec<(RecordKey, Record)>, StepError> {
        let mut all = Vec::new();
        let mut after = None;
        loop {
            let request = Request::DirScan { vault, dir, after };
            let ask = Ask { deadline: SCAN_DEADLINE, ..Ask::new(Priority::Records, request) };
            let (records, more) = match self.rpc.ask(node, epoch, ask).await {
                Ok((Response::Records { records, more }, _)) => (records, more),
                Ok(_) => return Err(Error::failed(node, "an unexpected answer").into()),
                Err(error) if error.code() == Some(Code::StaleEpoch) => {
                    return Err(StepError::Stale);
                }
                Err(error) => {
                    return Err(Error::failed(node, error.to_string()).into());
                }
            };
            if more && records.is_empty() {
                let why = "it sent an empty page".to_owned();
                return Err(Error::failed(node, why).into());
            }
            for (key, record) in records {
                let in_order = after.is_none_or(|last: [u8; 16]| *key.tag.as_bytes() > last);
                // Of rows with nothing in them there is no end.
                if key.vault != vault || key.dir != dir || !in_order || record.is_empty() {
                    let why = "it sent other records than asked for".to_owned();
                    return Err(Error::failed(node, why).into());
                }
                after = Some(*key.tag.as_bytes());
                if *node != self.replica.id {
                    let verified = self.certs.verify_record(node, &key, &record).await;
                    verified.map_err(|error| error.of(node))?;
                }
                all.push((key, record));
            }
            if !more {
                return Ok(all);
            }
        }
    }
}

/// The gateways among the replicas, where not all are: they are asked first, for others could hide
/// what a directory has.
fn guard_of(set: &[NodeId], state: &EpochState) -> Vec<NodeId> {
    let guards = state.guards(std::slice::from_ref(&set.to_vec()));
    if guards.len() == 1 { guards.concat() } else { Vec::new() }
}

/// Rows of this node's own index read at once.
const ROWS_AT_ONCE: usize = 256;
/// A page of a large directory, on a busy peer.
const SCAN_DEADLINE: Duration = Duration::from_secs(5);
