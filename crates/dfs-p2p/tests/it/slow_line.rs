//! Calls over a line that is far slower than they would like: by a clock that jumps, so nothing
//! here takes its time.

use std::time::Duration;

use bytes::Bytes;
use dfs_core::id::BlobId;
use dfs_p2p::CallError;
use dfs_p2p::message::{Call, Priority, Request};

use crate::{Node, World, call};

const MIB: usize = 1024 * 1024;
const LINE: u64 = 125_000;

/// Two nodes, and from then on a line of 1 Mbit/s between them.
async fn behind_a_slow_line() -> (Node, Node) {
    let world = World::new();
    let mut a = world.start(1, 4001, &[], 1).await;
    let mut b = world.start(2, 4002, &[4001], 1).await;
    a.sees(1).await;
    b.sees(1).await;
    world.net.slow_down(LINE);
    (a, b)
}

fn put(priority: Priority, bytes: usize, deadline: Duration) -> Call {
    let body = Bytes::from(vec![7; bytes]);
    let request = Request::ChunkPut(BlobId::new([1; 32]));
    let call = Call::new(priority, deadline, request);
    Call { body, answer_bytes_max: bytes, ..call }
}

#[tokio::test(start_paused = true)]
async fn what_moves_has_all_the_time_it_needs() {
    let (a, b) = behind_a_slow_line().await;
    let began = tokio::time::Instant::now();
    // Four at once, there and back: over a minute, without one of them ending at its deadline.
    let deadline = Duration::from_secs(5);
    let to = b.network.node_id();
    let puts = (0..4).map(|_| a.network.call(&to, put(Priority::Chunks, MIB, deadline)));
    for put in futures_util::future::join_all(puts).await {
        assert_eq!(put.map(|answer| answer.body.len()), Ok(MIB));
    }
    let took = began.elapsed();
    assert!(took > Duration::from_secs(60), "{took:?}");
    // Neither end took the other for dead.
    assert!(a.network.is_connected(&to) && b.network.is_connected(&a.network.node_id()));
    assert!(a.network.delivered() >= 4 * MIB as u64 - 64 * 1024);
    assert!(a.network.received() >= 4 * MIB as u64);
}

#[tokio::test(start_paused = true)]
async fn a_silent_peer_is_given_up_at_the_deadline_however_much_went_before() {
    let (a, b) = behind_a_slow_line().await;
    let to = b.network.node_id();
    let deadline = Duration::from_secs(5);
    a.network.call(&to, put(Priority::Chunks, MIB, deadline)).await.unwrap();
    let began = tokio::time::Instant::now();
    // It answers pings, and gossips, and never answers this.
    let call = Call { deadline, ..call(Request::ChainGet { from: 0 }, 0) };
    let ended = a.network.call(&to, call).await;
    assert!(ended.map_or_else(|error| error == CallError::Deadline, |it| it.result.is_err()));
    let took = began.elapsed();
    assert!(took < deadline * 2, "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_small_call_does_not_wait_behind_megabytes() {
    let (a, b) = behind_a_slow_line().await;
    let to = b.network.node_id();
    let deadline = Duration::from_secs(5);
    let bulk = a.network.call(&to, put(Priority::Chunks, 8 * MIB, deadline));
    let mut bulk = std::pin::pin!(bulk);
    let small = async {
        let mut longest = Duration::ZERO;
        for _ in 0..10 {
            tokio::time::sleep(Duration::from_secs(2)).await;
            let began = tokio::time::Instant::now();
            a.network.call(&to, put(Priority::Records, 100, deadline)).await.unwrap();
            longest = longest.max(began.elapsed());
        }
        longest
    };
    let longest = tokio::select! {
        biased;
        _ = &mut bulk => panic!("eight megabytes in twenty seconds"),
        longest = small => longest,
    };
    assert!(longest < Duration::from_secs(2), "{longest:?}");
    bulk.await.unwrap();
}
