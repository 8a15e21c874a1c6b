//! Valid values that the corpora begin from, each under its name.

use std::collections::BTreeMap;

use ed25519_dalek::Signer;

use super::epoch::{by_admin, gateway, genesis, key, member, node, role};
use crate::address::TEXT_BYTES_MAX;
use crate::codec::{Canonical, Writer};
use crate::hlc::Hlc;
use crate::id::{
    AdminId, BlobId, DirId, InviteId, NodeId, PartitionBits, RecordKey, Tag, VaultId, Vid,
};
use crate::layout::epoch::{
    ADMINS_MAX, BURNT_MAX, Burnt, EpochCert, EpochOp, EpochState, MEMBERS_MAX, Member, MemberState,
    Role, Row, Stage, VAULTS_MAX, VOTERS_MAX,
};
use crate::node::liveness::Reach;
use crate::node::member::{ADDRS_MAX, Clean, FACTS_MAX, MoveFact, NodeInfo};
use crate::record::refs::RefRow;
use crate::record::version::{
    CONTEXT_MAX, HEADS_MAX, Kind, RETAINED_MAX, Record, Retained, SEALED_BYTES_MAX, Version, merge,
};
use crate::record::writer::WriterCert;
use crate::replica::scrub::{Ended, Found, Pass, Scrub};

/// The canonical bytes of the value with this name.
pub(super) fn valid(name: &str) -> Vec<u8> {
    match name {
        "version" => signed(Kind::Live).to_canonical(),
        "dead" => dead().to_canonical(),
        "dead-kept" => signed(Kind::Dead).to_canonical(),
        "version-at-limits" => version_at_limits().to_canonical(),
        "record" => record(2).to_canonical(),
        "record-at-limits" => record(HEADS_MAX).to_canonical(),
        "cert" => cert().to_canonical(),
        "ref" => ref_row().to_canonical(),
        "info" => info().to_canonical(),
        "scrub" => scrub().to_canonical(),
        "scrub-new" => Scrub::of(&NodeId::new([9; 32]), 1_800_000_000_000).to_canonical(),
        "info-at-limits" => info_at_limits().to_canonical(),
        "state" => state().to_canonical(),
        "state-at-limits" => state_at_limits().to_canonical(),
        "genesis" => genesis().0.to_canonical(),
        "node-text" => NodeId::new([1; 32]).to_string().into(),
        "epoch" => next(next_ops()).to_canonical(),
        "epoch-of-each-op" => next(each_op()).to_canonical(),
        "epoch-unsigned" => next_by(None).to_canonical(),
        "epoch-of-stranger" => next_by(Some(9)).to_canonical(),
        "epoch-bad-op" => next_unchecked(vec![EpochOp::Done(3)]).to_canonical(),
        "epoch-other-state" => next_unchecked(next_ops()).to_canonical(),
        _ => panic!("no valid value is called {name}"),
    }
}

/// Two values as the fuzz targets take them.
pub(super) fn pair(first: &str, second: &str) -> Vec<u8> {
    let first = valid(first);
    let mut out = Writer::default();
    out.u16(u16::try_from(first.len()).unwrap());
    out.fixed(&first);
    out.fixed(&valid(second));
    out.into_vec()
}

pub(super) fn cert() -> WriterCert {
    WriterCert::issue(&key(1), key(2).verifying_key().to_bytes(), 1000)
}

pub(super) fn record_key() -> RecordKey {
    RecordKey { vault: cert().vault, dir: DirId::new([1; 16]), tag: Tag::new([2; 16]) }
}

fn retained() -> Retained {
    Retained { vid: Vid::new([3; 16]), refs_root: None, chunks: 4, hlc: Hlc(5) }
}

/// Two actors in the context, one earlier version, six sealed bytes; 283 bytes in all.
fn signed(kind: Kind) -> Version {
    sign(Version {
        vid: Vid::new([9; 16]),
        actor: 7,
        hlc: Hlc(8),
        context: BTreeMap::from([(5, Hlc(6)), (7, Hlc(7))]),
        kind,
        sealed: b"sealed".to_vec().into(),
        refs_root: Some(BlobId::new([0xcc; 32])),
        chunks: 2,
        bytes_stored: 3,
        retained: vec![retained()],
        writer: cert().id(),
        signature: [0; 64],
    })
}

/// A tombstone of a name that had no version worth keeping.
fn dead() -> Version {
    sign(Version { sealed: Vec::new().into(), retained: Vec::new(), ..signed(Kind::Dead) })
}

fn sign(mut version: Version) -> Version {
    version.signature = key(2).sign(&version.signed_bytes(&record_key())).to_bytes();
    version
}

fn version_at_limits() -> Version {
    Version {
        context: (0..CONTEXT_MAX as u64).map(|actor| (actor, Hlc(actor))).collect(),
        retained: vec![retained(); RETAINED_MAX],
        sealed: vec![1; SEALED_BYTES_MAX].into(),
        ..signed(Kind::Live)
    }
}

/// Heads that have not seen each other.
fn record(heads: usize) -> Record {
    (0..heads).fold(Record::default(), |record, at| {
        let mut vid = [0; 16];
        vid[..8].copy_from_slice(&(at as u64).to_be_bytes());
        let context = BTreeMap::new();
        let head = Version { vid: Vid::new(vid), actor: at as u64, context, ..signed(Kind::Live) };
        merge(&record, &Record::of(head))
    })
}

fn ref_row() -> RefRow {
    RefRow {
        blob: BlobId::new([1; 32]),
        vid: Vid::new([2; 16]),
        key: record_key(),
        hlc: Hlc(3),
        dropped: true,
        hold_until: Hlc(4),
    }
}

fn info() -> NodeInfo {
    let info = NodeInfo {
        node_id: node(1),
        incarnation: 1,
        seq: Hlc(2),
        addrs: vec!["127.0.0.1:3000".to_owned()],
        zone: "z".to_owned(),
        capacity: 5,
        used: 4,
        build: "test".to_owned(),
        durable_epoch: 3,
        repair_queue: 2,
        lost: 1,
        synced: vec![MoveFact { first: 0, last: 9, prepare_epoch: 7 }],
        bodies: Vec::new(),
        emptied: Vec::new(),
        reach: Reach::of([0]),
        clean: Clean { at: Hlc(9), epoch: 3 },
        signature: [0; 64],
    };
    info.sign(&key(1))
}

fn info_at_limits() -> NodeInfo {
    let longest = "x".repeat(TEXT_BYTES_MAX);
    let facts = vec![MoveFact { first: 0, last: 9, prepare_epoch: 7 }; FACTS_MAX];
    NodeInfo {
        addrs: vec![longest.clone(); ADDRS_MAX],
        zone: longest.clone(),
        build: longest,
        synced: facts.clone(),
        bodies: facts.clone(),
        emptied: facts,
        reach: Reach::of(0..u16::try_from(MEMBERS_MAX).unwrap()),
        ..info()
    }
}

/// Two members, one voter, two partitions, of which one moves.
fn state() -> EpochState {
    let stable = Row {
        changed: 1,
        current: vec![0],
        next: Vec::new(),
        stage: Stage::Stable,
        prepare_epoch: 0,
        former: vec![1],
    };
    let next = vec![1, 0];
    let moving =
        Row { next, stage: Stage::Prepare, prepare_epoch: 1, former: Vec::new(), ..stable.clone() };
    EpochState {
        epoch: 2,
        bits: PartitionBits::new(1).unwrap(),
        members: vec![gateway(1, 0), gateway(2, 1)],
        rows: vec![stable, moving],
        ..genesis().0
    }
}

fn state_at_limits() -> EpochState {
    let members = (0..MEMBERS_MAX).map(|at| gateway(2, u16::try_from(at).unwrap()));
    let zone = "x".repeat(TEXT_BYTES_MAX);
    EpochState {
        members: members.map(|member| Member { zone: zone.clone(), ..member }).collect(),
        voters: vec![node(1); VOTERS_MAX],
        admins: vec![AdminId::new([8; 32]); ADMINS_MAX],
        vaults: vec![VaultId::new([4; 16]); VAULTS_MAX],
        burnt: vec![burnt(); BURNT_MAX],
        ..state()
    }
}

fn burnt() -> Burnt {
    Burnt { invite: InviteId::new([3; 16]), expires_ms: 5 }
}

fn next_ops() -> Vec<EpochOp> {
    vec![EpochOp::AddMember(member(2, 1))]
}

/// Every kind of change, in an order that is allowed.
fn each_op() -> Vec<EpochOp> {
    vec![
        EpochOp::AddMember(member(2, 1)),
        role(2, Role::Gateway),
        EpochOp::SetAdmins(vec![AdminId::new([8; 32]), AdminId::new([9; 32])]),
        EpochOp::SetVaults(vec![VaultId::new([4; 16]), VaultId::new([5; 16])]),
        EpochOp::SetVoters(vec![node(2)]),
        EpochOp::SetRole { node: node(1), role: Role::Storage, cap: 1 },
        EpochOp::BurnInvite { burnt: burnt(), now_ms: 4 },
        EpochOp::Prepare { partition: 0, next: vec![1, 0] },
        EpochOp::Switch(0),
        EpochOp::Done(0),
        EpochOp::Prepare { partition: 1, next: vec![1] },
        EpochOp::Abort(1),
        EpochOp::SetState(node(1), MemberState::Draining),
        EpochOp::UpdateMember { node: node(2), zone: "y".to_owned(), capacity: 7 },
        EpochOp::SetState(node(1), MemberState::Left),
        EpochOp::Force(0),
        EpochOp::FormerClean { partition: 0, holder: 0 },
    ]
}

/// The epoch after the first.
fn next(ops: Vec<EpochOp>) -> EpochCert {
    let (state, cert) = genesis();
    let (_, proposal) = state.propose(cert.proposal.hash(), ops, node(1)).unwrap();
    by_admin(proposal, state.cluster_id).sign_alone(state.cluster_id, &key(1))
}

/// The same, signed by a key that is no admin's, or by none.
fn next_by(stranger: Option<u8>) -> EpochCert {
    let (state, cert) = genesis();
    let (_, proposal) = state.propose(cert.proposal.hash(), next_ops(), node(1)).unwrap();
    let proposal = match stranger {
        Some(of) => proposal.authorized(&key(of), |_| state.cluster_id),
        None => proposal,
    };
    proposal.sign_alone(state.cluster_id, &key(1))
}

/// The same, decided although its changes do not lead to the state it claims.
fn next_unchecked(ops: Vec<EpochOp>) -> EpochCert {
    let (state, _) = genesis();
    let mut proposal = next(Vec::new()).proposal;
    proposal.ops = ops;
    by_admin(proposal, state.cluster_id).sign_alone(state.cluster_id, &key(1))
}

fn scrub() -> Scrub {
    let found = Found { good: 1, bytes: 2, bad: 3, unread: 4, sums: 5, rows: 6 };
    let after = Some(BlobId::new([7; 32]));
    let pass = Pass { began_ms: 8, hurried: true, sums_done: true, after, found };
    let last = Some(Ended { at_ms: 9, found });
    Scrub { paused: true, due_ms: 10, passes: 11, pass: Some(pass), last }
}
