//! Work whose caller has gone.

use std::sync::mpsc;

use super::*;
use crate::disk::space::Purpose;

#[tokio::test]
async fn a_put_that_is_given_up_keeps_its_place_until_it_is_done() {
    let (env, dir) = (Env::real(), tempfile::tempdir().unwrap());
    let root = dir.path().join("data");
    drop(DataDir::open(&env, &root).unwrap());
    let config = Config { root, capacity: Some(1 << 40), packed_max: 0 };
    let store = Store::open(env, config).await.unwrap();
    let (begun, mut begins) = tokio::sync::mpsc::channel(FILES_WRITING_MAX);
    let mut held = Vec::new();
    for number in 0..FILES_WRITING_MAX {
        let (hold, released) = mpsc::sync_channel::<()>(1);
        let begun = begun.clone();
        // Stands for a disk that takes its time.
        let check = move || {
            let _ = begun.try_send(());
            let _ = released.recv();
            None
        };
        let id = BlobId::new([u8::try_from(number).unwrap(); 32]);
        tokio::select! {
            biased;
            done = store.put(id, 9, Purpose::Restored, check) => panic!("it cannot end: {done:?}"),
            _ = begins.recv() => {}
        }
        held.push(hold);
    }
    assert_eq!(store.0.writing.available_permits(), 0);
    drop(held);
    let all = u32::try_from(FILES_WRITING_MAX).unwrap();
    drop(store.0.writing.acquire_many(all).await.unwrap());
}
