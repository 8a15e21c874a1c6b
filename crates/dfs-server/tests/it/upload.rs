//! Files on their way in, from sources that take their time.

use bytes::Bytes;
use dfs_core::name::FilePath;
use dfs_server::Mode;
use dfs_server::health::Level;
use futures_util::TryStreamExt;
use tokio::io::AsyncWriteExt;

use crate::machines::{How, Machines, listing};
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
            crate::a_moment().await;
        }
    };
    tokio::time::timeout(LIMIT, arrived).await.expect("the chunk waits for the source");
    sink.write_all(b"the end").await.unwrap();
    drop(sink);
    assert_eq!(storing.await.unwrap().bytes, CHUNK as u64 + 7);
}

/// The line of all nodes together, as a home has it: 1 Mbit/s.
const SLOW_LINE: u64 = 125_000;

#[tokio::test(start_paused = true)]
async fn a_file_goes_in_and_out_over_a_slow_line() {
    let mut machines = Machines::new(3);
    machines.start(0, How { init: true, ..listing(&[]) }).await;
    for at in [1, 2] {
        machines.start(at, listing(&[0])).await;
    }
    machines.are_one(&[0, 1, 2]).await;
    for at in 0..3 {
        machines.until(at, |health| health.health == Level::Ok).await;
    }
    machines.slow_down(SLOW_LINE);
    let (path, file) = (FilePath::parse("slow").unwrap(), content(3 << 20));
    let began = tokio::time::Instant::now();
    let stored = machines.node(2).store(&path, &file[..], Mode::Default).await.unwrap();
    assert!(stored.copies >= 2, "{stored:?}");
    // Each chunk takes longer than any deadline, and none goes more often than it must.
    let took = began.elapsed().as_secs();
    assert!((24..100).contains(&took), "{took} s");
    let client = machines.node(1);
    let found = client.find(&path, None, Mode::Default).await.unwrap();
    let download = client.read(&found, 0..u64::MAX).await.unwrap();
    let parts: Vec<Bytes> = download.content.try_collect().await.unwrap();
    assert_eq!(parts.concat(), file);
    machines.slow_down(0);
    for at in 0..3 {
        machines.until(at, |health| health.health == Level::Ok).await;
    }
}
