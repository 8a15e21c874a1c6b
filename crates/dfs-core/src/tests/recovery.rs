//! Going on by hand after a disaster.

use std::collections::BTreeSet;

use super::epoch::{by_admin, gateway, genesis, key, node};
use crate::codec::Canonical;
use crate::id::NodeId;
use crate::layout::epoch::{
    Deciders, EpochCert, EpochError, EpochOp, EpochState, Heir, Loss, MemberState, Role, Stage,
    deciders_after,
};
use crate::paxos::Ballot;

/// Five members, the first `voters` of them voters; partitions 0 to 4 lie on three of them in turn.
fn five(voters: u8) -> (EpochState, EpochCert) {
    let (mut state, cert) = genesis();
    state.members = (1..=5).map(|of| gateway(of, u16::from(of) - 1)).collect();
    state.voters = (1..=voters).map(node).collect();
    for (at, row) in (0u16..).zip(&mut state.rows) {
        row.current = (0..3).map(|n| (at + n) % 5).collect();
    }
    (state, cert)
}

fn lost(of: &[u8]) -> BTreeSet<NodeId> {
    of.iter().map(|of| node(*of)).collect()
}

fn decided(state: &EpochState, cert: &EpochCert, loss: &Loss, by: &[u8]) -> EpochCert {
    let (_, proposal) = loss.propose(state, cert.proposal.hash(), node(by[0])).unwrap();
    let proposal = by_admin(proposal, state.cluster_id);
    let ballot = Ballot { round: 1, node: node(by[0]) };
    let vote = |of: &u8| proposal.vote(state.cluster_id, ballot, &key(*of));
    let votes = by.iter().map(vote).collect();
    EpochCert { proposal, ballot, votes }
}

#[test]
fn partitions_with_enough_replicas_left_are_not_forced() {
    let (state, _) = five(5);
    for (gone, at_risk, is_of_majority) in [
        (&[1][..], &[][..], false),
        (&[1, 2], &[0, 4], false),
        (&[1, 3], &[0], false),
        (&[1, 2, 3], &[0, 1, 4], true),
        (&[1, 2, 3, 4], &[0, 1, 2, 3, 4], true),
    ] {
        let loss = Loss::of(&state, lost(gone));
        let found: Vec<_> = loss.at_risk(&state).into_iter().filter(|p| *p < 5).collect();
        assert_eq!(found, at_risk, "{gone:?}");
        assert_eq!(loss.is_of_majority(&state), is_of_majority, "{gone:?}");
    }
}

#[test]
fn a_member_that_left_before_is_none_of_those_that_are_left() {
    let (mut state, _) = five(5);
    state.members[0].state = MemberState::Left;
    let loss = Loss::of(&state, lost(&[2]));
    let found: Vec<_> = loss.at_risk(&state).into_iter().filter(|p| *p < 5).collect();
    assert_eq!(found, [0, 4], "as if both were lost at once");
    let (next, _) = state.propose([0; 32], loss.ops(&state), node(4)).unwrap();
    assert_eq!((&next.row(0).current[..], &next.row(4).current[..]), (&[2][..], &[4][..]));
}

#[test]
fn a_forced_partition_goes_on_with_whoever_is_left() {
    let (state, _) = five(5);
    let loss = Loss::of(&state, lost(&[1, 2, 3]));
    let (next, _) = state.propose([0; 32], loss.ops(&state), node(4)).unwrap();
    assert_eq!(next.generation, state.generation);
    // All three are gone; one is left; of the others two are left, which is enough.
    for (partition, expected) in [(0, &[3][..]), (1, &[3]), (2, &[2, 3, 4]), (3, &[3, 4, 0])] {
        assert_eq!(next.row(partition).current, expected, "partition {partition}");
    }
    assert_eq!(next.row(1).changed, next.epoch, "older requests are refused");
    assert_eq!(next.row(2).changed, state.row(2).changed);
    assert!(lost(&[1, 2, 3]).iter().all(|n| next.member(n).unwrap().state == MemberState::Left));
}

#[test]
fn a_move_under_way_ends_with_those_who_are_read() {
    let (state, _) = five(5);
    for (stage, gone, expected) in [
        // Two of the current set have every write; one alone is helped out by the next set.
        (Stage::Prepare, &[1, 4][..], &[1, 2][..]),
        (Stage::Prepare, &[1, 2], &[2, 3, 4]),
        (Stage::Prepare, &[1, 2, 3], &[3, 4]),
        // One of two, which is enough to read from; else two of the three before it.
        (Stage::Switch, &[1, 4], &[4]),
        (Stage::Switch, &[4, 5, 3], &[0, 1]),
        (Stage::Switch, &[4, 5, 3, 2], &[0]),
    ] {
        let mut state = state.clone();
        // From 0, 1, 2 to 3, 4.
        let row = &mut state.rows[0];
        (row.stage, row.next, row.prepare_epoch) = (stage, vec![3, 4], 1);
        let mut ops: Vec<_> =
            gone.iter().map(|of| EpochOp::SetState(node(*of), MemberState::Left)).collect();
        ops.push(EpochOp::Force(0));
        let (next, _) = state.propose([0; 32], ops, node(1)).unwrap();
        let row = next.row(0);
        assert_eq!((&row.current[..], row.stage, row.next.len()), (expected, Stage::Stable, 0));
        assert!(row.former.iter().all(|idx| !row.current.contains(idx)));
        assert_eq!(EpochState::from_canonical(next.to_canonical()), Ok(next));
    }
}

#[test]
fn nothing_is_forced_while_every_replica_is_a_member() {
    let (state, _) = five(5);
    for op in [EpochOp::Force(0), EpochOp::Force(u16::MAX)] {
        assert!(state.propose([0; 32], vec![op], node(1)).is_err());
    }
}

#[test]
fn whoever_is_left_decides_and_only_nodes_that_were_told_follow() {
    let (state, cert) = five(5);
    let previous = cert.proposal.hash();
    let loss = Loss::of(&state, lost(&[1, 2, 3]));
    // Two voters are left: an odd number of them decides.
    assert_eq!(loss.electors(&state), [node(4)]);
    let made = decided(&state, &cert, &loss, &[4]);
    let next = loss.follow(&state, previous, &made).unwrap();
    assert_eq!((next.generation, next.epoch), (1, 1 << 32), "beyond all of the generation before");
    assert_eq!(next.voters, [node(4)]);
    // By the ordinary rule nobody follows, nor whoever was told of another loss.
    assert_eq!(state.follow(previous, &made), Err(EpochError::NotNext));
    let other = Loss::of(&state, lost(&[1, 2]));
    assert_eq!(other.follow(&state, previous, &made), Err(EpochError::OtherState));
    assert_eq!(made.proposal.loss(), loss);
    // Nor without the electors' votes, nor on another predecessor.
    let stranger = decided(&state, &cert, &loss, &[5]);
    assert_eq!(loss.follow(&state, previous, &stranger), Err(EpochError::NotDecided));
    assert_eq!(loss.follow(&state, [0; 32], &made), Err(EpochError::NotNext));
    assert_eq!(loss.follow(&next, made.proposal.hash(), &made), Err(EpochError::NotNext));
    // It goes on from there as always.
    let (_, ordinary) = next.propose(made.proposal.hash(), vec![], node(4)).unwrap();
    let ordinary = by_admin(ordinary, next.cluster_id).sign_alone(next.cluster_id, &key(4));
    assert!(next.follow(made.proposal.hash(), &ordinary).is_ok());
}

#[test]
fn with_all_voters_lost_the_longest_members_decide() {
    let (state, cert) = five(1);
    let loss = Loss::of(&state, lost(&[1]));
    assert_eq!(loss.electors(&state), [2, 3, 4].map(node));
    let made = decided(&state, &cert, &loss, &[3, 4]);
    assert!(loss.follow(&state, cert.proposal.hash(), &made).is_ok());
    let one = decided(&state, &cert, &loss, &[3]);
    assert_eq!(loss.follow(&state, cert.proposal.hash(), &one), Err(EpochError::NotDecided));
}

#[test]
fn without_a_gateway_whoever_has_the_admins_key_takes_over() {
    let (mut state, cert) = five(3);
    for stores in &mut state.members[3..] {
        stores.role = Role::Storage;
    }
    let previous = cert.proposal.hash();
    let heir = Some(Heir { node: node(9), zone: "new".to_owned(), capacity: 7 });
    let loss = Loss { heir, ..Loss::of(&state, lost(&[1, 2, 3])) };
    assert_eq!(loss.electors(&state), [node(9)]);
    let made = decided(&state, &cert, &loss, &[9]);
    assert_eq!(made.proposal.loss(), loss);
    let next = loss.follow(&state, previous, &made).unwrap();
    assert!(next.is_gateway(&node(9)) && next.voters == [node(9)]);
    assert_eq!(next.row(3).current, [3, 4, 0], "who is left keeps what it has");
    assert_eq!(EpochState::from_canonical(next.to_canonical()), Ok(next.clone()));
    // Those who lag far follow too, and the next epoch is the heir's alone.
    let (known, certs) = (state.deciders(), [made.clone()]);
    let knows = |node: &NodeId| state.is_member(node);
    let after = deciders_after(state.cluster_id, known.clone(), &certs, knows, |_| true);
    assert_eq!(after, Ok(next.deciders()));
    let (_, ordinary) = next.propose(made.proposal.hash(), vec![], node(9)).unwrap();
    let ordinary = by_admin(ordinary, next.cluster_id).sign_alone(next.cluster_id, &key(9));
    assert!(next.follow(made.proposal.hash(), &ordinary).is_ok());
    // Nobody takes over without the admin's key, nor while a gateway is left.
    let (_, unsigned) = loss.propose(&state, previous, node(9)).unwrap();
    let unsigned = unsigned.sign_alone(state.cluster_id, &key(9));
    assert_eq!(loss.follow(&state, previous, &unsigned), Err(EpochError::NotAuthorized));
    let after = deciders_after(state.cluster_id, known, &[unsigned], knows, |_| true);
    assert_eq!(after, Err(EpochError::NotAuthorized));
    let early = Loss { lost: lost(&[1, 2]), ..loss };
    assert!(early.propose(&state, previous, node(9)).is_err());
}

#[test]
fn whoever_lags_far_follows_a_new_generation_only_when_told() {
    let (state, cert) = five(5);
    let loss = Loss::of(&state, lost(&[1, 2, 3]));
    let made = decided(&state, &cert, &loss, &[4]);
    let after = |known: &Deciders, certs: &[EpochCert], trusts: bool| {
        let knows = |node: &NodeId| state.is_member(node);
        let after = deciders_after(state.cluster_id, known.clone(), certs, knows, |_| trusts);
        after.map(|deciders| deciders.voters)
    };
    let known = &state.deciders();
    let made = [made];
    assert_eq!(after(known, &made, true), Ok(vec![node(4)]));
    assert_eq!(after(known, &made, false), Err(EpochError::NotDecided));
    // Not by another voter that is left, nor by one who names fewer than are left, nor from
    // nowhere.
    let stranger = decided(&state, &cert, &loss, &[5]);
    assert_eq!(after(known, &[stranger], true), Err(EpochError::NotDecided));
    let (_, mut fewer) = Loss::of(&state, lost(&[1, 2])).propose(&state, [0; 32], node(5)).unwrap();
    assert_eq!(fewer.ops.pop(), Some(EpochOp::SetVoters([3, 4, 5].map(node).to_vec())));
    fewer.ops.push(EpochOp::SetVoters(vec![node(5)]));
    let fewer = by_admin(fewer, state.cluster_id).sign_alone(state.cluster_id, &key(5));
    assert_eq!(after(known, &[fewer], true), Err(EpochError::NotDecided));
    let nobody = Deciders { voters: Vec::new(), ..known.clone() };
    assert_eq!(after(&nobody, &made, true), Err(EpochError::NotDecided));
    // Nor back into a generation that is over.
    let (next, _) = loss.propose(&state, cert.proposal.hash(), node(4)).unwrap();
    let old = next_of(&state, &cert);
    assert_eq!(after(&next.deciders(), &[old], true), Err(EpochError::NotNext));
}

/// An epoch of the old generation, as node 4 alone would sign it.
fn next_of(state: &EpochState, cert: &EpochCert) -> EpochCert {
    let (_, proposal) = state.propose(cert.proposal.hash(), vec![], node(4)).unwrap();
    by_admin(proposal, state.cluster_id).sign_alone(state.cluster_id, &key(4))
}

#[test]
fn voters_that_left_before_are_no_electors() {
    let (mut state, _) = five(5);
    state.members[2].state = MemberState::Left;
    let loss = Loss::of(&state, lost(&[4, 5]));
    assert!(loss.is_of_majority(&state), "two of five are left");
    assert_eq!(loss.electors(&state), [node(1)]);
    assert!(loss.propose(&state, [0; 32], node(1)).is_ok());
}
