//! What is missing on a node, and what is missing everywhere.

use std::path::Path;
use std::time::Duration;

use dfs_core::name::FilePath;
use dfs_server::{Fate, Mode, RepairState, RepairView, Unreadable, VersionState};

use crate::{Cluster, LIMIT, content};

const FILES: u64 = 12;

impl Cluster {
    async fn until_repair(&self, at: usize, is: impl Fn(&RepairView) -> bool) {
        let client = self.node(at);
        let waited = async {
            while !is(&client.repair()) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let in_time = tokio::time::timeout(LIMIT, waited).await;
        assert!(in_time.is_ok(), "not in time: {:?}", self.node(at).repair());
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
async fn files_that_are_lost_are_named_old_versions_too() {
    let mut cluster = Cluster::of(3).await;
    cluster.put(0, "d/lost", &content(2_500_000)).await.unwrap();
    cluster.put(0, "twice", &content(40_000)).await.unwrap();
    (0..3).for_each(|at| assert!(cluster.damage(at) > 0));
    for at in 0..3 {
        cluster.node(at).start_scrub().await.unwrap();
        let client = cluster.node(at);
        let ended = async {
            while client.scrub().last_complete_ms.is_none() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(LIMIT, ended).await.unwrap();
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
