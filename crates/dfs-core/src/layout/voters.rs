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
        active
            && match facts.down_for(voter) {
                Some(down) => down < REPLACE_AFTER,
                // It runs without the key of its vault, and can propose nothing.
                None => facts.proves_admin(voter),
            }
    };
    let mut voters: Vec<NodeId> = state.voters.iter().filter(kept).copied().collect();
    if voters.len() > wanted {
        // Fewer gateways than voters: whoever is away goes first, then whoever was added last.
        voters.sort_by_key(|voter| facts.down_for(voter).is_some());
        voters.truncate(wanted);
    }
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
        let node = &member.node_id;
        !voters.contains(node) && facts.down_for(node).is_none() && facts.proves_admin(node)
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

/// The voters of a layout without one that leaves for good: an odd number, of gateways in reach or
/// not. `None` when it is no voter. Without this it stays named, and who counts the voters later
/// may count it.
pub fn voters_without(state: &EpochState, node: &NodeId) -> Option<Vec<NodeId>> {
    let mut voters: Vec<NodeId> = state.voters.iter().filter(|v| *v != node).copied().collect();
    if voters.len() == state.voters.len() {
        return None;
    }
    if voters.len().is_multiple_of(2) {
        let mut others = state.electable().map(|member| member.node_id);
        match others.find(|other| other != node && !voters.contains(other)) {
            Some(other) => voters.push(other),
            None => drop(voters.pop()),
        }
    }
    Some(voters)
}

/// How long `node` lets the others propose first: none for the lowest id among the live voters,
/// [`TURN`] more for each live voter before it. `None` for a node that is no voter.
///
/// Two that propose at once harm nobody; that none does because all wait for one that reaches
/// nobody would.
pub fn turn(state: &EpochState, node: &NodeId, facts: &impl Facts) -> Option<Duration> {
    let proposes = |v: &&NodeId| facts.down_for(v).is_none() && facts.proves_admin(v);
    let before = state.voters.iter().filter(|v| *v < node).filter(proposes).count();
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
