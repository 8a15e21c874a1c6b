//! A line that cannot carry many blobs at once before their deadline.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::Duration;

use dfs_core::name::FilePath;
use dfs_server::Mode;
use dfs_sim::cluster::Cluster;
use dfs_sim::disk::CrashPolicy;
use dfs_sim::net::SimNet;
use dfs_sim::options::Options;
use dfs_sim::rng::Rng;
use dfs_sim::trace::Trace;

#[test]
fn what_a_node_missed_reaches_it_over_a_slow_line() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    runtime.block_on(async {
        let plain = Options {
            machines: 3,
            keyless: 0,
            churns: false,
            grows: false,
            zones: 1,
            ..Options::of(1)
        };
        let trace = Trace::new(false);
        let net = SimNet::new(Rng::new(1), trace.clone(), b"nothing is looked for".to_vec());
        let mut cluster = Cluster::new(&plain, net.clone(), trace);
        for host in 0..3 {
            cluster.start(host).await.unwrap();
        }
        cluster.settled(&[0, 1, 2], 3, SETTLE_MAX).await.unwrap();
        cluster.kill(2, CrashPolicy::KeepAll, false).await;
        let content: Vec<u8> = (0..BLOBS).flat_map(|blob| vec![blob; 1 << 20]).collect();
        let path = FilePath::parse("f").unwrap();
        let client = cluster.handle(0).unwrap().client;
        client.store(&path, &content[..], Mode::Quorum).await.unwrap();
        for (from, to) in [(0, 2), (1, 2)] {
            net.set_link(from, to, |link| link.rate = BYTES_PER_SECOND);
        }
        cluster.start(2).await.unwrap();
        cluster.settled(&[0, 1, 2], 3, SETTLE_MAX).await.unwrap();
    });
}

/// What one link carries: four blobs of 1 MiB within the deadline of ten seconds.
const BYTES_PER_SECOND: u64 = 450_000;
/// In so many blobs the file is cut, all different.
const BLOBS: u8 = 32;
/// Five times what the two links take for the file.
const SETTLE_MAX: Duration = Duration::from_secs(200);
