//! Rows of the index that do not decode: they stop nothing but what concerns them alone.

use dfs_core::layout::epoch::EpochProposal;
use dfs_core::paxos::Register;
use redb::TableDefinition;

use super::*;
use crate::disk::meta::{BLOBS, REFS, SUMS};

const ALL: PartitionBits = match PartitionBits::new(1) {
    Ok(bits) => bits,
    Err(_) => panic!("one bit is allowed"),
};

/// Rows of blobs of one partition, in order.
async fn store_of_refs(count: u8) -> (Store, Vec<RefRow>) {
    let store = Disk::new().open().await;
    let rows: Vec<_> = (0..count).map(|number| row(BlobId::new([number; 32]))).collect();
    store.merge_refs(rows.clone()).await.unwrap();
    (store, rows)
}

async fn damage(
    store: &Store,
    table: TableDefinition<'static, &'static [u8], &'static [u8]>,
    row: Vec<u8>,
) {
    store.0.index.commit(move |tx| tx.damage(table, &row, b"rot")).await.unwrap();
}

async fn damage_refs(store: &Store, rows: &[RefRow]) {
    for row in rows {
        damage(store, REFS, ref_row(&row.of())).await;
    }
}

async fn all_refs(store: &Store, limit: usize) -> Vec<RefRow> {
    let (mut all, mut after) = (Vec::new(), Vec::new());
    loop {
        let page = store.scan_refs(0, ALL, after, limit).await.unwrap();
        let is_full = page.len() == limit;
        all.extend(&page);
        assert!(all.len() < 100, "the scan turns back");
        match page.last() {
            Some(last) if is_full => after = ref_row(&last.of()),
            _ => return all,
        }
    }
}

#[tokio::test]
async fn a_page_of_references_goes_on_past_damaged_rows() {
    let (store, rows) = store_of_refs(20).await;
    let damaged = [0, 1, 2, 5, 11, 12, 19];
    damage_refs(&store, &damaged.map(|at| rows[at])).await;
    let good = |(at, row): (usize, &RefRow)| (!damaged.contains(&at)).then_some(*row);
    let good: Vec<_> = rows.iter().enumerate().filter_map(good).collect();
    for limit in [1, 2, 3, 7, 13, 14, 100] {
        assert_eq!(all_refs(&store, limit).await, good, "{limit} at once");
    }
    assert_eq!(store.damaged_rows(), damaged.len() as u64, "each is counted once");
}

#[tokio::test]
async fn a_row_under_the_key_of_another_does_not_turn_a_scan_back() {
    let (store, rows) = store_of_refs(3).await;
    let (key, value) = (ref_row(&rows[2].of()), rows[0].to_canonical());
    store.0.index.commit(move |tx| tx.damage(REFS, &key, &value)).await.unwrap();
    assert_eq!(all_refs(&store, 1).await, rows[..2]);
    assert_eq!(store.damaged_rows(), 1);
}

#[tokio::test]
async fn a_page_of_records_goes_on_past_damaged_rows() {
    let store = Disk::new().open().await;
    let records: Vec<_> = (1..=9).map(|tag| record(tag, 1)).collect();
    store.merge_records(records.clone()).await.unwrap();
    for at in [0, 3, 8] {
        damage(&store, RECORDS, record_row(&records[at].0)).await;
    }
    damage(&store, RECORDS, record_row(&records[4].0)[..9].to_vec()).await;
    let partition = records[0].0.partition(ALL);
    let (mut found, mut after) = (Vec::new(), Vec::new());
    loop {
        let page =
            store.scan_records(partition, ALL, after, PageLimit::of_rows(2)).await.unwrap().rows;
        let Some((last, _)) = page.last() else { break };
        after = record_row(last);
        found.extend(page.iter().map(|(key, _)| key.tag.as_bytes()[0]));
    }
    assert_eq!(found, [2, 3, 5, 6, 7, 8]);
    assert_eq!(store.damaged_rows(), 4);
}

#[tokio::test]
async fn a_directory_with_a_damaged_record_is_not_listed_without_it() {
    let store = Disk::new().open().await;
    let records: Vec<_> = (1..=3).map(|tag| record(tag, 1)).collect();
    let key = records[1].0;
    store.merge_records(records).await.unwrap();
    damage(&store, RECORDS, record_row(&key)).await;
    // A quorum that counts this answer would miss a version that was acknowledged.
    assert!(store.scan_dir((key.vault, key.dir), None, PageLimit::of_rows(9)).await.is_err());
    assert!(store.record(key).await.is_err());
}

#[tokio::test]
async fn a_damaged_reference_may_be_a_use() {
    let disk = Disk::new();
    let store = disk.open().await;
    let [kept, unused] = [blob(b"kept"), blob(b"unused")];
    for blob in [&kept, &unused] {
        store.put_blob(blob.id, blob.bytes.clone()).await.unwrap();
    }
    let row = row(kept.id);
    store.add_refs(vec![row]).await.unwrap();
    damage_refs(&store, &[row]).await;
    assert_eq!(store.unused(None, 9).await.unwrap().ids, [unused.id]);
    assert_eq!(store.are_used(vec![kept.id, unused.id]).await.unwrap(), [true, false]);
    assert_eq!(store.are_dropped(vec![row.of()]).await.unwrap(), [false]);
    assert_eq!(store.collect(kept.id, || true).await.unwrap(), None);
    assert!(store.refs_of(kept.id, None, 9).await.unwrap().is_empty());
    assert_eq!(store.damaged_rows(), 1);
}

#[tokio::test]
async fn a_damaged_reference_refuses_itself_and_no_other() {
    let (store, rows) = store_of_refs(4).await;
    damage_refs(&store, &rows[1..2]).await;
    let refused = store.merge_refs(rows.clone()).await;
    assert!(matches!(refused, Err(WriteError::Damaged)), "{refused:?}");
    let new = row(BlobId::new([9; 32]));
    let refused = store.add_refs(vec![rows[1], new]).await;
    assert!(matches!(refused, Err(WriteError::Damaged)), "{refused:?}");
    assert_eq!(store.refs_of(new.blob, None, 9).await.unwrap(), [new], "the others are joined");
    assert_eq!(store.drop_refs(rows.clone()).await.unwrap(), 3);
    let places = rows.iter().map(RefRow::of).collect();
    assert_eq!(store.forget_dropped(places).await.unwrap(), [true, false, true, true]);
    assert!(!store.has_failed());
}

#[tokio::test]
async fn entries_that_name_no_blob_are_passed_over() {
    let disk = Disk::new();
    let store = disk.open().await;
    let blobs: Vec<_> = (0..4u8).map(|number| blob(&[number; 9])).collect();
    for blob in &blobs {
        store.put_blob(blob.id, blob.bytes.clone()).await.unwrap();
    }
    for key in [vec![0], vec![0x80; 31], vec![0xff; 33]] {
        damage(&store, BLOBS, key).await;
    }
    assert_eq!(store.held_after(None, 9).await.unwrap().len(), blobs.len());
    let (mut unused, mut after) = (Vec::new(), None);
    loop {
        let page = store.unused(after, 2).await.unwrap();
        unused.extend(page.ids);
        match page.last {
            None => break,
            last => after = last,
        }
    }
    unused.sort_unstable();
    let mut ids: Vec<_> = blobs.iter().map(|blob| blob.id).collect();
    ids.sort_unstable();
    assert_eq!(unused, ids);
    assert_eq!(store.reconcile().await.unwrap(), Reconciled::default());
    assert_eq!(store.damaged_rows(), 3);
}

#[tokio::test]
async fn sums_with_damaged_keys_are_passed_over() {
    let (store, _) = store_of_refs(4).await;
    let bits = PartitionBits::GENESIS;
    let before = store.roots(Table::Refs, bits).await.unwrap();
    damage(&store, SUMS, vec![Table::Refs as u8, 5]).await;
    assert_eq!(store.roots(Table::Refs, bits).await.unwrap(), before);
}

#[tokio::test]
async fn a_vote_that_does_not_decode_refuses_to_vote_and_nothing_else() {
    let store = Disk::new().open().await;
    store.put_state("vote", b"rot".to_vec()).await.unwrap();
    let refused = store.vote(1, |_: &mut Register<EpochProposal>| ()).await;
    assert!(matches!(refused, Err(WriteError::Damaged)), "{refused:?}");
    assert!(!store.has_failed());
    store.merge_records(vec![record(1, 1)]).await.unwrap();
}
