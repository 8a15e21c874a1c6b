//! Valid values that the corpora begin from, each under its name.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use dfs_core::codec::Canonical;
use dfs_core::hlc::Hlc;
use dfs_core::id::{BlobId, CertId, DirId, NodeId, PartitionBits, RecordKey, Tag, VaultId, Vid};
use dfs_core::layout::epoch::{EpochCert, EpochState, Member, MemberState, NO_CAP, Role};
use dfs_core::node::liveness::Reach;
use dfs_core::node::member::{Clean, NodeInfo};
use dfs_core::record::digest::HeadsDigest;
use dfs_core::record::refs::RefRow;
use dfs_core::record::version::{Kind as VersionKind, Record, Version};
use dfs_core::record::writer::WriterCert;
use dfs_core::replica::dir_changes::ChangeMark;
use dfs_core::replica::possession::Proof;
use dfs_core::replica::sync::{Root, Table};
use ed25519_dalek::SigningKey;
use prost::Message;
use tokio_util::codec::Encoder;
use zeroize::Zeroizing;

use crate::book;
use crate::frame::FrameCodec;
use crate::fuzzing::{CLUSTER_KEY, PEER, SESSION};
use crate::hello::{ConnClass, Credentials, greeting};
use crate::message::{Answer, Call, Code, Gossip, Origin, Priority, Refusal, Request, Response};
use crate::wire::{
    self,
    proto::{Data, Ping, Ready, frame::Kind},
};

/// The bytes of the value with this name.
pub(super) fn valid(name: &str) -> Vec<u8> {
    let credentials = credentials(None);
    match name {
        "hello" => greeting(&credentials, &SESSION, &PEER, 9, ConnClass::Bulk, 5).encode_to_vec(),
        "hello-of-admin" => {
            let credentials = self::credentials(Some(key(7)));
            greeting(&credentials, &SESSION, &PEER, 9, ConnClass::Bulk, 5).encode_to_vec()
        }
        "ready" => ready().encode_to_vec(),
        "ping" => frame(0, Kind::Ping(Ping { nonce: 7, unix_ms: 0 })),
        "hello-frame" => {
            frame(0, Kind::Hello(greeting(&credentials, &SESSION, &PEER, 9, ConnClass::Bulk, 5)))
        }
        "call" => frame(1, Kind::Open(wire::open(&call(Request::ChainGet { from: 5 })))),
        "put" => frame(1, Kind::Open(wire::open(&put(3)))),
        "body" => frame(1, Kind::Data(Data { bytes: vec![7; 3].into() })),
        "done" => frame(2, Kind::Reply(wire::reply(&Answer::new(Ok(Response::Done), 1)))),
        "answer-with-body" => {
            let answer = Answer::new(Ok(Response::Done), 1);
            frame(2, Kind::Reply(wire::reply(&Answer { body: vec![7; 3].into(), ..answer })))
        }
        "info" => info().to_canonical(),
        "book" => book::encode(&[info()]),
        "record-key" => record_key().to_canonical(),
        "record" => record().to_canonical(),
        "cert" => cert().to_canonical(),
        _ => panic!("no valid value is called {name}"),
    }
}

pub(super) fn frame(stream: u32, kind: Kind) -> Vec<u8> {
    let mut codec = FrameCodec::greeting();
    codec.allow_calls();
    let mut bytes = BytesMut::new();
    codec.encode((stream, kind), &mut bytes).unwrap();
    bytes.to_vec()
}

fn call(request: Request) -> Call {
    let call = Call::new(Priority::Records, Duration::from_millis(1500), request);
    Call { epoch: 42, ..call }
}

fn put(body: usize) -> Call {
    let put = Request::ChunkPut(BlobId::new([1; 32]));
    Call { body: vec![7; body].into(), ..call(put) }
}

/// Every request as an `Open`, under its name.
pub(super) fn opens() -> Vec<(&'static str, Vec<u8>)> {
    let id = BlobId::new([1; 32]);
    let gossip = Gossip {
        digest: vec![(NodeId::new([1; 32]), Hlc(2))],
        infos: vec![info()],
        want_reply: true,
    };
    let requests = [
        ("gossip", Request::Gossip(gossip)),
        ("join", Request::Join(Box::new(info()))),
        ("genesis_offer", Request::GenesisOffer(vec![NodeId::new([1; 32]); 2])),
        ("genesis_withdraw", Request::GenesisWithdraw),
        ("still_runs", Request::StillRuns { challenge: [7; 32] }),
        ("chain_get", Request::ChainGet { from: 5 }),
        ("epoch_decided", Request::EpochDecided(Box::new(genesis().1))),
        ("record_get", Request::RecordGet { keys: vec![record_key(); 2], digest_only: true }),
        (
            "record_put",
            Request::RecordPut { records: vec![(record_key(), record())], origin: Origin::Client },
        ),
        (
            "dir_scan",
            Request::DirScan {
                vault: record_key().vault,
                dir: record_key().dir,
                after: Some([7; 16]),
            },
        ),
        (
            "dir_changes",
            Request::DirChanges {
                dir: (record_key().vault, record_key().dir),
                since: Some(ChangeMark { boot: 3, at: 4 }),
            },
        ),
        (
            "dir_digests",
            Request::DirDigests {
                dir: (record_key().vault, record_key().dir),
                after: Some([7; 16]),
            },
        ),
        ("cert_get", Request::CertGet(CertId::new([5; 32]))),
        ("ref_add", Request::RefAdd(vec![ref_row()])),
        ("chunk_put", Request::ChunkPut(id)),
        ("chunk_get", Request::ChunkGet(id)),
        ("chunk_has", Request::ChunkHas(vec![id, id])),
        ("report_corrupt", Request::ReportCorrupt(id)),
        ("chunk_prove", Request::ChunkProve { nonce: [6; 32], ids: vec![id, id] }),
        ("refs_ended", Request::RefsEnded(vec![ref_row().of()])),
        ("refs_forget", Request::RefsForget(vec![ref_row().of()])),
        ("chunks_needed", Request::ChunksNeeded(vec![id])),
        ("records_forget", Request::RecordsForget(vec![(record_key(), [4; 32])])),
        (
            "sync_roots",
            Request::SyncRoots { table: Table::Refs, roots: vec![(9, Root::default())] },
        ),
        (
            "sync_scan",
            Request::SyncScan {
                table: Table::Records,
                partition: 3,
                after: Bytes::from_static(b"k"),
            },
        ),
    ];
    requests
        .into_iter()
        .map(|(name, request)| (name, wire::open(&call(request)).encode_to_vec()))
        .collect()
}

/// Every answer as a `Reply`, under its name.
pub(super) fn replies() -> Vec<(&'static str, Vec<u8>)> {
    let (state, epoch) = genesis();
    let gossip = Gossip { infos: vec![info()], ..Gossip::default() };
    let records = vec![(record_key(), record())];
    let refusal = Refusal {
        retry_after: Some(Duration::from_millis(100)),
        ..Refusal::new(Code::Overloaded, "later")
    };
    // A small layout: a fuzzer gets further with two rows than with a thousand.
    let bits = PartitionBits::new(1).unwrap();
    let state = EpochState { bits, rows: state.rows[..2].to_vec(), ..state };
    let answers = [
        ("done", Ok(Response::Done)),
        ("gossip", Ok(Response::Gossip(gossip))),
        ("chain", Ok(Response::Chain { snapshot: Some(Box::new(state)), certs: vec![epoch] })),
        ("records", Ok(Response::Records { records, more: true })),
        ("state_hashes", Ok(Response::StateHashes(vec![[1; 32]; 2]))),
        (
            "changed",
            Ok(Response::Changed {
                mark: ChangeMark { boot: 3, at: 5 },
                changed: Some(vec![(record_key().tag, None), (record_key().tag, Some(HEADS))]),
            }),
        ),
        (
            "listed",
            Ok(Response::Listed { digests: vec![(record_key().tag, HEADS)], next: Some([8; 16]) }),
        ),
        ("cert_found", Ok(Response::Cert(Box::new(cert())))),
        ("held", Ok(Response::Held(vec![true, false, true]))),
        ("proofs", Ok(Response::Proofs(vec![Proof::Digest([1; 32]), Proof::Unread]))),
        ("differing", Ok(Response::Differing { partitions: vec![1, 1023], floors: Vec::new() })),
        (
            "rows",
            Ok(Response::Rows {
                hashes: vec![(record_key(), [1; 32])],
                refs: vec![ref_row()],
                last: Bytes::from_static(b"k"),
                more: true,
            }),
        ),
        ("refusal", Err(refusal)),
    ];
    answers
        .into_iter()
        .map(|(name, result)| (name, wire::reply(&Answer::new(result, 9)).encode_to_vec()))
        .collect()
}

const HEADS: HeadsDigest = HeadsDigest::new([5; 8]);

fn credentials(admin: Option<SigningKey>) -> Credentials {
    Credentials { cluster_key: Zeroizing::new(CLUSTER_KEY), admin, invite: None }
}

fn key(of: u8) -> SigningKey {
    SigningKey::from_bytes(&[of; 32])
}

fn genesis() -> (EpochState, EpochCert) {
    let member = Member {
        node_id: NodeId::new(key(1).verifying_key().to_bytes()),
        idx: 0,
        zone: "z".to_owned(),
        capacity: 1,
        state: MemberState::Active,
        role: Role::Unvouched,
        cap: NO_CAP,
    };
    EpochState::genesis(member, [7; 32], &key(1), &key(7), VaultId::new([1; 16]))
}

fn record_key() -> RecordKey {
    RecordKey { vault: VaultId::new([1; 16]), dir: DirId::new([2; 16]), tag: Tag::new([3; 16]) }
}

fn record() -> Record {
    Record::of(Version {
        vid: Vid::new([9; 16]),
        actor: 7,
        hlc: Hlc(8),
        context: BTreeMap::new(),
        kind: VersionKind::Live,
        sealed: Bytes::from_static(b"sealed"),
        refs_root: None,
        chunks: 0,
        bytes_stored: 0,
        retained: Vec::new(),
        writer: CertId::new([0; 32]),
        signature: [0; 64],
    })
}

fn ref_row() -> RefRow {
    RefRow {
        blob: BlobId::new([1; 32]),
        vid: Vid::new([2; 16]),
        key: record_key(),
        hlc: Hlc(3),
        dropped: false,
        hold_until: Hlc(4),
    }
}

fn cert() -> WriterCert {
    WriterCert::issue(&key(1), key(2).verifying_key().to_bytes(), 1000)
}

fn info() -> NodeInfo {
    let info = NodeInfo {
        node_id: NodeId::new(key(1).verifying_key().to_bytes()),
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
        synced: Vec::new(),
        bodies: Vec::new(),
        emptied: Vec::new(),
        reach: Reach::default(),
        clean: Clean { at: Hlc(9), epoch: 3 },
        signature: [0; 64],
    };
    info.sign(&key(1))
}

fn ready() -> Ready {
    Ready {
        cluster_id: vec![1; 32].into(),
        info: info().to_canonical().into(),
        keys: Bytes::new(),
        observed_addr: "127.0.0.1:3000".to_owned(),
    }
}
