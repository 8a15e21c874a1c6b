//! Small blobs that lie together in the index.

use super::*;
use crate::disk::meta::{PACKED, Place as InIndex};

impl Disk {
    async fn packing(&self) -> Store {
        drop(DataDir::open(&self.env, Path::new("/data")).unwrap());
        Store::open(self.env.clone(), Config::new("/data")).await.unwrap()
    }
}

async fn put(store: &Store, blob: &Blob) {
    store.put_blob(blob.id, blob.bytes.clone()).await.unwrap();
}

fn small() -> Blob {
    blob(b"small")
}

fn large() -> Blob {
    blob(&[7; PACKED_BYTES_MAX + 1])
}

#[tokio::test]
async fn a_small_blob_needs_no_file_and_a_large_one_does() {
    let disk = Disk::new();
    let store = disk.packing().await;
    let (small, large) = (small(), large());
    put(&store, &small).await;
    put(&store, &small).await;
    assert!(disk.blob_files().is_empty());
    put(&store, &large).await;
    assert_eq!(disk.blob_files().len(), 1);
    let used = (small.bytes.len() + large.bytes.len()) as u64;
    assert_eq!(store.used(), used);
    store.close().await;
    drop(store);
    disk.fs.crash();
    let store = disk.packing().await;
    assert_eq!(store.used(), used);
    for blob in [&small, &large] {
        assert_eq!(store.get_blob(blob.id).await.unwrap(), *blob);
        assert_eq!(store.verify_blob(blob.id).await.unwrap(), Verified::Good);
    }
    assert_eq!(store.reconcile().await.unwrap(), Reconciled::default());
    assert_eq!(store.held_after(None, 10).await.unwrap().len(), 2);
}

#[tokio::test]
async fn what_is_not_the_blob_is_not_packed() {
    let disk = Disk::new();
    let store = disk.packing().await;
    let (id, other) = (small().id, blob(b"other").bytes);
    assert!(matches!(store.put_blob(id, other).await, Err(WriteError::WrongId(_))));
    assert!(!store.has_blob(id).await.unwrap());
    assert_eq!(store.used(), 0);
}

#[tokio::test]
async fn a_small_blob_that_rotted_is_set_aside_and_comes_back() {
    let disk = Disk::new();
    let store = disk.packing().await;
    for rot in [&b"rot"[..], b""] {
        let small = small();
        put(&store, &small).await;
        let damage = move |tx: &mut MetaTx| tx.damage(PACKED, small.id.as_bytes(), rot);
        store.0.index.commit(damage).await.unwrap();
        assert!(matches!(store.get_blob(small.id).await, Err(ReadError::Corrupt(_))));
        assert!(store.set_aside().contains(&small.id));
        assert!(matches!(store.get_blob(small.id).await, Err(ReadError::NotHeld(_))));
        assert_eq!(store.used(), 0);
        put(&store, &small).await;
        assert_eq!(store.get_blob(small.id).await.unwrap(), small);
        let len = small.bytes.len() as u64;
        assert_eq!(store.collect(small.id, || true).await.unwrap(), Some(len));
    }
    let small = small();
    put(&store, &small).await;
    let damage = move |tx: &mut MetaTx| tx.take_away(PACKED, small.id.as_bytes());
    store.0.index.commit(damage).await.unwrap();
    assert_eq!(store.verify_blob(small.id).await.unwrap(), Verified::Bad);
}

/// Two read the bad one, and the second to set it aside comes when it is there again.
#[tokio::test]
async fn a_good_copy_that_came_meanwhile_is_not_set_aside() {
    let disk = Disk::new();
    let store = disk.packing().await;
    let small = small();
    put(&store, &small).await;
    store.set_bad_aside(small.id).await;
    assert!(store.set_aside().is_empty());
    assert_eq!(store.get_blob(small.id).await.unwrap(), small);
}

/// A file of before is come upon in the moment in which a row is made.
#[tokio::test]
async fn a_file_beside_a_row_changes_nothing() {
    let disk = Disk::new();
    let store = disk.packing().await;
    let small = small();
    put(&store, &small).await;
    let len = u32::try_from(small.bytes.len()).unwrap();
    store.add_blob(small.id, len).await.unwrap();
    assert_eq!(store.used(), u64::from(len));
    assert!(store.collect(small.id, || true).await.unwrap().is_some());
    let left = store.0.index.read(move |meta| meta.get(PACKED, small.id.as_bytes())).await;
    assert_eq!(left.unwrap(), None);
}

#[tokio::test]
async fn a_small_blob_that_nothing_uses_goes_with_its_bytes() {
    let disk = Disk::new();
    let store = disk.packing().await;
    let small = small();
    put(&store, &small).await;
    assert_eq!(store.collect(small.id, || false).await.unwrap(), None);
    let len = small.bytes.len() as u64;
    assert_eq!(store.collect(small.id, || true).await.unwrap(), Some(len));
    assert_eq!((store.used(), store.has_blob(small.id).await.unwrap()), (0, false));
    let left = store.0.index.read(move |meta| meta.place_of(&small.id)).await.unwrap();
    assert!(matches!(left, InIndex::Nowhere));
}

/// What lies where it did under another bound is found, and stays there.
#[tokio::test]
async fn the_bound_may_change_from_one_opening_to_the_next() {
    let disk = Disk::new();
    let (first, second) = (blob(b"first"), blob(b"second"));
    let store = disk.open().await;
    put(&store, &first).await;
    store.close().await;
    drop(store);
    let store = disk.packing().await;
    put(&store, &first).await;
    put(&store, &second).await;
    assert_eq!(disk.blob_files().len(), 1);
    store.close().await;
    drop(store);
    let store = disk.open().await;
    put(&store, &second).await;
    assert_eq!(disk.blob_files().len(), 1);
    for blob in [&first, &second] {
        assert_eq!(store.get_blob(blob.id).await.unwrap(), *blob);
    }
    assert_eq!(store.reconcile().await.unwrap(), Reconciled::default());
}

#[tokio::test]
async fn a_directory_of_before_is_marked_so_that_no_earlier_program_opens_it() {
    let disk = Disk::new();
    drop(disk.open().await);
    let format = || disk.env.fs().read(Path::new("/data/format"), 64).unwrap();
    disk.fs.damage(Path::new("/data/format"), |text| *text = b"dfs-data 2\n".to_vec());
    assert_eq!(format(), b"dfs-data 2\n");
    drop(disk.packing().await);
    assert_eq!(format(), b"dfs-data 3\n");
}
