//! Who belongs to which cluster: founding together, other keys, copies of a data directory.

use dfs_env::MemoryFs;
use dfs_p2p::ApartReason;
use dfs_server::health::{Health, Remedy};
use dfs_server::{Depth, Error, Mode, Server, StartServerError};

use crate::machines::{How, Machines, listing};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_that_name_only_each_other_form_one_cluster() {
    for list in [&[0, 1, 2][..], &[0, 1]] {
        let mut machines = Machines::new(list.len());
        let all: Vec<usize> = (0..list.len()).collect();
        for at in &all {
            machines.start(*at, listing(list)).await;
        }
        let cluster = machines.are_one(&all).await;
        // They find each other again, and found no second one.
        all.iter().for_each(|at| machines.crash(*at));
        for at in all.iter().rev() {
            machines.start(*at, listing(list)).await;
        }
        assert_eq!(machines.are_one(&all).await, cluster);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_founded_while_a_listed_peer_is_away() {
    let mut machines = Machines::new(3);
    machines.start(0, listing(&[1, 2])).await;
    machines.start(1, listing(&[0, 2])).await;
    for at in 0..2 {
        let waits = |health: &Health| health.message.contains(":4002 does not answer");
        assert_eq!(machines.until(at, waits).await.cluster, "");
    }
    machines.start(2, listing(&[0, 1])).await;
    machines.are_one(&[0, 1, 2]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_that_list_a_member_join_its_cluster() {
    let mut machines = Machines::new(3);
    machines.start(0, listing(&[])).await;
    let founded = machines.until(0, |health| !health.cluster.is_empty()).await.cluster;
    machines.start(1, listing(&[1, 2, 0])).await;
    machines.start(2, listing(&[1, 2, 0])).await;
    assert_eq!(machines.are_one(&[0, 1, 2]).await, founded);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_list_with_one_that_is_away_is_waited_for_and_init_founds() {
    let mut machines = Machines::new(3);
    machines.start(0, listing(&[1])).await;
    machines.start(1, listing(&[0, 2])).await;
    machines.until(0, |health| health.message.contains("to tell which peers it lists")).await;
    machines.until(1, |health| health.message.contains("does not answer")).await;
    machines.crash(1);
    machines.start(1, How { init: true, ..listing(&[0, 2]) }).await;
    machines.are_one(&[0, 1]).await;
    machines.start(2, listing(&[1])).await;
    machines.are_one(&[0, 1, 2]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_with_another_cluster_key_says_why_it_does_not_join() {
    let mut machines = Machines::new(2);
    machines.start(0, listing(&[])).await;
    machines.start(1, How { key: 2, ..listing(&[0]) }).await;
    let says = |health: &Health| health.message.ends_with("has another key than this node");
    assert_eq!(machines.until(1, says).await.cluster, "");
    let not_ready = machines.node(1).not_ready().remove(0);
    assert!(not_ready.reason.contains("another key"), "{not_ready:?}");
    assert_eq!(not_ready.remedy, Some(Remedy::JoinApart(ApartReason::KeyHere)));
    machines.crash(1);
    machines.start(1, listing(&[0])).await;
    machines.are_one(&[0, 1]).await;
}

impl Machines {
    /// Three nodes in one cluster, and a place for another machine.
    async fn three(&mut self) {
        for at in 0..3 {
            self.start(at, listing(&[0, 1, 2])).await;
        }
        self.are_one(&[0, 1, 2]).await;
    }

    /// Waits until a node says that it is retired; then it answers for nothing, now and later.
    async fn is_retired(&mut self, at: usize) {
        self.until(at, |health| health.message.contains("this node is retired")).await;
        let refused = self.node(at).list("", Depth::Files, "", 10, Mode::Available).await;
        assert!(matches!(refused, Err(Error::Retired(_) | Error::NoVaultKey)), "{refused:?}");
        self.servers[at].take().unwrap().shutdown().await;
        let env = self.env(at);
        let again = Server::start(env, self.config(at, &listing(&[0]))).await;
        assert!(matches!(again, Err(StartServerError::Retired(_))), "{again:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_of_a_running_node_takes_part_in_nothing() {
    let mut machines = Machines::new(4);
    machines.three().await;
    machines.disks[3] = machines.disks[2].copy();
    machines.start(3, listing(&[0, 1])).await;
    machines.is_retired(3).await;
    machines.are_one(&[0, 1, 2]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_restored_from_an_older_state_takes_part_in_nothing() {
    let mut machines = Machines::new(3);
    machines.three().await;
    let older = machines.disks[2].copy();
    // Two more starts; then the older state comes back, and counts up from where it was.
    for _ in 0..2 {
        machines.crash(2);
        machines.start(2, listing(&[0, 1])).await;
        machines.are_one(&[0, 1, 2]).await;
    }
    machines.crash(2);
    machines.disks[2] = older;
    machines.start(2, listing(&[0, 1])).await;
    machines.is_retired(2).await;
    for at in 0..2 {
        machines.until(at, |health| health.alive == 2).await;
    }
    // An empty directory is a new node.
    machines.disks[2] = MemoryFs::default();
    machines.start(2, listing(&[0, 1])).await;
    machines.until(2, |health| health.nodes == 4).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_empty_disk_at_the_address_of_a_member_that_is_away_is_no_new_member_unasked() {
    let mut machines = Machines::new(3);
    machines.three().await;
    let away = machines.servers[2].as_ref().unwrap().node_id();
    machines.crash(2);
    machines.disks[2] = MemoryFs::default();
    machines.start(2, How { new_node: false, ..listing(&[0, 1]) }).await;
    let why = machines.servers[2].as_ref().unwrap().given_up().await;
    assert!(why.contains(&away.short()) && why.contains("127.0.0.1:4002"), "{why}");
    machines.until(0, |health| health.nodes == 3).await;
    machines.crash(2);
    // Asked for, it joins beside the member whose disk is gone.
    machines.start(2, listing(&[0, 1])).await;
    machines.until(2, |health| health.nodes == 4).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_that_each_list_the_next_one_found_one_cluster() {
    for count in [3u16, 5] {
        let mut machines = Machines::new(count.into());
        for at in 0..count {
            machines.start(at.into(), listing(&[(at + 1) % count])).await;
        }
        let all: Vec<usize> = (0..count.into()).collect();
        machines.are_one(&all).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ring_that_is_not_closed_waits_and_says_for_whom() {
    let mut machines = Machines::new(3);
    machines.start(0, listing(&[1])).await;
    machines.start(1, listing(&[2])).await;
    machines.until(0, |health| health.message.contains("lists it")).await;
    machines.until(1, |health| health.message.contains("does not answer")).await;
    machines.start(2, listing(&[0])).await;
    machines.are_one(&[0, 1, 2]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_lists_two_that_list_each_other_joins_them() {
    let mut machines = Machines::new(3);
    machines.start(0, listing(&[1])).await;
    machines.start(1, listing(&[2])).await;
    machines.start(2, listing(&[1])).await;
    machines.are_one(&[0, 1, 2]).await;
}
