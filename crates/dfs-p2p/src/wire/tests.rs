//! Messages there and back, and bytes that are no message.

use bytes::Bytes;
use dfs_core::id::{DirId, Tag, VaultId, Vid};
use dfs_core::node::later_life::StillRuns;
use dfs_core::record::digest::HeadsDigest;
use dfs_core::record::refs::{RefRow, Use};
use dfs_core::replica::dir_changes::ChangeMark;
use ed25519_dalek::SigningKey;
use prost::Message;

use super::*;

fn id(byte: u8) -> BlobId {
    BlobId::new([byte; 32])
}

fn key() -> RecordKey {
    RecordKey { vault: VaultId::new([1; 16]), dir: DirId::new([2; 16]), tag: Tag::new([3; 16]) }
}

const MARK: ChangeMark = ChangeMark { boot: u64::MAX - 3, at: 9 };
const TAG: Tag = Tag::new([4; 16]);
const HEADS: HeadsDigest = HeadsDigest::new([5; 8]);

fn requests() -> Vec<Request> {
    let row = RefRow {
        blob: id(1),
        vid: Vid::new([2; 16]),
        key: key(),
        hlc: Hlc(3),
        dropped: false,
        hold_until: Hlc(4),
    };
    vec![
        Request::Gossip(Gossip {
            digest: vec![(NodeId::new([1; 32]), Hlc(2))],
            infos: Vec::new(),
            want_reply: true,
        }),
        Request::GenesisOffer(vec![NodeId::new([1; 32]), NodeId::new([2; 32])]),
        Request::GenesisWithdraw,
        Request::StillRuns { challenge: [7; 32] },
        Request::ChainGet { from: 5 },
        Request::RecordGet { keys: vec![key(), key()], digest_only: true },
        Request::RecordPut { records: vec![(key(), Record::default())], origin: Origin::Repair },
        Request::DirScan { vault: key().vault, dir: key().dir, after: Some([7; 16]) },
        Request::DirScan { vault: key().vault, dir: key().dir, after: None },
        Request::DirChanges { dir: (key().vault, key().dir), since: None },
        Request::DirChanges { dir: (key().vault, key().dir), since: Some(MARK) },
        Request::DirDigests { dir: (key().vault, key().dir), after: Some([7; 16]) },
        Request::CertGet(CertId::new([5; 32])),
        Request::RefAdd(vec![row]),
        Request::ChunkPut(id(1)),
        Request::ChunkGet(id(2)),
        Request::ChunkHas(vec![id(3), id(4)]),
        Request::ReportCorrupt(id(5)),
        Request::ChunkProve { nonce: [6; 32], ids: vec![id(6); BLOBS_AT_ONCE] },
        Request::RefsEnded(vec![row.of(), Use { blob: id(7), ..row.of() }]),
        Request::RefsForget(vec![row.of()]),
        Request::ChunksNeeded(vec![id(8), id(9)]),
        Request::RecordsForget(vec![(key(), [3; 32])]),
        Request::SyncRoots { table: Table::Refs, roots: vec![(9, Root::default())] },
        Request::SyncScan { table: Table::Records, partition: 3, after: Bytes::from_static(b"k") },
    ]
}

fn call(request: Request) -> Call {
    let call = Call::new(Priority::Records, Duration::from_millis(1500), request);
    Call { epoch: 42, ..call }
}

#[test]
fn every_request_comes_back() {
    for request in requests() {
        let bytes = open(&call(request.clone())).encode_to_vec();
        let parsed = parse_open(proto::Open::decode(&bytes[..]).unwrap()).unwrap();
        assert_eq!(parsed.request, request);
        assert_eq!((parsed.epoch, parsed.deadline.as_millis()), (42, 1500));
    }
}

#[test]
fn every_answer_comes_back() {
    let held: Vec<bool> = (0..19).map(|at| at % 3 == 0).collect();
    let answers = [
        Ok(Response::Done),
        Ok(Response::Held(held)),
        Ok(Response::Proofs(vec![Proof::Digest([1; 32]), Proof::HaveNot, Proof::Unread])),
        Ok(Response::StateHashes(vec![[1; 32], [2; 32]])),
        Ok(Response::Records { records: vec![(key(), Record::default())], more: true }),
        Ok(Response::Changed { mark: MARK, changed: None }),
        Ok(Response::Changed { mark: MARK, changed: Some(Vec::new()) }),
        Ok(Response::Changed { mark: MARK, changed: Some(vec![(TAG, Some(HEADS)), (TAG, None)]) }),
        Ok(Response::Listed { digests: vec![(TAG, HEADS)], next: Some([8; 16]) }),
        Ok(Response::Listed { digests: Vec::new(), next: None }),
        Ok(Response::Differing {
            partitions: vec![1, 1023],
            floors: vec![(7, Hlc(9)), (1023, Hlc::default())],
        }),
        Ok(Response::StillRuns(StillRuns::sign(7, [8; 32], &SigningKey::from_bytes(&[9; 32])))),
        Err(Refusal::new(Code::StaleEpoch, "moved")),
        Err(Refusal {
            code: Code::Overloaded,
            message: String::new(),
            retry_after: Some(Duration::from_millis(100)),
        }),
    ];
    for result in answers {
        let bytes = reply(&Answer::new(result.clone(), 9)).encode_to_vec();
        let parsed = parse_reply(proto::Reply::decode(&bytes[..]).unwrap()).unwrap();
        assert_eq!((parsed.result, parsed.epoch), (result, 9));
    }
}

#[test]
fn wrong_lengths_unknown_values_and_long_lists_are_named() {
    let asked = |ask: Ask| parse_ask(ask).unwrap_err();
    let short = proto::ChunkGet { id: vec![1; 31].into() };
    assert!(matches!(asked(Ask::ChunkGet(short)), WireError::Value(_)));
    let many = proto::ChunkHas { ids: vec![vec![1; 32].into(); KEYS_MAX + 1] };
    assert_eq!(asked(Ask::ChunkHas(many)), WireError::TooMany("ids"));
    let ids = vec![vec![1; 32].into(); BLOBS_AT_ONCE + 1];
    let prove = proto::ChunkProve { nonce: vec![1; 32].into(), ids };
    assert_eq!(asked(Ask::ChunkProve(prove)), WireError::TooMany("ids"));
    let short = proto::DirDigests {
        vault: vec![1; 16].into(),
        dir: vec![2; 16].into(),
        after_tag: vec![3; 15].into(),
    };
    assert!(matches!(asked(Ask::DirDigests(short)), WireError::Value(_)));
    let scan = proto::SyncScan { table: 9, ..proto::SyncScan::default() };
    assert_eq!(asked(Ask::SyncScan(scan)), WireError::Unknown("table"));
    let scan = proto::SyncScan { table: 1, partition: 70_000, ..proto::SyncScan::default() };
    assert_eq!(asked(Ask::SyncScan(scan)), WireError::Unknown("partition"));
    let put = proto::RecordPut { origin: 0, ..proto::RecordPut::default() };
    assert_eq!(asked(Ask::RecordPut(put)), WireError::Unknown("origin"));
    let urgent = proto::Open { priority: 4, ..open(&call(Request::ChainGet { from: 0 })) };
    assert_eq!(parse_open(urgent).unwrap_err(), WireError::Unknown("priority"));
    let code = proto::Reply { code: 99, ..proto::Reply::default() };
    assert_eq!(parse_reply(code).unwrap_err(), WireError::Unknown("code"));
    let bits = proto::Bitmap { bits: vec![0; 2].into(), count: 1000 };
    assert!(parse_bitmap(&bits).is_err());
}

#[test]
fn a_peers_words_reach_the_log_short_and_clean() {
    let said = go_away(Code::Ok, format!("a\nb\x1b[31m{}", "x".repeat(10_000)));
    let Goodbye { text, .. } = parse_go_away(said);
    assert!(text.len() <= MESSAGE_CHARS_MAX && !text.contains(['\n', '\x1b']));
}

proptest::proptest! {
    #[test]
    fn no_bytes_make_a_parser_panic(
        bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..500)
    ) {
        if let Ok(open) = proto::Open::decode(&bytes[..]) {
            let _ = parse_open(open);
        }
        if let Ok(reply) = proto::Reply::decode(&bytes[..]) {
            let _ = parse_reply(reply);
        }
    }
}
