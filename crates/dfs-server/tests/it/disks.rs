//! Disks that are full are named where people look: by their own node, and by those it refused.

use dfs_core::name::FilePath;
use dfs_server::Mode;
use dfs_server::health::Level;

use crate::Cluster;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_is_full_is_named_by_its_node_and_by_whoever_it_refused() {
    let cluster = Cluster::of(3).await;
    let full = cluster.node(2);
    assert!(full.notes().is_empty());
    // Short of files, then of bytes.
    cluster.disks[2].set_files(1 << 20, 3);
    while full.notes().is_empty() {
        tokio::task::yield_now().await;
    }
    let said = full.notes().remove(0).reason;
    assert!(said.contains("/data") && said.contains("3 of 1048576 inodes"), "{said}");
    let health = full.health().await.unwrap();
    assert_eq!((health.health, &health.disks[..]), (Level::Degraded, &[said][..]));
    let own = full.peers().into_iter().find(|peer| peer.is_self).unwrap();
    assert_eq!(own.disk.as_ref(), health.disks.first());
    assert!(full.not_ready().is_empty(), "it serves all the same");
    // Another one knows once it was refused; the first two copies are enough for that.
    let (asked, id) = (cluster.node(0), own.id);
    let knows = || asked.peers().into_iter().any(|peer| peer.id == id && peer.disk.is_some());
    for number in 0u32.. {
        let path = FilePath::parse(&format!("f{number}")).unwrap();
        let content = number.to_be_bytes().repeat(20_000);
        asked.store(&path, &content[..], Mode::Quorum).await.unwrap();
        if knows() {
            break;
        }
    }
    let health = asked.health().await.unwrap();
    assert!(health.message.contains("it has no room"), "{}", health.message);
    cluster.disks[2].set_files(1 << 20, 1 << 19);
    while !full.notes().is_empty() {
        tokio::task::yield_now().await;
    }
}
