//! Right after a start: waiting for the dials that may bring connections.

use std::time::Duration;

use dfs_core::id::NodeId;
use dfs_p2p::network::FIRST_DIALS_MAX;

use crate::World;

#[tokio::test(start_paused = true)]
async fn who_waits_for_the_first_dials_meets_whoever_is_there() {
    let world = World::new();
    let one = world.start(1, 4001, &[], 1).await;
    let mut two = world.start(2, 4002, &[4001], 1).await;
    two.sees(1).await;
    let late = world.start(3, 4003, &[4001], 1).await;
    let others = [one.network.node_id(), two.network.node_id()];
    late.network.first_dials(&others).await;
    // The second one it only hears of from the first.
    assert!(others.iter().all(|node| late.network.is_connected(node)));
}

#[tokio::test(start_paused = true)]
async fn whoever_is_not_there_is_not_waited_for_longer() {
    let world = World::new();
    let began = tokio::time::Instant::now();
    let alone = world.start(1, 4001, &[4999], 1).await;
    let nobody = NodeId::new([9; 32]);
    alone.network.first_dials(&[nobody, alone.network.node_id()]).await;
    assert!(!alone.network.is_connected(&nobody));
    assert!(began.elapsed() <= FIRST_DIALS_MAX + Duration::from_millis(100));
    // Nor ever again.
    let began = tokio::time::Instant::now();
    alone.network.first_dials(&[nobody]).await;
    assert_eq!(began.elapsed(), Duration::ZERO);
}
