//! Reading a node's disk back.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use dfs_core::replica::scrub::EVERY;
use dfs_server::{ScrubState, ScrubView};

use crate::clock::Ahead;
use crate::{Cluster, LIMIT, content};

const FILES: usize = 40;

impl Cluster {
    async fn fill(&self) {
        for number in 0..FILES {
            let bytes = content(20_000 + number * 1000);
            self.put(number % 3, &format!("f/{number}"), &bytes).await.unwrap();
        }
        self.put(0, "big", &content(5 << 20)).await.unwrap();
        for at in 0..3 {
            self.settled(at, 3).await;
        }
        // What is on its way counts as missing only after a while.
        let all_have_all = async {
            while (0..3).any(|at| self.blob_files(at) != self.blob_files((at + 1) % 3)) {
                crate::a_moment().await;
            }
        };
        assert!(tokio::time::timeout(LIMIT, all_have_all).await.is_ok(), "each has a copy of all");
    }

    async fn all_equal(&self, at: usize) {
        for number in 0..FILES {
            let got = self.get(at, &format!("f/{number}")).await.unwrap();
            assert!(got == content(20_000 + number * 1000), "file {number}");
        }
        assert!(self.get(at, "big").await.unwrap() == content(5 << 20));
    }

    /// Waits until a node's scrub is as told.
    async fn until_scrub(&self, at: usize, is: impl Fn(&ScrubView) -> bool) -> ScrubView {
        let client = self.node(at);
        let waited = async {
            loop {
                let view = client.scrub();
                if is(&view) {
                    return view;
                }
                crate::a_moment().await;
            }
        };
        match tokio::time::timeout(LIMIT, waited).await {
            Ok(view) => view,
            Err(_) => panic!("not in time: {:?}", self.node(at).scrub()),
        }
    }

    /// Reads a node's whole disk back.
    async fn scrub(&self, at: usize) -> ScrubView {
        let started = self.node(at).start_scrub().await.unwrap();
        assert_eq!(started.state, ScrubState::Running);
        self.until_scrub(at, |view| view.state == ScrubState::Idle).await
    }

    fn blob_files(&self, at: usize) -> Vec<std::path::PathBuf> {
        self.disks[at].files_below(Path::new("/data/blobs"))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_pass_finds_all_rot_and_all_of_it_is_mended() {
    let cluster = Cluster::of(3).await;
    cluster.fill().await;
    let whole = cluster.scrub(1).await;
    assert_eq!((whole.bad, whole.unread, whole.sums_mended, whole.rows_damaged), (0, 0, 0, 0));
    assert_eq!((whole.bytes_verified, whole.permille), (whole.bytes_total, 1000));
    // Nobody reads these; some are gone altogether.
    let files = cluster.blob_files(1);
    let env = dfs_env::Env::with_disk(9, cluster.net.clone(), cluster.disks[1].clone());
    for file in files.iter().step_by(5) {
        env.fs().remove_file(file).unwrap();
    }
    let damaged = cluster.damage(1);
    let gone = files.len() - damaged;
    assert!(damaged > FILES && gone > 5);
    let found = cluster.scrub(1).await;
    assert_eq!((found.bad, found.bytes_verified), (files.len() as u64, 0));
    for at in 0..3 {
        cluster.settled(at, 3).await;
    }
    // What is being fetched just now counts as there.
    let all_mended = async {
        while cluster.blob_files(1) != files {
            crate::a_moment().await;
        }
    };
    let unlike = |a: &[PathBuf], b: &[PathBuf]| -> Vec<PathBuf> {
        a.iter().filter(|file| !b.contains(file)).cloned().collect()
    };
    let waited = tokio::time::timeout(LIMIT, all_mended).await;
    let mended = cluster.blob_files(1);
    assert!(waited.is_ok(), "{:?} {:?}", unlike(&files, &mended), unlike(&mended, &files));
    let whole = cluster.scrub(1).await;
    assert_eq!((whole.bad, whole.bytes_verified), (0, whole.bytes_total));
    // Nothing good is left but what was mended.
    cluster.damage(0);
    cluster.damage(2);
    cluster.all_equal(1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pause_and_the_position_survive_a_restart() {
    let mut cluster = Cluster::of(3).await;
    cluster.fill().await;
    let client = cluster.node(1);
    client.start_scrub().await.unwrap();
    let begun = cluster.until_scrub(1, |view| view.bytes_verified > 0).await;
    let paused = client.pause_scrub().await.unwrap();
    assert_eq!(paused.state, ScrubState::Paused);
    assert!(paused.bytes_verified >= begun.bytes_verified || paused.last_complete_ms.is_some());
    drop(client);
    cluster.crash(1);
    cluster.start(1).await;
    let kept = cluster.node(1).scrub();
    assert_eq!((kept.state, kept.began_ms), (ScrubState::Paused, paused.began_ms));
    // What was read while the pause was being stored is read once more.
    assert!(kept.permille <= paused.permille);
    cluster.settled(1, 3).await;
    assert_eq!(cluster.node(1).scrub().bytes_verified, kept.bytes_verified, "it is at rest");
    cluster.node(1).resume_scrub().await.unwrap();
    let done = cluster.until_scrub(1, |view| view.state == ScrubState::Idle).await;
    assert!(done.last_complete_ms.is_some() && done.next_ms.is_some());
    assert_eq!((done.bad, done.bytes_verified), (0, done.bytes_total), "each blob once");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_ends_a_pause_and_begins_anew() {
    let cluster = Cluster::of(1).await;
    cluster.put(0, "f", &content(100_000)).await.unwrap();
    let client = cluster.node(0);
    assert_eq!(client.scrub().state, ScrubState::Idle);
    assert_eq!(client.pause_scrub().await.unwrap().state, ScrubState::Paused);
    assert_eq!(client.pause_scrub().await.unwrap().next_ms, None);
    let done = cluster.scrub(0).await;
    assert_eq!(done.bytes_verified, done.bytes_total);
    assert_eq!(client.resume_scrub().await.unwrap().state, ScrubState::Idle);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pass_begins_by_itself_within_a_week_also_of_a_node_that_was_off() {
    let clock = Arc::new(Ahead::new());
    let mut cluster = Cluster::with_clock(1, Some(clock.clone())).await;
    cluster.put(0, "f", &content(100_000)).await.unwrap();
    let first = cluster.node(0).scrub();
    assert_eq!((first.state, first.last_complete_ms), (ScrubState::Idle, None));
    for _ in 0..2 {
        let due = cluster.node(0).scrub().next_ms;
        cluster.crash(0);
        cluster.start(0).await;
        assert_eq!(cluster.node(0).scrub().next_ms, due, "a restart does not put it off");
        cluster.crash(0);
        clock.advance(EVERY);
        cluster.start(0).await;
        let done = cluster.until_scrub(0, |view| view.next_ms.is_some_and(|next| Some(next) > due));
        let done = done.await;
        assert_eq!((done.state, done.bytes_verified), (ScrubState::Idle, done.bytes_total));
    }
}
