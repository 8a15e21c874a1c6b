//! Files on their way in, from sources that take their time.

use dfs_core::name::FilePath;
use dfs_server::Mode;
use tokio::io::AsyncWriteExt;

use crate::{Cluster, LIMIT, content};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn chunks_reach_their_replicas_while_the_source_is_slow() {
    const CHUNK: usize = 1 << 20;
    let cluster = Cluster::of(3).await;
    let (mut sink, source) = tokio::io::duplex(1 << 16);
    let client = cluster.node(0);
    let path = FilePath::parse("slow").unwrap();
    let storing =
        tokio::spawn(async move { client.store(&path, source, Mode::Default).await.unwrap() });
    sink.write_all(&content(CHUNK)).await.unwrap();
    // Nothing more comes until the first chunk lies on another node.
    let arrived = async {
        let other = cluster.node(1);
        while other.scrub().bytes_total < CHUNK as u64 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(LIMIT, arrived).await.expect("the chunk waits for the source");
    sink.write_all(b"the end").await.unwrap();
    drop(sink);
    assert_eq!(storing.await.unwrap().bytes, CHUNK as u64 + 7);
}
