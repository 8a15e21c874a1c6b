//! A data directory of the format before comes up with everything after an upgrade.

use super::*;
use crate::disk::meta::{OLD_REFS, REFS};
use crate::disk::upgrade::{Upgraded, upgrade};

/// A directory as format 1 has it, with these rows, of which those in `rotten` do not decode.
async fn old_directory(rows: &[RefRow], rotten: &[usize]) -> Disk {
    let disk = Disk::new();
    let store = disk.open().await;
    store.add_refs(rows.to_vec()).await.unwrap();
    let (rows, rotten) = (rows.to_vec(), rotten.to_vec());
    let turn_back = move |tx: &mut MetaTx| {
        for (at, row) in rows.iter().enumerate() {
            let new = ref_row(&row.of());
            let value = row.to_canonical();
            tx.take_away(REFS, &new)?;
            let value = if rotten.contains(&at) { &b"rot"[..] } else { &value[..] };
            let old = &new[..new.len() - RecordKey::LEN];
            tx.damage(OLD_REFS, old, value)?;
        }
        Ok(())
    };
    store.0.index.commit(turn_back).await.unwrap();
    store.close().await;
    drop(store);
    disk.fs.damage(Path::new("/data/format"), |text| *text = b"dfs-data 1\n".to_vec());
    disk
}

#[tokio::test]
async fn every_row_is_found_after_an_upgrade_and_no_node_starts_before() {
    let root = Path::new("/data");
    let rows: Vec<_> = (0..9).map(|n| row(blob(&[n]).id)).collect();
    let disk = old_directory(&rows, &[4]).await;
    assert!(matches!(DataDir::open(&disk.env, root), Err(OpenStoreError::Old(_))));
    assert_eq!(upgrade(&disk.env, root).unwrap(), Upgraded::Now { rows: 9 });
    assert_eq!(upgrade(&disk.env, root).unwrap(), Upgraded::Already);
    disk.fs.crash();
    let store = disk.open().await;
    for (at, row) in rows.iter().enumerate() {
        let found = store.refs_of(row.blob, None, 9).await.unwrap();
        let expected: &[RefRow] = if at == 4 { &[] } else { std::slice::from_ref(row) };
        assert_eq!(found, expected);
        // What does not decode may be a use.
        assert_eq!(store.are_used(vec![row.blob]).await.unwrap(), [true]);
    }
    // The sums that replicas compare are those of the rows.
    store
        .forget_refs(rows.iter().enumerate().filter(|(at, _)| *at != 4).map(|(_, r)| *r).collect())
        .await
        .unwrap();
    let roots = store.roots(Table::Refs, PartitionBits::GENESIS).await.unwrap();
    assert_eq!(roots.iter().map(|root| root.count).sum::<u64>(), 1);
}

#[tokio::test]
async fn an_upgrade_that_is_cut_off_is_completed_by_the_next() {
    let root = Path::new("/data");
    let rows: Vec<_> = (0..9).map(|n| row(blob(&[n]).id)).collect();
    let disk = old_directory(&rows, &[]).await;
    // The rows are moved, and the last mark is not made.
    assert_eq!(upgrade(&disk.env, root).unwrap(), Upgraded::Now { rows: 9 });
    disk.fs.damage(Path::new("/data/format"), |text| *text = b"dfs-data 1 to 2\n".to_vec());
    assert!(matches!(DataDir::open(&disk.env, root), Err(OpenStoreError::Old(_))));
    assert_eq!(upgrade(&disk.env, root).unwrap(), Upgraded::Now { rows: 0 });
    let store = disk.open().await;
    for row in &rows {
        assert_eq!(store.refs_of(row.blob, None, 9).await.unwrap(), [*row]);
    }
}

#[test]
fn a_directory_that_is_new_foreign_or_newer_is_not_upgraded() {
    let (root, disk) = (Path::new("/data"), Disk::new());
    drop(DataDir::open(&disk.env, root).unwrap());
    assert_eq!(upgrade(&disk.env, root).unwrap(), Upgraded::Already);
    disk.fs.damage(Path::new("/data/format"), |text| *text = b"dfs-data 4\n".to_vec());
    assert!(matches!(upgrade(&disk.env, root), Err(OpenStoreError::UnknownVersion(..))));
    let disk = Disk::new();
    disk.env.fs().create_dir_all(root).unwrap();
    dfs_env::write_replacing(disk.env.fs(), Path::new("/data/thesis.txt"), b"mine").unwrap();
    assert!(matches!(upgrade(&disk.env, root), Err(OpenStoreError::Foreign(_))));
}
