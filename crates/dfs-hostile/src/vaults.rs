//! A vault of its own: whatever it signs with that key is genuine, and fills the disks of others.

use std::collections::BTreeMap;

use bytes::Bytes;
use dfs_core::hlc::Hlc;
use dfs_core::id::{BlobId, DirId, NodeId, RecordKey, Tag, Vid};
use dfs_core::record::refs::RefRow;
use dfs_core::record::version::{Kind, Record, Version};
use dfs_core::record::writer::WriterCert;
use dfs_p2p::message::{Origin, Priority, Request};
use ed25519_dalek::{Signer, SigningKey};

use crate::attacks::Tally;
use crate::member::Member;

/// The certificate of whoever writes in the vault that it made up.
pub fn own_cert() -> WriterCert {
    let root = SigningKey::from_bytes(&[66; 32]);
    WriterCert::issue(&root, writer().verifying_key().to_bytes(), u64::MAX)
}

fn writer() -> SigningKey {
    SigningKey::from_bytes(&[67; 32])
}

/// Records of that vault, and uses of blobs by them.
pub(crate) async fn fill_with_own(member: &Member, node: NodeId) -> Tally {
    let mut tally = Tally::default();
    for _ in 0..RECORDS_AT_ONCE {
        let (key, record) = own_record(member);
        let vid = Vid::new([66; Vid::LEN]);
        let (hlc, hold_until) = (Hlc(0), Hlc(0));
        let blob = BlobId::new(member.env.random());
        let row = RefRow { blob, vid, key, hlc, dropped: false, hold_until };
        let put = Request::RecordPut { records: vec![(key, record)], origin: Origin::Repair };
        for request in [put, Request::RefAdd(vec![row])] {
            tally.note(&member.ask(&node, Priority::Records, 0, request).await);
        }
    }
    tally
}

fn own_record(member: &Member) -> (RecordKey, Record) {
    let cert = own_cert();
    // In some partition each time.
    let mut dir = [0; DirId::LEN];
    dir[..8].copy_from_slice(&member.env.random_u64().to_be_bytes());
    let (dir, tag) = (DirId::new(dir), Tag::new([66; Tag::LEN]));
    let key = RecordKey { vault: cert.vault, dir, tag };
    let mut version = Version {
        vid: Vid::new([66; Vid::LEN]),
        actor: 66,
        hlc: Hlc::from_unix_ms(member.env.wall_ms()),
        context: BTreeMap::new(),
        kind: Kind::Live,
        sealed: Bytes::from(vec![66; SEALED_BYTES]),
        refs_root: None,
        chunks: 0,
        bytes_stored: 0,
        retained: Vec::new(),
        writer: cert.id(),
        signature: [0; 64],
    };
    version.signature = writer().sign(&version.signed_bytes(&key)).to_bytes();
    (key, Record::of(version))
}

/// Records brought in one turn.
const RECORDS_AT_ONCE: usize = 4;
/// Half of what a record may hold.
const SEALED_BYTES: usize = 8 * 1024;
