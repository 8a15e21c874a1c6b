//! Reading a store back.

use super::*;
use crate::disk::path::PathTransform;
use crate::disk::store::{Held, SumChecked, Verified};

async fn store_of(disk: &Disk, count: u32) -> (Store, Vec<Blob>) {
    let store = disk.open().await;
    let blobs: Vec<_> = (0..count).map(|number| blob(&number.to_be_bytes())).collect();
    for blob in &blobs {
        store.put_blob(blob.id, blob.bytes.clone()).await.unwrap();
    }
    (store, blobs)
}

#[tokio::test]
async fn every_blob_comes_once_in_the_order_of_the_directories() {
    let (store, blobs) = store_of(&Disk::new(), 50).await;
    let mut expected: Vec<_> = blobs.iter().map(|blob| blob.id).collect();
    expected.sort_by_key(|id| {
        (
            PathTransform::default().blob_path(id).parent().unwrap().to_owned(),
            PathTransform::place(id),
        )
    });
    for limit in [1, 7, 50, 1000] {
        let (mut seen, mut after) = (Vec::new(), None);
        loop {
            let page = store.held_after(after, limit).await.unwrap();
            let Some(Held { id, .. }) = page.last() else { break };
            assert!(page.len() <= limit);
            after = Some(*id);
            seen.extend(page.iter().map(|held| held.id));
        }
        assert_eq!(seen, expected, "{limit} at once");
    }
    // The place of one that is gone still is a place.
    let rest = store.held_after(Some(BlobId::new([9; 32])), 1000).await.unwrap();
    assert!(rest.iter().all(|held| held.place > PathTransform::place(&BlobId::new([9; 32]))));
    let bytes: u64 = rest.iter().map(|held| u64::from(held.len)).sum();
    assert_eq!(bytes, rest.len() as u64 * blobs[0].bytes.len() as u64);
}

#[tokio::test]
async fn rot_and_missing_files_are_found_and_told_of() {
    let disk = Disk::new();
    let (store, blobs) = store_of(&disk, 4).await;
    let path =
        |blob: &Blob| Path::new("/data/blobs").join(PathTransform::default().blob_path(&blob.id));
    disk.fs.damage(&path(&blobs[1]), |bytes| bytes[90] ^= 1);
    disk.env.fs().remove_file(&path(&blobs[2])).unwrap();
    let expected = [Verified::Good, Verified::Bad, Verified::Bad, Verified::Good];
    for (blob, expected) in blobs.iter().zip(expected) {
        assert_eq!(store.verify_blob(blob.id).await.unwrap(), expected);
    }
    assert_eq!(store.verify_blob(blobs[1].id).await.unwrap(), Verified::NotHeld);
    assert_eq!((store.set_aside_count(), store.corrupt_count()), (2, 2));
    assert_eq!(store.set_aside(), [blobs[1].id, blobs[2].id].into());
    assert_eq!(disk.fs.files_below(Path::new("/data/quarantine")).len(), 1);
    store.restore_blob(blobs[2].clone()).await.unwrap();
    assert_eq!(store.verify_blob(blobs[2].id).await.unwrap(), Verified::Good);
}

async fn roots(store: &Store, table: Table) -> Vec<Root> {
    store.roots(table, PartitionBits::GENESIS).await.unwrap()
}

async fn check_all(store: &Store) -> SumChecked {
    let mut all = SumChecked::default();
    for partition in 0..Store::sum_partitions() {
        let done = store.check_sums(u16::try_from(partition).unwrap()).await.unwrap();
        all.mended += done.mended;
        all.damaged += done.damaged;
        all.bytes += done.bytes;
    }
    all
}

#[tokio::test]
async fn a_sum_that_is_not_that_of_its_rows_is_mended() {
    let store = Disk::new().open().await;
    let (key, version) = record(1, 1);
    store.merge_records(vec![(key, version), record(2, 2)]).await.unwrap();
    let rows: Vec<_> = (0..9).map(|byte| row(BlobId::new([byte * 20; 32]))).collect();
    store.merge_refs(rows.clone()).await.unwrap();
    let good = (roots(&store, Table::Records).await, roots(&store, Table::Refs).await);
    assert_eq!(check_all(&store).await.mended, 0);
    let of_rows = rows[3].blob.partition(PartitionBits::GENESIS);
    let of_record = key.partition(PartitionBits::GENESIS);
    let of_none = (of_rows + 1) % 1024;
    for (table, partition) in
        [(Table::Refs, of_rows), (Table::Records, of_record), (Table::Refs, of_none)]
    {
        store.0.index.commit(move |tx| tx.damage_root(table, partition)).await.unwrap();
    }
    assert_eq!(check_all(&store).await.mended, 3);
    assert_eq!((roots(&store, Table::Records).await, roots(&store, Table::Refs).await), good);
    assert_eq!(check_all(&store).await.mended, 0);
}

#[tokio::test]
async fn a_row_that_does_not_decode_is_told_of_and_its_sum_left() {
    let store = Disk::new().open().await;
    let (key, version) = record(1, 1);
    store.merge_records(vec![(key, version)]).await.unwrap();
    let before = roots(&store, Table::Records).await;
    store.0.index.commit(move |tx| tx.damage(RECORDS, &record_row(&key), b"rot")).await.unwrap();
    let done = check_all(&store).await;
    assert_eq!((done.damaged, done.mended), (1, 0));
    assert_eq!(roots(&store, Table::Records).await, before);
}

#[tokio::test]
async fn the_roots_of_partitions_of_any_size_are_the_sums_of_smaller_ones() {
    let store = Disk::new().open().await;
    store.merge_records((1..9).map(|tag| record(tag, 1)).collect()).await.unwrap();
    let rows = (0..200u8).map(|number| row(BlobId::of(&[number]))).collect();
    store.merge_refs(rows).await.unwrap();
    for table in [Table::Records, Table::Refs] {
        let all = [16, 13, 11, 10, 9, 4, 1].map(|bits| PartitionBits::new(bits).unwrap());
        let mut finer = store.roots(table, all[0]).await.unwrap();
        assert!(finer.iter().any(|root| root.count > 0));
        for bits in &all[1..] {
            let roots = store.roots(table, *bits).await.unwrap();
            assert_eq!(roots.len(), bits.count());
            let parts = finer.chunks(finer.len() / roots.len());
            let joined = parts.map(|parts| {
                let mut sum = Root::default();
                parts.iter().for_each(|root| sum.join(root));
                sum
            });
            assert!(joined.eq(roots.iter().copied()), "{} bits", bits.get());
            finer = roots;
        }
    }
}
