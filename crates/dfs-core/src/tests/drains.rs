//! What a drain waits for, by how far it is and who answers.

use super::departure::{cluster, set};
use super::epoch::node;
use crate::layout::drains::{Drain, DrainWait, drains};
use crate::layout::epoch::{EpochState, MemberState, Stage};

#[track_caller]
fn check(state: &EpochState, down: &[u8], holds: usize, expected: DrainWait) {
    let is_up = |of: &_| !down.iter().any(|down| node(*down) == *of);
    let found = drains(state, is_up, |_| false);
    let all = [Drain { node: node(4), holds, waits_for: expected }];
    assert_eq!(found, all, "{down:?} down");
}

#[test]
fn a_drain_names_what_it_waits_for() {
    let mut state = cluster(&["z"; 4]);
    state.voters = vec![node(1), node(2), node(3)];
    assert_eq!(drains(&state, |_| true, |_| false), []);
    set(&mut state, 4, MemberState::Draining);
    let count = state.rows.iter().filter(|row| row.current.contains(&3)).count();
    // Nothing of it moves yet.
    check(&state, &[4], count, DrainWait::Room);
    check(&state, &[2, 3], count, DrainWait::Voters(vec![node(2), node(3)]));
    for row in state.rows.iter_mut().filter(|row| row.current.contains(&3)) {
        (row.stage, row.next) = (Stage::Prepare, vec![0, 1, 2]);
    }
    check(&state, &[4], count, DrainWait::Copies);
    check(&state, &[3, 4], count, DrainWait::Heirs(vec![node(3)]));
    for row in state.rows.iter_mut().filter(|row| row.current.contains(&3)) {
        (row.stage, row.current) = (Stage::Stable, std::mem::take(&mut row.next));
        row.former = vec![3];
    }
    check(&state, &[4], 0, DrainWait::Itself);
    check(&state, &[], 0, DrainWait::Handover);
    let convicted = drains(&state, |_| true, |_| true);
    assert_eq!(convicted[0].waits_for, DrainWait::Operator);
}
