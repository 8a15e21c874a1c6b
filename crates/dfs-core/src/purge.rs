//! When a tombstone may be forgotten for good.
//!
//! A tombstone that goes while any node still holds what it deleted lets that come back. So it
//! stays until every place where an older version could be is known to be clean: all replicas, all
//! earlier holders of the partition, and everyone who keeps writes for others. No step trusts to
//! time, but for messages on their way and what nodes publish about themselves, which take hours
//! where [`AGE_MIN`] is days. Source: Garage's two-phase removal, with former holders and held
//! writes instead of a delay.

use std::time::Duration;

use crate::epoch::{EpochState, MemberIdx, MemberState, Stage};
use crate::hlc::Hlc;
use crate::id::{NodeId, Partition};
use crate::version::{Kind, Record, Version};

/// What nodes have told, beyond the layout.
pub trait Facts {
    /// Whether this replica confirmed that it holds the record in exactly this state.
    fn confirmed(&self, node: &NodeId) -> bool;
    /// What the node published last about the writes it holds for others.
    fn published(&self, node: &NodeId) -> Option<Published>;
}

/// A node's own word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Published {
    /// When it said so, by its clock.
    pub at: Hlc,
    /// The oldest write that it holds for others; `None` when it holds none.
    pub oldest_hint: Option<Hlc>,
}

/// Why a record stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Kept {
    /// It is no lone tombstone: the name exists, or a conflict waits.
    #[error("the name is not deleted, or has other versions")]
    NotDeleted,
    /// Writes of its time may still be on their way.
    #[error("it was deleted too recently")]
    TooYoung,
    /// The partition moves.
    #[error("the partition moves")]
    Moving,
    /// A replica is out of reach, or holds something else.
    #[error("replica {0:?} has not confirmed it")]
    Unconfirmed(NodeId),
    /// A node that once held the partition, or was to hold it, has not cleaned up.
    #[error("former holder {0} may still have older versions")]
    FormerHolder(MemberIdx),
    /// A member said nothing since the deletion, or holds an older write for others.
    #[error("member {0:?} may hold an older write")]
    HeldBack(NodeId),
}

/// Whether the tombstone of a record of this partition may be removed from all its replicas.
///
/// The caller then asks each replica to remove it if its state is still the same; one that it does
/// not reach keeps the tombstone, which does no harm. `O(members)`.
///
/// # Errors
/// [`Kept`] names the first thing that stands against it.
pub fn may_purge(
    record: &Record,
    partition: Partition,
    state: &EpochState,
    now_unix_ms: u64,
    facts: &impl Facts,
) -> Result<(), Kept> {
    let tombstone = lone_tombstone(record).ok_or(Kept::NotDeleted)?;
    let age_ms = now_unix_ms.saturating_sub(tombstone.hlc.unix_ms());
    if Duration::from_millis(age_ms) < AGE_MIN {
        return Err(Kept::TooYoung);
    }
    let row = state.row(partition);
    if row.stage != Stage::Stable {
        return Err(Kept::Moving);
    }
    let replicas = state.read_set(partition);
    if let Some(node) = replicas.into_iter().find(|node| !facts.confirmed(node)) {
        return Err(Kept::Unconfirmed(node));
    }
    if let Some(idx) = row.former.first() {
        return Err(Kept::FormerHolder(*idx));
    }
    let is_clean = |node: &NodeId| {
        facts.published(node).is_some_and(|said| {
            let holds_none = said.oldest_hint.is_none_or(|oldest| oldest > tombstone.hlc);
            said.at > tombstone.hlc && holds_none
        })
    };
    let mut members = state.members.iter().filter(|member| member.state != MemberState::Left);
    match members.find(|member| !is_clean(&member.node_id)) {
        Some(member) => Err(Kept::HeldBack(member.node_id)),
        None => Ok(()),
    }
}

fn lone_tombstone(record: &Record) -> Option<&Version> {
    let mut heads = record.heads();
    let only = heads.next().filter(|head| head.kind == Kind::Dead)?;
    heads.next().is_none().then_some(only)
}

/// How long every tombstone stays: far above the hours for which a writer may be late and nodes
/// may not have published.
pub const AGE_MIN: Duration = Duration::from_secs(7 * 24 * 60 * 60);
