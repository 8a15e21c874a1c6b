//! Whose signature a change needs, and what a role allows.

use super::epoch::{VAULT, add, admin, by_admin, genesis, key, member, node, role};
use crate::codec::Canonical;
use crate::id::{AdminId, InviteId, VaultId};
use crate::layout::epoch::{
    BURNT_MAX, Burnt, Deciders, EpochCert, EpochError, EpochOp, EpochState, Member, MemberState,
    NO_CAP, Role, Row, VAULTS_MAX, deciders_after,
};

fn id(of: u8) -> AdminId {
    AdminId::of(&key(of))
}

/// What voter 1 decides, signed by the admin of this key or by none.
fn decided(state: &EpochState, cert: &EpochCert, ops: Vec<EpochOp>, by: Option<u8>) -> EpochCert {
    let (_, proposal) = state.propose(cert.proposal.hash(), ops, node(1)).unwrap();
    let proposal = match by {
        Some(by) => proposal.authorized(&key(by), |_| state.cluster_id),
        None => proposal,
    };
    proposal.sign_alone(state.cluster_id, &key(1))
}

#[test]
fn nothing_is_decided_without_an_admin_whoever_votes() {
    let (state, cert) = genesis();
    let refused = |made: &EpochCert| {
        assert_eq!(state.follow(cert.proposal.hash(), made), Err(EpochError::NotAuthorized));
        let changes = [cert.clone(), made.clone()];
        let after =
            deciders_after(state.cluster_id, Deciders::none(), &changes, |_| true, |_| true);
        assert_eq!(after, Err(EpochError::NotAuthorized));
    };
    // By the voter itself, by another key, and by one that the change makes an admin.
    refused(&decided(&state, &cert, add(2, 1), None));
    refused(&decided(&state, &cert, add(2, 1), Some(1)));
    refused(&decided(&state, &cert, vec![EpochOp::SetAdmins(vec![id(1)])], Some(1)));
    // With the signature of another change, or of another cluster.
    let good = decided(&state, &cert, add(3, 1), Some(200));
    let mut moved = decided(&state, &cert, add(2, 1), Some(200));
    moved.proposal.authority = good.proposal.authority;
    refused(&moved.proposal.sign_alone(state.cluster_id, &key(1)));
    let (other, _) = EpochState::genesis(member(1, 0), [8; 32], &key(1), &admin(), VAULT);
    let (_, proposal) = state.propose(cert.proposal.hash(), add(2, 1), node(1)).unwrap();
    refused(&by_admin(proposal, other.cluster_id).sign_alone(state.cluster_id, &key(1)));
    assert!(
        state.follow(cert.proposal.hash(), &decided(&state, &cert, add(2, 1), Some(200))).is_ok()
    );
}

#[test]
fn a_new_admin_signs_from_the_next_epoch_on() {
    let (state, cert) = genesis();
    let both = vec![EpochOp::SetAdmins(vec![id(200), id(201)])];
    let named = decided(&state, &cert, both, Some(200));
    let next = state.follow(cert.proposal.hash(), &named).unwrap();
    let by_new = decided(&next, &named, add(2, 1), Some(201));
    assert!(next.follow(named.proposal.hash(), &by_new).is_ok());
    assert!(named.proposal.changes_deciders());
    let changes = [cert, named, by_new];
    let after = deciders_after(state.cluster_id, Deciders::none(), &changes, |_| true, |_| true);
    assert_eq!(after, Ok(next.deciders()));
}

#[test]
fn what_founds_a_cluster_is_signed_by_the_admin_it_names() {
    let (state, cert) = genesis();
    let after = |cert: EpochCert| {
        deciders_after(state.cluster_id, Deciders::none(), &[cert], |_| true, |_| true)
    };
    assert_eq!(after(cert.clone()), Ok(state.deciders()));
    let mut forged = cert;
    forged.proposal.authority.as_mut().unwrap().signature[0] ^= 1;
    assert!(forged.founds(state.cluster_id), "the signature is no part of the id");
    assert_eq!(after(forged), Err(EpochError::NotAuthorized));
}

/// A cluster of the time before admins: no admins, no roles, no signature of one.
fn ungoverned() -> (EpochState, EpochCert) {
    let (mut state, cert) = genesis();
    state.admins.clear();
    state.vaults.clear();
    state.members = vec![member(1, 0), member(2, 1)];
    state.voters = vec![node(1)];
    (state, cert)
}

#[test]
fn a_cluster_of_before_is_governed_by_the_first_admin_it_names() {
    let (state, cert) = ungoverned();
    assert_eq!(EpochState::from_canonical(state.to_canonical()), Ok(state.clone()));
    assert_eq!(state.active().count(), 2, "whoever was in counts");
    // It goes on as it did until then.
    let old = decided(&state, &cert, vec![EpochOp::AddMember(member(3, 2))], None);
    assert_eq!(EpochCert::from_canonical(old.to_canonical()), Ok(old.clone()));
    let state = state.follow(cert.proposal.hash(), &old).unwrap();
    let take_over = |by| {
        let ops =
            vec![EpochOp::SetAdmins(vec![id(200)]), role(1, Role::Gateway), role(2, Role::Storage)];
        decided(&state, &old, ops, by)
    };
    for by in [None, Some(1)] {
        let made = state.follow(old.proposal.hash(), &take_over(by));
        assert_eq!(made, Err(EpochError::NotAuthorized));
    }
    let governed = state.follow(old.proposal.hash(), &take_over(Some(200))).unwrap();
    assert_eq!(governed.cluster_id, state.cluster_id);
    let active: Vec<_> = governed.active().map(|member| member.node_id).collect();
    assert_eq!(active, [node(1), node(2)], "for the third nobody vouched");
    assert_eq!(EpochState::from_canonical(governed.to_canonical()), Ok(governed));
}

#[test]
fn a_cluster_of_before_is_governed_whatever_standing_its_members_have() {
    let (mut state, _) = ungoverned();
    state.members[0].state = MemberState::Draining;
    state.voters = vec![node(2)];
    let ops = vec![
        EpochOp::SetAdmins(vec![id(200)]),
        role(1, Role::Gateway),
        EpochOp::SetVoters(vec![node(1)]),
        role(2, Role::Storage),
    ];
    let (governed, _) = state.propose([0; 32], ops, node(1)).unwrap();
    let active: Vec<_> = governed.active().map(|member| member.node_id).collect();
    assert_eq!((active, governed.voters), (vec![node(2)], vec![node(1)]));
}

#[test]
fn what_a_storage_member_brings_is_kept_where_the_cluster_is_for_it() {
    let (mut state, cert) = genesis();
    let other = VaultId::new([21; 16]);
    let joined = [add(2, 1), add(3, 2), vec![role(3, Role::Storage)]].concat();
    state = state.propose([0; 32], joined, node(1)).unwrap().0;
    assert!(state.may_bring(&node(3), &VAULT));
    assert!(!state.may_bring(&node(3), &other));
    assert!(!state.may_bring(&node(9), &other), "nor a stranger");
    assert!(state.may_bring(&node(2), &other), "what gateways brought once moves on");
    let both = vec![EpochOp::SetVaults(vec![VAULT, other])];
    let named = decided(&genesis().0, &cert, both.clone(), Some(200));
    let after = genesis().0.follow(cert.proposal.hash(), &named).unwrap();
    assert_eq!(after.vaults, [VAULT, other]);
    let (state, _) = state.propose([0; 32], both, node(1)).unwrap();
    assert!(state.may_bring(&node(3), &other));
    for bad in [vec![], vec![VAULT, VAULT], vec![VAULT; VAULTS_MAX + 1]] {
        assert!(state.propose([0; 32], vec![EpochOp::SetVaults(bad)], node(1)).is_err());
    }
}

#[test]
fn a_cluster_that_names_no_vault_keeps_its_bytes_and_what_anyone_brings() {
    let (mut state, _) = genesis();
    let (named, other) = (state.to_canonical().len(), VaultId::new([21; 16]));
    state.vaults.clear();
    let bytes = state.to_canonical();
    assert_eq!((bytes[0], named - bytes.len()), (2, 16 + 4));
    assert_eq!(EpochState::from_canonical(bytes), Ok(state.clone()));
    assert!(state.may_bring(&node(9), &other));
    // Where nobody governs yet, nobody says whose files are kept.
    let (ungoverned, _) = ungoverned();
    let named = ungoverned.propose([0; 32], vec![EpochOp::SetVaults(vec![VAULT])], node(1));
    assert!(named.is_err());
}

#[test]
fn a_role_says_what_a_member_may_do() {
    let (state, _) = genesis();
    let propose = |ops| state.propose([0; 32], ops, node(1)).map(|(state, _)| state);
    let joined =
        |then: Vec<EpochOp>| propose([vec![EpochOp::AddMember(member(2, 1))], then].concat());
    let hold = EpochOp::Prepare { partition: 0, next: vec![0, 1] };
    let vote = EpochOp::SetVoters(vec![node(2)]);
    for (role_of, holds, votes) in
        [(Role::Unvouched, false, false), (Role::Storage, true, false), (Role::Gateway, true, true)]
    {
        assert_eq!(joined(vec![role(2, role_of), hold.clone()]).is_ok(), holds, "{role_of:?}");
        assert_eq!(joined(vec![role(2, role_of), vote.clone()]).is_ok(), votes, "{role_of:?}");
    }
    assert!(propose(vec![role(1, Role::Storage)]).is_err(), "a voter stays a gateway");
    let vouched = member(2, 1);
    let vouched = crate::layout::epoch::Member { role: Role::Storage, ..vouched };
    assert!(propose(vec![EpochOp::AddMember(vouched)]).is_err(), "a role is a change of its own");
    for admins in [vec![], vec![id(1), id(1)], (0..17).map(id).collect()] {
        assert!(propose(vec![EpochOp::SetAdmins(admins)]).is_err());
    }
    // A member that left is no gateway any more.
    let left = joined(vec![role(2, Role::Gateway), EpochOp::SetState(node(2), MemberState::Left)]);
    assert!(!left.unwrap().is_gateway(&node(2)));
}

#[test]
fn an_invite_is_burnt_once_and_forgotten_when_it_has_lapsed() {
    let (state, _) = genesis();
    let burn = |state: &EpochState, of: u8, expires_ms, now_ms| {
        let burnt = Burnt { invite: InviteId::new([of; 16]), expires_ms };
        state.propose([0; 32], vec![EpochOp::BurnInvite { burnt, now_ms }], node(1))
    };
    let (one, _) = burn(&state, 1, 10, 5).unwrap();
    assert!(one.is_burnt(&InviteId::new([1; 16])) && !one.is_burnt(&InviteId::new([2; 16])));
    assert!(burn(&one, 1, 10, 5).is_err());
    assert!(burn(&one, 1, 10, 20).is_err(), "also when it has lapsed: it admits nobody then");
    // A day later than it lapses, for clocks differ.
    let day = 24 * 60 * 60 * 1000;
    let (two, _) = burn(&one, 2, 30, 10 + day).unwrap();
    assert_eq!(two.burnt.len(), 2);
    let (three, _) = burn(&two, 3, 30, 11 + day).unwrap();
    assert!(!three.is_burnt(&InviteId::new([1; 16])));
    let full = EpochState { burnt: vec![two.burnt[1]; BURNT_MAX], ..state };
    assert!(burn(&full, 3, 40, 30 + day).is_err() && burn(&full, 3, 40, 31 + day).is_ok());
}

#[test]
fn a_cap_holds_whatever_a_member_offers() {
    let (state, _) = genesis();
    let capped = |cap| EpochOp::SetRole { node: node(2), role: Role::Storage, cap };
    let offers = |capacity| EpochOp::UpdateMember { node: node(2), zone: "z".to_owned(), capacity };
    let ops = vec![EpochOp::AddMember(member(2, 1)), capped(5), offers(1000)];
    let (state, _) = state.propose([0; 32], ops, node(1)).unwrap();
    assert_eq!(state.members[1].capacity, 5);
    let (state, _) = state.propose([0; 32], vec![capped(3)], node(1)).unwrap();
    assert_eq!(state.members[1].capacity, 3);
    let (state, _) = state.propose([0; 32], vec![capped(NO_CAP), offers(9)], node(1)).unwrap();
    assert_eq!(state.members[1].capacity, 9);
}

/// Members 1 to 4 hold partition 0, those named are gateways.
fn held_by_four(gateways: &[u8]) -> EpochState {
    let (mut state, _) = genesis();
    let roles = (1..=4u8).map(|of| {
        let role = if gateways.contains(&of) { Role::Gateway } else { Role::Storage };
        Member { role, ..member(of, u16::from(of) - 1) }
    });
    state.members = roles.collect();
    state.rows[0].current = vec![0, 1, 2, 3];
    state
}

#[test]
fn a_guarded_quorum_has_the_gateways_or_else_everyone() {
    let nodes = |of: &[u8]| of.iter().map(|of| node(*of)).collect::<Vec<_>>();
    for (gateways, set, expected) in [
        (&[1][..], &[1, 2, 3][..], vec![nodes(&[1])]),
        (&[1, 2], &[1, 2, 3], vec![nodes(&[1, 2])]),
        (&[1, 2, 3], &[1, 2, 3], vec![]),
        (&[4], &[1, 2, 3], vec![nodes(&[1]), nodes(&[2]), nodes(&[3])]),
    ] {
        let state = held_by_four(gateways);
        assert_eq!(state.guards(&[nodes(set)]), expected, "{gateways:?} of {set:?}");
    }
    let mut ungoverned = held_by_four(&[1]);
    ungoverned.admins.clear();
    assert!(ungoverned.guards(&[nodes(&[1, 2, 3])]).is_empty());
}

#[test]
fn a_gateway_has_others_forget_where_there_is_one() {
    let state = held_by_four(&[3]);
    assert_eq!(state.collector(0), Some(node(3)));
    assert!(state.may_collect(0, &node(3)) && !state.may_collect(0, &node(1)));
    let state = held_by_four(&[]);
    assert_eq!(state.collector(0), Some(node(1)));
    assert!(state.may_collect(0, &node(2)), "nobody else would");
    assert!(!state.may_collect(0, &node(9)));
}

#[test]
fn what_moves_is_pulled_from_gateways_that_hold_it() {
    let has = |state: &EpochState, pulled: &[u16]| {
        let row = Row { current: vec![0, 1, 2], next: vec![3], ..state.rows[0].clone() };
        state.has_sources(&row, |idx| pulled.contains(&idx))
    };
    let state = held_by_four(&[1, 4]);
    assert!(has(&state, &[0, 1]));
    assert!(!has(&state, &[1, 2]), "a liar and one that lags");
    assert!(!has(&state, &[0]), "too few");
    let mut gone = state.clone();
    gone.members[0].state = MemberState::Out;
    assert!(has(&gone, &[1, 2]));
    assert!(has(&held_by_four(&[4]), &[1, 2]), "no gateway holds it");
}
