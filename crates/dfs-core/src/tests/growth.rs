//! The steward grows a cluster from one node to three, through whatever order facts come in.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::epoch::{add, genesis, member, node, role};
use crate::id::{InviteId, NodeId, Partition};
use crate::layout::epoch::{BURNT_MAX, EpochOp, EpochState, Grant, NO_CAP, Role, Stage};
use crate::layout::facts::Facts;
use crate::layout::steward::{ABORT_AFTER, Joiner, LAGGARD_MAX, plan};

#[derive(Default)]
struct World {
    down: BTreeMap<NodeId, Duration>,
    /// Who has an admin's key; `None` is everyone.
    proven: Option<BTreeSet<NodeId>>,
    offers: BTreeMap<NodeId, (String, u64)>,
    durable: BTreeMap<NodeId, u64>,
    synced: BTreeSet<(NodeId, u64)>,
    bodies: RefCell<BTreeSet<(NodeId, u64)>>,
    clean: BTreeSet<(NodeId, u64)>,
}

impl Facts for World {
    fn down_for(&self, node: &NodeId) -> Option<Duration> {
        self.down.get(node).copied()
    }

    fn durable_epoch(&self, node: &NodeId) -> u64 {
        self.durable.get(node).copied().unwrap_or(0)
    }

    fn offer(&self, node: &NodeId) -> Option<(String, u64)> {
        self.offers.get(node).cloned()
    }

    fn proves_admin(&self, node: &NodeId) -> bool {
        self.proven.as_ref().is_none_or(|proven| proven.contains(node))
    }

    fn used(&self, _node: &NodeId) -> u64 {
        0
    }

    fn synced(&self, node: &NodeId, _partition: Partition, prepare_epoch: u64) -> bool {
        self.synced.contains(&(*node, prepare_epoch))
    }

    fn out_after(&self) -> Duration {
        OUT_AFTER
    }

    fn keeps_nothing(&self, _: &NodeId) -> bool {
        true
    }

    fn clean(&self, node: &NodeId, _partition: Partition, changed: u64) -> bool {
        self.clean.contains(&(*node, changed))
    }

    fn is_convicted(&self, _: &NodeId) -> bool {
        false
    }

    fn bodies(&self, node: &NodeId, _partition: Partition, prepare_epoch: u64) -> bool {
        self.bodies.borrow().contains(&(*node, prepare_epoch))
    }
}

const OUT_AFTER: Duration = Duration::from_secs(3600);

fn joiner(of: u8) -> Joiner {
    Joiner { node_id: node(of), zone: "z".to_owned(), capacity: 1, is_gateway: true, invited: None }
}

fn apply(state: &EpochState, ops: Vec<EpochOp>) -> EpochState {
    state.propose([0; 32], ops, node(1)).unwrap().0
}

fn two_members() -> EpochState {
    apply(&genesis().0, add(2, 1))
}

fn prepared() -> EpochState {
    let state = two_members();
    let ops = plan(&state, &[], Duration::ZERO, &World::default());
    apply(&state, ops)
}

#[test]
fn who_asks_is_admitted_once() {
    let (state, _) = genesis();
    let ops = plan(&state, &[joiner(2), joiner(3)], Duration::ZERO, &World::default());
    assert_eq!(ops.len(), 4, "each joins, and is a gateway");
    let state = apply(&state, ops);
    assert_eq!(state.members.len(), 3);
    let again = plan(&state, &[joiner(2)], Duration::ZERO, &World::default());
    assert!(again.iter().all(|op| !matches!(op, EpochOp::AddMember(_))));
}

#[test]
fn an_invite_is_for_one_machine_and_grants_what_it_says() {
    let (state, _) = genesis();
    let grant = |of, role| {
        let invite = InviteId::new([of; 16]);
        Some((Grant { invite, role, cap: 7, expires_ms: 1000 }, 5))
    };
    let invited = |of, invited| Joiner { is_gateway: false, invited, ..joiner(of) };
    let joiners = [
        invited(2, grant(1, Role::Storage)),
        invited(3, grant(1, Role::Storage)),
        invited(4, None),
        // It has no key of a vault yet, so it is none.
        invited(5, grant(2, Role::Gateway)),
        Joiner { invited: grant(3, Role::Gateway), ..joiner(6) },
    ];
    let ops = plan(&state, &joiners, Duration::ZERO, &World::default());
    let next = apply(&state, ops);
    let in_it: Vec<_> = next.members[1..].iter().map(|m| (m.node_id, m.role, m.cap)).collect();
    let expected = [(node(2), Role::Storage, 7), (node(6), Role::Gateway, NO_CAP)];
    assert_eq!(in_it, expected, "the others wait for someone to vouch for them");
    let burnt = |of| next.is_burnt(&InviteId::new([of; 16]));
    assert!(burnt(1) && burnt(3) && !burnt(2), "who is no gateway yet may still become one");
    // It is used up, also when there is no room to note another.
    let late = [invited(7, grant(1, Role::Storage))];
    assert!(!plan(&next, &late, Duration::ZERO, &World::default()).iter().any(adds));
    let full = EpochState { burnt: vec![next.burnt[0]; BURNT_MAX], ..state };
    let late = [invited(7, grant(9, Role::Storage))];
    assert_eq!(plan(&full, &late, Duration::ZERO, &World::default()), []);
}

fn adds(op: &EpochOp) -> bool {
    matches!(op, EpochOp::AddMember(_))
}

#[test]
fn a_member_that_gets_a_vaults_key_becomes_a_gateway() {
    let (state, _) = genesis();
    let state = apply(&state, vec![EpochOp::AddMember(member(2, 1))]);
    assert_eq!(plan(&state, &[], Duration::ZERO, &founder()), []);
    let world = World { proven: Some([node(1), node(2)].into()), ..World::default() };
    let state = apply(&state, plan(&state, &[], Duration::ZERO, &world));
    assert!(state.is_gateway(&node(2)));
}

/// Where only the founder has an admin's key.
fn founder() -> World {
    World { proven: Some([node(1)].into()), ..World::default() }
}

#[test]
fn who_was_not_vouched_for_is_given_nothing() {
    let (state, _) = genesis();
    let unvouched = (2..9).map(|of| EpochOp::AddMember(member(of, u16::from(of) - 1))).collect();
    let state = apply(&state, unvouched);
    assert_eq!(plan(&state, &[], Duration::ZERO, &founder()), []);
    assert_eq!((state.copies_at_rest(), state.moving()), (1, 0));
    let vouched = apply(&state, vec![role(5, Role::Storage), role(7, Role::Storage)]);
    let ops = plan(&vouched, &[], Duration::ZERO, &founder());
    let on = |op: &EpochOp| match op {
        EpochOp::Prepare { next, .. } => next.iter().copied().collect(),
        _ => BTreeSet::new(),
    };
    assert_eq!(ops.len(), vouched.rows.len());
    assert!(ops.iter().all(|op| on(op) == [0, 4, 6].into()));
}

#[test]
fn one_invited_machine_of_an_attacker_and_ten_others_never_hold_two_copies() {
    let mut state = genesis().0;
    // Two machines of the owner, and another lent by someone else.
    for (of, idx) in [(2, 1), (3, 2)] {
        state = apply(&state, add(of, idx));
    }
    let lent = [EpochOp::AddMember(member(4, 3)), role(4, Role::Storage)];
    let mut state = apply(&with_voters(&state), lent.into());
    let grant =
        Grant { invite: InviteId::new([1; 16]), role: Role::Storage, cap: 7, expires_ms: 9 };
    // Each claims a zone of its own, and more room than all others together.
    let mut attackers: Vec<_> = (10..21)
        .map(|of| Joiner {
            zone: format!("z{of}"),
            capacity: u64::MAX,
            is_gateway: false,
            ..joiner(of)
        })
        .collect();
    attackers[0].invited = Some((grant, 5));
    // Some were members before there were admins: nobody has vouched for them since.
    for (of, idx) in [(11, 4), (12, 5)] {
        let claims = (format!("z{of}"), u64::MAX);
        let unvouched =
            crate::layout::epoch::Member { zone: claims.0, capacity: claims.1, ..member(of, idx) };
        state = apply(&state, vec![EpochOp::AddMember(unvouched)]);
    }
    let world = World {
        proven: Some([node(1), node(2), node(3)].into()),
        offers: (10..21).map(|of| (node(of), (format!("y{of}"), u64::MAX))).collect(),
        ..World::default()
    };
    for _ in 0..20 {
        let ops = plan(&state, &attackers, Duration::from_secs(9999), &world);
        if ops.is_empty() {
            break;
        }
        state = apply(&state, ops);
        if state.moving() > 0 {
            state = moved(&state);
        }
        let theirs: BTreeSet<_> =
            (10..21).filter_map(|of| state.member(&node(of))).map(|of| of.idx).collect();
        for row in &state.rows {
            let copies = row.current.iter().filter(|idx| theirs.contains(idx)).count();
            assert!(copies <= 1, "{:?} of {theirs:?}", row.current);
        }
    }
    assert!(state.is_member(&node(10)) && !state.is_member(&node(13)));
    assert!((11..13).all(|of| state.partitions_of(&node(of)).is_empty()));
    assert!(state.voters.iter().all(|voter| (1..4).any(|of| *voter == node(of))));
}

#[test]
fn every_partition_is_prepared_for_the_newcomer() {
    let state = prepared();
    assert!(state.rows.iter().all(|row| row.stage == Stage::Prepare && row.next == [0, 1]));
}

#[test]
fn a_newcomer_out_of_reach_is_given_nothing() {
    let world = World { down: [(node(2), Duration::ZERO)].into(), ..World::default() };
    assert!(plan(&two_members(), &[], Duration::ZERO, &world).is_empty());
}

#[test]
fn a_switch_waits_for_rows_and_a_done_for_fences_and_bodies() {
    let state = prepared();
    let prepare = state.epoch;
    let mut world = World::default();
    assert!(plan(&state, &[], Duration::ZERO, &world).is_empty());
    world.synced.insert((node(1), prepare));
    assert!(plan(&state, &[], Duration::ZERO, &world).is_empty(), "two of two must have synced");
    world.synced.insert((node(2), prepare));
    let ops = plan(&state, &[], Duration::ZERO, &world);
    assert_eq!(ops.len(), state.rows.len());
    let state = apply(&state, ops);
    assert!(state.rows.iter().all(|row| row.stage == Stage::Switch));

    world.bodies.borrow_mut().extend([(node(1), prepare), (node(2), prepare)]);
    assert!(plan(&state, &[], Duration::ZERO, &world).is_empty(), "the old set is not fenced");
    world.durable.insert(node(1), state.epoch);
    let state = apply(&state, plan(&state, &[], Duration::ZERO, &world));
    assert!(state.rows.iter().all(|row| row.stage == Stage::Stable && row.current == [0, 1]));
    assert_eq!(state.moving(), 0);
}

#[test]
fn a_newcomer_that_dies_early_is_given_up_and_taken_again() {
    let state = prepared();
    let mut world = World::default();
    world.down.insert(node(2), ABORT_AFTER);
    let state = apply(&state, plan(&state, &[], Duration::ZERO, &world));
    assert!(state.rows.iter().all(|row| row.stage == Stage::Stable && row.current == [0]));
    assert!(plan(&state, &[], Duration::ZERO, &world).is_empty());
    world.down.clear();
    let ops = plan(&state, &[], Duration::ZERO, &world);
    assert_eq!(ops.len(), state.rows.len());
}

#[test]
fn a_reachable_laggard_holds_up_a_switch_only_so_long() {
    let state = with_voters(&apply(&two_members(), add(3, 2)));
    let state = apply(&state, plan(&state, &[], Duration::ZERO, &World::default()));
    assert_eq!(state.rows[0].next.len(), 3);
    let synced = [(node(1), state.epoch), (node(2), state.epoch)].into();
    let world = World { synced, ..World::default() };
    assert!(plan(&state, &[], Duration::ZERO, &world).is_empty());
    assert!(!plan(&state, &[], LAGGARD_MAX, &world).is_empty());
}

/// The state after the epoch that names the voters.
fn with_voters(state: &EpochState) -> EpochState {
    let ops = plan(state, &[], Duration::ZERO, &World::default());
    assert!(matches!(ops[..], [EpochOp::SetVoters(_)]));
    apply(state, ops)
}

/// The state after all moves under way have been carried through.
fn moved(state: &EpochState) -> EpochState {
    let moving = (0..=Partition::MAX).zip(&state.rows).filter(|(_, row)| !row.next.is_empty());
    let moving: Vec<_> = moving.map(|(partition, _)| partition).collect();
    let switched = apply(state, moving.iter().map(|p| EpochOp::Switch(*p)).collect());
    apply(&switched, moving.iter().map(|p| EpochOp::Done(*p)).collect())
}

#[test]
fn a_fourth_member_takes_its_share() {
    let mut state = genesis().0;
    for (of, idx) in [(2, 1), (3, 2), (4, 3)] {
        state = apply(&state, add(of, idx));
    }
    let state = with_voters(&state);
    assert_eq!(state.voters.len(), 3);
    let world = World::default();
    let state = moved(&apply(&state, plan(&state, &[], Duration::ZERO, &world)));
    assert!(state.rows.iter().all(|row| row.current.len() == 3), "copies come first");
    let state = moved(&apply(&state, plan(&state, &[], Duration::ZERO, &world)));
    assert_eq!(plan(&state, &[], Duration::ZERO, &world), []);
    for idx in 0..4 {
        let held = state.rows.iter().filter(|row| row.current.contains(&idx)).count();
        assert!((740..=800).contains(&held), "member {idx} is to hold {held} of 1,024 partitions");
    }
}

#[test]
fn a_member_takes_its_new_zone_at_once_and_its_new_capacity_later() {
    let state = two_members();
    let mut world = World::default();
    world.offers.insert(node(2), ("elsewhere".to_owned(), 1000));
    let update =
        |capacity| EpochOp::UpdateMember { node: node(2), zone: "elsewhere".to_owned(), capacity };
    assert!(plan(&state, &[], Duration::ZERO, &world).contains(&update(1)));
    let moved = apply(&state, vec![update(1)]);
    assert_eq!(moved.members[1].zone, "elsewhere");
    let updates = |ops: Vec<EpochOp>| ops.contains(&update(1000));
    assert!(!updates(plan(&moved, &[], Duration::ZERO, &world)));
    assert!(updates(plan(&moved, &[], Duration::from_secs(600), &world)));
    world.down.insert(node(2), Duration::ZERO);
    assert!(!updates(plan(&moved, &[], Duration::from_secs(600), &world)));
}
