//! Rows that are forgotten because others were found to have them too.

use super::*;

/// The fingerprint of the partition that these keys are in.
async fn root(store: &Store, table: Table, partition: Partition) -> Root {
    store.roots(table, PartitionBits::GENESIS).await.unwrap()[usize::from(partition)]
}

fn hashes(records: &[KeyedRecord]) -> Vec<(RecordKey, [u8; 32])> {
    records.iter().map(|(key, record)| (*key, record.state_hash())).collect()
}

#[tokio::test]
async fn records_that_were_compared_go_page_by_page_until_another_comes_in() {
    let store = Disk::new().open().await;
    let records: Vec<_> = (1..=4).map(|tag| record(tag, 1)).collect();
    let partition = records[0].0.partition(PartitionBits::GENESIS);
    store.merge_records(records.clone()).await.unwrap();
    let compared = root(&store, Table::Records, partition).await;
    let forget = async |root, page: &[KeyedRecord]| {
        store.forget_known_records(partition, root, hashes(page)).await.unwrap()
    };
    let after_one = forget(compared, &records[..1]).await.unwrap();
    assert_eq!(after_one, root(&store, Table::Records, partition).await);
    assert_eq!(forget(compared, &records[1..2]).await, None, "it is another root by now");
    let after_two = forget(after_one, &records[1..2]).await.unwrap();
    // It comes in between two pages, and the second one is read afterwards.
    let late = record(5, 1);
    store.merge_records(vec![late.clone()]).await.unwrap();
    let limit = PageLimit::of_rows(9);
    let page = store.scan_records(partition, PartitionBits::GENESIS, Vec::new(), limit).await;
    let page = page.unwrap().rows;
    assert_eq!(page.len(), 3);
    assert_eq!(forget(after_two, &page).await, None);
    assert_eq!(store.record(late.0).await.unwrap(), late.1);
    assert_eq!(store.record(records[3].0).await.unwrap(), records[3].1);
    // Compared anew, all of them go.
    let compared = root(&store, Table::Records, partition).await;
    assert_eq!(forget(compared, &page).await, Some(Root::default()));
    assert!(store.record(late.0).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_record_that_changed_after_the_comparison_keeps_the_others_too() {
    let store = Disk::new().open().await;
    let records = [record(1, 1), record(2, 1)];
    let partition = records[0].0.partition(PartitionBits::GENESIS);
    store.merge_records(records.to_vec()).await.unwrap();
    let compared = root(&store, Table::Records, partition).await;
    store.merge_records(vec![record(1, 2)]).await.unwrap();
    let forgotten = store.forget_known_records(partition, compared, hashes(&records)).await;
    assert_eq!(forgotten.unwrap(), None);
    assert_eq!(store.record(records[1].0).await.unwrap(), records[1].1);
}

#[tokio::test]
async fn references_that_were_compared_go_until_another_comes_in() {
    let store = Disk::new().open().await;
    let id = blob(b"x").id;
    let partition = id.partition(PartitionBits::GENESIS);
    let row_of = |vid| RefRow { vid: Vid::new([vid; 16]), ..row(id) };
    let rows: Vec<_> = [1, 2].map(row_of).to_vec();
    store.add_refs(rows.clone()).await.unwrap();
    let compared = root(&store, Table::Refs, partition).await;
    let forget = async |root, rows: &[RefRow]| {
        store.forget_known_refs(partition, root, rows.to_vec()).await.unwrap()
    };
    let left = forget(compared, &rows[..1]).await.unwrap();
    store.add_refs(vec![row_of(3)]).await.unwrap();
    assert_eq!(forget(left, &[row_of(2), row_of(3)]).await, None);
    assert_eq!(store.refs_of(id, None, 9).await.unwrap(), [row_of(2), row_of(3)]);
    let compared = root(&store, Table::Refs, partition).await;
    assert_eq!(forget(compared, &[row_of(2), row_of(3)]).await, Some(Root::default()));
}

#[tokio::test]
async fn rows_of_another_partition_than_was_compared_stay() {
    let store = Disk::new().open().await;
    let (here, there) = (row(blob(b"x").id), row(blob(b"y").id));
    let [partition, other] = [here, there].map(|row| row.blob.partition(PartitionBits::GENESIS));
    assert_ne!(partition, other);
    store.add_refs(vec![here, there]).await.unwrap();
    let compared = root(&store, Table::Refs, partition).await;
    let forgotten = store.forget_known_refs(partition, compared, vec![here, there]).await;
    assert_eq!(forgotten.unwrap(), Some(Root::default()));
    assert_eq!(store.refs_of(there.blob, None, 9).await.unwrap(), [there]);
}
