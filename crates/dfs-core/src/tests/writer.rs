//! Certificates and signed versions: genuine or refused.

use std::collections::BTreeMap;

use ed25519_dalek::Signer;

use super::epoch::key;
use super::versions::version;
use crate::codec::Canonical;
use crate::hlc::Hlc;
use crate::id::{DirId, RecordKey, Tag};
use crate::record::version::{Kind, Place, Retained, Version};
use crate::record::writer::{ForgedError, WriterCert};
use crate::signature::BadSignature;

fn signed(cert: &WriterCert, key_of: &RecordKey, kind: Kind) -> Version {
    let place = Place { actor: 1, hlc: Hlc(5), context: BTreeMap::new() };
    let mut version = version(1, place, kind);
    version.writer = cert.id();
    version.signature = key(2).sign(&version.signed_bytes(key_of)).to_bytes();
    version
}

fn cert() -> WriterCert {
    WriterCert::issue(&key(1), key(2).verifying_key().to_bytes(), 1000)
}

fn record_key(cert: &WriterCert) -> RecordKey {
    RecordKey { vault: cert.vault, dir: DirId::new([1; 16]), tag: Tag::new([2; 16]) }
}

#[test]
fn a_certified_writers_version_is_genuine_for_its_own_name_only() {
    let cert = cert();
    assert_eq!(cert.verify(), Ok(()));
    assert_eq!(WriterCert::from_canonical(cert.to_canonical()), Ok(cert.clone()));
    let key = record_key(&cert);
    let version = signed(&cert, &key, Kind::Live);
    assert_eq!(cert.verify_version(&key, &version), Ok(()));
    let elsewhere = RecordKey { tag: Tag::new([3; 16]), ..key };
    assert_eq!(
        cert.verify_version(&elsewhere, &version),
        Err(ForgedError::Signature(BadSignature))
    );
}

#[test]
fn every_changed_field_of_a_version_is_noticed() {
    let cert = cert();
    let key = record_key(&cert);
    let good = signed(&cert, &key, Kind::Live);
    let changes: [fn(&mut Version); 9] = [
        |v| v.vid = crate::id::Vid::new([9; 16]),
        |v| v.actor = 9,
        |v| v.hlc = Hlc(9),
        |v| v.context = BTreeMap::from([(9, Hlc(9))]),
        |v| v.sealed = bytes::Bytes::from_static(b"other"),
        |v| v.refs_root = Some(crate::id::BlobId::new([9; 32])),
        |v| v.chunks = 9,
        |v| v.bytes_stored = 9,
        |v| v.retained.push(Retained { vid: v.vid, refs_root: None, chunks: 0, hlc: v.hlc }),
    ];
    for change in changes {
        let mut version = good.clone();
        change(&mut version);
        assert_eq!(cert.verify_version(&key, &version), Err(ForgedError::Signature(BadSignature)));
    }
    let mut dead = good.clone();
    dead.kind = Kind::Dead;
    assert_eq!(cert.verify_version(&key, &dead), Err(ForgedError::Shape));
    let mut other = good;
    other.writer = crate::id::CertId::new([9; 32]);
    assert_eq!(cert.verify_version(&key, &other), Err(ForgedError::OtherCert));
}

#[test]
fn a_certificate_by_another_vault_is_forged() {
    let mut cert = cert();
    cert.not_after_unix_ms += 1;
    assert_eq!(cert.verify(), Err(ForgedError::Signature(BadSignature)));
    let mut cert = self::cert();
    cert.root = key(3).verifying_key().to_bytes();
    assert_eq!(cert.verify(), Err(ForgedError::OtherVault));
}
