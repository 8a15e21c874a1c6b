//! Uses that end, and blobs that go.

use super::*;

fn use_by(blob: BlobId, vid: u8) -> RefRow {
    RefRow { vid: Vid::new([vid; 16]), ..row(blob) }
}

async fn all_unused(store: &Store) -> Vec<BlobId> {
    let (mut all, mut after) = (Vec::new(), None);
    loop {
        let page = store.unused(after, 2).await.unwrap();
        all.extend(page.ids);
        if page.last.is_none() {
            return all;
        }
        after = page.last;
    }
}

#[tokio::test]
async fn a_blob_goes_once_its_last_use_has_ended() {
    let disk = Disk::new();
    let store = disk.open().await;
    let [one, other] = [blob(b"one"), blob(b"other")];
    let rows = [use_by(one.id, 1), use_by(one.id, 2), use_by(other.id, 1)];
    store.add_refs(rows.to_vec()).await.unwrap();
    for blob in [&one, &other] {
        store.put_blob(blob.id, blob.bytes.clone()).await.unwrap();
    }
    let all = store.used();
    assert_eq!(store.drop_refs(vec![rows[0], rows[0]]).await.unwrap(), 1);
    assert!(all_unused(&store).await.is_empty());
    assert_eq!(store.collect(one.id, || true).await.unwrap(), None, "another use counts");
    assert_eq!(store.drop_refs(vec![rows[1]]).await.unwrap(), 1);
    assert_eq!(all_unused(&store).await, [one.id]);
    assert_eq!(store.collect(one.id, || false).await.unwrap(), None, "someone stored it anew");
    let len = one.bytes.len() as u64;
    assert_eq!(store.collect(one.id, || true).await.unwrap(), Some(len));
    assert_eq!(store.collect(one.id, || true).await.unwrap(), None);
    assert_eq!((store.used(), disk.blob_files().len()), (all - len, 1));
    assert!(matches!(store.get_blob(one.id).await, Err(ReadError::NotHeld(_))));
    assert_eq!(store.get_blob(other.id).await.unwrap().bytes, other.bytes);
    assert_eq!(store.corrupt_count(), 0);
    store.put_blob(one.id, one.bytes.clone()).await.unwrap();
    assert_eq!(store.get_blob(one.id).await.unwrap().bytes, one.bytes);
}

#[tokio::test]
async fn the_end_of_a_use_is_this_replicas_own_finding() {
    let disk = Disk::new();
    let store = disk.open().await;
    let row = use_by(blob(b"x").id, 1);
    let used = || async { store.are_used(vec![row.blob]).await.unwrap()[0] };
    store.merge_refs(vec![RefRow { dropped: true, ..row }]).await.unwrap();
    assert!(used().await, "others say that it has ended");
    let renewed = RefRow { hold_until: Hlc(7), ..row };
    store.merge_refs(vec![renewed]).await.unwrap();
    assert_eq!(store.drop_refs(vec![row]).await.unwrap(), 0, "it is another row now");
    assert_eq!(store.forget_dropped(vec![row.of()]).await.unwrap(), [false]);
    assert_eq!(store.are_dropped(vec![row.of()]).await.unwrap(), [false]);
    assert_eq!(store.drop_refs(vec![renewed]).await.unwrap(), 1);
    store.merge_refs(vec![row]).await.unwrap();
    assert!(!used().await, "a replica that has not found out yet changes nothing");
    store.add_refs(vec![row]).await.unwrap();
    assert!(used().await, "whoever notes the use anew has it counted");
    assert_eq!(store.drop_refs(vec![renewed]).await.unwrap(), 1);
    assert_eq!(store.are_dropped(vec![row.of()]).await.unwrap(), [true]);
    assert_eq!(store.forget_dropped(vec![row.of(), row.of()]).await.unwrap(), [true, true]);
    let roots = store.roots(Table::Refs, PartitionBits::GENESIS).await.unwrap();
    assert!(roots.iter().all(|root| *root == Root::default()));
    assert!(store.refs_of(row.blob, None, 9).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_row_that_names_another_record_ends_no_genuine_use() {
    let disk = Disk::new();
    let store = disk.open().await;
    let genuine = use_by(blob(b"x").id, 1);
    let made_up = RefRow { key: record(9, 1).0, ..genuine };
    store.add_refs(vec![genuine]).await.unwrap();
    store.add_refs(vec![made_up]).await.unwrap();
    assert_eq!(store.drop_refs(vec![made_up]).await.unwrap(), 1);
    assert_eq!(store.forget_dropped(vec![made_up.of()]).await.unwrap(), [true]);
    assert_eq!(store.are_used(vec![genuine.blob]).await.unwrap(), [true]);
    assert_eq!(store.refs_of(genuine.blob, None, 9).await.unwrap(), [genuine]);
}

#[tokio::test]
async fn uses_of_one_blob_are_read_in_pages() {
    let store = Disk::new().open().await;
    let rows: Vec<_> = (0..5).map(|vid| use_by(blob(b"x").id, vid)).collect();
    let other = use_by(blob(b"other").id, 1);
    store.add_refs([&rows[..], &[other]].concat()).await.unwrap();
    let (mut all, mut after) = (Vec::new(), None);
    loop {
        let page = store.refs_of(rows[0].blob, after, 2).await.unwrap();
        let Some(last) = page.last() else { break };
        after = Some(last.of());
        all.extend(page);
    }
    assert_eq!(all, rows);
}

#[tokio::test]
async fn a_file_that_comes_back_after_a_crash_is_collected_again() {
    let disk = Disk::new();
    let store = disk.open().await;
    let blob = blob(b"x");
    store.put_blob(blob.id, blob.bytes.clone()).await.unwrap();
    store.collect(blob.id, || true).await.unwrap().unwrap();
    assert!(disk.blob_files().is_empty());
    // No directory was synced: the file is there again, and the index does not know it.
    disk.fs.crash();
    drop(store);
    let store = disk.open().await;
    assert_eq!((disk.blob_files().len(), store.used()), (1, 0));
    assert!(!store.has_blob(blob.id).await.unwrap());
    assert_eq!(store.reconcile().await.unwrap().adopted, 1);
    assert_eq!(all_unused(&store).await, [blob.id]);
    store.collect(blob.id, || true).await.unwrap().unwrap();
    assert_eq!((disk.blob_files().len(), store.used()), (0, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_was_told_that_a_blob_is_held_finds_it() {
    let disk = Disk::new();
    let store = disk.open().await;
    let blob = blob(b"x");
    let (mut told, mut collected) = (0, 0);
    for round in 0..60 {
        store.put_blob(blob.id, blob.bytes.clone()).await.unwrap();
        let row = use_by(blob.id, round);
        let adding = async {
            let held = store.add_refs(vec![row]).await.unwrap()[0];
            if !held {
                store.put_blob(blob.id, blob.bytes.clone()).await.unwrap();
            }
            held
        };
        let (held, gone) = match round % 2 {
            0 => tokio::join!(adding, store.collect(blob.id, || true)),
            _ => {
                let (gone, held) = tokio::join!(store.collect(blob.id, || true), adding);
                (held, gone)
            }
        };
        told += usize::from(held);
        collected += usize::from(gone.unwrap().is_some());
        assert_eq!(store.get_blob(blob.id).await.unwrap().bytes, blob.bytes);
        store.drop_refs(vec![row]).await.unwrap();
    }
    assert!(told + collected >= 60, "{told} told, {collected} collected");
    assert_eq!(store.corrupt_count(), 0);
}
