//! What one node answers, call by call: nothing else runs on it, and its layout is the test's own.

use std::collections::BTreeMap;

use bytes::Bytes;
use dfs_core::hlc::Hlc;
use dfs_core::id::{DirId, RecordKey, Tag, Vid};
use dfs_core::layout::epoch::{EpochOp, NO_CAP, Role};
use dfs_core::name::FilePath;
use dfs_core::paxos::Ballot;
use dfs_core::record::ballot::SignedBallot;
use dfs_core::record::refs::RefRow;
use dfs_core::record::version::{Kind, Record, Version};
use dfs_core::record::writer::{WriterCert, vault_id};
use dfs_core::replica::sync::Table;
use dfs_env::{Env, MemoryFs, MemoryNet};
use dfs_store::blob::Blob;
use dfs_store::vault::keys::VaultKey;
use dfs_store::vault::seal::Salt;
use ed25519_dalek::{Signer, SigningKey};

use super::*;
use crate::replica::layout::Newest;
use crate::{Config, Mode, Server};

/// A gateway that holds everything, beside a member that only stores for others.
struct Still {
    server: Server,
    service: Arc<Service>,
}

const STORAGE: NodeId = NodeId::new([9; NodeId::LEN]);

impl Still {
    async fn new() -> Self {
        let still = Self::on(MemoryFs::default()).await;
        still.decide(EpochOp::add(STORAGE, 1, "z".to_owned(), 1 << 40, Role::Storage, NO_CAP));
        still
    }

    /// One that holds everything on this disk, alone.
    async fn on(disk: MemoryFs) -> Self {
        let config = Config::for_tests(4000);
        let env = Env::with_disk(1, MemoryNet::default(), disk);
        let server = Server::start(env, config).await.unwrap();
        Self { service: server.at_rest(), server }
    }

    fn replica(&self) -> &Replica {
        &self.service.replica
    }

    fn state(&self) -> Arc<EpochState> {
        self.replica().layout.current().unwrap()
    }

    /// Puts a layout in force here that nobody voted on.
    fn decide(&self, ops: impl Into<Vec<EpochOp>>) {
        let newest = self.replica().layout.newest().unwrap();
        let next = newest.state.propose([0; 32], ops.into(), self.replica().id).unwrap().0;
        self.replica().layout.set(Newest { state: Arc::new(next), ..newest });
    }

    /// Puts a layout in force that has changed the row of every partition.
    fn change_rows(&self) {
        let newest = self.replica().layout.newest().unwrap();
        let mut next = newest.state.as_ref().clone();
        next.epoch += 1;
        next.rows.iter_mut().for_each(|row| row.changed = next.epoch);
        self.replica().layout.set(Newest { state: Arc::new(next), ..newest });
    }

    /// Asks as another node does that knows the layout of this epoch.
    async fn ask_at(&self, epoch: u64, from: NodeId, request: Request) -> Answer {
        self.call(from, Call { epoch, ..call(request) }).await
    }

    async fn ask(&self, from: NodeId, request: Request) -> Answer {
        self.ask_at(self.state().epoch, from, request).await
    }

    async fn call(&self, from: NodeId, call: Call) -> Answer {
        self.service.respond(caller(from), call).await
    }

    async fn use_count(&self) -> u64 {
        let roots = self.replica().store.roots(Table::Refs, self.state().bits).await.unwrap();
        roots.iter().map(|root| root.count).sum()
    }
}

fn caller(node: NodeId) -> Caller {
    Caller { node, proved: true, admin: None, grant: None }
}

fn call(request: Request) -> Call {
    Call::new(Priority::Records, std::time::Duration::from_secs(5), request)
}

fn key(number: u32) -> RecordKey {
    let mut tag = [0; 16];
    tag[..4].copy_from_slice(&number.to_be_bytes());
    RecordKey { vault: vault().vault(), dir: DirId::new([2; 16]), tag: Tag::new(tag) }
}

/// The vault that the cluster is for.
fn vault() -> VaultKey {
    VaultKey::from_bytes([2; 32])
}

fn sealed() -> Blob {
    vault().derive().chunks.seal(b"sealed", Salt::Deduplicating, true)
}

fn use_of(blob: BlobId, key: RecordKey) -> RefRow {
    let vid = Vid::new([5; 16]);
    let (hlc, hold_until) = Default::default();
    RefRow { blob, vid, key, hlc, dropped: false, hold_until }
}

fn code(answer: &Answer) -> Option<Code> {
    answer.result.as_ref().err().map(|refusal| refusal.code)
}

/// One of each request that is held against the layout.
fn fenced() -> Vec<Call> {
    let root = SigningKey::from_bytes(&[7; 32]);
    let vault = vault_id(&root.verifying_key().to_bytes());
    let (key, blob) = (RecordKey { vault, ..key(1) }, sealed().id);
    let ballot = Ballot { round: 1, node: STORAGE };
    let ballot = SignedBallot::sign(&root, &key, ballot);
    let asked = [
        Request::RecordGet { keys: vec![key], digest_only: false },
        Request::RecordGet { keys: vec![key], digest_only: true },
        Request::RecordPut { records: vec![(key, Record::default())], origin: Origin::Repair },
        Request::DirScan { vault: key.vault, dir: key.dir, after: None },
        Request::CasPrepare { key, ballot },
        Request::RefAdd(vec![use_of(blob, key)]),
        Request::ChunkPut(blob),
    ];
    let body = |request: &Request| match request {
        Request::ChunkPut(_) => sealed().bytes,
        _ => Bytes::new(),
    };
    asked.into_iter().map(|request| Call { body: body(&request), ..call(request) }).collect()
}

#[tokio::test]
async fn what_a_layout_of_before_asks_for_is_refused() {
    let still = Still::new().await;
    let (own, before) = (still.replica().id, still.state().epoch);
    for call in fenced() {
        let asked = Call { epoch: before, ..call };
        let answer = still.call(own, asked.clone()).await;
        assert!(!matches!(code(&answer), Some(Code::StaleEpoch)), "{asked:?}");
    }
    still.change_rows();
    for call in fenced() {
        let asked = Call { epoch: before, ..call };
        let answer = still.call(own, asked.clone()).await;
        assert_eq!(code(&answer), Some(Code::StaleEpoch), "{asked:?}");
    }
}

#[tokio::test]
async fn what_the_disk_said_is_held_against_the_layout_once_more() {
    let still = Still::new().await;
    let before = still.state();
    // As if the disk had taken so long that a move was decided and done meanwhile.
    still.change_rows();
    let id = still.replica().id;
    for call in fenced() {
        let asked = Call { epoch: before.epoch, ..call };
        let told = still.service.answer_member(caller(id), asked.clone(), Fence::new(&before, id));
        let code = told.await.err().map(|refusal| refusal.code);
        assert_eq!(code, Some(Code::StaleEpoch), "{asked:?}");
    }
}

#[tokio::test]
async fn uses_that_no_record_has_are_taken_up_to_a_bound() {
    let still = Still::new().await;
    for call in 0..6u32 {
        let made_up = (0..1000).map(|at| {
            let number = call * 1000 + at;
            use_of(BlobId::of(&number.to_be_bytes()), key(number))
        });
        still.ask(STORAGE, Request::RefAdd(made_up.collect())).await;
    }
    let taken = still.use_count().await;
    assert!((1..=4096).contains(&taken), "{taken} rows");
    let wanted = still.replica().missing.queue_len(still.replica().env.mono());
    assert!(wanted <= taken, "{wanted} blobs are wanted");
    // A gateway brings as many as it likes.
    let many = (0..5000u32).map(|at| use_of(BlobId::of(&at.to_le_bytes()), key(at)));
    let answer = still.ask(still.replica().id, Request::RefAdd(many.collect())).await;
    assert!(answer.result.is_ok() && still.use_count().await >= 5000);
}

/// A record that the key of a vault signed as it should be.
async fn genuine(still: &Still, root: &SigningKey) -> (RecordKey, Record) {
    let writer = SigningKey::from_bytes(&[8; 32]);
    let cert = WriterCert::issue(root, writer.verifying_key().to_bytes(), u64::MAX);
    still.replica().store.put_cert(&cert).await.unwrap();
    let key = RecordKey { vault: cert.vault, ..key(1) };
    let mut version = Version {
        vid: Vid::new([9; 16]),
        actor: 7,
        hlc: Hlc::from_unix_ms(still.replica().unix_ms()),
        context: BTreeMap::new(),
        kind: Kind::Live,
        sealed: Bytes::from_static(b"sealed"),
        refs_root: None,
        chunks: 0,
        bytes_stored: 0,
        retained: Vec::new(),
        writer: cert.id(),
        signature: [0; 64],
    };
    version.signature = writer.sign(&version.signed_bytes(&key)).to_bytes();
    (key, Record::of(version))
}

#[tokio::test]
async fn what_a_storage_member_brings_of_a_vault_that_it_made_up_is_not_kept() {
    let still = Still::new().await;
    let (key, record) = genuine(&still, &SigningKey::from_bytes(&[6; 32])).await;
    let put =
        || Request::RecordPut { records: vec![(key, record.clone())], origin: Origin::Repair };
    let answer = still.ask(STORAGE, put()).await;
    assert_eq!(code(&answer), Some(Code::NotMember));
    let uses = vec![use_of(sealed().id, key)];
    still.ask(STORAGE, Request::RefAdd(uses.clone())).await;
    let read = || still.replica().store.record(key);
    assert_eq!((read().await.unwrap(), still.use_count().await), (Record::default(), 0));
    // What gateways brought once goes where it belongs, also from one to another.
    let other = NodeId::new([10; 32]);
    still.decide(EpochOp::add(other, 2, "z".to_owned(), 1 << 40, Role::Gateway, NO_CAP));
    assert!(still.ask(other, put()).await.result.is_ok());
    still.ask(other, Request::RefAdd(uses)).await;
    assert_eq!((read().await.unwrap(), still.use_count().await), (record.clone(), 1));
}

#[tokio::test]
async fn bytes_of_another_blob_keep_nothing_here() {
    let still = Still::new().await;
    let (blob, replica) = (sealed(), still.replica());
    let id = blob.id;
    replica.store.add_refs(vec![use_of(id, key(1))]).await.unwrap();
    replica.unwanted.note(id, replica.env.mono());
    let put = |body: Bytes| Call { body, ..call(Request::ChunkPut(id)) };
    let answer = still.call(STORAGE, put(Bytes::from_static(b"other"))).await;
    assert!(answer.result.is_err());
    assert!(replica.unwanted.is_marked(&id));
    let answer = still.call(STORAGE, put(blob.bytes)).await;
    assert!(answer.result.is_ok() && !replica.unwanted.is_marked(&id));
}

#[tokio::test]
async fn nobody_gives_way_to_what_a_storage_member_asks_for() {
    let still = Still::new().await;
    let (own, service) = (still.replica().id, &still.service);
    assert!(service.is_waited_for(&own, Priority::Chunks));
    assert!(!service.is_waited_for(&own, Priority::Background));
    assert!(!service.is_waited_for(&STORAGE, Priority::Chunks));
}

/// A genuine version of a name of this node's vault, stored through it long ago, and its tombstone.
async fn deleted_long_ago(still: &Still) -> (RecordKey, Record, Record) {
    let client = still.server.client();
    let path = FilePath::parse("f").unwrap();
    client.store(&path, &b"doomed"[..], Mode::Quorum).await.unwrap();
    let key = client.find(&path, None, Mode::Quorum).await.unwrap().key;
    let live = still.replica().store.record(key).await.unwrap();
    client.remove(&path, Mode::Quorum).await.unwrap();
    let dead = still.replica().store.record(key).await.unwrap();
    (key, live, dead)
}

#[tokio::test]
async fn what_was_deleted_and_purged_is_taken_from_nobody() {
    let still = Still::new().await;
    let (store, own) = (&still.replica().store, still.replica().id);
    let (key, live, dead) = deleted_long_ago(&still).await;
    let brought =
        || Request::RecordPut { records: vec![(key, live.clone())], origin: Origin::Repair };
    // While the tombstone is there, nothing comes back.
    assert!(still.ask(STORAGE, brought()).await.result.is_ok());
    assert_eq!(store.record(key).await.unwrap(), dead);
    store.purge_records(vec![(key, dead.state_hash())]).await.unwrap();
    for from in [STORAGE, own] {
        let answer = still.ask(from, brought()).await;
        assert_eq!(code(&answer), Some(Code::PreconditionFailed));
        assert!(store.record(key).await.unwrap().is_empty());
    }
    // The name can be written anew.
    let path = FilePath::parse("f").unwrap();
    still.server.client().store(&path, &b"new"[..], Mode::Quorum).await.unwrap();
    let new = store.record(key).await.unwrap();
    still.ask(STORAGE, brought()).await;
    assert_eq!(store.record(key).await.unwrap(), new);
}

#[tokio::test]
async fn a_gateway_remembers_what_it_saw_of_names_over_a_restart() {
    let disk = MemoryFs::default();
    let still = Still::on(disk.clone()).await;
    let path = FilePath::parse("f").unwrap();
    still.server.client().store(&path, &b"new"[..], Mode::Quorum).await.unwrap();
    let key = still.server.client().find(&path, None, Mode::Quorum).await.unwrap().key;
    assert!(still.service.records.has_seen(&key));
    still.server.keep_seen().await;
    drop(still);
    disk.crash();
    let still = Still::on(disk).await;
    assert!(still.service.records.has_seen(&key));
}
