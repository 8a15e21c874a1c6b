//! Tombstones that are forgotten, and what may not come back after that.

use dfs_core::record::version::Kind;

use super::*;

/// A name, its version, and the tombstone that replaced it.
fn deleted(tag: u8, hlc: u64) -> (RecordKey, Record, Record) {
    let (key, live) = record(tag, hlc);
    let mut dead = live.winner().unwrap().clone();
    dead.context = [(dead.actor, dead.hlc)].into();
    (dead.vid, dead.actor, dead.hlc) = (Vid::new([99; 16]), hlc + 1, Hlc(hlc + 1));
    dead.kind = Kind::Dead;
    (key, live, Record::of(dead))
}

async fn floor(store: &Store, partition: Partition) -> Option<Hlc> {
    store.floors(vec![partition]).await.unwrap()[0]
}

#[tokio::test]
async fn what_was_purged_is_taken_from_nobody_and_everything_else_is() {
    let disk = Disk::new();
    let store = disk.open().await;
    let (key, live, dead) = deleted(1, 10);
    let partition = key.partition(PartitionBits::GENESIS);
    store.merge_records(vec![(key, live.clone())]).await.unwrap();
    store.merge_records(vec![(key, dead.clone())]).await.unwrap();
    assert_eq!(store.purge_records(vec![(key, live.state_hash())]).await.unwrap(), 0);
    assert_eq!(floor(&store, partition).await, None);
    assert_eq!(store.purge_records(vec![(key, dead.state_hash())]).await.unwrap(), 1);
    store.close().await;
    drop(store);
    let store = disk.open().await;
    assert_eq!(floor(&store, partition).await, Some(Hlc(11)));
    // Of one batch the rest is taken over.
    let (other, later) = record(2, 12);
    let brought = store.merge_records(vec![(key, live.clone()), (other, later.clone())]).await;
    assert!(matches!(brought, Err(WriteError::Purged)), "{brought:?}");
    assert!(store.record(key).await.unwrap().is_empty());
    assert_eq!(store.record(other).await.unwrap(), later);
    // The tombstone comes back from a replica that was not told; with it the version is known.
    store.merge_records(vec![(key, dead.clone())]).await.unwrap();
    store.merge_records(vec![(key, live)]).await.unwrap();
    assert_eq!(store.record(key).await.unwrap(), dead);
}

#[tokio::test]
async fn a_floor_only_rises_until_rows_are_given_away() {
    let store = Disk::new().open().await;
    let (key, live) = record(1, 10);
    let partition = key.partition(PartitionBits::GENESIS);
    for (told, expected) in [(5, 5), (9, 9), (7, 9)] {
        store.raise_floors(vec![(partition, Hlc(told))]).await.unwrap();
        assert_eq!(floor(&store, partition).await, Some(Hlc(expected)));
    }
    store.merge_records(vec![(key, live.clone())]).await.unwrap();
    store.forget_records(vec![(key, live.state_hash())]).await.unwrap();
    assert_eq!(floor(&store, partition).await, None);
    store.raise_floors(vec![(partition, Hlc(9))]).await.unwrap();
    store.clear_floors(vec![partition]).await.unwrap();
    assert_eq!(floor(&store, partition).await, None);
}
