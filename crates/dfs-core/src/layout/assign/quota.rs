//! How many copies each member should hold: in proportion to capacity, as far as zones allow.

use std::collections::BTreeMap;

use super::{Candidate, Node, Standing};

/// One copy, in the units of a quota: small enough that rounding stays far below a copy.
pub(super) const COPY: u64 = 1 << 20;

/// The members that can hold partitions: those that stay and offer room, or, when none offers any,
/// all that stay.
pub(super) fn holders<'a, 'b>(members: &'a [Candidate<'b>]) -> Vec<&'a Candidate<'b>> {
    let staying = || members.iter().filter(|member| member.standing != Standing::Leaves);
    let with_room: Vec<_> = staying().filter(|member| member.capacity > 0).collect();
    if with_room.is_empty() { staying().collect() } else { with_room }
}

/// The holders with their quotas of `copies` copies of each of `partitions`.
pub(super) fn nodes(members: &[Candidate<'_>], partitions: usize, copies: usize) -> Vec<Node> {
    let holders = holders(members);
    let mut numbers: BTreeMap<&str, usize> = BTreeMap::new();
    holders.iter().for_each(|member| {
        let number = numbers.len();
        numbers.entry(member.zone).or_insert(number);
    });
    let mut zones: Vec<Vec<usize>> = vec![Vec::new(); numbers.len()];
    for (at, member) in holders.iter().enumerate() {
        zones[numbers[member.zone]].push(at);
    }
    let weight = |at: usize| u128::from(holders[at].capacity.max(1));
    let once = partitions as u64 * COPY;
    let of_zones = zone_quotas(&zones, &weight, once, copies as u64);
    let mut quotas = vec![0; holders.len()];
    for (inside, total) in zones.iter().zip(of_zones) {
        let weights: Vec<u128> = inside.iter().map(|at| weight(*at)).collect();
        let parts = water_fill(&weights, total, &vec![once; inside.len()]);
        inside.iter().zip(parts).for_each(|(at, part)| quotas[*at] = part);
    }
    let node = |(member, quota): (&&Candidate<'_>, u64)| Node {
        idx: member.idx,
        zone: numbers[member.zone],
        receives: member.standing == Standing::Receives,
        is_anchor: member.is_anchor,
        quota,
        count: 0,
    };
    holders.iter().zip(quotas).map(node).collect()
}

/// What each zone should hold. `once` is one copy of every partition.
fn zone_quotas(
    zones: &[Vec<usize>],
    weight: &impl Fn(usize) -> u128,
    once: u64,
    copies: u64,
) -> Vec<u64> {
    let weights: Vec<u128> =
        zones.iter().map(|inside| inside.iter().map(|at| weight(*at)).sum()).collect();
    let count = zones.len().max(1) as u64;
    let limits = |per_row: u64| -> Vec<u64> {
        zones.iter().map(|inside| once * per_row.min(inside.len() as u64)).collect()
    };
    let even = limits(copies.div_ceil(count));
    // Where small zones cannot take an even part, the others take what the zone rule still allows.
    let is_enough = even.iter().sum::<u64>() >= once * copies;
    let limits = if is_enough { even } else { limits((copies + 1).saturating_sub(count)) };
    water_fill(&weights, once * copies, &limits)
}

/// Divides `total` in proportion to weights (all above zero), none above its limit: what one
/// cannot take goes to the others. `O(n²)` at worst, when each round finds one more at its limit.
fn water_fill(weights: &[u128], total: u64, limits: &[u64]) -> Vec<u64> {
    let mut parts = vec![0; weights.len()];
    let mut open: Vec<usize> = (0..weights.len()).collect();
    let mut left = total;
    while !open.is_empty() {
        let sum: u128 = open.iter().map(|at| weights[*at]).sum();
        let fair = |at: usize| proportion(left, weights[at], sum);
        let (full, rest): (Vec<_>, Vec<_>) = open.iter().partition(|at| fair(**at) > limits[**at]);
        if full.is_empty() {
            rest.iter().for_each(|at| parts[*at] = fair(*at));
            break;
        }
        for at in full {
            parts[at] = limits[at];
            left = left.saturating_sub(limits[at]);
        }
        open = rest;
    }
    parts
}

/// `total · weight / sum`, rounded down. A sum of 64-bit capacities can exceed 64 bits, so both
/// are scaled down until the product fits; what is lost is far below one copy.
fn proportion(total: u64, weight: u128, sum: u128) -> u64 {
    let excess = (u128::BITS - sum.leading_zeros()).saturating_sub(u64::BITS);
    let (weight, sum) = (weight >> excess, (sum >> excess).max(1));
    u64::try_from(u128::from(total) * weight / sum).unwrap_or(total)
}
