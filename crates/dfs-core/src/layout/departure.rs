//! Members on their way out: who gives its partitions away, who has been dead for too long, who is
//! gone, and who came back.
//!
//! A member that is away keeps its place for long, because most come back, and copying everything
//! twice costs more than an hour with one copy less. Even then it is only taken out when that looks
//! like the loss of one machine and not like a cut, and when the others have room for its share.
//! A member that does not hold what it claims gives its share away by the same measure.
//! Source: the delay and the rails of Ceph's monitors.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::id::Partition;
use crate::layout::epoch::{EpochOp, EpochState, Member, MemberState, Role, Stage};
use crate::layout::facts::Facts;

/// Changes of standing that are due. `O(members * partitions)`.
pub fn departures(state: &EpochState, facts: &impl Facts) -> Vec<EpochOp> {
    let due = |member: &Member| match member.state {
        // What it was convicted of may be a mistake: only an operator ends its membership for good.
        MemberState::Draining if facts.is_convicted(&member.node_id) => None,
        MemberState::Draining => has_emptied(state, member, facts).then_some(MemberState::Left),
        MemberState::Out => match facts.down_for(&member.node_id) {
            None => Some(MemberState::Active),
            Some(down) => {
                let is_voter = state.voters.contains(&member.node_id);
                let gone = down >= LEFT_AFTER && !state.holds(member.idx) && !is_voter;
                gone.then_some(MemberState::Left)
            }
        },
        MemberState::Active | MemberState::Left => None,
    };
    let op = |member: &Member| Some(EpochOp::SetState(member.node_id, due(member)?));
    let mut ops: Vec<EpochOp> = state.members.iter().filter_map(op).collect();
    let lost = state.active().find(|member| is_lost(state, member, facts));
    ops.extend(lost.map(|member| EpochOp::SetState(member.node_id, MemberState::Out)));
    let convicted = state.active().filter(|member| facts.is_convicted(&member.node_id));
    let drained = convicted.into_iter().find(|member| may_drain(state, member, facts));
    ops.extend(drained.map(|member| EpochOp::SetState(member.node_id, MemberState::Draining)));
    ops
}

/// Whether a member that is proved not to hold what it claims is drained without being asked:
/// others that are trusted and well can hold all copies, have room for its share, and no other
/// share is on its way.
fn may_drain(state: &EpochState, member: &Member, facts: &impl Facts) -> bool {
    let is_well = |other: &Member| {
        facts.down_for(&other.node_id).is_none() && !facts.is_convicted(&other.node_id)
    };
    let others = || state.active().filter(|other| other.idx != member.idx && other.capacity > 0);
    let heirs = || others().filter(|other| is_well(other));
    let free = |other: &Member| other.capacity.saturating_sub(facts.used(&other.node_id));
    let share = facts.used(&member.node_id).min(member.capacity);
    let leaves = |other: &Member| {
        let is_leaving = matches!(other.state, MemberState::Draining | MemberState::Out);
        is_leaving && state.holds(other.idx)
    };
    member.role == Role::Storage
        && facts.down_for(&member.node_id).is_none()
        && heirs().count() >= usize::from(state.target_copies)
        && heirs().map(free).fold(0, u64::saturating_add) >= share
        && !state.members.iter().any(leaves)
}

/// Whether nothing is lost with a member: nobody reads from it, and it keeps no write for others.
fn has_emptied(state: &EpochState, member: &Member, facts: &impl Facts) -> bool {
    !state.is_named(member.idx)
        && !state.voters.contains(&member.node_id)
        && facts.keeps_nothing(&member.node_id)
}

/// Whether a member has been away for so long that its share is given to others, and that is safe.
fn is_lost(state: &EpochState, member: &Member, facts: &impl Facts) -> bool {
    let Some(down) = facts.down_for(&member.node_id) else { return false };
    let after = facts.out_after();
    let is_due =
        down >= after || (down >= after / URGENT_PART && leaves_one_copy(state, member, facts));
    is_due && rails(state, member, facts)
}

/// Whether, with this member away, some partition has one replica in reach.
fn leaves_one_copy(state: &EpochState, member: &Member, facts: &impl Facts) -> bool {
    let is_up = |idx: &u16| state.node(*idx).is_some_and(|node| facts.down_for(&node).is_none());
    state.rows.iter().any(|row| {
        row.current.contains(&member.idx)
            && row.current.iter().filter(|idx| is_up(idx)).count() == 1
    })
}

/// Whether the loss of a member looks like that of one machine.
fn rails(state: &EpochState, member: &Member, facts: &impl Facts) -> bool {
    let is_up = |other: &Member| facts.down_for(&other.node_id).is_none();
    let up = || state.active().filter(|other| is_up(other));
    // Its copies must have somewhere to go.
    let holders = up().filter(|other| other.capacity > 0).count();
    if holders < usize::from(state.target_copies) {
        return false;
    }
    // Members that were taken out and still hold something: the cluster is at work on them.
    let out = || {
        let is_out = |other: &&Member| other.state == MemberState::Out && state.holds(other.idx);
        state.members.iter().filter(is_out)
    };
    let concerned = state.active().count() + out().count();
    if out().count() + 1 > (concerned / OUT_PART).max(1) {
        return false;
    }
    let mut zones: BTreeSet<&str> = out().map(|other| other.zone.as_str()).collect();
    zones.insert(&member.zone);
    if zones.len() > 1 {
        return false;
    }
    // A zone that is mostly gone is without power or network, and comes back.
    let of_zone = || state.active().filter(|other| other.zone == member.zone);
    let (all, down) = (of_zone().count(), of_zone().filter(|other| !is_up(other)).count());
    if all > 1 && down * 2 > all {
        return false;
    }
    up().count() * UP_PARTS.1 >= concerned * UP_PARTS.0
}

/// Former holders that have nothing left of a partition, or will never come back.
pub fn cleaned(state: &EpochState, facts: &impl Facts) -> Vec<EpochOp> {
    let mut ops = Vec::new();
    for (partition, row) in (0..=Partition::MAX).zip(&state.rows) {
        if row.stage != Stage::Stable {
            continue;
        }
        for holder in &row.former {
            let Some(member) = state.members.get(usize::from(*holder)) else { continue };
            let is_clean = member.state == MemberState::Left
                || facts.clean(&member.node_id, partition, row.changed);
            if is_clean {
                ops.push(EpochOp::FormerClean { partition, holder: *holder });
            }
        }
    }
    ops
}

/// Where some partition has one replica left, its share is given away this much sooner.
const URGENT_PART: u32 = 12;
/// Of the members, this part may be taken out at once, and always one.
const OUT_PART: usize = 10;
/// Three quarters of the members must be there: otherwise it is this side that is cut off.
const UP_PARTS: (usize, usize) = (3, 4);
/// A member that was taken out and does not come back for this long is gone.
pub const LEFT_AFTER: Duration = Duration::from_secs(30 * 24 * 60 * 60);
