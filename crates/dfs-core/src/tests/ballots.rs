//! Ballots of conditional writes: whose signature they need, and what replicas remember of them.

use super::epoch::{key as secret, node};
use super::versions::version;
use crate::codec::Canonical;
use crate::hlc::Hlc;
use crate::id::{DirId, RecordKey, Tag};
use crate::paxos::Ballot;
use crate::record::ballot::{Candidate, Dot, SignedBallot, Value};
use crate::record::version::{CONTEXT_MAX, Kind, Place, Record, Version, merge};
use crate::record::writer::{ForgedError, vault_id};
use crate::signature::BadSignature;

fn name(tag: u8) -> RecordKey {
    let vault = vault_id(&secret(1).verifying_key().to_bytes());
    RecordKey { vault, dir: DirId::new([1; 16]), tag: Tag::new([tag; 16]) }
}

fn ballot(round: u32) -> Ballot {
    Ballot { round, node: node(1) }
}

fn signed(round: u32) -> SignedBallot {
    SignedBallot::sign(&secret(1), &name(2), ballot(round))
}

fn some(hlc: u64) -> Version {
    version(1, Place { actor: 7, hlc: Hlc(hlc), context: [].into() }, Kind::Live)
}

fn put_forward(round: u32, version: Option<Version>) -> Candidate {
    Candidate::sign(&secret(1), &name(2), ballot(round), version)
}

fn holding(round: u32, version: Option<Version>) -> Record {
    let mut record = Record::default();
    record.accept(signed(round), put_forward(round, version));
    record
}

#[test]
fn only_the_vault_of_a_name_opens_ballots_for_it() {
    assert_eq!(signed(5).verify(&name(2)), Ok(()));
    let bad = Err(ForgedError::Signature(BadSignature));
    assert_eq!(signed(5).verify(&name(3)), bad, "it was signed for another name");
    let stranger = SignedBallot::sign(&secret(9), &name(2), ballot(5));
    assert_eq!(stranger.verify(&name(2)), Err(ForgedError::OtherVault));
    let SignedBallot::Signed(_, proof) = signed(5) else { panic!("it is signed") };
    assert_eq!(SignedBallot::Signed(ballot(6), proof).verify(&name(2)), bad);
}

#[test]
fn what_was_accepted_is_the_vaults_word_for_its_ballot() {
    let bad = Err(ForgedError::Signature(BadSignature));
    let genuine = put_forward(5, Some(some(3)));
    assert_eq!(genuine.verify(&name(2), &signed(5)), Ok(()));
    assert_eq!(genuine.settled().verify(&name(2), &signed(5)), Ok(()));
    assert_eq!(genuine.verify(&name(2), &signed(6)), bad, "under another ballot");
    let other = Value::Open(Box::new(some(4)));
    let proof = genuine.proof;
    for value in [other, Value::Settled(None), Value::Settled(Some(Dot::of(&some(4))))] {
        assert_eq!(Candidate { value, proof }.verify(&name(2), &signed(5)), bad);
    }
    let unsigned = Candidate { proof: None, ..genuine.clone() };
    assert_eq!(unsigned.verify(&name(2), &signed(5)), Err(ForgedError::Unsigned));
    let of_before = SignedBallot::Unsigned(ballot(5));
    assert_eq!(unsigned.verify(&name(2), &of_before), Ok(()));
    assert_eq!(genuine.verify(&name(2), &of_before), Err(ForgedError::Unsigned));
}

#[test]
fn an_unsigned_ballot_binds_nobody_who_signs() {
    let of_before = SignedBallot::Unsigned(ballot(u32::MAX - 1));
    assert!(of_before < signed(1));
    let mut record = Record::default();
    record.prepare(of_before);
    record.prepare(signed(1));
    assert_eq!(record.register().promised(), Some(signed(1)));
}

#[test]
fn a_record_tells_of_forged_ballots_and_of_versions_it_hides() {
    assert_eq!(holding(5, Some(some(3))).verify_register(&name(2)), Ok(()));
    assert!(holding(5, Some(some(3))).verify_register(&name(3)).is_err());
    let mut promised = holding(5, None);
    promised.prepare(SignedBallot::sign(&secret(9), &name(2), ballot(9)));
    assert_eq!(promised.verify_register(&name(2)), Err(ForgedError::OtherVault));
    // What became a head is settled, and its name is kept.
    let open = holding(5, Some(some(3)));
    assert_eq!(open.candidate(), Some(&some(3)));
    let settled = merge(&open, &Record::of(some(3)));
    assert_eq!(settled.candidate(), None);
    assert_eq!(settled.verify_register(&name(2)), Ok(()));
    let mut hiding = Record::default();
    hiding.accept(signed(5), put_forward(5, Some(some(3))).settled());
    assert_eq!(hiding.verify_register(&name(2)), Err(ForgedError::Hidden));
    // One that was superseded so often that nobody remembers it hides nothing.
    let long_after = |first: u64| {
        let context = (0..CONTEXT_MAX as u64).map(|at| (100 + at, Hlc(first + at))).collect();
        let place = Place { actor: 9, hlc: Hlc(first + 1000), context };
        merge(&hiding, &Record::of(version(2, place, Kind::Live)))
    };
    assert_eq!(long_after(10).verify_register(&name(2)), Ok(()));
    assert_eq!(long_after(2).verify_register(&name(2)), Err(ForgedError::Hidden));
}

#[test]
fn records_with_signed_and_unsigned_ballots_have_one_encoding_each() {
    let mut promised = holding(5, Some(some(3)));
    promised.prepare(signed(6));
    let mut of_before = Record::of(some(2));
    let old = SignedBallot::Unsigned(ballot(5));
    of_before.accept(old, Candidate { value: Value::Settled(None), proof: None });
    let mut open_before = Record::default();
    let value = Value::Open(Box::new(some(3)));
    open_before.accept(old, Candidate { value, proof: None });
    let settled = merge(&holding(5, Some(some(3))), &Record::of(some(3)));
    for record in [promised, of_before, open_before, settled, holding(7, None)] {
        let bytes = record.to_canonical();
        let again = Record::from_canonical(bytes.clone()).unwrap();
        assert_eq!((&again, again.to_canonical()), (&record, bytes));
    }
}

#[test]
fn registers_of_before_keep_their_bytes() {
    let mut record = Record::default();
    record.prepare(SignedBallot::Unsigned(ballot(5)));
    let mut expected = vec![1, 0, 0, 0, 0, 1, 1, 0, 0, 0, 5];
    expected.extend_from_slice(node(1).as_bytes());
    expected.push(0);
    assert_eq!(record.to_canonical(), expected);
}
