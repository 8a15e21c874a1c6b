//! Placement: even shares, every zone, and little movement, for clusters of many shapes.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::random::Random;
use crate::layout::assign::{
    Candidate, Held, Limits, Move, Planned, Reason, Standing, copies_possible, next_moves, plan,
};
use crate::layout::epoch::MemberIdx;

type Rows = Vec<Vec<MemberIdx>>;

#[derive(Debug, Clone, PartialEq)]
struct Node {
    idx: MemberIdx,
    zone: String,
    capacity: u64,
    standing: Standing,
    is_anchor: bool,
}

fn node(idx: usize, zone: usize, capacity: u64) -> Node {
    let idx = MemberIdx::try_from(idx).unwrap();
    Node { idx, zone: format!("z{zone}"), capacity, standing: Standing::Receives, is_anchor: false }
}

fn candidates(nodes: &[Node]) -> Vec<Candidate<'_>> {
    fn candidate(node: &Node) -> Candidate<'_> {
        let Node { idx, ref zone, capacity, standing, is_anchor } = *node;
        Candidate { idx, zone, capacity, standing, is_anchor }
    }
    nodes.iter().map(candidate).collect()
}

fn held(rows: &Rows) -> Vec<Held<'_>> {
    rows.iter().map(|row| Held { replicas: row, is_moving: false }).collect()
}

fn planned(rows: &Rows, nodes: &[Node]) -> Vec<Planned> {
    plan(&held(rows), &candidates(nodes), COPIES)
}

fn assign(rows: &Rows, nodes: &[Node]) -> Rows {
    planned(rows, nodes).into_iter().map(|row| row.replicas).collect()
}

fn empty(partitions: usize) -> Rows {
    vec![Vec::new(); partitions]
}

/// Copies that must be made to come from one table to the other.
fn moved(from: &Rows, to: &Rows) -> usize {
    let new =
        |(old, new): (&Vec<u16>, &Vec<u16>)| new.iter().filter(|idx| !old.contains(idx)).count();
    from.iter().zip(to).map(new).sum()
}

fn count(rows: &Rows, idx: MemberIdx) -> usize {
    rows.iter().filter(|row| row.contains(&idx)).count()
}

/// Shares as the rule states them, in floating point and independent of the code under test.
fn quotas(nodes: &[Node], partitions: usize) -> BTreeMap<MemberIdx, f64> {
    let all = partitions as f64;
    let copies = COPIES.min(nodes.len()) as f64;
    let mut zones: BTreeMap<&str, (f64, f64)> = BTreeMap::new();
    for node in nodes {
        let (weight, members) = zones.entry(&node.zone).or_default();
        *weight += node.capacity as f64;
        *members += 1.0;
    }
    let per_row = (copies / zones.len() as f64).ceil();
    let of_zones = fill(
        zones.iter().map(|(zone, (weight, n))| (*zone, *weight, all * per_row.min(*n))).collect(),
        copies * all,
    );
    let mut quotas = BTreeMap::new();
    for (zone, total) in of_zones {
        let inside = nodes.iter().filter(|node| node.zone == zone);
        quotas.extend(fill(inside.map(|n| (n.idx, n.capacity as f64, all)).collect(), total));
    }
    quotas
}

fn fill<K: Ord + Copy>(mut open: Vec<(K, f64, f64)>, mut left: f64) -> BTreeMap<K, f64> {
    let mut parts = BTreeMap::new();
    loop {
        let sum: f64 = open.iter().map(|(_, weight, _)| weight).sum();
        let fair = |weight: f64| left * weight / sum;
        let (full, rest): (Vec<_>, Vec<_>) =
            open.iter().copied().partition(|(_, weight, limit)| fair(*weight) > limit + 1e-9);
        if full.is_empty() {
            parts.extend(rest.iter().map(|(key, weight, _)| (*key, fair(*weight))));
            return parts;
        }
        for (key, _, limit) in full {
            parts.insert(key, limit);
            left -= limit;
        }
        open = rest;
    }
}

/// The least and the greatest load, each against its member's share; a whole number of copies
/// next to the share is exact.
fn loads(rows: &Rows, nodes: &[Node]) -> (f64, f64) {
    let quotas = quotas(nodes, rows.len());
    let load = |node: &Node| {
        let (count, quota) = (count(rows, node.idx) as f64, quotas[&node.idx]);
        if (count - quota).abs() < 1.0 { 1.0 } else { count / quota }
    };
    let loads: Vec<f64> = nodes.iter().map(load).collect();
    (loads.iter().copied().fold(f64::MAX, f64::min), loads.iter().copied().fold(0.0, f64::max))
}

fn zones_missing(rows: &Rows, nodes: &[Node]) -> usize {
    let all: BTreeSet<&str> = nodes.iter().map(|node| node.zone.as_str()).collect();
    let zone = |idx: &MemberIdx| &nodes.iter().find(|node| node.idx == *idx).unwrap().zone;
    let has = |row: &Vec<_>| row.iter().map(zone).collect::<BTreeSet<_>>().len();
    rows.iter().filter(|row| has(row) < all.len().min(COPIES).min(row.len())).count()
}

/// A cluster of `n`, one that gains a member and one that loses one.
#[track_caller]
fn check(n: usize, shape: fn(usize) -> Node) {
    let nodes: Vec<Node> = (0..n).map(shape).collect();
    let rows = assign(&empty(PARTITIONS), &nodes);
    check_table(&rows, &nodes);

    let more: Vec<Node> = (0..=n).map(shape).collect();
    let grown = assign(&rows, &more);
    check_table(&grown, &more);
    let share = quotas(&more, PARTITIONS)[&more[n].idx];
    let moves = moved(&rows, &grown);
    assert!(moves as f64 <= share * 1.1, "{moves} copies moved for a share of {share:.0}");

    if n > COPIES {
        let fewer: Vec<Node> = nodes.iter().filter(|node| node.idx != 1).cloned().collect();
        let shrunk = assign(&rows, &fewer);
        check_table(&shrunk, &fewer);
        let lost = count(&rows, 1);
        assert!(moved(&rows, &shrunk) <= lost * 3 / 2, "{n} nodes");
        let repairs =
            planned(&rows, &fewer).into_iter().zip(&rows).map(|(to, from)| match to.reason {
                Reason::Repair => to.replicas,
                Reason::Balance | Reason::Unchanged => from.clone(),
            });
        assert_eq!(moved(&rows, &repairs.collect()), lost, "only what was lost is repaired");
    }
}

#[track_caller]
fn check_table(rows: &Rows, nodes: &[Node]) {
    for row in rows {
        let distinct: BTreeSet<_> = row.iter().collect();
        assert_eq!((row.len(), distinct.len()), (COPIES.min(nodes.len()), row.len()));
    }
    assert_eq!(zones_missing(rows, nodes), 0, "{} nodes", nodes.len());
    let (least, most) = loads(rows, nodes);
    assert!(least >= 0.95 && most <= 1.09, "{} nodes: {least:.3}-{most:.3}", nodes.len());
}

fn sizes() -> impl Iterator<Item = usize> {
    (3..=30).chain([100])
}

fn mixed(at: usize) -> u64 {
    [1, 2, 4, 8][at % 4] << 40
}

#[test]
fn equal_nodes_in_one_zone_share_evenly() {
    sizes().for_each(|n| check(n, |at| node(at, 0, 4)));
}

#[test]
fn equal_nodes_in_three_zones_share_evenly() {
    sizes().for_each(|n| check(n, |at| node(at, at % 3, 4)));
}

#[test]
fn equal_nodes_each_in_its_zone_share_evenly() {
    sizes().for_each(|n| check(n, |at| node(at, at, 4)));
}

#[test]
fn unequal_nodes_in_one_zone_share_by_capacity() {
    sizes().for_each(|n| check(n, |at| node(at, 0, mixed(at))));
}

#[test]
fn unequal_nodes_in_three_zones_share_by_capacity() {
    sizes().for_each(|n| check(n, |at| node(at, at % 3, mixed(at))));
}

#[test]
fn unequal_nodes_each_in_its_zone_share_by_capacity() {
    sizes().for_each(|n| check(n, |at| node(at, at, mixed(at))));
}

/// Weighted rendezvous hashing over whoever is there: Thaler and Ravishankar (1998), with the
/// logarithmic weights of Schindelhauer and Schomaker (2005).
fn rendezvous(nodes: &[Node]) -> Rows {
    let score = |partition: usize, node: &Node| {
        let mut random = Random::new((partition as u64) << 16 | u64::from(node.idx));
        let uniform = (random.below(1 << 52) + 1) as f64 / (1u64 << 52) as f64;
        -(node.capacity as f64) / uniform.ln()
    };
    let row = |partition: usize| {
        let mut order: Vec<&Node> = nodes.iter().collect();
        order.sort_by(|a, b| score(partition, b).total_cmp(&score(partition, a)));
        order.iter().take(COPIES).map(|node| node.idx).collect()
    };
    (0..PARTITIONS).map(row).collect()
}

#[test]
fn rendezvous_hashing_would_share_worse() {
    let nodes: Vec<Node> = (0..30).map(|at| node(at, 0, mixed(at))).collect();
    let (least, most) = loads(&rendezvous(&nodes), &nodes);
    assert!(least < 0.85 && most > 1.15, "{least:.2}-{most:.2}");
}

#[test]
fn without_swaps_a_newcomer_would_stay_empty() {
    let nodes: Vec<Node> = (0..5).map(|at| node(at, 0, 4)).collect();
    let rows = assign(&empty(PARTITIONS), &nodes[..4]);
    let reasons: Vec<Reason> = planned(&rows, &nodes).iter().map(|row| row.reason).collect();
    let balanced = reasons.iter().filter(|reason| **reason == Reason::Balance).count();
    assert_eq!(balanced, moved(&rows, &assign(&rows, &nodes)));
    assert!(balanced > 500 && !reasons.contains(&Reason::Repair));
}

#[test]
fn one_two_and_three_nodes_hold_everything_they_can() {
    let nodes: Vec<Node> = (0..3).map(|at| node(at, 0, 4)).collect();
    let mut rows = empty(16);
    for n in 1..=3 {
        rows = assign(&rows, &nodes[..n]);
        assert!(rows.iter().all(|row| row.len() == n), "{rows:?}");
    }
    let at_once = planned(&vec![vec![0]; 16], &nodes);
    assert!(at_once.iter().all(|row| row.replicas.len() == 3 && row.replicas[0] == 0));
    assert!(assign(&rows, &[]) == rows, "nobody to take over");
}

#[test]
fn a_member_without_room_holds_nothing_unless_all_are_so() {
    let mut nodes: Vec<Node> = (0..4).map(|at| node(at, 0, 0)).collect();
    let rows = assign(&empty(64), &nodes);
    check_small(&rows, 3);
    nodes[0].capacity = 1;
    nodes[1].capacity = u64::MAX;
    assert_eq!(copies_possible(&candidates(&nodes), COPIES), 2);
    let rows = assign(&rows, &nodes);
    assert!(rows.iter().all(|row| row.iter().all(|idx| *idx < 2)));
}

#[track_caller]
fn check_small(rows: &Rows, copies: usize) {
    assert!(rows.iter().all(|row| row.len() == copies), "{rows:?}");
}

#[test]
fn the_largest_capacities_do_not_overflow() {
    let nodes: Vec<Node> = (0..9).map(|at| node(at, at % 3, u64::MAX)).collect();
    check_table(&assign(&empty(PARTITIONS), &nodes), &nodes);
}

#[test]
fn a_member_out_of_reach_keeps_what_it_has_and_gets_nothing() {
    let mut nodes: Vec<Node> = (0..6).map(|at| node(at, 0, 4)).collect();
    let rows = assign(&empty(PARTITIONS), &nodes[..5]);
    nodes[1].standing = Standing::Keeps;
    nodes[5].standing = Standing::Keeps;
    assert_eq!(assign(&rows, &nodes), rows);
    nodes[2].standing = Standing::Leaves;
    let repaired = assign(&rows, &nodes);
    assert_eq!(count(&repaired, 1), count(&rows, 1));
    assert_eq!((count(&repaired, 2), count(&repaired, 5)), (0, 0));
    check_small(&repaired, 3);
    assert_eq!(moved(&rows, &repaired), count(&rows, 2));
}

#[test]
fn a_row_is_not_shortened_for_want_of_a_receiver() {
    let mut nodes: Vec<Node> = (0..4).map(|at| node(at, 0, 4)).collect();
    nodes[2].standing = Standing::Leaves;
    nodes[3].standing = Standing::Keeps;
    assert_eq!(assign(&vec![vec![0, 1, 2]], &nodes), [[0, 1, 2]]);
    nodes[3].standing = Standing::Receives;
    assert_eq!(assign(&vec![vec![0, 1, 2]], &nodes), [[0, 1, 3]]);
    nodes[3].standing = Standing::Leaves;
    assert_eq!(assign(&vec![vec![0, 1, 2]], &nodes), [[0, 1]], "two members, two copies");
}

#[test]
fn a_new_zone_takes_one_copy_of_every_row_and_moves_no_other() {
    let mut nodes: Vec<Node> = (0..4).map(|at| node(at, 0, 4)).collect();
    let rows = assign(&empty(PARTITIONS), &nodes);
    nodes.push(node(4, 1, 4));
    let spread = assign(&rows, &nodes);
    assert_eq!((zones_missing(&spread, &nodes), moved(&rows, &spread)), (0, PARTITIONS));
    nodes[4].standing = Standing::Keeps;
    assert_eq!(assign(&rows, &nodes), rows, "a zone out of reach shortens no row");
}

#[test]
fn a_moving_row_is_left_alone() {
    let nodes: Vec<Node> = (0..4).map(|at| node(at, 0, 4)).collect();
    let rows: Rows = vec![vec![0], vec![1]];
    let held = [
        Held { replicas: &rows[0], is_moving: true },
        Held { replicas: &rows[1], is_moving: false },
    ];
    let planned = plan(&held, &candidates(&nodes), COPIES);
    assert_eq!(planned[0], Planned { replicas: vec![0], reason: Reason::Unchanged });
    assert_eq!((planned[1].replicas.len(), planned[1].reason), (3, Reason::Repair));
}

#[test]
fn repairs_begin_before_balance_and_the_rarest_rows_first() {
    let mut nodes: Vec<Node> = (0..6).map(|at| node(at, 0, 4)).collect();
    nodes[1].standing = Standing::Keeps;
    nodes[2].standing = Standing::Leaves;
    let rows: Rows = vec![vec![0, 3, 4], vec![0, 2, 3], vec![0, 1, 2], vec![3, 4]];
    let to = |replicas: &[u16], reason| Planned { replicas: replicas.to_vec(), reason };
    let planned = [
        to(&[0, 3, 5], Reason::Balance),
        to(&[0, 3, 5], Reason::Repair),
        to(&[0, 1, 5], Reason::Repair),
        to(&[3, 4, 0], Reason::Repair),
    ];
    let order = |limits: Limits| -> Vec<u16> {
        let moves = next_moves(&held(&rows), &planned, &candidates(&nodes), &limits);
        moves.iter().map(|Move { partition, .. }| *partition).collect()
    };
    let all = Limits { rows: 9, balance_rows: 9, rows_per_receiver: 9 };
    assert_eq!(order(all), [2, 1, 3, 0]);
    assert_eq!(order(Limits { rows: 2, ..all }), [2, 1]);
    assert_eq!(order(Limits { balance_rows: 0, ..all }), [2, 1, 3]);
    assert_eq!(order(Limits { rows_per_receiver: 1, ..all }), [2, 3]);
}

fn any_node() -> impl Strategy<Value = (usize, u64, Standing)> {
    let capacity = prop_oneof![Just(0), 1u64..20, Just(u64::MAX), any::<u64>()];
    let standing = prop_oneof![
        6 => Just(Standing::Receives), 1 => Just(Standing::Keeps), 1 => Just(Standing::Leaves),
    ];
    (0usize..4, capacity, standing)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Whatever there is and comes: the same plan each time, rows of different members that stay,
    /// never shorter than before, nothing new for who is out of reach, and then it is at rest.
    #[test]
    fn any_cluster_gets_a_sound_table(
        first in proptest::collection::vec(any_node(), 1..8),
        second in proptest::collection::vec(any_node(), 1..8),
        copies in 1usize..6,
    ) {
        let build = |specs: &[(usize, u64, Standing)]| -> Vec<Node> {
            let of = |(at, (zone, capacity, standing)): (usize, &(usize, u64, Standing))| {
                Node { standing: *standing, ..node(at, *zone, *capacity) }
            };
            specs.iter().enumerate().map(of).collect()
        };
        let mut rows = empty(24);
        for nodes in [build(&first), build(&second)] {
            let members = candidates(&nodes);
            let possible = copies_possible(&members, copies);
            for _ in 0..3 {
                let planned = plan(&held(&rows), &members, copies);
                prop_assert_eq!(&planned, &plan(&held(&rows), &members, copies));
                for (old, new) in rows.iter().zip(&planned) {
                    let new = &new.replicas;
                    prop_assert!(new.len() >= old.len().min(possible), "{:?} {:?}", old, new);
                    prop_assert!(new == old || new.len() <= possible);
                    for idx in new.iter().filter(|idx| !old.contains(idx)) {
                        let standing = nodes[usize::from(*idx)].standing;
                        prop_assert_eq!(standing, Standing::Receives);
                    }
                    let distinct: BTreeSet<_> = new.iter().collect();
                    prop_assert_eq!(distinct.len(), new.len());
                }
                rows = planned.into_iter().map(|row| row.replicas).collect();
            }
            let again: Rows =
                plan(&held(&rows), &members, copies).into_iter().map(|row| row.replicas).collect();
            prop_assert_eq!(again, rows.clone(), "it does not come to rest");
        }
    }
}

const COPIES: usize = 3;
const PARTITIONS: usize = 1024;

/// Rows without an anchor.
fn loose(rows: &Rows, nodes: &[Node]) -> usize {
    let is_anchor = |idx: &MemberIdx| nodes.iter().any(|node| node.idx == *idx && node.is_anchor);
    rows.iter().filter(|row| !row.iter().any(is_anchor)).count()
}

#[test]
fn one_copy_of_everything_is_on_an_anchor_whatever_the_others_offer() {
    for (anchors, others, zones) in
        [(1, 2, 1), (1, 5, 1), (2, 6, 3), (1, 9, 3), (3, 3, 2), (2, 4, 9)]
    {
        let shape = |at: usize| {
            let is_anchor = at < anchors;
            let capacity = if is_anchor { 100 } else { 10_000 };
            Node { is_anchor, ..node(at, at % zones, capacity) }
        };
        let nodes: Vec<Node> = (0..anchors + others).map(shape).collect();
        let rows = assign(&empty(PARTITIONS), &nodes);
        let what = format!("{anchors} anchors, {others} others, {zones} zones");
        assert_eq!((loose(&rows, &nodes), zones_missing(&rows, &nodes)), (0, 0), "{what}");
        assert!(rows.iter().all(|row| row.len() == COPIES), "{what}");
        assert_eq!(assign(&rows, &nodes), rows, "{what}: at rest");
        // A table of before comes to it, and keeps every zone in the end.
        let unaware: Vec<Node> =
            nodes.iter().map(|node| Node { is_anchor: false, ..node.clone() }).collect();
        let mut rows = assign(&empty(PARTITIONS), &unaware);
        for _ in 0..4 {
            rows = assign(&rows, &nodes);
        }
        assert_eq!((loose(&rows, &nodes), zones_missing(&rows, &nodes)), (0, 0), "{what}: later");
        assert_eq!(assign(&rows, &nodes), rows, "{what}: later at rest");
        // An anchor that goes takes nothing with it that another could not hold.
        if anchors > 1 {
            let left = &nodes[1..];
            let mut rows = assign(&rows, left);
            rows = assign(&rows, left);
            assert_eq!(loose(&rows, left), 0, "{what}: one left");
        }
    }
}
