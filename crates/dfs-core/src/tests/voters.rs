//! Who decides, and whose turn it is.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::epoch::{genesis, member, node, role};
use crate::id::{NodeId, Partition};
use crate::layout::epoch::{EpochOp, EpochState, Member, MemberState, Role};
use crate::layout::facts::Facts;
use crate::layout::voters::{
    REPLACE_AFTER, TURN, better_voters, limiting_zone, turn, voters_without,
};

#[derive(Default)]
struct Down(BTreeMap<NodeId, Duration>, BTreeSet<NodeId>);

impl Facts for Down {
    fn down_for(&self, node: &NodeId) -> Option<Duration> {
        self.0.get(node).copied()
    }

    fn durable_epoch(&self, _: &NodeId) -> u64 {
        0
    }

    fn offer(&self, _: &NodeId) -> Option<(String, u64)> {
        None
    }

    fn proves_admin(&self, node: &NodeId) -> bool {
        !self.1.contains(node)
    }

    fn used(&self, _: &NodeId) -> u64 {
        0
    }

    fn synced(&self, _: &NodeId, _: Partition, _: u64) -> bool {
        false
    }

    fn out_after(&self) -> Duration {
        Duration::MAX
    }

    fn keeps_nothing(&self, _: &NodeId) -> bool {
        true
    }

    fn clean(&self, _: &NodeId, _: Partition, _: u64) -> bool {
        false
    }

    fn is_convicted(&self, _: &NodeId) -> bool {
        false
    }

    fn bodies(&self, _: &NodeId, _: Partition, _: u64) -> bool {
        false
    }
}

/// A cluster whose members are in these zones, still with its first voter.
fn cluster(zones: &[&str]) -> EpochState {
    let mut state = genesis().0;
    state.members[0].zone = zones[0].to_owned();
    for (of, zone) in (2..).zip(&zones[1..]) {
        let idx = u16::try_from(state.members.len()).unwrap();
        let added = Member { zone: (*zone).to_owned(), capacity: of.into(), ..member(of, idx) };
        state = apply(&state, EpochOp::AddMember(added));
        state = apply(&state, role(of, Role::Gateway));
    }
    state
}

fn apply(state: &EpochState, op: EpochOp) -> EpochState {
    state.propose([0; 32], vec![op], node(1)).unwrap().0
}

fn down(of: u8, for_: Duration) -> Down {
    Down([(node(of), for_)].into(), BTreeSet::new())
}

#[track_caller]
fn check(state: &EpochState, facts: &Down, expected: Option<&[u8]>) {
    let expected = expected.map(|voters| voters.iter().map(|of| node(*of)).collect::<Vec<_>>());
    assert_eq!(better_voters(state, facts), expected);
}

fn voted(state: &EpochState, voters: &[u8]) -> EpochState {
    apply(state, EpochOp::SetVoters(voters.iter().map(|of| node(*of)).collect()))
}

#[test]
fn voters_grow_with_the_cluster_and_stay_odd() {
    let none = Down::default();
    check(&cluster(&["z", "z"]), &none, None);
    check(&cluster(&["z", "z", "z"]), &none, Some(&[1, 2, 3]));
    check(&cluster(&["z", "z", "z", "z"]), &none, Some(&[1, 2, 3]));
    check(&cluster(&["z"; 5]), &none, Some(&[1, 2, 3, 4, 5]));
    check(&cluster(&["z"; 9]), &none, Some(&[1, 2, 3, 4, 5]));
    check(&cluster(&["z", "z", "z"]), &down(3, Duration::ZERO), None);
}

#[test]
fn a_dead_voter_is_replaced_and_an_absent_one_is_not() {
    let state = voted(&cluster(&["z"; 4]), &[1, 2, 3]);
    check(&state, &Down::default(), None);
    check(&state, &down(2, REPLACE_AFTER / 2), None);
    check(&state, &down(2, REPLACE_AFTER), Some(&[1, 3, 4]));
    let drained = apply(&state, EpochOp::SetState(node(1), MemberState::Draining));
    check(&drained, &Down::default(), Some(&[2, 3, 4]));
}

#[test]
fn voters_spread_over_zones() {
    check(&cluster(&["a", "a", "a", "b"]), &Down::default(), Some(&[1, 4, 2]));
    let state = voted(&cluster(&["a", "a", "a", "b"]), &[1, 2, 3]);
    check(&state, &Down::default(), Some(&[1, 2, 4]));
    check(&state, &down(4, Duration::ZERO), None);
}

#[test]
fn the_first_live_voter_proposes_and_the_next_only_what_it_leaves() {
    let state = voted(&cluster(&["z"; 4]), &[1, 2, 3]);
    let mut order = [node(1), node(2), node(3)];
    order.sort();
    let none = Down::default();
    assert_eq!(turn(&state, &order[0], &none), Some(Duration::ZERO));
    assert_eq!(turn(&state, &order[2], &none), Some(TURN * 2));
    let first_away = Down([(order[0], Duration::ZERO)].into(), BTreeSet::new());
    assert_eq!(turn(&state, &order[1], &first_away), Some(Duration::ZERO));
    assert_eq!(turn(&state, &node(4), &none), None);
}

#[test]
fn the_smallest_of_few_zones_is_the_limit() {
    assert_eq!(limiting_zone(&cluster(&["a", "a"])), None);
    assert_eq!(limiting_zone(&cluster(&["a", "b", "b"])), Some(("a".to_owned(), 1)));
    assert_eq!(limiting_zone(&cluster(&["a", "b", "c", "d"])), None);
}

/// Gateways of one zone, the first `voters` of them voters.
fn with_voters(gateways: usize, voters: u8) -> EpochState {
    let state = cluster(&vec!["z"; gateways]);
    EpochState { voters: (1..=voters).map(node).collect(), ..state }
}

#[test]
fn a_voter_that_runs_without_its_vaults_key_gives_its_place_to_another() {
    let keyless = |of: u8| Down(BTreeMap::new(), [node(of)].into());
    check(&with_voters(2, 1), &keyless(1), Some(&[2]));
    check(&with_voters(4, 3), &keyless(2), Some(&[1, 3, 4]));
    check(&with_voters(3, 3), &keyless(2), None);
    // It waits for nobody that proposes nothing.
    assert_eq!(
        turn(&with_voters(3, 3), &highest(&[1, 2, 3]), &keyless_all_but(&[1, 2, 3])),
        Some(Duration::ZERO)
    );
}

fn highest(of: &[u8]) -> NodeId {
    of.iter().map(|of| node(*of)).max().unwrap()
}

/// Only the highest of these has its key.
fn keyless_all_but(of: &[u8]) -> Down {
    let last = highest(of);
    Down(BTreeMap::new(), of.iter().map(|of| node(*of)).filter(|node| *node != last).collect())
}

#[test]
fn fewer_voters_are_those_in_reach() {
    let mut state = with_voters(3, 3);
    state.members[2].state = MemberState::Draining;
    check(&state, &down(1, Duration::from_secs(60)), Some(&[2]));
    check(&state, &Down::default(), Some(&[1]));
}

#[test]
fn whoever_leaves_is_no_voter_any_more() {
    let without = |state: &EpochState, of: u8| {
        let nodes = |voters: Vec<NodeId>| {
            let of = |voter: &NodeId| (1..9).find(|of| node(*of) == *voter).unwrap();
            voters.iter().map(of).collect::<Vec<u8>>()
        };
        voters_without(state, &node(of)).map(nodes)
    };
    assert_eq!(without(&with_voters(4, 3), 2), Some(vec![1, 3, 4]));
    assert_eq!(without(&with_voters(3, 3), 2), Some(vec![1]));
    assert_eq!(without(&with_voters(2, 1), 1), Some(vec![2]));
    assert_eq!(without(&with_voters(2, 1), 2), None);
}
