//! What to propose next, from the decided layout and what nodes report.
//!
//! Admit who asks, name the voters, take out who is dead for long, bring every partition to the
//! members that should hold it, finish or give up moves.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::id::{NodeId, Partition};
use crate::layout::assign::{self, Candidate, Held, Limits, Move, Standing, next_moves};
use crate::layout::departure::{cleaned, departures};
use crate::layout::epoch::{
    Burnt, EpochOp, EpochState, Grant, MEMBERS_MAX, Member, MemberIdx, MemberState, NO_CAP, Role,
    Row, Stage,
};
use crate::layout::facts::Facts;
use crate::layout::voters::better_voters;

/// A node that asks to become a member.
#[derive(Debug, Clone)]
pub struct Joiner {
    /// The node.
    pub node_id: NodeId,
    /// Its failure domain.
    pub zone: String,
    /// Bytes it offers.
    pub capacity: u64,
    /// Whether it has proved that it has an admin's key.
    pub is_gateway: bool,
    /// The invite it has proved, and when that was, in milliseconds since 1970.
    pub invited: Option<(Grant, u64)>,
}

/// The changes to propose now; none when the layout is as it should be, or waits for facts.
///
/// `waited` is how long the newest epoch has been decided. `O(partitions)`.
pub fn plan(
    state: &EpochState,
    joiners: &[Joiner],
    waited: Duration,
    facts: &impl Facts,
) -> Vec<EpochOp> {
    let mut ops = admit(state, joiners);
    ops.extend(state.present().filter_map(|member| promote(member, facts)));
    ops.extend(state.active().filter_map(|member| update(state, member, waited, facts)));
    ops.extend(departures(state, facts));
    if ops.is_empty()
        && let Some(voters) = better_voters(state, facts)
    {
        // Alone: whoever lags far behind gets the certificates of all such epochs.
        return vec![EpochOp::SetVoters(voters)];
    }
    let moving = state.rows.iter().any(|row| row.stage != Stage::Stable);
    if !moving {
        // What begins to move depends on who is a member, and in what standing.
        if ops.is_empty() {
            ops = begin_moves(state, facts);
        }
        if ops.is_empty() {
            ops = cleaned(state, facts);
        }
        return ops;
    }
    for (partition, row) in (0..=Partition::MAX).zip(&state.rows) {
        ops.extend(match row.stage {
            Stage::Stable => None,
            Stage::Prepare => after_prepare(state, partition, row, waited, facts),
            Stage::Switch => after_switch(state, partition, row, facts),
        });
    }
    ops
}

/// Takes over what a reachable member says of itself: the zone of a gateway at once, other zones
/// when nothing else has changed for a while, what it offers when that differs by much besides, for
/// it may move data.
fn update(
    state: &EpochState,
    member: &Member,
    waited: Duration,
    facts: &impl Facts,
) -> Option<EpochOp> {
    let node = member.node_id;
    let (zone, offered) = facts.offer(&node).filter(|_| facts.down_for(&node).is_none())?;
    let offered = offered.min(member.cap);
    let differs = offered.abs_diff(member.capacity) > member.capacity / CAPACITY_PART;
    let follows = differs && waited >= CAPACITY_AFTER;
    let capacity = if follows { offered } else { member.capacity };
    // One that changes it all the time would leave no epoch for anything else.
    let rests = state.is_gateway(&node) || waited >= CAPACITY_AFTER;
    let zone = if rests { zone } else { member.zone.clone() };
    let op = || EpochOp::UpdateMember { node, zone: zone.clone(), capacity };
    (zone != member.zone || follows).then(op)
}

/// A member that has proved to have an admin's key since it joined becomes a gateway.
fn promote(member: &Member, facts: &impl Facts) -> Option<EpochOp> {
    let proves = member.role != Role::Gateway && facts.proves_admin(&member.node_id);
    let (node, role, cap) = (member.node_id, Role::Gateway, NO_CAP);
    proves.then_some(EpochOp::SetRole { node, role, cap })
}

/// Lets in who has an admin's key or an invite; others wait for an admin to vouch for them. What an
/// invite grants goes to one machine, and the invite is burnt with it.
fn admit(state: &EpochState, joiners: &[Joiner]) -> Vec<EpochOp> {
    let (mut ops, mut used, mut at) = (Vec::new(), BTreeSet::new(), state.members.len());
    let unknown = joiners.iter().filter(|joiner| state.member(&joiner.node_id).is_none());
    for joiner in unknown {
        let invited = joiner.invited.filter(|(grant, now_ms)| {
            let has_room = used.len() < state.room_to_burn(*now_ms);
            has_room && !state.is_burnt(&grant.invite) && !used.contains(&grant.invite)
        });
        let granted = invited.filter(|(grant, _)| grant.role == Role::Storage);
        let (role, cap) = match (joiner.is_gateway, granted) {
            (true, _) => (Role::Gateway, NO_CAP),
            (false, Some((grant, _))) => (Role::Storage, grant.cap),
            (false, None) => continue,
        };
        let Some(idx) = MemberIdx::try_from(at).ok().filter(|_| at < MEMBERS_MAX) else { break };
        at += 1;
        let (node, zone, capacity) = (joiner.node_id, joiner.zone.clone(), joiner.capacity);
        ops.extend(EpochOp::add(node, idx, zone, capacity, role, cap));
        if let Some((Grant { invite, expires_ms, .. }, now_ms)) = invited {
            used.insert(invite);
            ops.push(EpochOp::BurnInvite { burnt: Burnt { invite, expires_ms }, now_ms });
        }
    }
    ops
}

/// Moves to begin: towards the table that should be, so much at once that no receiver is swamped.
fn begin_moves(state: &EpochState, facts: &impl Facts) -> Vec<EpochOp> {
    let anchors = gateways_have_room(state, facts);
    let members: Vec<Candidate<'_>> =
        state.members.iter().map(|member| candidate(state, member, anchors, facts)).collect();
    let rows: Vec<Held<'_>> = state.rows.iter().map(held).collect();
    let planned = assign::plan(&rows, &members, usize::from(state.target_copies));
    let limit = rows_at_once(state, facts);
    let limits = Limits { rows: usize::MAX, balance_rows: usize::MAX, rows_per_receiver: limit };
    next_moves(&rows, &planned, &members, &limits)
        .into_iter()
        .map(|Move { partition, next }| EpochOp::Prepare { partition, next })
        .collect()
}

fn held(row: &Row) -> Held<'_> {
    Held { replicas: &row.current, is_moving: row.stage != Stage::Stable }
}

/// Whether the gateways can hold one copy of everything and more: then every partition has one on a
/// machine that its owner trusts, so that no two others can agree on a lie or lose it together.
///
/// Where most have one it takes more to give that up than it took to begin.
fn gateways_have_room(state: &EpochState, facts: &impl Facts) -> bool {
    let once = mean_row_bytes(state, facts).saturating_mul(state.rows.len() as u64);
    let offered = state.electable().map(|member| member.capacity).fold(0, u64::saturating_add);
    let is_gateway = |idx: &MemberIdx| state.node(*idx).is_some_and(|node| state.is_gateway(&node));
    let anchored = state.rows.iter().filter(|row| row.current.iter().any(is_gateway)).count();
    let tenths = if anchored * 2 > state.rows.len() { KEPT_TENTHS } else { TAKEN_TENTHS };
    once <= offered / 10 * tenths
}

/// What one copy of a partition weighs on average, as gateways say: what others claim must move
/// nothing.
fn mean_row_bytes(state: &EpochState, facts: &impl Facts) -> u64 {
    let used = |member: &Member| facts.used(&member.node_id).min(member.capacity);
    let bytes = state.electable().map(used).fold(0, u64::saturating_add);
    let held = |idx: &MemberIdx| state.electable().any(|member| member.idx == *idx);
    let copies = state.rows.iter().flat_map(|row| &row.current).filter(|idx| held(idx)).count();
    bytes / u64::try_from(copies.max(1)).unwrap_or(u64::MAX)
}

fn candidate<'a>(
    state: &EpochState,
    member: &'a Member,
    anchors: bool,
    facts: &impl Facts,
) -> Candidate<'a> {
    let standing = match member.state {
        _ if !state.is_vouched(member) => Standing::Leaves,
        MemberState::Active if facts.down_for(&member.node_id).is_none() => Standing::Receives,
        MemberState::Active => Standing::Keeps,
        MemberState::Draining | MemberState::Out | MemberState::Left => Standing::Leaves,
    };
    let is_anchor = anchors && member.role == Role::Gateway;
    let (idx, capacity) = (member.idx, member.capacity);
    Candidate { idx, zone: &member.zone, capacity, standing, is_anchor }
}

/// Partitions that one member may be receiving, by what they weigh on average. Empty ones weigh
/// nothing, so a new cluster takes its shape in one epoch.
fn rows_at_once(state: &EpochState, facts: &impl Facts) -> usize {
    let each = mean_row_bytes(state, facts);
    let rows = RECEIVING_BYTES / each.max(1);
    usize::try_from(rows).unwrap_or(usize::MAX).max(RECEIVING_ROWS)
}

fn after_prepare(
    state: &EpochState,
    partition: Partition,
    row: &Row,
    waited: Duration,
    facts: &impl Facts,
) -> Option<EpochOp> {
    let node = |idx: &MemberIdx| state.node(*idx);
    let mut arriving = row.next.iter().filter(|idx| !row.current.contains(idx)).filter_map(node);
    let dead = |node: NodeId| facts.down_for(&node).is_some_and(|down| down >= ABORT_AFTER);
    if arriving.any(dead) {
        return Some(EpochOp::Abort(partition));
    }
    let synced = |node: &NodeId| facts.synced(node, partition, row.prepare_epoch);
    let enough = row.may_switch(|idx| node(&idx).is_some_and(|node| synced(&node)));
    if !enough && waited >= LAGGARD_MAX {
        // Reachable, and yet it does not manage: a full or failing disk. Writes need it until then.
        return Some(EpochOp::Abort(partition));
    }
    let mut next = row.next.iter().filter_map(node);
    let all_live = next.all(|node| facts.down_for(&node).is_some() || synced(&node));
    (enough && (all_live || waited >= LAGGARD_MAX)).then_some(EpochOp::Switch(partition))
}

fn after_switch(
    state: &EpochState,
    partition: Partition,
    row: &Row,
    facts: &impl Facts,
) -> Option<EpochOp> {
    let is_fenced = |node: NodeId| facts.durable_epoch(&node) >= row.changed;
    let is_filled = |node: NodeId| facts.bodies(&node, partition, row.prepare_epoch);
    row.may_finish(
        |idx| state.node(idx).is_some_and(is_fenced),
        |idx| state.node(idx).is_some_and(is_filled),
    )
    .then_some(EpochOp::Done(partition))
}

/// Of what gateways offer, so many tenths may be filled by one copy of everything for one to be
/// given to them.
const TAKEN_TENTHS: u64 = 6;
/// The same for them to keep it.
const KEPT_TENTHS: u64 = 8;
/// What a member offers is taken over once it differs by more than this part.
const CAPACITY_PART: u64 = 8;
/// How long nothing else has changed before that: a disk that is full for a moment moves nothing.
const CAPACITY_AFTER: Duration = Duration::from_secs(600);
/// Bytes that one member is receiving at once: some minutes on a slow line.
const RECEIVING_BYTES: u64 = 2 << 30;
/// Partitions that one member may be receiving however much they weigh.
const RECEIVING_ROWS: usize = 2;
/// A newcomer that is gone this long before it holds anything is not waited for: until then
/// writes need it.
pub const ABORT_AFTER: Duration = Duration::from_secs(10);
/// A reachable node that has not pulled its rows by then does not hold up the others.
pub const LAGGARD_MAX: Duration = Duration::from_secs(600);
