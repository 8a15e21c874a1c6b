//! The chain: what may follow what, and what a certificate proves.

use ed25519_dalek::SigningKey;

use crate::codec::Canonical;
use crate::id::{ClusterId, NodeId, VaultId};
use crate::layout::epoch::{
    EpochCert, EpochError, EpochOp, EpochProposal, EpochState, Member, MemberState, NO_CAP, Role,
    Stage,
};

pub(super) fn key(of: u8) -> SigningKey {
    SigningKey::from_bytes(&[of; 32])
}

pub(super) fn node(of: u8) -> NodeId {
    NodeId::new(key(of).verifying_key().to_bytes())
}

/// A member as it joins.
pub(super) fn member(of: u8, idx: u16) -> Member {
    Member {
        node_id: node(of),
        idx,
        zone: "z".to_owned(),
        capacity: 1,
        state: MemberState::Active,
        role: Role::Unvouched,
        cap: NO_CAP,
    }
}

/// A gateway.
pub(super) fn gateway(of: u8, idx: u16) -> Member {
    Member { role: Role::Gateway, ..member(of, idx) }
}

/// A gateway joins.
pub(super) fn add(of: u8, idx: u16) -> Vec<EpochOp> {
    vec![EpochOp::AddMember(member(of, idx)), role(of, Role::Gateway)]
}

pub(super) fn role(of: u8, role: Role) -> EpochOp {
    EpochOp::SetRole { node: node(of), role, cap: NO_CAP }
}

/// The key of the admin.
pub(super) fn admin() -> SigningKey {
    key(200)
}

/// Whose files the cluster is for.
pub(super) const VAULT: VaultId = VaultId::new([20; VaultId::LEN]);

/// The proposal, signed by the admin.
pub(super) fn by_admin(proposal: EpochProposal, cluster: ClusterId) -> EpochProposal {
    proposal.authorized(&admin(), |_| cluster)
}

pub(super) fn genesis() -> (EpochState, EpochCert) {
    EpochState::genesis(member(1, 0), [7; 32], &key(1), &admin(), VAULT)
}

fn next(state: &EpochState, cert: &EpochCert, ops: Vec<EpochOp>, by: u8) -> EpochCert {
    let (_, proposal) = state.propose(cert.proposal.hash(), ops, node(by)).unwrap();
    by_admin(proposal, state.cluster_id).sign_alone(state.cluster_id, &key(by))
}

#[test]
fn a_voters_epoch_is_followed_and_everyone_reaches_the_same_state() {
    let (state, cert) = genesis();
    let decided = next(&state, &cert, vec![EpochOp::AddMember(member(2, 1))], 1);
    let followed = state.follow(cert.proposal.hash(), &decided).unwrap();
    assert_eq!(followed.epoch, 2);
    assert!(followed.is_member(&node(2)));
    assert_eq!(EpochState::from_canonical(followed.to_canonical()), Ok(followed));
    assert_eq!(EpochCert::from_canonical(decided.to_canonical()), Ok(decided));
}

#[test]
fn an_epoch_without_the_voters_signature_is_refused() {
    let (state, cert) = genesis();
    let op = vec![EpochOp::AddMember(member(2, 1))];
    let stranger = next(&state, &cert, op.clone(), 2);
    assert_eq!(state.follow(cert.proposal.hash(), &stranger), Err(EpochError::NotDecided));
    let mut changed = next(&state, &cert, op, 1);
    changed.proposal.ops = vec![EpochOp::AddMember(member(3, 1))];
    assert_eq!(state.follow(cert.proposal.hash(), &changed), Err(EpochError::NotDecided));
}

#[test]
fn a_signature_for_another_cluster_does_not_count() {
    let (state, cert) = genesis();
    let (other, _) = EpochState::genesis(member(1, 0), [8; 32], &key(1), &admin(), VAULT);
    let op = vec![EpochOp::AddMember(member(2, 1))];
    let (_, proposal) = state.propose(cert.proposal.hash(), op, node(1)).unwrap();
    let foreign = by_admin(proposal, state.cluster_id).sign_alone(other.cluster_id, &key(1));
    assert_eq!(state.follow(cert.proposal.hash(), &foreign), Err(EpochError::NotDecided));
}

#[test]
fn an_epoch_on_another_predecessor_or_number_is_refused() {
    let (state, cert) = genesis();
    let decided = next(&state, &cert, vec![EpochOp::AddMember(member(2, 1))], 1);
    assert_eq!(state.follow([0; 32], &decided), Err(EpochError::NotNext));
    let later = state.follow(cert.proposal.hash(), &decided).unwrap();
    assert_eq!(later.follow(cert.proposal.hash(), &decided), Err(EpochError::NotNext));
}

#[test]
fn nothing_follows_the_last_epoch_there_can_be() {
    let (state, cert) = genesis();
    let last = EpochState { epoch: u64::MAX, ..state.clone() };
    let decided = next(&state, &cert, Vec::new(), 1);
    assert_eq!(last.follow(cert.proposal.hash(), &decided), Err(EpochError::NotNext));
    let proposed = last.propose([0; 32], Vec::new(), node(1));
    assert_eq!(proposed.unwrap_err(), EpochError::BadOp("there is no later epoch"));
}

#[track_caller]
fn refused(ops: Vec<EpochOp>) {
    let (state, cert) = genesis();
    let result = state.propose(cert.proposal.hash(), ops, node(1));
    assert!(matches!(result, Err(EpochError::BadOp(_))), "{result:?}");
}

#[test]
fn ops_that_make_no_sense_are_refused() {
    refused(vec![EpochOp::AddMember(member(1, 1))]);
    refused(vec![EpochOp::AddMember(member(2, 5))]);
    refused(vec![EpochOp::SetVoters(vec![])]);
    refused(vec![EpochOp::SetVoters(vec![node(9)])]);
    refused(vec![EpochOp::SetVoters(vec![node(1), node(1), node(1)])]);
    refused(vec![EpochOp::Prepare { partition: 0, next: vec![] }]);
    refused(vec![EpochOp::Prepare { partition: 0, next: vec![0, 0] }]);
    refused(vec![EpochOp::Prepare { partition: 0, next: vec![3] }]);
    refused(vec![EpochOp::Prepare { partition: 5000, next: vec![0] }]);
    refused(vec![EpochOp::Switch(0)]);
    refused(vec![EpochOp::Done(0)]);
    refused(vec![EpochOp::Abort(0)]);
    refused(vec![EpochOp::SetState(node(9), MemberState::Out)]);
}

#[test]
fn a_partition_moves_in_three_epochs() {
    let (mut state, mut cert) = genesis();
    let mut step = |ops| {
        let decided = next(&state, &cert, ops, 1);
        state = state.follow(cert.proposal.hash(), &decided).unwrap();
        cert = decided;
        state.clone()
    };
    step(add(2, 1));
    let prepared = step(vec![EpochOp::Prepare { partition: 3, next: vec![0, 1] }]);
    assert_eq!(prepared.write_sets(3), [vec![node(1)], vec![node(1), node(2)]]);
    assert_eq!(prepared.read_set(3), [node(1)]);
    assert_eq!(prepared.row(3).changed, 3);
    let switched = step(vec![EpochOp::Switch(3)]);
    assert_eq!(switched.read_set(3), [node(1), node(2)]);
    assert_eq!(switched.write_sets(3).len(), 2);
    let done = step(vec![EpochOp::Done(3)]);
    assert_eq!(done.write_sets(3), [vec![node(1), node(2)]]);
    assert_eq!((done.row(3).stage, done.row(3).former.len()), (Stage::Stable, 0));
    assert_eq!(done.row(2).changed, 1, "other rows are fenced by nothing");
}

#[test]
fn an_aborted_move_remembers_who_may_hold_data() {
    let (state, cert) = genesis();
    let decided = next(&state, &cert, add(2, 1), 1);
    let state = state.follow(cert.proposal.hash(), &decided).unwrap();
    let prepare = EpochOp::Prepare { partition: 0, next: vec![0, 1] };
    let (state, _) = state.propose([0; 32], vec![prepare], node(1)).unwrap();
    let (state, _) = state.propose([0; 32], vec![EpochOp::Abort(0)], node(1)).unwrap();
    assert_eq!(state.row(0).former, [1]);
    assert_eq!(state.write_sets(0), [vec![node(1)]]);
    assert!(state.holders(0).contains(&node(2)));
}

#[test]
fn a_cut_or_flipped_state_never_panics() {
    let bytes = genesis().0.to_canonical();
    for at in (0..bytes.len()).step_by(31) {
        assert!(EpochState::from_canonical(bytes[..at].to_vec()).is_err());
        let mut flipped = bytes.clone();
        flipped[at] ^= 0xff;
        // It may decode to another state; whoever adopts it checks its hash.
        let _ = EpochState::from_canonical(flipped);
    }
}
