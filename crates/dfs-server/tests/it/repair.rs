//! What is missing on a node, and what is missing everywhere.

use std::path::Path;
use std::time::Duration;

use dfs_core::name::FilePath;
use dfs_server::health::Level;
use dfs_server::{Fate, Mode, RepairState, RepairView, Unreadable, VersionState};

use crate::{Cluster, LIMIT, content};

const FILES: u64 = 12;
const NODES: usize = 8;

impl Cluster {
    async fn until_repair(&self, at: usize, is: impl Fn(&RepairView) -> bool) {
        let client = self.node(at);
        let waited = async {
            while !is(&client.repair()) {
                crate::a_moment().await;
            }
        };
        let in_time = tokio::time::timeout(LIMIT, waited).await;
        assert!(in_time.is_ok(), "not in time: {:?}", self.node(at).repair());
    }

    async fn read_back(&self, at: usize) {
        let client = self.node(at);
        client.start_scrub().await.unwrap();
        let ended = async {
            while client.scrub().last_complete_ms.is_none() {
                crate::a_moment().await;
            }
        };
        tokio::time::timeout(LIMIT, ended).await.unwrap();
    }

    async fn unreadable(&self, at: usize) -> Vec<Unreadable> {
        let page = self.node(at).unreadable(&FilePath::root(), "", Mode::Default).await.unwrap();
        assert_eq!(page.next, None);
        page.unreadable
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_whose_repair_rests_fetches_nothing_also_after_a_restart() {
    let mut cluster = Cluster::of(3).await;
    assert_eq!(cluster.node(2).repair().state, RepairState::Idle);
    assert_eq!(cluster.node(2).pause_repair().await.unwrap().state, RepairState::Paused);
    cluster.crash(2);
    for number in 0..FILES {
        cluster.put(0, &format!("f/{number}"), &content(30_000)).await.unwrap();
    }
    cluster.start(2).await;
    cluster.until_repair(2, |view| view.missing >= FILES && view.looked_through).await;
    let view = cluster.node(2).repair();
    assert_eq!((view.state, view.lost, view.bytes_per_second), (RepairState::Paused, 0, 0));
    let health = cluster.node(2).health().await.unwrap();
    assert!(health.repair_paused && health.repair_queue >= FILES);
    assert_eq!(cluster.disks[2].files_below(Path::new("/data/blobs")), [] as [&Path; 0]);
    assert_ne!(cluster.node(2).resume_repair().await.unwrap().state, RepairState::Paused);
    cluster.settled(2, 3).await;
    let (all, here) = (&cluster.disks[0], &cluster.disks[2]);
    let below = Path::new("/data/blobs");
    assert_eq!(here.files_below(below), all.files_below(below));
    cluster.node(2).pause_repair().await.unwrap();
    // It may have come to its end before it is looked at.
    assert_ne!(cluster.node(2).start_repair().await.unwrap().state, RepairState::Paused);
    cluster.until_repair(2, |view| view.state == RepairState::Idle && view.looked_through).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_its_replicas_found_to_be_lost_all_nodes_say() {
    let cluster = Cluster::of(NODES).await;
    cluster.put(0, "small", &content(30_000)).await.unwrap();
    for at in 0..NODES {
        cluster.settled(at, NODES).await;
    }
    // Of so many nodes, most often one has nothing of it.
    let damaged: Vec<_> = (0..NODES).map(|at| cluster.damage(at)).collect();
    for at in 0..NODES {
        cluster.read_back(at).await;
    }
    for at in 0..NODES {
        let client = cluster.node(at);
        let said = async {
            while client.health().await.unwrap().health != Level::Lost {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let in_time = tokio::time::timeout(LIMIT, said).await;
        assert!(in_time.is_ok(), "node {at}: {:?}", client.health().await);
        assert!(client.health().await.unwrap().unrecoverable > 0);
    }
    let finders = (0..NODES).filter(|at| cluster.node(*at).repair().lost > 0).count();
    assert_eq!(finders, damaged.iter().filter(|count| **count > 0).count());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_that_are_lost_are_named_old_versions_too() {
    let mut cluster = Cluster::of(3).await;
    cluster.put(0, "d/lost", &content(2_500_000)).await.unwrap();
    cluster.put(0, "twice", &content(40_000)).await.unwrap();
    (0..3).for_each(|at| assert!(cluster.damage(at) > 0));
    for at in 0..3 {
        cluster.read_back(at).await;
    }
    cluster.put(1, "twice", &content(50_000)).await.unwrap();
    cluster.put(1, "whole", &content(60_000)).await.unwrap();
    for at in 0..3 {
        let found = cluster.unreadable(at).await;
        let seen = found.iter().map(|one| (one.path.as_str(), one.version.state, one.fate));
        let expected = [
            ("d/lost", VersionState::Current, Fate::Lost),
            ("twice", VersionState::Old, Fate::Lost),
        ];
        assert_eq!(seen.collect::<Vec<_>>(), expected);
    }
    let elsewhere = FilePath::parse("e").unwrap();
    assert!(cluster.node(0).unreadable(&elsewhere, "", Mode::Default).await.is_err());
    // Whoever is away may have a good copy.
    cluster.crash(2);
    let all_away = |found: &[Unreadable]| found.iter().all(|one| one.fate == Fate::OutOfReach);
    let waited = async {
        while !all_away(&cluster.unreadable(0).await) {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(LIMIT, waited).await.unwrap();
}
