//! Moves of partitions: how they begin, and how many nodes must have done what before one may go
//! on.
//!
//! Sizes are `W(n) = n / 2 + 1` for writes and `R(n) = n − W(n) + 1` for reads, of a set of `n`.
//! A write that was acknowledged before the move is on `W(current)` nodes, so any `R(current)` of
//! them hold it; once so many are fenced, too few are left to acknowledge anything more under the
//! old layout. Every condition here is needed in full: one node less, and a read can miss a write.

use super::{EpochError, EpochState, FORMER_MAX, MemberIdx, Row, Stage, require};
use crate::id::{NodeId, Partition};
use crate::quorum::Tally;

impl Row {
    /// Whether a request made under `epoch` is too old for this row. Replicas refuse it; its sender
    /// fetches the newer layout and begins again.
    pub fn is_newer_than(&self, epoch: u64) -> bool {
        self.changed > epoch
    }

    /// Whether a member of `next` has all rows of the partition, having pulled them from these
    /// members of `current` while they had the prepared layout on disk: `R(current)` of them.
    /// Where it is one of these itself, it counts.
    pub fn has_sources(&self, pulled: impl Fn(MemberIdx) -> bool) -> bool {
        let enough = Tally::<NodeId>::read_majority(self.current.len());
        count(&self.current, pulled) >= enough
    }

    /// Whether the partition may be read from `next`: `W(next)` members have all rows.
    pub fn may_switch(&self, synced: impl Fn(MemberIdx) -> bool) -> bool {
        count(&self.next, synced) >= Tally::<NodeId>::write_majority(self.next.len())
    }

    /// Whether the old set may be let go: `W(current)` members have the switch on disk and so
    /// refuse stale readers, and `W(next)` members have every chunk.
    pub fn may_finish(
        &self,
        fenced: impl Fn(MemberIdx) -> bool,
        filled: impl Fn(MemberIdx) -> bool,
    ) -> bool {
        let majority = Tally::<NodeId>::write_majority;
        count(&self.current, fenced) >= majority(self.current.len())
            && count(&self.next, filled) >= majority(self.next.len())
    }
}

fn count(set: &[MemberIdx], holds: impl Fn(MemberIdx) -> bool) -> usize {
    set.iter().filter(|idx| holds(**idx)).count()
}

impl EpochState {
    pub(super) fn prepare(
        &mut self,
        partition: Partition,
        next: &[MemberIdx],
    ) -> Result<(), EpochError> {
        let active = |idx: &MemberIdx| {
            let member = self.members.get(usize::from(*idx));
            member.is_some_and(|member| self.may_hold(member))
        };
        let distinct = next.iter().collect::<std::collections::BTreeSet<_>>().len() == next.len();
        let allowed = !next.is_empty()
            && next.len() <= usize::from(self.target_copies)
            && next.iter().all(active);
        require(distinct && allowed, "not a valid replica set")?;
        let epoch = self.epoch;
        let row = self.moving_row(partition, Stage::Stable)?;
        row.stage = Stage::Prepare;
        row.prepare_epoch = epoch;
        row.next = next.to_vec();
        Ok(())
    }

    pub(super) fn moving_row(
        &mut self,
        partition: Partition,
        stage: Stage,
    ) -> Result<&mut Row, EpochError> {
        let epoch = self.epoch;
        let row = self.rows.get_mut(usize::from(partition));
        let row = row.ok_or(EpochError::BadOp("no such partition"))?;
        require(row.stage == stage, "the partition is at another stage")?;
        row.changed = epoch;
        Ok(row)
    }
}

pub(super) fn end_move(row: &mut Row, leaving: &[MemberIdx]) -> Result<(), EpochError> {
    row.stage = Stage::Stable;
    row.prepare_epoch = 0;
    row.former.extend(leaving);
    row.former.retain(|idx| !row.current.contains(idx));
    row.former.sort_unstable();
    row.former.dedup();
    require(row.former.len() <= FORMER_MAX, "too many nodes may still hold data")
}
