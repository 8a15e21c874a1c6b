//! Uses of blobs that have ended: found out by asking what the records say, and forgotten once all
//! replicas have found out.
//!
//! Nobody tells a replica that a use has ended: it reads the record of each of its rows by quorum,
//! once in every round. See `docs/explanation/decisions/0013-audits-instead-of-messages.md`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use dfs_core::hlc::Hlc;
use dfs_core::id::{NodeId, Partition, RecordKey, Vid};
use dfs_core::layout::epoch::{EpochState, Stage};
use dfs_core::record::refs::{RefRow, Use};
use dfs_core::record::version::Record;
use dfs_core::replica::marks::Marks;
use dfs_core::replica::purge::may_drop;
use dfs_core::replica::sync::Table;
use dfs_env::{Bug, bug};
use dfs_p2p::message::Request;
use tracing::debug;

use super::evidence::{Evidence, Evident, Published};
use crate::config::Mode;
use crate::error::Error;
use crate::records::Records;
use crate::replica::rows::RowWalk;
use crate::replica::{Replica, millis};

/// A version of a record.
type Of = (RecordKey, Vid);

/// Finds uses that have ended.
pub(super) struct RefAudit {
    replica: Arc<Replica>,
    records: Arc<Records>,
    evidence: Arc<Evidence>,
    /// Versions that a look found not to be needed, and when.
    unneeded: Marks<Of, Hlc>,
}

/// What a round found out about a version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum UseVerdict {
    /// It is needed, or may be, as far as can be told now.
    Stays,
    /// It was not needed at this time, and cannot be since.
    Ended(Hlc),
}

/// One look at every reference row that this node should hold.
struct Round<'a> {
    audit: &'a mut RefAudit,
    state: Arc<EpochState>,
    published: Published,
    /// What was found out in this round: a file of many chunks asks once.
    verdicts: BTreeMap<Of, UseVerdict>,
}

impl RefAudit {
    pub(super) fn new(
        replica: Arc<Replica>,
        records: Arc<Records>,
        evidence: Arc<Evidence>,
    ) -> Self {
        Self { replica, records, evidence, unneeded: Marks::new(VERSIONS_MAX) }
    }

    /// Looks through all reference rows; says how many uses were found to have ended, and how many
    /// rows were forgotten.
    pub(super) async fn audit(&mut self) -> Result<(usize, usize), Error> {
        let state = self.replica.joined()?;
        let published = self.evidence.published(&state);
        let roots = self.replica.store.roots(Table::Refs, state.bits).await?;
        let (mut ended, mut forgotten) = (0, 0);
        let mut round =
            Round { audit: self, state: state.clone(), published, verdicts: BTreeMap::new() };
        for partition in state.partitions_of(&round.audit.replica.id) {
            let is_empty = roots.get(usize::from(partition)).is_none_or(|root| root.count == 0);
            if is_empty || state.row(partition).stage != Stage::Stable {
                continue;
            }
            let mut walk = RowWalk::of(partition, state.bits);
            while let Some(rows) = walk.next_rested::<RefRow>(&round.audit.replica).await? {
                let (over, live): (Vec<_>, Vec<_>) = rows.into_iter().partition(|row| row.dropped);
                ended += round.look_at(live).await?;
                let audit = &*round.audit;
                // A gateway may not have taken over what a storage member has.
                let asks = audit.evidence.asks_for(partition, &state)
                    || !state.may_write(&audit.replica.id);
                if !over.is_empty() && asks {
                    forgotten += audit.forget_ended(partition, over, &state).await?;
                }
            }
        }
        self.unneeded.end_round();
        Ok((ended, forgotten))
    }

    /// Has all replicas forget rows whose use each of them found to have ended. One that did not
    /// hear of it gives the row back to the others, who find out once more: that does no harm.
    async fn forget_ended(
        &self,
        partition: Partition,
        rows: Vec<RefRow>,
        state: &Arc<EpochState>,
    ) -> Result<usize, Error> {
        let mut uses: Vec<Use> = rows.iter().map(RefRow::of).collect();
        let others =
            || state.read_set(partition).into_iter().filter(|node| *node != self.replica.id);
        for node in others() {
            let asked = Request::RefsEnded(uses.clone());
            let told = self.evidence.ask_of_each(&node, asked, uses.len(), state).await;
            let Some(told) = told else { return Ok(0) };
            let mut told = told.into_iter();
            uses.retain(|_| told.next() == Some(true));
        }
        if uses.is_empty() {
            return Ok(0);
        }
        for node in others() {
            let asked = Request::RefsForget(uses.clone());
            if self.evidence.ask_of_each(&node, asked, uses.len(), state).await.is_none() {
                return Ok(0);
            }
        }
        let gone = self.replica.store.forget_dropped(uses).await?;
        Ok(gone.into_iter().filter(|gone| *gone).count())
    }
}

impl Round<'_> {
    /// Marks those of some rows whose use has ended; says how many.
    async fn look_at(&mut self, mut rows: Vec<RefRow>) -> Result<usize, Error> {
        let now = self.audit.replica.now();
        rows.retain(|row| row.hold_until < now);
        let mut unknown: BTreeMap<Vec<NodeId>, BTreeMap<RecordKey, Vec<RefRow>>> = BTreeMap::new();
        for row in &rows {
            let of = (row.key, row.vid);
            self.audit.unneeded.meet(&of);
            if !self.verdicts.contains_key(&of) {
                let set = self.state.read_set(row.key.partition(self.state.bits));
                unknown.entry(set).or_default().entry(row.key).or_default().push(*row);
            }
        }
        for (set, uses) in unknown {
            let mut uses = uses.into_iter();
            loop {
                let some: BTreeMap<_, _> = uses.by_ref().take(RECORDS_AT_ONCE).collect();
                if some.is_empty() {
                    break;
                }
                self.find_out(&set, some).await;
            }
        }
        rows.retain(|row| match self.verdicts.get(&(row.key, row.vid)) {
            Some(UseVerdict::Ended(at)) => row.hold_until < *at,
            Some(UseVerdict::Stays) | None => false,
        });
        if rows.is_empty() {
            return Ok(0);
        }
        Ok(self.audit.replica.store.drop_refs(rows).await?)
    }

    /// Reads the records of some rows, all on the same replicas, and judges the versions that use
    /// the blobs. What cannot be read is judged another time.
    async fn find_out(&mut self, set: &[NodeId], uses: BTreeMap<RecordKey, Vec<RefRow>>) {
        let keys: Vec<RecordKey> = uses.keys().copied().collect();
        let rows = uses.values().flatten().map(|row| ((row.key, row.vid), UseVerdict::Stays));
        let unless_found_out = rows.collect::<Vec<_>>();
        self.forget_some();
        self.verdicts.extend(unless_found_out);
        let records = match self.audit.records.read_records(&keys, Mode::Quorum).await {
            Ok(read) if read.quorum => read.records,
            Ok(_) => return,
            Err(error) => return debug!(%error, "uses of blobs could not be looked at"),
        };
        let mut unneeded = Vec::new();
        for (rows, record) in uses.into_values().zip(records) {
            for row in first_of_each(rows) {
                match record.needs(&row.vid) && !bug(Bug::UseEndsTooEarly) {
                    true => self.audit.unneeded.clear(&(row.key, row.vid)),
                    false => unneeded.push((row, record.clone())),
                }
            }
        }
        if unneeded.is_empty() {
            return;
        }
        let hashes: Vec<_> =
            unneeded.iter().map(|(row, record)| (row.key, record.state_hash())).collect();
        let confirmed = self.audit.evidence.confirmed(set, &hashes, &self.state).await;
        for ((row, record), confirmed) in unneeded.into_iter().zip(confirmed) {
            self.judge(&row, &record, &confirmed);
        }
    }

    /// The first look that finds a version not needed is remembered, the second ends its uses.
    fn judge(&mut self, row: &RefRow, record: &Record, confirmed: &BTreeSet<NodeId>) {
        let of = (row.key, row.vid);
        let now = self.audit.replica.now();
        // One of a clock that was ahead, and was set right, would count for as long.
        let first = self.audit.unneeded.get(&of).copied().filter(|first| *first <= now);
        if first.is_none() {
            self.audit.unneeded.clear(&of);
        }
        // Operations that had read the record before the first look have written it by then.
        let settle = millis(self.audit.replica.grace.settle());
        let settled = first.map(|first| first.unix_ms().saturating_add(settle));
        let since = settled.map_or_else(|| row.hold_until.next(), Hlc::from_unix_ms);
        let known = Evident {
            published: &self.published,
            confirmed: Some(confirmed),
            // Only who forgets a record asks for that.
            at_rest: false,
        };
        if bug(Bug::UseEndsTooEarly) {
            self.verdicts.insert(of, UseVerdict::Ended(now));
            return;
        }
        match may_drop(row, record, since, &self.state, &known) {
            Ok(()) if first.is_some() => {
                self.verdicts.insert(of, UseVerdict::Ended(since));
            }
            Ok(()) => {
                // Without room to remember, a later look will.
                let _ = self.audit.unneeded.note(of, now);
            }
            Err(why) => debug!(vid = %row.vid, %why, "a use that no record names stays for now"),
        }
    }

    /// What is forgotten is asked once more.
    fn forget_some(&mut self) {
        if self.verdicts.len() > VERDICTS_MAX {
            self.verdicts.clear();
        }
    }
}

/// One row of each version.
fn first_of_each(rows: Vec<RefRow>) -> Vec<RefRow> {
    let mut seen = BTreeSet::new();
    rows.into_iter().filter(|row| seen.insert(row.vid)).collect()
}

/// Records read at once, as when replicas are compared.
const RECORDS_AT_ONCE: usize = 256;
/// Versions remembered from round to round as not needed: 10 MiB. Those beyond have their turn when
/// the rows of these are gone.
const VERSIONS_MAX: usize = 65_536;
/// Verdicts of one round kept at once.
const VERDICTS_MAX: usize = 65_536;
