//! Who reaches whom: states of peers, nodes that move, splits that heal. Time is the test's own, so
//! that waiting costs nothing.

use std::time::Duration;

use dfs_server::PeerState;
use dfs_server::health::{Health, Remedy};

use crate::machines::{How, Machines, listing};

/// Each node keeps what it knows of others at most so much later.
const BOOKS_WRITTEN: Duration = Duration::from_secs(15);

#[tokio::test(start_paused = true)]
async fn a_peer_that_only_others_reach_is_suspect_and_one_that_nobody_reaches_is_down() {
    let mut machines = Machines::new(3);
    machines.cut(0, 2);
    machines.start(1, listing(&[])).await;
    machines.start(0, listing(&[1])).await;
    machines.start(2, listing(&[1])).await;
    machines.are_one_seen_by_all_but(&[(0, 2)]).await;
    let (zero, two) = (machines.id(0), machines.id(2));
    machines.until_shown(0, &two, PeerState::Suspect).await;
    machines.until_shown(2, &zero, PeerState::Suspect).await;
    // Not only for a moment: it is there for as long as the node between reaches it.
    tokio::time::sleep(Duration::from_secs(60)).await;
    machines.until_shown(0, &two, PeerState::Suspect).await;
    machines.crash(2);
    machines.until_shown(0, &two, PeerState::Down).await;
    machines.until_shown(1, &two, PeerState::Down).await;
    machines.start(2, listing(&[1])).await;
    machines.until_shown(1, &two, PeerState::Alive).await;
    machines.until_shown(0, &two, PeerState::Suspect).await;
    machines.heal();
    machines.are_one(&[0, 1, 2]).await;
}

impl Machines {
    /// Waits until three nodes are one cluster, in which these pairs do not reach each other.
    async fn are_one_seen_by_all_but(&self, apart: &[(usize, usize)]) {
        for at in 0..3 {
            let hidden = apart.iter().filter(|(one, other)| [*one, *other].contains(&at)).count();
            self.until(at, |health| (health.nodes, health.alive) == (3, 3 - hidden)).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_node_that_comes_back_elsewhere_is_found_again() {
    let mut machines = Machines::new(3);
    machines.start(0, listing(&[])).await;
    machines.start(1, listing(&[0])).await;
    machines.start(2, listing(&[0])).await;
    machines.are_one(&[0, 1, 2]).await;
    tokio::time::sleep(BOOKS_WRITTEN).await;
    // With nothing but its peer book, on another port each time.
    for port in [5000, 5001] {
        machines.crash(2);
        machines.start(2, How { port: Some(port), ..listing(&[]) }).await;
        machines.until_at(0, &machines.id(2), port).await;
        machines.until_at(1, &machines.id(2), port).await;
        tokio::time::sleep(BOOKS_WRITTEN).await;
    }
    // The one it all began with moves, and the others know no other address to begin with.
    machines.crash(0);
    machines.start(0, How { port: Some(5002), ..listing(&[]) }).await;
    machines.until_at(1, &machines.id(0), 5002).await;
    machines.until_at(2, &machines.id(0), 5002).await;
    machines.are_one(&[0, 1, 2]).await;
}

#[tokio::test(start_paused = true)]
async fn nodes_that_have_all_moved_say_what_they_dial_until_one_address_brings_them_together() {
    let mut machines = Machines::new(3);
    machines.start(0, listing(&[])).await;
    machines.start(1, listing(&[0])).await;
    machines.start(2, listing(&[0])).await;
    machines.are_one(&[0, 1, 2]).await;
    tokio::time::sleep(BOOKS_WRITTEN).await;
    (0..3).for_each(|at| machines.crash(at));
    let at = |port, list: &[&str]| How {
        port: Some(port),
        list: list.iter().map(|addr| (*addr).to_owned()).collect(),
        ..listing(&[])
    };
    machines.start(1, at(6001, &[])).await;
    machines.start(2, at(6002, &[":6001"])).await;
    machines.start(0, at(6000, &[])).await;
    let told = |health: &Health| matches!(&health.remedy, Some(Remedy::NameAddress(_)));
    let health = machines.until(0, told).await;
    let Some(Remedy::NameAddress(dialled)) = health.remedy else { unreachable!() };
    assert!(dialled.len() == 2 && !dialled.iter().any(|addr| addr.contains(":600")), "{dialled:?}");
    assert_eq!(machines.node(0).not_ready()[0].remedy, Some(Remedy::NameAddress(dialled)));
    machines.crash(0);
    machines.start(0, at(6000, &[":6001"])).await;
    machines.are_one(&[0, 1, 2]).await;
    machines.until(0, |health| !told(health)).await;
}

#[tokio::test(start_paused = true)]
async fn a_name_is_resolved_anew_at_every_dial() {
    let mut machines = Machines::new(2);
    let by_name = How { list: vec!["first.example:3000".to_owned()], ..listing(&[]) };
    machines.name("first.example", 4999);
    machines.start(1, by_name.clone()).await;
    let waits = |health: &dfs_server::health::Health| health.message.contains("first.example");
    machines.until(1, waits).await;
    machines.start(0, listing(&[])).await;
    // Long after the eager first minute.
    tokio::time::sleep(Duration::from_secs(300)).await;
    machines.name("first.example", 4000);
    machines.are_one(&[0, 1]).await;
    // Both move at once: the name alone brings them together.
    machines.crash(0);
    machines.crash(1);
    machines.start(0, How { port: Some(5000), ..listing(&[]) }).await;
    machines.start(1, How { port: Some(5001), ..by_name }).await;
    machines.name("first.example", 5000);
    machines.are_one(&[0, 1]).await;
}

#[tokio::test(start_paused = true)]
async fn two_halves_of_a_split_meet_again_after_an_hour() {
    let mut machines = Machines::new(4);
    machines.start(0, listing(&[])).await;
    for at in 1..4 {
        machines.start(at, listing(&[0])).await;
    }
    let cluster = machines.are_one(&[0, 1, 2, 3]).await;
    tokio::time::sleep(BOOKS_WRITTEN).await;
    for (one, other) in [(0, 2), (0, 3), (1, 2), (1, 3)] {
        machines.cut(one, other);
    }
    // Connections that are up would stay; a restart of one half ends them.
    for at in 2..4 {
        machines.crash(at);
        machines.start(at, listing(&[0])).await;
    }
    for at in 0..4 {
        machines.until(at, |health| (health.nodes, health.alive) == (4, 2)).await;
    }
    tokio::time::sleep(Duration::from_secs(3600)).await;
    machines.heal();
    assert_eq!(machines.are_one(&[0, 1, 2, 3]).await, cluster);
}
