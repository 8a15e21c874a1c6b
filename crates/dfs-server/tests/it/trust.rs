//! What a machine gains that has the cluster key and nothing else, and what others say of one that
//! is gone. Time is the test's own.

use std::time::Duration;

use dfs_core::node::liveness::{HEARSAY_MAX, Reach};
use dfs_server::{PeerRole, PeerState};

use crate::machines::{How, Machines, listing};

/// Long enough for whoever would be let in to be a member.
const WHILE: Duration = Duration::from_secs(60);
/// More often than a node looks at whom others reach.
const SAID_EVERY: Duration = Duration::from_millis(200);

impl Machines {
    /// Two nodes in one cluster, and places for others.
    async fn of_two(count: usize) -> Self {
        let mut machines = Self::new(count);
        machines.start(0, listing(&[])).await;
        machines.start(1, listing(&[0])).await;
        machines.are_one(&[0, 1]).await;
        machines
    }
}

#[tokio::test(start_paused = true)]
async fn who_has_the_cluster_key_alone_waits_outside() {
    let mut machines = Machines::of_two(3).await;
    machines.start(2, How { vault: None, ..listing(&[0, 1]) }).await;
    machines.until_shown(0, &machines.id(2), PeerState::Joining).await;
    tokio::time::sleep(WHILE).await;
    let health = machines.node(0).health().await.unwrap();
    assert_eq!((health.nodes, health.unvouched.len()), (2, 1));
    let peers = machines.node(0).peers();
    let waiting: Vec<_> = peers.iter().filter(|peer| peer.id == machines.id(2)).collect();
    assert_eq!(waiting[0].role, Some(PeerRole::Unvouched));
    assert_eq!(waiting[0].state, PeerState::Joining);
}

#[tokio::test(start_paused = true)]
async fn a_gateway_joins_no_cluster_that_another_vault_governs() {
    let mut machines = Machines::of_two(3).await;
    machines.start(2, How { vault: Some(9), ..listing(&[0, 1]) }).await;
    let says = machines.until(2, |health| health.message.contains("another vault")).await;
    assert_eq!(says.cluster, "");
    tokio::time::sleep(WHILE).await;
    assert_eq!(machines.node(2).health().await.unwrap().cluster, "");
}

#[tokio::test(start_paused = true)]
async fn nobody_keeps_a_dead_member_alive_by_saying_so() {
    let mut machines = Machines::of_two(3).await;
    machines.start(2, listing(&[0, 1])).await;
    machines.are_one(&[0, 1, 2]).await;
    let dead = machines.id(2);
    machines.crash(2);
    let liar = machines.servers[1].as_ref().unwrap().network();
    let end = tokio::time::Instant::now() + HEARSAY_MAX + WHILE;
    while tokio::time::Instant::now() < end {
        liar.update(|facts| facts.reach = Reach::of(0..3));
        tokio::time::sleep(SAID_EVERY).await;
    }
    let shown = machines.node(0).peers().into_iter().find(|peer| peer.id == dead);
    assert_eq!(shown.map(|peer| peer.state), Some(PeerState::Down));
}
