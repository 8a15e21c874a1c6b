//! Files that the index does not know, and blobs whose file is gone.

use super::*;

/// Puts a file where a blob of this id would lie, as durable as `synced` says.
fn place(disk: &Disk, id: BlobId, bytes: &[u8], synced: bool) -> PathBuf {
    let path =
        Path::new("/data/blobs").join(crate::disk::path::PathTransform::default().blob_path(&id));
    let fs = disk.env.fs();
    let dir = path.parent().unwrap();
    fs.create_dir_all(dir).unwrap();
    let file = fs.open(&path, dfs_env::OpenMode::Create).unwrap();
    file.write_all_at(bytes, 0).unwrap();
    if synced {
        file.sync_data().unwrap();
        fs.sync_dir(dir).unwrap();
    }
    path
}

/// As a crash between the file and the index leaves it.
async fn forget_entry(store: &Store, id: BlobId) {
    let space = store.0.space.clone();
    let forget = move |tx: &mut MetaTx| {
        space.remove(tx.remove_blob(&id)?.map_or(0, |removed| u64::from(removed.len)));
        Ok(())
    };
    store.0.index.commit(forget).await.unwrap();
}

#[tokio::test]
async fn a_file_without_an_entry_is_adopted_and_survives_a_power_failure() {
    let disk = Disk::new();
    let store = disk.open().await;
    let (known, lost, unsynced) = (blob(b"known"), blob(b"lost"), blob(b"never synced"));
    store.put_blob(known.id, known.bytes.clone()).await.unwrap();
    store.put_blob(lost.id, lost.bytes.clone()).await.unwrap();
    forget_entry(&store, lost.id).await;
    place(&disk, unsynced.id, &unsynced.bytes, false);
    let done = store.reconcile().await.unwrap();
    assert_eq!(done, Reconciled { adopted: 2, ..Reconciled::default() });
    assert_eq!(store.reconcile().await.unwrap(), Reconciled::default());
    drop(store);
    disk.fs.crash();
    let store = disk.open().await;
    for blob in [&known, &lost, &unsynced] {
        assert_eq!(store.get_blob(blob.id).await.unwrap().bytes, blob.bytes);
    }
    let bytes = [&known, &lost, &unsynced].map(|blob| blob.bytes.len() as u64);
    assert_eq!(store.used(), bytes.iter().sum::<u64>());
    assert_eq!(store.corrupt_count(), 0);
}

#[tokio::test]
async fn a_file_that_does_not_verify_goes_to_quarantine() {
    let disk = Disk::new();
    let store = disk.open().await;
    let (good, other) = (blob(b"good"), blob(b"other"));
    let mut flipped = good.bytes.to_vec();
    flipped[90] ^= 1;
    place(&disk, good.id, &flipped, true);
    place(&disk, other.id, &good.bytes, true);
    // Whole by its hash, and no blob.
    let text = b"no blob at all";
    place(&disk, BlobId::of(text), text, true);
    // Names of another place, and of none.
    let dir = place(&disk, blob(b"x").id, b"", true).parent().unwrap().to_owned();
    for name in [format!("{}.blob", good.id), "nonsense.blob".to_owned()] {
        dfs_env::write_replacing(disk.env.fs(), &dir.join(name), &good.bytes).unwrap();
    }
    dfs_env::write_replacing(disk.env.fs(), &dir.join("notes.txt"), b"mine").unwrap();
    let done = store.reconcile().await.unwrap();
    assert_eq!(done, Reconciled { set_aside: 6, ..Reconciled::default() });
    assert_eq!(disk.fs.files_below(Path::new("/data/quarantine")).len(), 6);
    assert_eq!(disk.blob_files(), [dir.join("notes.txt")]);
    assert!(!store.has_blob(good.id).await.unwrap());
    assert_eq!((store.used(), store.corrupt_count()), (0, 4));
}

#[tokio::test]
async fn a_blob_of_a_newer_format_is_left_alone() {
    let disk = Disk::new();
    let store = disk.open().await;
    let mut newer = blob(b"newer").bytes.to_vec();
    newer[4] = 2;
    let path = place(&disk, BlobId::of(&newer), &newer, true);
    let done = store.reconcile().await.unwrap();
    assert_eq!(done, Reconciled { left: 1, ..Reconciled::default() });
    assert_eq!(disk.blob_files(), [path]);
}

#[tokio::test]
async fn an_entry_without_a_file_is_forgotten_and_told_of() {
    let disk = Disk::new();
    let store = disk.open().await;
    let blobs: Vec<_> = (0..40u8).map(|number| blob(&[number; 9])).collect();
    for blob in &blobs {
        store.put_blob(blob.id, blob.bytes.clone()).await.unwrap();
    }
    let files = disk.blob_files();
    for file in files.iter().take(30) {
        disk.env.fs().remove_file(file).unwrap();
    }
    let done = store.reconcile().await.unwrap();
    assert_eq!(done, Reconciled { forgotten: 30, ..Reconciled::default() });
    let mut held = 0;
    for blob in &blobs {
        held += u64::from(store.has_blob(blob.id).await.unwrap());
    }
    assert_eq!((held, store.set_aside().len(), store.corrupt_count()), (10, 30, 30));
    assert_eq!(store.used(), 10 * blobs[0].bytes.len() as u64);
    store.put_blob(blobs[0].id, blobs[0].bytes.clone()).await.unwrap();
}

#[tokio::test]
async fn one_blob_is_adopted_when_it_is_asked_for() {
    let disk = Disk::new();
    let store = disk.open().await;
    let (there, away) = (blob(b"there"), blob(b"away"));
    place(&disk, there.id, &there.bytes, true);
    assert!(store.adopt(there.id).await.unwrap());
    assert!(store.adopt(there.id).await.unwrap());
    assert!(!store.adopt(away.id).await.unwrap());
    assert_eq!(store.get_blob(there.id).await.unwrap().bytes, there.bytes);
}

#[tokio::test]
async fn blobs_stored_and_read_meanwhile_are_neither_lost_nor_counted_twice() {
    let disk = Disk::new();
    let store = disk.open().await;
    let blobs: Vec<_> = (0..60u8).map(|number| blob(&[number; 9])).collect();
    for blob in blobs.iter().step_by(2) {
        place(&disk, blob.id, &blob.bytes, true);
    }
    let writes = blobs.clone().into_iter().map(|blob| {
        let store = store.clone();
        async move { store.put_blob(blob.id, blob.bytes).await }
    });
    let (done, written) = tokio::join!(store.reconcile(), futures_join(writes));
    assert!(written.into_iter().all(|written| written.is_ok()));
    assert_eq!(done.unwrap().forgotten, 0);
    assert_eq!(store.used(), blobs.iter().map(|blob| blob.bytes.len() as u64).sum::<u64>());
    for blob in &blobs {
        assert_eq!(store.get_blob(blob.id).await.unwrap().bytes, blob.bytes);
    }
}

#[tokio::test]
async fn what_an_earlier_process_left_unfinished_is_removed() {
    let disk = Disk::new();
    drop(disk.open().await);
    dfs_env::write_replacing(disk.env.fs(), Path::new("/data/tmp/7.tmp"), b"half").unwrap();
    let _store = disk.open().await;
    assert!(disk.fs.files_below(Path::new("/data/tmp")).is_empty());
}
