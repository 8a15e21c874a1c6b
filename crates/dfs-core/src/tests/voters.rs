//! Who decides, and whose turn it is.

use std::collections::BTreeMap;
use std::time::Duration;

use super::epoch::{genesis, member, node, role};
use crate::id::{NodeId, Partition};
use crate::layout::epoch::{EpochOp, EpochState, Member, MemberState, Role};
use crate::layout::facts::Facts;
use crate::layout::voters::{REPLACE_AFTER, TURN, better_voters, limiting_zone, turn};

#[derive(Default)]
struct Down(BTreeMap<NodeId, Duration>);

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

    fn proves_admin(&self, _: &NodeId) -> bool {
        false
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
    Down([(node(of), for_)].into())
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
    let first_away = Down([(order[0], Duration::ZERO)].into());
    assert_eq!(turn(&state, &order[1], &first_away), Some(Duration::ZERO));
    assert_eq!(turn(&state, &node(4), &none), None);
}

#[test]
fn the_smallest_of_few_zones_is_the_limit() {
    assert_eq!(limiting_zone(&cluster(&["a", "a"])), None);
    assert_eq!(limiting_zone(&cluster(&["a", "b", "b"])), Some(("a".to_owned(), 1)));
    assert_eq!(limiting_zone(&cluster(&["a", "b", "c", "d"])), None);
}
