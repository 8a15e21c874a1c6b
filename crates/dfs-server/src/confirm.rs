//! What replicas confirm and members publish, for whoever wants to forget something.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use dfs_core::hlc::Hlc;
use dfs_core::id::{NodeId, Partition, RecordKey};
use dfs_core::layout::epoch::EpochState;
use dfs_core::node::member::Clean;
use dfs_core::record::version::Record;
use dfs_core::replica::purge::Facts;
use dfs_p2p::message::{Priority, Request, Response};

use crate::coordinate::Ask;
use crate::error::Error;
use crate::node::{Node, millis};

/// A record key, and the hash of its record's state.
pub(crate) type KeyedHash = (RecordKey, [u8; 32]);

/// When each member last kept nothing for others, as far as it is known here.
pub(crate) struct Published(BTreeMap<NodeId, Clean>);

/// What is known about one record.
pub(crate) struct Known<'a> {
    pub(crate) published: &'a Published,
    /// Who confirmed its state; `None` takes the word of whoever asks for that.
    pub(crate) confirmed: Option<&'a BTreeSet<NodeId>>,
    pub(crate) at_rest: bool,
}

impl Facts for Known<'_> {
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

impl Node {
    /// What every member published last.
    pub(crate) fn published(&self, state: &EpochState) -> Published {
        let own = (self.id, self.network().own_info().clean);
        let others = state.members.iter().filter_map(|member| {
            let info = self.network().info(&member.node_id)?;
            Some((info.node_id, info.clean))
        });
        // A clock that runs far ahead says nothing about now.
        let latest = Hlc::from_unix_ms(self.env.wall_ms().saturating_add(millis(AHEAD_MAX)));
        let said = others.chain([own]).filter(|(_, clean)| clean.at <= latest);
        Published(said.collect())
    }

    /// For each record, which of its replicas hold it in exactly this state now. The keys are of one
    /// read set. A replica that does not answer, or with another layout in mind, has not confirmed.
    pub(crate) async fn confirmed(
        self: &Arc<Self>,
        set: &[NodeId],
        records: &[KeyedHash],
        state: &Arc<EpochState>,
    ) -> Vec<BTreeSet<NodeId>> {
        let mut confirmed = vec![BTreeSet::new(); records.len()];
        let keys: Vec<_> = records.iter().map(|(key, _)| *key).collect();
        for node in set {
            let request = Request::RecordGet { keys: keys.clone(), digest_only: true };
            let ask = Ask::new(Priority::Background, request);
            let answered = self.ask(node, state.epoch, ask).await;
            let Ok((Response::StateHashes(hashes), _)) = answered else { continue };
            for ((known, (_, hash)), told) in confirmed.iter_mut().zip(records).zip(hashes) {
                if *hash == told {
                    known.insert(*node);
                }
            }
        }
        confirmed
    }

    /// Asks a node about several things; `None` when it did not answer about each.
    pub(crate) async fn ask_of_each(
        self: &Arc<Self>,
        node: &NodeId,
        request: Request,
        count: usize,
        state: &EpochState,
    ) -> Option<Vec<bool>> {
        let ask = Ask::new(Priority::Background, request);
        match self.ask(node, state.epoch, ask).await {
            Ok((Response::Held(told), _)) if told.len() == count => Some(told),
            _ => None,
        }
    }

    /// Whether this node is the one of a partition's replicas that asks the others to forget.
    pub(crate) fn asks_for(&self, partition: Partition, state: &EpochState) -> bool {
        state.read_set(partition).first() == Some(&self.id)
    }

    /// The next page of a partition's records, after a rest if the page before was full; `None` when
    /// there are no more.
    pub(crate) async fn next_records(
        &self,
        pages: &mut RecordPages,
        state: &EpochState,
    ) -> Result<Option<Vec<(RecordKey, Record)>>, Error> {
        if let Some(was_full) = pages.was_full {
            self.rest(was_full).await?;
        }
        let after = std::mem::take(&mut pages.after);
        let page = self.store.scan_records(pages.partition, state.bits, after, RECORDS_IN_PAGE);
        let page = page.await?;
        let Some((last, _)) = page.last() else { return Ok(None) };
        pages.after = dfs_store::disk::store::record_row(last);
        pages.was_full = Some(page.len() == RECORDS_IN_PAGE);
        Ok(Some(page))
    }

    /// Rests after a page of a long look, if it was full. An error says that there is no more to do.
    pub(crate) async fn rest(&self, was_full: bool) -> Result<(), Error> {
        if !was_full {
            return self.joined().map(|_| ());
        }
        tokio::select! {
            biased;
            () = self.shutdown.cancelled() => return Err(Error::NotJoined),
            () = self.env.sleep(PAGE_APART) => {}
        }
        self.joined().map(|_| ())
    }
}

/// How far a look through the records of a partition is.
pub(crate) struct RecordPages {
    partition: Partition,
    after: Vec<u8>,
    /// Of the page before, if there was one.
    was_full: Option<bool>,
}

impl RecordPages {
    pub(crate) fn of(partition: Partition) -> Self {
        Self { partition, after: Vec::new(), was_full: None }
    }
}

/// Records read at once in a long look.
const RECORDS_IN_PAGE: usize = 256;
/// What a member says of a later time does not count: as far as writers' clocks may be ahead.
const AHEAD_MAX: Duration = Duration::from_secs(5 * 60);
/// Between two full pages of rows: a million rows take less than a minute, and users do not notice.
const PAGE_APART: Duration = Duration::from_millis(20);
