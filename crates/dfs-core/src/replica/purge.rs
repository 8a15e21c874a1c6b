//! When a tombstone may be forgotten for good, and when a use of a blob has ended.
//!
//! A tombstone that goes while any node still holds what it deleted lets that come back; a blob
//! that goes while any node still holds a version that uses it is a loss. So both stay until every
//! place where such a version could be is known to be clean: all replicas of the record, all
//! earlier holders of its partition, and everyone who keeps writes for others. No step trusts to
//! time, but for messages and operations on their way, which take minutes where [`AGE_MIN`] is
//! days. Source: Garage's two-phase removal, with former holders and held writes instead of a
//! delay.

use std::time::Duration;

use crate::hlc::Hlc;
use crate::id::{NodeId, Partition};
use crate::layout::epoch::{EpochState, MemberIdx, MemberState, Stage};
use crate::node::member::Clean;
use crate::record::refs::RefRow;
use crate::record::version::{Kind, Record, Version};

/// What nodes have told, beyond the layout.
pub trait Grounds {
    /// Whether this replica confirmed that it holds the record in exactly this state.
    fn confirmed(&self, node: &NodeId) -> bool;
    /// When the node last kept nothing for others, as it published last.
    fn clean(&self, node: &NodeId) -> Clean;
    /// Whether the record was in exactly this state so long ago that no conditional write which
    /// began before goes on.
    fn at_rest(&self) -> bool;
}

/// Why a record or a reference row stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Kept {
    /// It is no lone tombstone: the name exists, or a conflict waits.
    #[error("the name is not deleted, or has other versions")]
    NotDeleted,
    /// Writes of its time may still be on their way.
    #[error("it was deleted too recently")]
    TooYoung,
    /// A conditional write may be under way: what replicas promised must not be forgotten.
    #[error("a conditional write may be under way")]
    Undecided,
    /// A version of the record uses the blob, or is about to.
    #[error("a version needs it")]
    Needed,
    /// A version that names it may still be written.
    #[error("a version that names it may still be written")]
    Held,
    /// The partition moves.
    #[error("the partition moves")]
    Moving,
    /// A replica is out of reach, or holds something else.
    #[error("replica {0:?} has not confirmed it")]
    Unconfirmed(NodeId),
    /// A node that once held the partition, or was to hold it, has not cleaned up.
    #[error("former holder {0} may still have older versions")]
    FormerHolder(MemberIdx),
    /// A member has kept something for others ever since, or said nothing.
    #[error("member {0:?} may hold an older write")]
    HeldBack(NodeId),
}

/// Whether the tombstone of a record of this partition may be removed from all its replicas, being
/// older than `age_min`, as a rule [`AGE_MIN`] or more.
///
/// The caller then asks each replica to remove it if its state is still the same; one that it does
/// not reach keeps the tombstone, which does no harm. What replicas promised to conditional writes
/// goes with it: once it is at rest, only a proposer that slept meanwhile could come with a lower
/// ballot, and proposers give up attempts that have become old. `O(members)`.
///
/// # Errors
/// [`Kept`] names the first thing that stands against it.
pub fn may_purge(
    record: &Record,
    partition: Partition,
    state: &EpochState,
    now_unix_ms: u64,
    age_min: Duration,
    facts: &impl Grounds,
) -> Result<(), Kept> {
    let tombstone = lone_tombstone(record).ok_or(Kept::NotDeleted)?;
    let age_ms = now_unix_ms.saturating_sub(tombstone.hlc.unix_ms());
    if Duration::from_millis(age_ms) < age_min {
        return Err(Kept::TooYoung);
    }
    if record.candidate().is_some() || (record.is_conditional() && !facts.at_rest()) {
        return Err(Kept::Undecided);
    }
    agreed(partition, state, facts)?;
    if let Some(idx) = state.row(partition).former.first() {
        return Err(Kept::FormerHolder(*idx));
    }
    nothing_held(tombstone.hlc, partition, state, facts)
}

/// Whether a look at the record of a row finds that no version needs the blob, and where such a
/// version could still be. A use has ended when two looks find so.
///
/// `record` is the row's record as all its replicas confirm it. After the first look, with `since`
/// when the row's hold was over, nobody reads a version any more that needs the blob: no replica
/// has one. The second look, with `since` later than operations may take that had read one before,
/// then finds what these wrote: at a replica, which confirms another state, or with a member that
/// has kept something for others ever since. The caller's clock and the members' must agree as far
/// as `since` leaves room. `O(members)`.
///
/// # Errors
/// [`Kept`] names the first thing that stands against it.
pub fn may_drop(
    row: &RefRow,
    record: &Record,
    since: Hlc,
    state: &EpochState,
    facts: &impl Grounds,
) -> Result<(), Kept> {
    if record.needs(&row.vid) {
        return Err(Kept::Needed);
    }
    if row.hold_until >= since {
        return Err(Kept::Held);
    }
    let partition = row.key.partition(state.bits);
    agreed(partition, state, facts)?;
    // Former holders are members, and what they still have of the partition they keep for others.
    nothing_held(since, partition, state, facts)
}

/// Whether all replicas of a partition at rest confirm one state.
fn agreed(partition: Partition, state: &EpochState, facts: &impl Grounds) -> Result<(), Kept> {
    if state.row(partition).stage != Stage::Stable {
        return Err(Kept::Moving);
    }
    let replicas = state.read_set(partition);
    match replicas.into_iter().find(|node| !facts.confirmed(node)) {
        Some(node) => Err(Kept::Unconfirmed(node)),
        None => Ok(()),
    }
}

/// Whether every member has kept nothing for others at some time after `since`, when it knew who
/// holds the partition.
fn nothing_held(
    since: Hlc,
    partition: Partition,
    state: &EpochState,
    facts: &impl Grounds,
) -> Result<(), Kept> {
    let changed = state.row(partition).changed;
    let is_clean = |node: &NodeId| {
        let clean = facts.clean(node);
        clean.at > since && clean.epoch >= changed
    };
    let mut members = state.members.iter().filter(|member| member.state != MemberState::Left);
    match members.find(|member| !is_clean(&member.node_id)) {
        Some(member) => Err(Kept::HeldBack(member.node_id)),
        None => Ok(()),
    }
}

/// What counts of a record that somebody tells of, at a replica that holds `ours` and every version
/// of the partition that counts and is stamped no later than `floor`: all but those that it should
/// hold and does not reflect. They were deleted, and the tombstone is forgotten; whoever tells of
/// one brings it again. `None` when all of it counts.
///
/// A tombstone that comes back does no harm: a replica that did not hear that it may be forgotten
/// gives it to the others. `O(heads)`.
pub fn without_purged(told: &Record, ours: &Record, floor: Hlc) -> Option<Record> {
    let is_purged =
        |head: &Version| head.kind == Kind::Live && head.hlc <= floor && !ours.reflects(head);
    told.heads().any(is_purged).then(|| told.without(is_purged))
}

/// The only head of a record, if it is a tombstone.
pub fn lone_tombstone(record: &Record) -> Option<&Version> {
    let mut heads = record.heads();
    let only = heads.next().filter(|head| head.kind == Kind::Dead)?;
    heads.next().is_none().then_some(only)
}

/// How long every tombstone stays: far above the hours for which a writer may be late and nodes
/// may not have published.
pub const AGE_MIN: Duration = Duration::from_secs(7 * 24 * 60 * 60);
