//! What replicas list of a directory: what has changed at each of a quorum, and all of one.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use dfs_core::id::{NodeId, RecordKey, Tag, dir_partition};
use dfs_core::layout::epoch::EpochState;
use dfs_core::quorum::{Tally, Verdict};
use dfs_core::record::digest::HeadsDigest;
use dfs_core::record::version::{Kind, Record};
use dfs_core::replica::dir_changes::{ChangeMark, DirKey};
use dfs_core::replica::dir_view::Told;
use dfs_core::replica::op::fan_out::{FanOut, FanOutSpec, Patience, Reached};
use dfs_p2p::message::{Code, Priority, Request, Response};
use dfs_store::disk::store::PageLimit;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;

use super::Records;
use crate::config::Mode;
use crate::error::Error;
use crate::rpc::drive::counting_reads;
use crate::rpc::{Ask, AskError, StepError};

/// What one replica says of a directory.
#[derive(Debug, Clone)]
pub(crate) struct DirNews {
    /// Where its log of changes stands.
    pub(crate) mark: ChangeMark,
    /// What has changed since it was last asked; `None` when it does not know.
    pub(crate) changed: Option<Vec<Told>>,
}

/// A page of the rows that one replica has of a directory.
#[derive(Debug)]
struct RowsOfDir {
    tags: BTreeSet<Tag>,
    more: bool,
}

impl Records {
    /// Asks the replicas of a directory, but for some, what has changed at each since its mark,
    /// until enough have answered, gateways among them if they do in time. One round trip.
    pub(crate) async fn dir_news(
        self: &Arc<Self>,
        dir: DirKey,
        since: BTreeMap<NodeId, ChangeMark>,
        without: &BTreeSet<NodeId>,
        needs_quorum: bool,
        state: &Arc<EpochState>,
    ) -> Result<Reached<NodeId, DirNews>, StepError> {
        let set = state.read_set(dir_partition(&dir.0, &dir.1, state.bits));
        let guards = state.guards(std::slice::from_ref(&set));
        let spec = FanOutSpec {
            guards,
            without: without.clone(),
            ..FanOutSpec::new(vec![set], counting_reads(needs_quorum), Patience::None)
        };
        let perform = |node: NodeId| {
            let request = Request::DirChanges { dir, since: since.get(&node).copied() };
            let ask = Ask { deadline: NEWS_DEADLINE, ..Ask::new(Priority::Records, request) };
            Some(self.rpc.asking(node, state.epoch, ask, |node, told| (node, news(told))))
        };
        Ok(self.rpc.drive(FanOut::new(spec), perform).await??)
    }

    /// The names of a directory that replicas have rows of, deleted ones too: those of one page
    /// after a tag, and after which one the next page begins. One round trip.
    pub(crate) async fn all_tags(
        self: &Arc<Self>,
        dir: DirKey,
        after: Option<[u8; 16]>,
        mode: Mode,
    ) -> Result<(BTreeSet<Tag>, Option<[u8; 16]>), Error> {
        let attempt = |state| self.tags_attempt(dir, after, mode, state);
        let mut rows = self.rpc.with_layout(attempt).await?;
        rows.retain(|rows| rows.tags.last() > after.map(Tag::new).as_ref());
        // What one has after the end of its page it may have left out.
        let end = rows.iter().filter(|rows| rows.more).filter_map(|rows| rows.tags.last()).min();
        let end = end.copied();
        let all = rows.iter().flat_map(|rows| &rows.tags).copied();
        let is_in_page =
            |tag: &Tag| Some(*tag) > after.map(Tag::new) && end.is_none_or(|end| *tag <= end);
        Ok((all.filter(is_in_page).collect(), end.map(|end| *end.as_bytes())))
    }

    async fn tags_attempt(
        self: &Arc<Self>,
        dir: DirKey,
        after: Option<[u8; 16]>,
        mode: Mode,
        state: Arc<EpochState>,
    ) -> Result<Vec<RowsOfDir>, StepError> {
        let needs_quorum = self.replica.is_quorum(mode, &state);
        let set = state.read_set(dir_partition(&dir.0, &dir.1, state.bits));
        let guards = state.guards(std::slice::from_ref(&set));
        let spec = FanOutSpec {
            guards,
            ..FanOutSpec::new(vec![set], counting_reads(needs_quorum), Patience::None)
        };
        let perform = |node: NodeId| {
            let request = Request::DirScan { vault: dir.0, dir: dir.1, after };
            let ask = Ask { deadline: PAGE_DEADLINE, ..Ask::new(Priority::Records, request) };
            Some(self.rpc.asking(node, state.epoch, ask, |node, told| (node, page_of_dir(told))))
        };
        let reached = self.rpc.drive(FanOut::new(spec), perform).await??;
        let mut rows = Vec::new();
        for (node, page) in reached.answers {
            rows.push(self.genuine_rows(&node, dir, page).await);
        }
        if self.keeps_for_others(dir, needs_quorum, &state) {
            let page = self.replica.store.scan_dir(dir, after, KEPT_IN_PAGE).await;
            let page = page.map_err(Error::from)?;
            let tags = page.rows.into_iter().map(|(key, _)| key.tag).collect();
            rows.push(RowsOfDir { tags, more: page.more });
        }
        Ok(rows)
    }

    /// The rows of a page that are what they say. Names cannot be made up then, so that even what a
    /// liar lists comes to an end.
    async fn genuine_rows(
        &self,
        node: &NodeId,
        dir: DirKey,
        (records, more): PageOfDir,
    ) -> RowsOfDir {
        let mut tags = BTreeSet::new();
        for (key, record) in records {
            let is_here = (key.vault, key.dir) == dir && record.heads().next().is_some();
            let is_own = *node == self.replica.id;
            if is_here && (is_own || self.certs.verify_record(node, &key, &record).await.is_ok()) {
                tags.insert(key.tag);
            }
        }
        RowsOfDir { tags, more }
    }

    /// Everything that one replica lists in a directory, as digests.
    pub(crate) async fn dir_digests(
        &self,
        node: &NodeId,
        dir: DirKey,
        epoch: u64,
    ) -> Result<Vec<(Tag, HeadsDigest)>, StepError> {
        let (mut all, mut after) = (Vec::new(), None);
        let until = self.replica.env.mono() + COMPARE_DEADLINE;
        loop {
            let (digests, next) = self.digest_page(node, dir, after, epoch).await?;
            all.extend(digests);
            let Some(next) = next else { return Ok(all) };
            let is_ahead = after.is_none_or(|after| next > after);
            let is_late = self.replica.env.mono() > until;
            if !is_ahead || is_late || all.len() > NAMES_MAX {
                let why = "its list of a directory has no end".to_owned();
                return Err(Error::failed(node, why).into());
            }
            after = Some(next);
        }
    }

    async fn digest_page(
        &self,
        node: &NodeId,
        dir: DirKey,
        after: Option<[u8; 16]>,
        epoch: u64,
    ) -> Result<(Vec<(Tag, HeadsDigest)>, Option<[u8; 16]>), StepError> {
        let ask = |request| Ask { deadline: PAGE_DEADLINE, ..Ask::new(Priority::Records, request) };
        let mut told = self.rpc.ask(node, epoch, ask(Request::DirDigests { dir, after })).await;
        if matches!(&told, Err(error) if error.code() == Some(Code::Unsupported)) {
            // A node of a version that gives whole records only.
            let (vault, dir) = dir;
            told = self.rpc.ask(node, epoch, ask(Request::DirScan { vault, dir, after })).await;
        }
        match told {
            Ok((Response::Listed { digests, next }, _)) => Ok((digests, next)),
            Ok((Response::Records { records, more }, _)) => {
                let last = records.last().map(|(key, _)| *key.tag.as_bytes());
                let digest =
                    |(key, record): &(RecordKey, Record)| Some((key.tag, HeadsDigest::of(record)?));
                Ok((records.iter().filter_map(digest).collect(), last.filter(|_| more)))
            }
            Ok(_) => Err(Error::failed(node, "an unexpected answer").into()),
            Err(error) if error.code() == Some(Code::StaleEpoch) => Err(StepError::Stale),
            Err(error) => Err(Error::failed(node, error.to_string()).into()),
        }
    }

    /// Whether something is listed in a directory, as everyone in reach knows it: before it is
    /// removed. Gateways must be among them. In memory is what replicas say is listed.
    pub(crate) async fn has_names(
        self: &Arc<Self>,
        dir: DirKey,
        mode: Mode,
    ) -> Result<bool, Error> {
        let tags = self.rpc.with_layout(|state| self.live_tags(dir, mode, state)).await?;
        let keys = tags.into_iter().map(|tag| RecordKey { vault: dir.0, dir: dir.1, tag });
        for batch in keys.collect::<Vec<_>>().chunks(READ_AT_ONCE) {
            let read = self.read_records(batch, mode).await?;
            let is_live = |record: &Record| record.winner().is_some_and(|v| v.kind == Kind::Live);
            if read.records.iter().any(is_live) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The names that anyone in reach lists, some of which may be deleted elsewhere.
    async fn live_tags(
        self: &Arc<Self>,
        dir: DirKey,
        mode: Mode,
        state: Arc<EpochState>,
    ) -> Result<BTreeSet<Tag>, StepError> {
        let needs_quorum = self.replica.is_quorum(mode, &state);
        let partition = dir_partition(&dir.0, &dir.1, state.bits);
        let set = state.read_set(partition);
        // Where none of them is a gateway, one that is away would keep the directory for ever.
        let guards = state.guards(std::slice::from_ref(&set));
        let guards = if guards.len() == 1 { guards } else { Vec::new() };
        let in_reach = set.iter().filter(|node| self.replica.is_reachable(node)).copied();
        let epoch = state.epoch;
        let list = |node: NodeId| async move { (node, self.dir_digests(&node, dir, epoch).await) };
        let mut listing: FuturesUnordered<_> = in_reach.map(list).collect();
        let mut answered = Tally::new(vec![set], counting_reads(needs_quorum).needed);
        let mut guarded = Tally::new(guards, Tally::<NodeId>::write_majority);
        let (mut tags, mut failures) = (BTreeSet::new(), Vec::new());
        while let Some((node, listed)) = listing.next().await {
            match listed {
                Ok(digests) => {
                    answered.ack(&node);
                    guarded.ack(&node);
                    tags.extend(digests.into_iter().map(|(tag, _)| tag));
                }
                Err(StepError::Stale) => return Err(StepError::Stale),
                Err(StepError::Failed(error)) => failures.push((node, error.to_string())),
            }
        }
        if self.keeps_for_others(dir, needs_quorum, &state) {
            tags.extend(self.kept_tags(dir).await?);
            return Ok(tags);
        }
        let is_hidden = needs_quorum && guarded.verdict() != Verdict::Reached;
        if answered.verdict() != Verdict::Reached || is_hidden {
            return Err(Error::Unavailable(failures).into());
        }
        Ok(tags)
    }

    /// Whether what this node keeps for replicas that were out of reach counts as an answer: where
    /// any one is enough, and it is none of those that are asked. One to which the partition moves
    /// is not asked yet.
    pub(crate) fn keeps_for_others(
        &self,
        dir: DirKey,
        needs_quorum: bool,
        state: &EpochState,
    ) -> bool {
        let partition = dir_partition(&dir.0, &dir.1, state.bits);
        !needs_quorum && !state.read_set(partition).contains(&self.replica.id)
    }

    /// The names of a directory that have rows here, whoever their replicas are.
    pub(crate) async fn kept_tags(&self, dir: DirKey) -> Result<BTreeSet<Tag>, Error> {
        let (mut tags, mut after) = (BTreeSet::new(), None);
        loop {
            let limit = super::serve::DIGESTS_IN_PAGE;
            let page = self.replica.store.scan_dir_digests(dir, after, limit).await?;
            after = page.rows.last().map(|(tag, _)| *tag.as_bytes());
            tags.extend(page.rows.into_iter().filter_map(|(tag, digest)| digest.map(|_| tag)));
            if !page.more {
                return Ok(tags);
            }
        }
    }
}

/// What an answer says. A node of a version that keeps no log knows nothing of changes.
fn news(told: Result<Response, AskError>) -> Result<DirNews, AskError> {
    match told {
        Ok(Response::Changed { mark, changed }) => Ok(DirNews { mark, changed }),
        Err(error) if error.code() != Some(Code::Unsupported) => Err(error),
        Ok(_) | Err(_) => Ok(DirNews { mark: ChangeMark { boot: 0, at: 0 }, changed: None }),
    }
}

type PageOfDir = (Vec<(RecordKey, Record)>, bool);

fn page_of_dir(told: Result<Response, AskError>) -> Result<PageOfDir, AskError> {
    match told? {
        Response::Records { records, more } => Ok((records, more)),
        _ => Ok((Vec::new(), false)),
    }
}

/// How long a replica may take to say what has changed.
const NEWS_DEADLINE: Duration = Duration::from_secs(5);
/// A page of a large directory, on a busy peer.
const PAGE_DEADLINE: Duration = Duration::from_secs(5);
/// A whole directory: a million names on a disk that is busy.
const COMPARE_DEADLINE: Duration = Duration::from_secs(60);
/// Names that a replica may list in one directory: 48 MiB of digests.
const NAMES_MAX: usize = 1 << 21;
/// Rows of others that this node keeps, in one page.
const KEPT_IN_PAGE: PageLimit = PageLimit { rows: READ_AT_ONCE, bytes: 1 << 20 };
/// Records read at once.
pub(crate) const READ_AT_ONCE: usize = 256;
