//! The store on a disk in memory: durable, verified, bounded.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use dfs_core::hlc::Hlc;
use dfs_core::id::{DirId, PartitionBits, Tag, VaultId, Vid};
use dfs_core::record::digest::HeadsDigest;
use dfs_core::record::version::{Kind, Place, Record, Version};
use dfs_core::replica::sync::{Root, Table};
use dfs_env::{MemoryFs, MemoryNet};

use super::*;
use crate::blob::Blob;
use crate::disk::data_dir::DataDir;
use crate::disk::meta::{MetaTx, RECORDS};
use crate::disk::space::LOOK_KEPT;
use crate::vault::keys::VaultKey;
use crate::vault::seal::Salt;

mod cancel;
mod collect;
mod damage;
mod foreign_rows;
mod offered;
mod packed;
mod purged;
mod reconcile;
mod scrub;
mod upgrade;
mod votes;

struct Disk {
    fs: MemoryFs,
    env: Env,
}

impl Disk {
    fn new() -> Self {
        let fs = MemoryFs::default();
        Self { env: Env::with_disk(1, MemoryNet::default(), fs.clone()), fs }
    }

    async fn open(&self) -> Store {
        self.try_open().await.unwrap()
    }

    async fn try_open(&self) -> Result<Store, OpenStoreError> {
        let root = PathBuf::from("/data");
        drop(DataDir::open(&self.env, &root)?);
        // Each blob in a file of its own.
        Store::open(self.env.clone(), Config { packed_max: 0, ..Config::new(root) }).await
    }

    /// Changes what is free, and waits until a store would notice.
    async fn set_room(&self, bytes: Option<u64>) {
        self.fs.set_room(bytes);
        tokio::time::advance(LOOK_KEPT).await;
    }

    fn blob_files(&self) -> Vec<PathBuf> {
        self.fs.files_below(Path::new("/data/blobs"))
    }
}

fn blob(content: &[u8]) -> Blob {
    let keys = VaultKey::from_bytes([7; 32]).derive();
    keys.chunks.seal(content, Salt::Deduplicating, true)
}

fn record(tag: u8, hlc: u64) -> (RecordKey, Record) {
    let key = RecordKey {
        vault: VaultId::new([1; 16]),
        dir: DirId::new([2; 16]),
        tag: Tag::new([tag; 16]),
    };
    let place = Place { actor: hlc, hlc: Hlc(hlc), context: Default::default() };
    let version = Version {
        vid: Vid::new([u8::try_from(hlc).unwrap(); 16]),
        actor: place.actor,
        hlc: place.hlc,
        context: place.context,
        kind: Kind::Live,
        sealed: Bytes::from_static(b"sealed"),
        refs_root: None,
        chunks: 0,
        bytes_stored: 0,
        retained: Vec::new(),
        writer: CertId::new([0; 32]),
        signature: [0; 64],
    };
    (key, Record::of(version))
}

fn row(blob: BlobId) -> RefRow {
    let (key, _) = record(1, 1);
    let vid = Vid::new([1; 16]);
    RefRow { blob, vid, key, hlc: Hlc(1), dropped: false, hold_until: Hlc(0) }
}

#[tokio::test]
async fn what_was_acknowledged_survives_a_power_failure() {
    let disk = Disk::new();
    let store = disk.open().await;
    let kept = blob(b"kept");
    store.put_blob(kept.id, kept.bytes.clone()).await.unwrap();
    let (key, version) = record(1, 1);
    store.merge_records(vec![(key, version.clone())]).await.unwrap();
    store.merge_refs(vec![row(kept.id)]).await.unwrap();
    disk.fs.crash();
    drop(store);
    let store = disk.open().await;
    assert_eq!(store.get_blob(kept.id).await.unwrap().bytes, kept.bytes);
    assert_eq!(store.record(key).await.unwrap(), version);
    assert_eq!(store.refs_of(kept.id, None, 9).await.unwrap(), [row(kept.id)]);
    assert_eq!(store.used(), kept.bytes.len() as u64);
}

#[tokio::test]
async fn bytes_under_a_wrong_id_are_refused() {
    let store = Disk::new().open().await;
    let good = blob(b"good");
    let refused = store.put_blob(BlobId::of(b"other"), good.bytes).await;
    assert!(matches!(refused, Err(WriteError::WrongId(_))));
    let no_blob = Bytes::from_static(b"no blob at all");
    let refused = store.put_blob(BlobId::of(&no_blob), no_blob).await;
    assert!(matches!(refused, Err(WriteError::WrongId(_))));
}

#[tokio::test]
async fn every_flip_and_cut_of_a_file_is_found_and_set_aside() {
    let disk = Disk::new();
    let store = disk.open().await;
    let stored = blob(b"a small chunk");
    for at in 0..stored.bytes.len() + 1 {
        store.put_blob(stored.id, stored.bytes.clone()).await.unwrap();
        let [file] = disk.blob_files().try_into().unwrap();
        match at.checked_sub(1) {
            None => disk.fs.damage(&file, |bytes| bytes.push(0)),
            Some(at) if at % 2 == 0 => disk.fs.damage(&file, |bytes| bytes[at] ^= 1 << (at % 8)),
            Some(at) => disk.fs.damage(&file, |bytes| bytes.truncate(at)),
        }
        let read = store.get_blob(stored.id).await;
        assert!(matches!(read, Err(ReadError::Corrupt(_))), "at {at}");
        let read = store.get_blob(stored.id).await;
        assert!(matches!(read, Err(ReadError::NotHeld(_))), "at {at}");
        assert!(disk.blob_files().is_empty());
    }
    assert!(!disk.fs.files_below(Path::new("/data/quarantine")).is_empty());
    assert_eq!(store.used(), 0);
}

#[tokio::test]
async fn a_missing_file_is_corrupt_and_then_not_held() {
    let disk = Disk::new();
    let store = disk.open().await;
    let stored = blob(b"gone");
    store.put_blob(stored.id, stored.bytes.clone()).await.unwrap();
    let [file] = disk.blob_files().try_into().unwrap();
    disk.env.fs().remove_file(&file).unwrap();
    assert!(matches!(store.get_blob(stored.id).await, Err(ReadError::Corrupt(_))));
    assert!(!store.has_blob(stored.id).await.unwrap());
}

#[tokio::test]
async fn records_merge_and_roots_follow() {
    let store = Disk::new().open().await;
    let bits = PartitionBits::GENESIS;
    let empty = store.roots(Table::Records, bits).await.unwrap();
    let ((key, one), (_, two)) = (record(1, 1), record(1, 2));
    assert_eq!(store.merge_records(vec![(key, one.clone())]).await.unwrap(), 1);
    let with_one = store.roots(Table::Records, bits).await.unwrap();
    assert_ne!(empty, with_one);
    assert_eq!(store.merge_records(vec![(key, one.clone())]).await.unwrap(), 0);
    assert_eq!(store.roots(Table::Records, bits).await.unwrap(), with_one);
    store.merge_records(vec![(key, two.clone())]).await.unwrap();
    assert_eq!(store.record(key).await.unwrap().heads().count(), 2);

    let other = Disk::new().open().await;
    other.merge_records(vec![(key, two)]).await.unwrap();
    other.merge_records(vec![(key, one)]).await.unwrap();
    assert_eq!(
        store.roots(Table::Records, bits).await.unwrap(),
        other.roots(Table::Records, bits).await.unwrap()
    );
}

#[tokio::test]
async fn a_directory_is_scanned_in_pages_in_order() {
    let store = Disk::new().open().await;
    let records: Vec<_> = (1..=20).rev().map(|tag| record(tag, 1)).collect();
    let (vault, dir) = (records[0].0.vault, records[0].0.dir);
    store.merge_records(records).await.unwrap();
    let mut seen = Vec::new();
    let mut after = None;
    loop {
        let page = store.scan_dir((vault, dir), after, PageLimit::of_rows(7)).await.unwrap().rows;
        let Some((last, _)) = page.last() else { break };
        after = Some(*last.tag.as_bytes());
        seen.extend(page.iter().map(|(key, _)| key.tag.as_bytes()[0]));
    }
    assert_eq!(seen, (1..=20).collect::<Vec<_>>());
    let none = store.scan_dir((vault, DirId::new([3; 16])), None, PageLimit::of_rows(7)).await;
    assert_eq!(none.unwrap(), Page { rows: Vec::new(), more: false });
}

#[tokio::test]
async fn a_directory_tells_what_is_listed_otherwise_than_before() {
    let disk = Disk::new();
    let store = disk.open().await;
    let (key, first) = record(1, 1);
    let dir = (key.vault, key.dir);
    let begin = store.change_mark();
    store.merge_records(vec![(key, first.clone()), record(2, 1)]).await.unwrap();
    let (after_two, told) = store.dir_changes(dir, Some(begin)).await.unwrap();
    let digests = store.scan_dir_digests(dir, None, PageLimit::of_rows(9)).await.unwrap().rows;
    assert_eq!(told, Some(digests.clone()));
    assert_eq!(digests[0], (key.tag, HeadsDigest::of(&first)));
    // The same again, and a register without a version, are no news.
    store.merge_records(vec![(key, first.clone())]).await.unwrap();
    assert_eq!(
        store.dir_changes(dir, Some(after_two)).await.unwrap(),
        (after_two, Some(Vec::new()))
    );
    assert_eq!(store.changed_dirs(begin), Some(BTreeSet::from([dir])));
    assert_eq!(store.changed_dirs(after_two), Some(BTreeSet::new()));
    // What is removed is no longer listed.
    assert_eq!(store.forget_records(vec![(key, first.state_hash())]).await.unwrap(), 1);
    let (_, told) = store.dir_changes(dir, Some(after_two)).await.unwrap();
    assert_eq!(told, Some(vec![(key.tag, None)]));
    store.close().await;
    drop(store);
    let again = disk.open().await;
    assert_eq!(again.dir_changes(dir, Some(begin)).await.unwrap().1, None, "of another start");
    assert_eq!(again.dir_changes(dir, None).await.unwrap().1, None);
}

#[tokio::test]
async fn a_partition_scan_finds_exactly_its_rows() {
    let store = Disk::new().open().await;
    let bits = PartitionBits::GENESIS;
    let rows: Vec<_> = (0..200u8).map(|n| row(BlobId::of(&[n]))).collect();
    store.merge_refs(rows.clone()).await.unwrap();
    let mut found = 0;
    for partition in 0..1024 {
        let mut after = Vec::new();
        loop {
            let page = store.scan_refs(partition, bits, after, 1).await.unwrap();
            let Some(last) = page.last() else { break };
            assert_eq!(last.blob.partition(bits), partition);
            after = ref_row(&last.of());
            found += 1;
        }
    }
    assert_eq!(found, rows.len());
}

#[tokio::test(start_paused = true)]
async fn a_full_disk_refuses_and_recovers() {
    let disk = Disk::new();
    let store = disk.open().await;
    let wanted = blob(b"wanted");
    disk.set_room(Some(0)).await;
    let refused = store.put_blob(wanted.id, wanted.bytes.clone()).await;
    assert!(matches!(refused, Err(WriteError::NoSpace)), "{refused:?}");
    assert!(matches!(store.merge_records(vec![record(1, 1)]).await, Err(WriteError::NoSpace)));
    disk.set_room(None).await;
    store.put_blob(wanted.id, wanted.bytes).await.unwrap();
    store.merge_records(vec![record(1, 1)]).await.unwrap();
}

#[tokio::test]
async fn that_a_disk_took_nothing_stands_until_it_takes_something() {
    let disk = Disk::new();
    let store = disk.open().await;
    *store.0.refuses.lock() = Some("too many open files".to_owned());
    disk.fs.set_room(Some(0));
    store.look_at_disk().await;
    let refuses = store.disk().refuses.unwrap();
    assert_ne!(refuses, "too many open files");
    disk.fs.set_room(None);
    store.look_at_disk().await;
    assert_eq!(store.disk().refuses, None);
    assert!(disk.env.fs().list(Path::new("/data/tmp")).unwrap().is_empty());
}

#[tokio::test(start_paused = true)]
async fn an_offer_made_on_a_full_disk_grows_with_the_room() {
    let disk = Disk::new();
    let first = disk.open().await;
    let wanted = blob(b"wanted");
    first.close().await;
    drop(first);
    disk.fs.set_room(Some(1 << 20));
    let store = disk.open().await;
    assert!(matches!(
        store.put_blob(wanted.id, wanted.bytes.clone()).await,
        Err(WriteError::NoSpace)
    ));
    disk.set_room(None).await;
    store.put_blob(wanted.id, wanted.bytes).await.unwrap();
    assert!(store.capacity() > 1 << 40);
}

#[tokio::test]
async fn many_writers_share_commits_and_all_are_durable() {
    let disk = Disk::new();
    let store = disk.open().await;
    let writes = (1..100u8).map(|tag| {
        let store = store.clone();
        async move { store.merge_records(vec![record(tag, 1)]).await }
    });
    for result in futures_join(writes).await {
        assert_eq!(result.unwrap(), 1);
    }
    store.close().await;
    assert!(matches!(store.merge_records(vec![record(1, 9)]).await, Err(WriteError::Closed)));
    disk.fs.crash();
    drop(store);
    let store = disk.open().await;
    let (key, _) = record(1, 1);
    let page = store.scan_dir((key.vault, key.dir), None, PageLimit::of_rows(500)).await.unwrap();
    assert_eq!((page.rows.len(), page.more), (99, false));
}

async fn futures_join<T>(futures: impl Iterator<Item = T>) -> Vec<T::Output>
where
    T: Future + Send + 'static,
    T::Output: Send + 'static,
{
    let env = Env::in_memory(1, MemoryNet::default());
    let tasks: Vec<_> = futures.map(|future| env.spawn("write", future)).collect();
    let mut outputs = Vec::new();
    for task in tasks {
        outputs.push(task.await.unwrap());
    }
    outputs
}

#[tokio::test]
async fn a_directory_in_use_foreign_or_newer_is_refused() {
    let disk = Disk::new();
    let root = Path::new("/data");
    let held = DataDir::open(&disk.env, root).unwrap();
    assert!(matches!(DataDir::open(&disk.env, root), Err(OpenStoreError::Locked(_))));
    let first = held.instance() >> 32;
    let id = held.node_key().verifying_key();
    drop(held);
    let again = DataDir::open(&disk.env, root).unwrap();
    assert_eq!(again.instance() >> 32, first + 1);
    assert_eq!(again.node_key().verifying_key(), id);
    drop(again);
    disk.fs.damage(Path::new("/data/format"), |text| *text = b"dfs-data 4\n".to_vec());
    let newer = DataDir::open(&disk.env, root);
    assert!(matches!(newer, Err(OpenStoreError::UnknownVersion(..))));

    let disk = Disk::new();
    disk.env.fs().create_dir_all(root).unwrap();
    dfs_env::write_replacing(disk.env.fs(), Path::new("/data/thesis.txt"), b"mine").unwrap();
    assert!(matches!(DataDir::open(&disk.env, root), Err(OpenStoreError::Foreign(_))));
}

#[tokio::test]
async fn a_damaged_node_key_is_named_and_nothing_is_made_in_its_place() {
    let disk = Disk::new();
    drop(disk.open().await);
    disk.fs.damage(Path::new("/data/node.key"), |bytes| bytes[20] ^= 1);
    assert!(matches!(disk.try_open().await, Err(OpenStoreError::Key(_))));
    assert!(matches!(disk.try_open().await, Err(OpenStoreError::Key(_))));
}

#[tokio::test]
async fn a_reader_that_gives_up_does_not_hide_a_bad_blob() {
    let disk = Disk::new();
    let store = disk.open().await;
    let stored = blob(b"rots");
    store.put_blob(stored.id, stored.bytes.clone()).await.unwrap();
    let [file] = disk.blob_files().try_into().unwrap();
    disk.fs.damage(&file, |bytes| bytes[90] ^= 1);
    // Given up at its first wait, and at every later one.
    for waits in 0..8 {
        let mut reading = Box::pin(store.get_blob(stored.id));
        for _ in 0..waits {
            let mut context = std::task::Context::from_waker(std::task::Waker::noop());
            if reading.as_mut().poll(&mut context).is_ready() {
                break;
            }
            tokio::task::yield_now().await;
        }
    }
    while store.has_blob(stored.id).await.unwrap() {
        tokio::task::yield_now().await;
    }
    assert_eq!(store.set_aside(), [stored.id].into());
    // It counts as missing here until someone else says that it keeps that in mind.
    assert_eq!(store.set_aside_count(), 1);
    store.asked_for(&[stored.id].into());
    assert_eq!((store.set_aside_count(), store.set_aside().len()), (0, 0));
}

#[tokio::test]
async fn an_index_that_was_there_and_is_gone_is_an_error() {
    let disk = Disk::new();
    drop(disk.open().await);
    disk.fs.damage(Path::new("/data/index.redb"), Vec::clear);
    assert!(matches!(disk.try_open().await, Err(OpenStoreError::Index(..))));
    disk.env.fs().remove_file(Path::new("/data/index.redb")).unwrap();
    assert!(matches!(disk.try_open().await, Err(OpenStoreError::Index(..))));
}

#[tokio::test]
async fn one_damaged_row_refuses_itself_and_no_other() {
    let store = Disk::new().open().await;
    let ((bad, version), (good, _)) = (record(1, 1), record(2, 1));
    store.0.index.commit(move |tx| tx.damage(RECORDS, &record_row(&bad), b"rot")).await.unwrap();
    let refused = store.merge_records(vec![(bad, version.clone())]).await;
    assert!(matches!(refused, Err(WriteError::Damaged)), "{refused:?}");
    assert_eq!(store.merge_records(vec![(good, version)]).await.unwrap(), 1);
    assert!(!store.has_failed());
}

#[tokio::test]
async fn an_index_that_is_no_index_is_an_error() {
    let disk = Disk::new();
    drop(disk.open().await);
    disk.fs.damage(Path::new("/data/index.redb"), |bytes| bytes[..64].fill(0xff));
    assert!(matches!(disk.try_open().await, Err(OpenStoreError::Index(..))));
}

#[tokio::test]
async fn a_new_node_takes_over_the_blobs_of_a_lost_one() {
    let disk = Disk::new();
    let root = Path::new("/data");
    let blob = blob(b"kept");
    let store = disk.open().await;
    store.put_blob(blob.id, blob.bytes.clone()).await.unwrap();
    store.close().await;
    let fs = disk.env.fs();
    for entry in fs.list(root).unwrap().iter().filter(|entry| !entry.is_dir) {
        if entry.name != "format" {
            fs.remove_file(&root.join(&entry.name)).unwrap();
        }
    }
    let store = disk.open().await;
    assert!(!store.has_blob(blob.id).await.unwrap());
    store.reconcile().await.unwrap();
    assert_eq!(store.get_blob(blob.id).await.unwrap().bytes, blob.bytes);
}
