//! Who is taken out of the layout, who comes back, and when a former holder is forgotten.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::epoch::{gateway, genesis, node};
use crate::id::{NodeId, Partition};
use crate::layout::departure::{LEFT_AFTER, cleaned, departures};
use crate::layout::epoch::{EpochError, EpochOp, EpochState, Member, MemberIdx, MemberState, Role};
use crate::layout::{facts::Facts, steward::plan};

const HOUR: Duration = Duration::from_secs(3600);

#[derive(Default)]
struct World {
    down: BTreeMap<NodeId, Duration>,
    clean: BTreeSet<(NodeId, Partition, u64)>,
    keep: BTreeSet<NodeId>,
    convicted: BTreeSet<NodeId>,
    used: u64,
}

impl World {
    fn down(nodes: &[u8], since: Duration) -> Self {
        let down = nodes.iter().map(|of| (node(*of), since)).collect();
        Self { down, ..Self::default() }
    }
}

impl Facts for World {
    fn down_for(&self, node: &NodeId) -> Option<Duration> {
        self.down.get(node).copied()
    }

    fn durable_epoch(&self, _: &NodeId) -> u64 {
        0
    }

    fn offer(&self, _: &NodeId) -> Option<(String, u64)> {
        None
    }

    fn proves_admin(&self, _: &NodeId) -> bool {
        true
    }

    fn used(&self, _: &NodeId) -> u64 {
        self.used
    }

    fn synced(&self, _: &NodeId, _: Partition, _: u64) -> bool {
        false
    }

    fn out_after(&self) -> Duration {
        HOUR
    }

    fn keeps_nothing(&self, node: &NodeId) -> bool {
        !self.keep.contains(node)
    }

    fn clean(&self, node: &NodeId, partition: Partition, changed: u64) -> bool {
        self.clean.contains(&(*node, partition, changed))
    }

    fn is_convicted(&self, node: &NodeId) -> bool {
        self.convicted.contains(node)
    }

    fn bodies(&self, _: &NodeId, _: Partition, _: u64) -> bool {
        false
    }
}

/// Members 1 to `zones.len()`, each in the zone named; every partition on three that follow each
/// other.
pub(super) fn cluster(zones: &[&str]) -> EpochState {
    let mut state = genesis().0;
    state.members.clear();
    for (of, zone) in (1u8..).zip(zones) {
        state
            .members
            .push(Member { zone: (*zone).to_owned(), ..gateway(of, MemberIdx::from(of) - 1) });
    }
    let count = zones.len();
    for (at, row) in state.rows.iter_mut().enumerate() {
        let member = |by: usize| MemberIdx::try_from((at + by) % count).unwrap();
        row.current = (0..3.min(count)).map(member).collect();
    }
    state.voters = vec![node(1)];
    state
}

pub(super) fn set(state: &mut EpochState, of: u8, to: MemberState) {
    state.members[usize::from(of) - 1].state = to;
}

fn out(of: u8) -> Vec<EpochOp> {
    vec![EpochOp::SetState(node(of), MemberState::Out)]
}

/// A member that is dead for long, by how the rest of the cluster is: taken out or not.
#[track_caller]
fn check(zones: &[&str], down: &[u8], since: Duration, expected: &[EpochOp]) {
    let found = departures(&cluster(zones), &World::down(down, since));
    assert_eq!(found, expected, "{zones:?}, {down:?} down for {since:?}");
}

#[test]
fn a_dead_member_is_taken_out_where_that_is_safe() {
    let almost = HOUR - Duration::from_millis(1);
    check(&["z"; 4], &[4], HOUR, &out(4));
    check(&["z"; 4], &[4], almost, &[]);
    // There is nowhere to put its copies.
    check(&["z"; 3], &[3], HOUR * 24, &[]);
    // One after the other.
    check(&["z"; 8], &[4, 7], HOUR, &out(4));
    // Less than three quarters are there: this side may be the one that is cut off.
    check(&["z"; 5], &[4, 5], HOUR, &[]);
    check(&["z"; 8], &[4, 6, 8], HOUR, &[]);
    // A zone that is mostly gone comes back.
    let zones = ["a", "a", "a", "a", "a", "b", "b", "b"];
    check(&zones, &[6, 7], HOUR, &[]);
    check(&zones, &[6], HOUR, &out(6));
    // A zone of one machine may be lost like any machine.
    check(&["a", "a", "a", "b"], &[4], HOUR, &out(4));
}

#[test]
fn it_is_urgent_where_one_copy_is_left() {
    let soon = HOUR / 12;
    let mut state = cluster(&["z"; 8]);
    // Each is down; together they leave the partitions that both hold with one copy.
    let world = World::down(&[4, 5], soon);
    assert_eq!(departures(&state, &world), out(4));
    let apart = World::down(&[1, 5], soon);
    assert_eq!(departures(&state, &apart), [], "no partition is on both");
    state.rows.iter_mut().for_each(|row| row.current = vec![0, 4, 6]);
    assert_eq!(departures(&state, &apart), out(1));
}

#[test]
fn who_was_taken_out_holds_up_others_only_while_it_holds_something() {
    let mut state = cluster(&["a", "a", "a", "a", "b", "b", "b", "b"]);
    set(&mut state, 1, MemberState::Out);
    let world = World::down(&[1, 2], HOUR);
    assert_eq!(departures(&state, &world), [], "one at a time");
    let holds = |idx: &MemberIdx| *idx != 0;
    state.rows.iter_mut().for_each(|row| row.current.retain(holds));
    assert_eq!(departures(&state, &world), out(2));
    // Two zones are never taken apart at once, however many members there are.
    let zones: Vec<&str> = ["a"; 20].into_iter().chain(["b"; 20]).collect();
    let mut state = cluster(&zones);
    set(&mut state, 1, MemberState::Out);
    assert_eq!(departures(&state, &World::down(&[1, 21], HOUR)), []);
    assert_eq!(departures(&state, &World::down(&[1, 2], HOUR)), out(2));
}

#[test]
fn who_comes_back_is_a_member_again_and_who_stays_away_is_gone() {
    let mut state = cluster(&["z"; 5]);
    set(&mut state, 5, MemberState::Out);
    let back = vec![EpochOp::SetState(node(5), MemberState::Active)];
    assert_eq!(departures(&state, &World::default()), back);
    let long = World::down(&[5], LEFT_AFTER);
    assert_eq!(departures(&state, &long), [], "it is still waited for: it holds partitions");
    state.rows.iter_mut().for_each(|row| row.current = vec![0, 1, 2]);
    state.rows[7].former = vec![4];
    assert_eq!(departures(&state, &long), [EpochOp::SetState(node(5), MemberState::Left)]);
    assert_eq!(departures(&state, &World::down(&[5], LEFT_AFTER - HOUR)), []);
}

#[test]
fn a_drained_member_leaves_once_nothing_names_it() {
    let mut state = cluster(&["z"; 4]);
    set(&mut state, 4, MemberState::Draining);
    assert_eq!(departures(&state, &World::default()), []);
    state.rows.iter_mut().for_each(|row| row.current = vec![0, 1, 2]);
    state.rows[9].former = vec![3];
    assert_eq!(departures(&state, &World::default()), [], "it may still have what is nowhere else");
    state.rows[9].former.clear();
    state.voters = vec![node(4)];
    assert_eq!(departures(&state, &World::default()), [], "it still decides");
    state.voters = vec![node(1)];
    let keeps = World { keep: [node(4)].into(), ..World::default() };
    assert_eq!(departures(&state, &keeps), [], "a write for others would go with it");
    let left = EpochOp::SetState(node(4), MemberState::Left);
    assert_eq!(departures(&state, &World::default()), [left]);
}

#[test]
fn who_is_proved_not_to_hold_what_it_claims_is_drained_where_others_can_hold_it() {
    let world = |convicted: &[u8], used| World {
        convicted: convicted.iter().map(|of| node(*of)).collect(),
        used,
        ..World::default()
    };
    let drained = |of| vec![EpochOp::SetState(node(of), MemberState::Draining)];
    let with_storage = |count: usize| {
        let mut state = cluster(&vec!["z"; count]);
        state.members.iter_mut().for_each(|member| member.capacity = 100);
        state.members.iter_mut().skip(1).for_each(|member| member.role = Role::Storage);
        state
    };
    let mut state = with_storage(4);
    assert_eq!(departures(&state, &world(&[], 0)), []);
    assert_eq!(departures(&state, &world(&[4], 0)), drained(4));
    assert_eq!(departures(&state, &world(&[4], 75)), drained(4));
    assert_eq!(departures(&state, &world(&[4], 76)), [], "the others have no room for its share");
    assert_eq!(departures(&state, &world(&[1], 0)), [], "a gateway has the key anyway");
    let two = world(&[3, 4], 0);
    assert_eq!(departures(&state, &two), [], "two others would be left that are trusted");
    assert_eq!(departures(&with_storage(3), &world(&[3], 0)), [], "two would be left");
    assert_eq!(departures(&with_storage(5), &two), drained(3), "one after the other");
    let away = World { down: [(node(2), HOUR / 2)].into(), ..world(&[4], 0) };
    assert_eq!(departures(&state, &away), [], "another one is away");
    set(&mut state, 2, MemberState::Draining);
    assert_eq!(departures(&state, &world(&[4], 0)), [], "another one is on its way out");
    // It does not leave for good by itself: an operator may let it in again.
    let mut state = with_storage(5);
    set(&mut state, 4, MemberState::Draining);
    state.rows.iter_mut().for_each(|row| row.current = vec![0, 1, 2]);
    assert_eq!(departures(&state, &world(&[4], 0)), []);
    let left = vec![EpochOp::SetState(node(4), MemberState::Left)];
    assert_eq!(departures(&state, &world(&[], 0)), left);
}

#[test]
fn a_former_holder_is_forgotten_once_it_says_that_it_is_clean() {
    let mut state = cluster(&["z"; 5]);
    state.rows[3].former = vec![0, 4];
    state.rows[3].changed = 9;
    state.rows[4].former = vec![4];
    let mut world = World::default();
    world.clean.insert((node(5), 3, 8));
    assert_eq!(cleaned(&state, &world), [], "that was an earlier move");
    world.clean.insert((node(5), 3, 9));
    let clean = |partition, holder| EpochOp::FormerClean { partition, holder };
    assert_eq!(cleaned(&state, &world), [clean(3, 4)]);
    let after = state.propose([0; 32], cleaned(&state, &world), node(1)).unwrap().0;
    assert_eq!(after.rows[3].former, [0]);
    assert_eq!(after.rows[3].changed, 9, "no request becomes stale by it");
    // One that left never comes back.
    set(&mut state, 5, MemberState::Left);
    assert_eq!(cleaned(&state, &World::default()), [clean(3, 4), clean(4, 4)]);
}

#[test]
fn nothing_moves_in_the_epoch_that_takes_a_member_out() {
    let mut state = cluster(&["z"; 6]);
    // Copies are missing, so that there is something to move as well.
    state.rows.iter_mut().step_by(2).for_each(|row| row.current.truncate(2));
    state.voters = (1..=5).map(node).collect();
    let world = World::down(&[4], HOUR);
    let mut epochs = Vec::new();
    while state.rows.iter().all(|row| row.next.is_empty()) {
        let ops = plan(&state, &[], Duration::ZERO, &world);
        state = state.propose([0; 32], ops.clone(), node(1)).expect("what is planned is allowed").0;
        epochs.push(ops);
    }
    let [first, voters, moves] = &epochs[..] else { panic!("{} epochs", epochs.len()) };
    assert_eq!(*first, out(4));
    assert!(matches!(voters[..], [EpochOp::SetVoters(_)]));
    assert!(moves.iter().all(|op| matches!(op, EpochOp::Prepare { .. })));
    assert!(state.rows.iter().all(|row| !row.next.contains(&3)));
}

#[test]
fn changes_that_make_no_sense_are_refused() {
    let mut state = cluster(&["z"; 2]);
    let refused = |state: &EpochState, op: EpochOp| {
        matches!(state.propose([0; 32], vec![op], node(1)), Err(EpochError::BadOp(_)))
    };
    assert!(refused(&state, EpochOp::FormerClean { partition: 1, holder: 0 }));
    assert!(refused(&state, EpochOp::FormerClean { partition: Partition::MAX, holder: 0 }));
    let drain = |of| EpochOp::SetState(node(of), MemberState::Draining);
    assert!(!refused(&state, drain(1)));
    set(&mut state, 2, MemberState::Draining);
    assert!(refused(&state, drain(1)), "someone must hold the data");
    set(&mut state, 2, MemberState::Left);
    assert!(refused(&state, EpochOp::SetState(node(2), MemberState::Active)));
}
