//! Who decides: how many voters a cluster should have, which, and whose turn it is to propose.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::id::NodeId;
use crate::layout::epoch::{EpochState, Member};
use crate::layout::facts::Facts;

/// The voters a layout should have, when they are not the ones it has.
///
/// Gateways, as many as the cluster can use, an odd number; those it has are kept, but for those
/// that are no longer active or dead for [`REPLACE_AFTER`]. New ones must be reachable: first from
/// zones that have no voter yet, then the longest members. Without enough of these nothing changes.
/// `O(members * voters)`.
pub fn better_voters(state: &EpochState, facts: &impl Facts) -> Option<Vec<NodeId>> {
    let wanted = wanted(state.electable().count());
    let kept = |voter: &&NodeId| {
        let active = state.electable().any(|member| member.node_id == **voter);
        active && facts.down_for(voter).is_none_or(|down| down < REPLACE_AFTER)
    };
    let mut voters: Vec<NodeId> = state.voters.iter().filter(kept).copied().collect();
    // Fewer active members than voters: whoever was added last goes first.
    voters.truncate(wanted);
    while voters.len() < wanted {
        voters.push(next_voter(state, &voters, facts)?);
    }
    spread(state, &mut voters, facts);
    (voters != state.voters).then_some(voters)
}

/// How many voters suit this many active members.
fn wanted(active: usize) -> usize {
    let most = if active >= MANY_MEMBERS { VOTERS_OF_MANY } else { VOTERS };
    let odd = if active.is_multiple_of(2) { active.saturating_sub(1) } else { active };
    odd.clamp(1, most)
}

/// A reachable member to add: from a zone without a voter if there is one.
fn next_voter(state: &EpochState, voters: &[NodeId], facts: &impl Facts) -> Option<NodeId> {
    let zones = zones_of(state, voters);
    let free = state.electable().filter(|member| {
        !voters.contains(&member.node_id) && facts.down_for(&member.node_id).is_none()
    });
    free.min_by_key(|member| (zones.contains(member.zone.as_str()), member.idx))
        .map(|member| member.node_id)
}

fn zones_of<'a>(state: &'a EpochState, voters: &[NodeId]) -> BTreeSet<&'a str> {
    let voters = voters.iter().filter_map(|voter| state.member(voter));
    voters.map(|member| member.zone.as_str()).collect()
}

/// Gives the place of one voter of a zone that has several to a zone that has none: a zone that
/// goes away must not take the majority with it.
fn spread(state: &EpochState, voters: &mut [NodeId], facts: &impl Facts) {
    let zones = zones_of(state, voters);
    let newcomer = next_voter(state, voters, facts).and_then(|node| state.member(&node));
    let Some(newcomer) = newcomer.filter(|member| !zones.contains(member.zone.as_str())) else {
        return;
    };
    let zone_of = |node: &NodeId| state.member(node).map(|member| member.zone.as_str());
    let crowd = |node: &NodeId| voters.iter().filter(|v| zone_of(v) == zone_of(node)).count();
    // The last of the most crowded zone.
    let leaving = (0..voters.len()).max_by_key(|at| (crowd(&voters[*at]), *at));
    if let Some(at) = leaving.filter(|at| crowd(&voters[*at]) > 1) {
        voters[at] = newcomer.node_id;
    }
}

/// How long `node` lets the others propose first: none for the lowest id among the live voters,
/// [`TURN`] more for each live voter before it. `None` for a node that is no voter.
///
/// Two that propose at once harm nobody; that none does because all wait for one that reaches
/// nobody would.
pub fn turn(state: &EpochState, node: &NodeId, facts: &impl Facts) -> Option<Duration> {
    let before = state.voters.iter().filter(|v| *v < node && facts.down_for(v).is_none()).count();
    let before = u32::try_from(before).unwrap_or(u32::MAX);
    state.voters.contains(node).then(|| TURN.saturating_mul(before))
}

/// The smallest capacity of a zone, and its name, where zones hold back what the others offer: with
/// as many zones as copies every zone must hold everything, so the smallest is the limit.
pub fn limiting_zone(state: &EpochState) -> Option<(String, u64)> {
    let zones: BTreeSet<&str> = state.active().map(|member| member.zone.as_str()).collect();
    if zones.len() < 2 || zones.len() > usize::from(state.target_copies) {
        return None;
    }
    let offered = |zone: &&str| {
        let of_zone = |member: &&Member| member.zone == **zone;
        state.active().filter(of_zone).fold(0u64, |sum, member| sum.saturating_add(member.capacity))
    };
    let smallest = zones.iter().min_by_key(|zone| offered(zone))?;
    let (least, most) = (offered(smallest), zones.iter().map(offered).max()?);
    (least < most).then(|| ((*smallest).to_owned(), least))
}

/// Voters of a cluster that has the members: any two may fail.
const VOTERS: usize = 5;
/// Voters of a large cluster: any three may fail.
const VOTERS_OF_MANY: usize = 7;
/// From so many members on a cluster is large.
const MANY_MEMBERS: usize = 50;
/// A voter that is dead this long is replaced; that moves no data.
pub const REPLACE_AFTER: Duration = Duration::from_secs(600);
/// How much longer each voter waits for those before it.
pub const TURN: Duration = Duration::from_secs(10);
