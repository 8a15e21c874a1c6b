//! Bringing what is known of a directory up to date.

use std::collections::BTreeSet;
use std::sync::Arc;

use dfs_core::id::{DirId, NodeId, RecordKey, Tag, dir_partition};
use dfs_core::layout::epoch::EpochState;
use dfs_core::quorum::{Tally, Verdict};
use dfs_core::record::digest::HeadsDigest;
use dfs_core::record::version::Record;
use dfs_core::replica::dir_changes::DirKey;
use dfs_core::replica::dir_view::DirView;
use dfs_core::replica::listing::ListedName;
use dfs_store::disk::store::PageLimit;
use dfs_store::vault::keys::VaultKeys;
use futures_util::future::join_all;
use futures_util::{StreamExt, TryStreamExt, stream};
use tracing::{debug, warn};

use super::listings::Listings;
use super::open::count_conflicts;
use super::parts::Parts;
use crate::config::Mode;
use crate::error::Error;
use crate::records::{DirNews, READ_AT_ONCE};
use crate::rpc::StepError;
use crate::rpc::drive::counting_reads;

type View = DirView<NodeId>;
type Found = Vec<(Tag, Option<ListedName>)>;

impl Listings {
    /// Brings a view up to date with what a quorum has acknowledged. Returns whether the gateways
    /// among the replicas would have told of what others hid.
    pub(super) async fn refresh(
        &self,
        view: &mut View,
        dir: DirId,
        mode: Mode,
        state: &Arc<EpochState>,
    ) -> Result<bool, StepError> {
        let of = (self.keys.vault, dir);
        let needs_quorum = self.replica.is_quorum(mode, state);
        let set = state.read_set(dir_partition(&of.0, &of.1, state.bits));
        view.retain(|node| set.contains(node));
        let keeps = self.records.keeps_for_others(of, needs_quorum, state);
        let mut without = BTreeSet::new();
        let (told, mut guarded) = loop {
            let since = set.iter().filter_map(|node| Some((*node, view.mark(node)?))).collect();
            let asked = self.records.dir_news(of, since, &without, needs_quorum, state);
            let reached = match asked.await {
                Err(StepError::Failed(_)) if keeps => break (BTreeSet::new(), false),
                reached => reached?,
            };
            let asked = reached.nodes();
            let told = self.take_news(view, of, reached.answers, state).await?;
            if is_enough(&set, &told, needs_quorum) {
                break (told, reached.guarded);
            }
            // Those that do not show what they list are as good as away.
            without.extend(asked.difference(&told));
        };
        let mut unsettled = view.unsettled(&told);
        if keeps {
            unsettled.extend(self.records.kept_tags(of).await?);
        }
        guarded &= self.read_names(view, of, unsettled, mode).await?;
        Ok(guarded)
    }

    /// Takes in what replicas say has changed. Those that do not know are compared whole, beside
    /// each other. Returns those whose word counts.
    async fn take_news(
        &self,
        view: &mut View,
        of: DirKey,
        news: Vec<(NodeId, DirNews)>,
        state: &Arc<EpochState>,
    ) -> Result<BTreeSet<NodeId>, StepError> {
        let (mut told, mut whole) = (BTreeSet::new(), Vec::new());
        for (node, DirNews { mark, changed }) in news {
            if changed.is_some_and(|changed| view.told(node, mark, changed)) {
                told.insert(node);
            } else {
                whole.push((node, mark));
            }
        }
        // This node's own rows need not be read again: they were verified before they were stored.
        let own = whole.iter().find(|(node, _)| *node == self.replica.id).copied();
        let own = own.filter(|_| view.listing().is_empty());
        let load = async {
            match own {
                Some(_) => Ok(Some(self.load_own(of).await?)),
                None => Ok::<_, StepError>(None),
            }
        };
        let others = whole.into_iter().filter(|(node, _)| own.is_none_or(|(own, _)| own != *node));
        let compare = others.map(|(node, mark)| async move {
            (node, mark, self.records.dir_digests(&node, of, state.epoch).await)
        });
        let (loaded, compared) = tokio::join!(load, join_all(compare));
        let own = own.zip(loaded?);
        let mut listed = Vec::new();
        for (node, mark, digests) in compared {
            match digests {
                Ok(digests) => listed.push((node, mark, digests)),
                Err(StepError::Stale) => return Err(StepError::Stale),
                Err(StepError::Failed(error)) => debug!(peer = ?node, %error, "not compared"),
            }
        }
        told.extend(own.iter().map(|((node, _), _)| *node));
        told.extend(listed.iter().map(|(node, ..)| *node));
        if own.is_some() || !listed.is_empty() {
            self.change(view, move |view| {
                if let Some(((node, mark), found)) = own {
                    let digest = |(tag, name): &(Tag, Option<ListedName>)| {
                        Some((*tag, name.as_ref()?.digest))
                    };
                    let digests = found.iter().filter_map(digest).collect();
                    view.read(found);
                    view.compared(node, mark, digests);
                }
                for (node, mark, digests) in listed {
                    view.compared(node, mark, digests);
                }
            })
            .await;
        }
        for node in told.clone() {
            if !self.is_consistent(view, of, node, state).await? {
                told.remove(&node);
            }
        }
        Ok(told)
    }

    /// Everything that this node lists in a directory, in one pass over its rows: a page is read
    /// while the one before is opened.
    async fn load_own(&self, of: DirKey) -> Result<Found, Error> {
        let scan = |after| self.replica.store.scan_dir(of, after, ROWS_AT_ONCE);
        let mut all = Found::new();
        let mut page = scan(None).await?;
        loop {
            let next = page.rows.last().map(|(key, _)| *key.tag.as_bytes()).filter(|_| page.more);
            let read_next = async {
                match next {
                    Some(after) => scan(Some(after)).await.map(Some),
                    None => Ok(None),
                }
            };
            let (opened, next) = tokio::join!(self.open_all(page.rows), read_next);
            all.extend(opened?.into_iter().filter(|(_, name)| name.is_some()));
            match next? {
                Some(next) => page = next,
                None => return Ok(all),
            }
        }
    }

    /// Whether a machine that only stores has what it lists, as far as a few names show: nobody but
    /// the vault can make up a name, and each that is made up would cost a read by quorum.
    async fn is_consistent(
        &self,
        view: &View,
        of: DirKey,
        node: NodeId,
        state: &EpochState,
    ) -> Result<bool, Error> {
        let claims = view.unsettled(&BTreeSet::from([node]));
        if state.is_gateway(&node) || claims.len() <= CLAIMS_BELIEVED {
            return Ok(true);
        }
        let skipped = self.replica.env.random_u64() % (claims.len() - SAMPLE) as u64;
        let sample = claims.into_iter().skip(usize::try_from(skipped).unwrap_or(0)).take(SAMPLE);
        let keys: Vec<_> = sample.map(|tag| key_of(of, tag)).collect();
        let shown = self.records.fetch_records(&node, &keys, state.epoch).await;
        let shown = shown.unwrap_or_default();
        // A name may have been written or deleted since, but hardly half of them.
        let is_shown = |record: &&Record| record.heads().next().is_some();
        let is_consistent = 2 * shown.iter().filter(is_shown).count() >= SAMPLE;
        if !is_consistent {
            warn!(peer = ?node, "it lists names that it does not have");
        }
        Ok(is_consistent)
    }

    /// Reads names by quorum into a view. Returns whether all reads were guarded.
    async fn read_names(
        &self,
        view: &mut View,
        of: DirKey,
        tags: BTreeSet<Tag>,
        mode: Mode,
    ) -> Result<bool, Error> {
        let keys: Vec<_> = tags.into_iter().map(|tag| key_of(of, tag)).collect();
        let read = |keys: Vec<RecordKey>| async move {
            let read = self.records.read_records(&keys, mode).await?;
            let found = self.open_all(keys.into_iter().zip(read.records).collect()).await?;
            Ok::<_, Error>((found, read.guarded))
        };
        let batches: Vec<_> = keys.chunks(READ_AT_ONCE).map(<[_]>::to_vec).collect();
        let reads = stream::iter(batches).map(read).buffer_unordered(BATCHES_AT_ONCE);
        let all = reads.try_fold((Found::new(), true), |(mut all, guarded), (found, is)| {
            all.extend(found);
            std::future::ready(Ok((all, guarded && is)))
        });
        let (found, guarded) = all.await?;
        match found.len() {
            0 => {}
            1..FOUND_AT_ONCE => view.read(found),
            _ => self.change(view, |view| view.read(found)).await,
        }
        Ok(guarded)
    }

    /// Changes a view where it may take a while. One that is given up meanwhile begins anew.
    async fn change(&self, view: &mut View, change: impl FnOnce(&mut View) + Send + 'static) {
        let mut taken = std::mem::take(view);
        let changed = move || {
            change(&mut taken);
            taken
        };
        *view = self.replica.env.offload(changed).await;
    }

    async fn open_all(&self, records: Vec<(RecordKey, Record)>) -> Result<Found, Error> {
        let keys = self.keys.clone();
        let open = move || {
            let opened = records
                .iter()
                .map(|(key, record)| listed(&keys, key, record).map(|name| (key.tag, name)));
            opened.collect()
        };
        self.replica.env.offload(open).await
    }
}

/// Whether those whose word counts are as many as the mode needs.
fn is_enough(set: &[NodeId], told: &BTreeSet<NodeId>, needs_quorum: bool) -> bool {
    let mut tally = Tally::new(vec![set.to_vec()], counting_reads(needs_quorum).needed);
    told.iter().for_each(|node| {
        tally.ack(node);
    });
    tally.verdict() == Verdict::Reached
}

/// What a listing shows of a record; `None` when the name is deleted.
fn listed(keys: &VaultKeys, key: &RecordKey, record: &Record) -> Result<Option<ListedName>, Error> {
    let Parts { file, dir, .. } = Parts::of(keys, key, record)?;
    // Of a name that is both the directory, so that all below it is listed.
    let (shown, digest) = (dir.or(file), HeadsDigest::of(record));
    let Some(((winner, entry), digest)) = shown.zip(digest) else { return Ok(None) };
    Ok(Some(ListedName {
        dir: entry.dir(),
        bytes: entry.bytes(),
        modified_ms: entry.modified_ms,
        permissions: entry.attributes.permissions,
        mtime: entry.attributes.mtime,
        link: entry.node.link().map(|target| target.as_str().into()),
        vid: winner.vid,
        digest,
        in_conflict: count_conflicts(keys, key, record)? > 0,
        name: entry.name.into(),
    }))
}

fn key_of((vault, dir): DirKey, tag: Tag) -> RecordKey {
    RecordKey { vault, dir, tag }
}

/// Rows of this node's own index opened at once: some milliseconds of work.
const ROWS_AT_ONCE: PageLimit = PageLimit { rows: 1_024, bytes: 1 << 20 };
/// Names that are sorted in without a thought: microseconds each.
const FOUND_AT_ONCE: usize = 256;
/// Batches of names read by quorum at once.
const BATCHES_AT_ONCE: usize = 4;
/// Names that differ at a machine that only stores and are read without a question: a read or two.
const CLAIMS_BELIEVED: usize = 128;
/// Names that such a machine must show when it lists more.
const SAMPLE: usize = 32;
