//! What a store offers bounds its rows as well.

use super::*;

const OFFERED: u64 = 2 << 20;

impl Disk {
    async fn offering(&self) -> Store {
        drop(DataDir::open(&self.env, Path::new("/data")).unwrap());
        let config = Config { capacity: Some(OFFERED), ..Config::new("/data") };
        let store = Store::open(self.env.clone(), config).await.unwrap();
        store.reconcile().await.unwrap();
        store
    }
}

/// A record of some kilobytes, one of many.
fn long_record(number: u16) -> (RecordKey, Record) {
    let (key, record) = record(1, 1);
    let mut tag = [0; 16];
    tag[..2].copy_from_slice(&number.to_be_bytes());
    let mut version = record.heads().next().unwrap().clone();
    version.sealed = vec![7; 8 * 1024].into();
    (RecordKey { tag: Tag::new(tag), ..key }, Record::of(version))
}

/// Its deletion, by someone who had seen it.
fn deletion(number: u16) -> (RecordKey, Record) {
    let (key, record) = long_record(number);
    let seen = record.heads().next().unwrap().clone();
    let version = Version {
        vid: Vid::new([2; 16]),
        hlc: Hlc(2),
        context: [(seen.actor, seen.hlc)].into(),
        kind: Kind::Dead,
        sealed: Bytes::new(),
        ..seen
    };
    (key, Record::of(version))
}

async fn fill(store: &Store, from: u16) -> u16 {
    for number in from.. {
        match store.put_records(vec![long_record(number)]).await {
            Ok(_) => {}
            Err(WriteError::NoSpace) => return number,
            Err(error) => panic!("{error}"),
        }
    }
    from
}

#[tokio::test]
async fn rows_end_where_the_offer_does_and_deletions_make_room() {
    let disk = Disk::new();
    let store = disk.offering().await;
    assert_eq!(store.held(), 0);
    let full = fill(&store, 0).await;
    let near = OFFERED - 16 * 1024..=OFFERED + 16 * 1024;
    assert!(near.contains(&store.held()), "{} after {full} records", store.held());
    let one_more = || vec![row(blob(b"one more").id)];
    assert!(matches!(store.add_refs(one_more()).await, Err(WriteError::NoSpace)));
    // What replicas have is taken all the same: a read that brings them together must not fail.
    store.merge_records(vec![long_record(full)]).await.unwrap();
    store.merge_refs(one_more()).await.unwrap();
    let (full, held) = (full + 1, store.held());
    for number in 0..20 {
        store.put_records(vec![deletion(number)]).await.unwrap();
    }
    assert!(store.held() < held - 20 * 8 * 1024 + 20 * 1024);
    let fuller = fill(&store, full).await;
    assert!((full + 10..full + 25).contains(&fuller), "{} more", fuller - full);
    let held = store.held();
    store.close().await;
    drop(store);
    let store = disk.offering().await;
    assert_eq!(store.held(), held, "counted anew");
}
