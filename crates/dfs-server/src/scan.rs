//! All records of a directory, as a quorum of its replicas knows them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use dfs_core::id::{DirId, NodeId, RecordKey, VaultId, dir_partition};
use dfs_core::layout::epoch::EpochState;
use dfs_core::quorum::Tally;
use dfs_core::record::version::{Record, merge};
use dfs_p2p::message::{Code, Priority, Request, Response};

use crate::config::Mode;
use crate::coordinate::{Ask, StepError};
use crate::error::Error;
use crate::node::Node;

/// Which replicas a scan asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Whom {
    /// As many as the mode needs.
    Enough,
    /// Everyone who can be reached: before a directory is removed.
    Everyone,
}

impl Node {
    /// All records of a directory, as a read quorum knows them.
    pub(crate) async fn scan_dir(
        self: &Arc<Self>,
        vault: VaultId,
        dir: DirId,
        mode: Mode,
        whom: Whom,
    ) -> Result<BTreeMap<RecordKey, Record>, Error> {
        self.with_layout(|state| self.scan_attempt(vault, dir, mode, whom, state)).await
    }

    async fn scan_attempt(
        self: &Arc<Self>,
        vault: VaultId,
        dir: DirId,
        mode: Mode,
        whom: Whom,
        state: Arc<EpochState>,
    ) -> Result<BTreeMap<RecordKey, Record>, StepError> {
        let needs_quorum = self.is_quorum(mode, &state);
        let partition = dir_partition(&vault, &dir, state.bits);
        let set = state.read_set(partition);
        let enough = if needs_quorum { Tally::<NodeId>::read_majority(set.len()) } else { 1 };
        let reachable = set.iter().filter(|node| self.is_reachable(node)).count();
        let enough = match whom {
            Whom::Enough => enough,
            Whom::Everyone => enough.max(reachable),
        };
        // The nearest first: this node, then whoever is connected.
        let mut order = set;
        order.sort_by_key(|node| (*node != self.id, !self.is_reachable(node)));
        let mut all: BTreeMap<RecordKey, Record> = BTreeMap::new();
        let mut copies: BTreeMap<RecordKey, usize> = BTreeMap::new();
        let mut differ = Vec::new();
        let (mut answered, mut failures) = (0, Vec::new());
        for node in order {
            if answered == enough {
                break;
            }
            match self.scan_one(&node, vault, dir, state.epoch).await {
                Ok(records) => {
                    answered += 1;
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
                Err(StepError::Failed(error)) => failures.push((node, error.to_string())),
            }
        }
        if !needs_quorum && !state.is_replica(partition, &self.id) {
            // What is kept here for replicas that were out of reach.
            answered += 1;
            for (key, record) in self.own_rows(vault, dir).await? {
                *copies.entry(key).or_default() += 1;
                let ours = all.entry(key).or_default();
                *ours = merge(ours, &record);
            }
        }
        if answered < enough {
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
        self: &Arc<Self>,
        vault: VaultId,
        dir: DirId,
    ) -> Result<Vec<(RecordKey, Record)>, Error> {
        let (mut all, mut after) = (Vec::new(), None);
        loop {
            let rows = self.store.scan_dir(vault, dir, after, ROWS_AT_ONCE).await?;
            let Some((last, _)) = rows.last() else { return Ok(all) };
            after = Some(*last.tag.as_bytes());
            all.extend(rows);
        }
    }

    async fn scan_one(
        self: &Arc<Self>,
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
            let (records, more) = match self.ask(node, epoch, ask).await {
                Ok((Response::Records { records, more }, _)) => (records, more),
                Ok(_) => return Err(Error::Unavailable(Vec::new()).into()),
                Err(error) if error.code() == Some(Code::StaleEpoch) => {
                    return Err(StepError::Stale);
                }
                Err(error) => {
                    return Err(Error::Unavailable(vec![(*node, error.to_string())]).into());
                }
            };
            if more && records.is_empty() {
                let why = "it sent an empty page".to_owned();
                return Err(Error::Unavailable(vec![(*node, why)]).into());
            }
            for (key, record) in records {
                let in_order = after.is_none_or(|last: [u8; 16]| *key.tag.as_bytes() > last);
                if key.vault != vault || key.dir != dir || !in_order {
                    let why = "it sent other records than asked for".to_owned();
                    return Err(Error::Unavailable(vec![(*node, why)]).into());
                }
                after = Some(*key.tag.as_bytes());
                if *node != self.id {
                    self.verify_record(node, &key, &record).await?;
                }
                all.push((key, record));
            }
            if !more {
                return Ok(all);
            }
        }
    }
}

/// Rows of this node's own index read at once.
const ROWS_AT_ONCE: usize = 256;
/// A page of a large directory, on a busy peer.
const SCAN_DEADLINE: Duration = Duration::from_secs(5);
