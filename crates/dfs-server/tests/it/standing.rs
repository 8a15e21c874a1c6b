//! Members that are drained, removed, or dead for long.

use std::time::Duration;

use dfs_core::name::FilePath;
use dfs_server::health::{Level, Remedy};
use dfs_server::{Departure, Error, MemberError, Mode, OUT_AFTER, PeerState, Running};

use crate::{Cluster, LIMIT, content};

const FILES: usize = 6;

impl Cluster {
    async fn share(&self) {
        for at in 0..FILES {
            self.put(0, &format!("f{at}"), &content(at << 19)).await.unwrap();
        }
        // A member that has just joined is given its share a moment later.
        let shared = async {
            while self.node(0).peers().iter().any(|peer| peer.bytes == 0) {
                crate::a_moment().await;
            }
        };
        tokio::time::timeout(LIMIT, shared).await.expect("someone holds nothing");
        self.settled(0, self.servers.len()).await;
    }

    /// Every file is the one that was stored, in three copies, seen from this node.
    async fn is_whole(&self, at: usize) {
        for file in 0..FILES {
            let name = format!("f{file}");
            assert_eq!(self.get(at, &name).await.unwrap(), content(file << 19), "{name}");
            let path = FilePath::parse(&name).unwrap();
            let stat = self.node(at).stat(&path, Mode::Default).await.unwrap();
            assert_eq!(stat.copies, 3, "{name}");
        }
    }

    fn id(&self, at: usize) -> String {
        let peers = self.node(at).peers();
        peers.into_iter().find(|peer| peer.is_self).unwrap().id
    }

    /// Waits until node `at` sees another in this state.
    async fn sees(&self, at: usize, id: &str, state: PeerState) {
        let client = self.node(at);
        let seen = async {
            while !client.peers().iter().any(|peer| peer.id == id && peer.state == state) {
                crate::a_moment().await;
            }
        };
        let waited = tokio::time::timeout(LIMIT, seen).await;
        assert!(waited.is_ok(), "{id} is not {state:?}: {:?}", client.peers());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drained_member_gives_everything_away_and_leaves() {
    let mut cluster = Cluster::of(4).await;
    cluster.share().await;
    let id = cluster.id(1);
    let drained = cluster.node(0).drain(&id[..12]).await.unwrap();
    assert_eq!(drained, Departure { id: id.clone(), copies: 3, copies_wanted: 3 });
    cluster.sees(0, &id, PeerState::Left).await;
    cluster.settled(0, 3).await;
    cluster.is_whole(0).await;
    assert!(matches!(cluster.get(1, "f1").await, Err(Error::Retired(_))));
    // The last step may be durable elsewhere only: whoever is gone takes nothing along.
    cluster.crash(1);
    for at in [0, 2, 3] {
        cluster.settled(at, 3).await;
        cluster.is_whole(at).await;
    }
    assert!(matches!(cluster.node(0).drain(&id).await, Err(MemberError::NoSuchMember(_))));
    cluster.start(1).await;
    let not_again = cluster.put(1, "x", b"x").await;
    assert!(matches!(not_again, Err(Error::Retired(_))), "{not_again:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drain_that_waits_for_a_dead_member_says_so_and_how_it_ends() {
    let mut cluster = Cluster::of(4).await;
    cluster.share().await;
    let id = cluster.id(3);
    // Dead before it can give anything away itself.
    cluster.crash(3);
    cluster.node(0).drain(&id).await.unwrap();
    let client = cluster.node(0);
    let waits = async {
        loop {
            let health = client.health().await.unwrap();
            if health.drains.iter().any(|said| said.contains("waits for that node itself")) {
                return health;
            }
            tokio::task::yield_now().await;
        }
    };
    let health = tokio::time::timeout(LIMIT, waits).await.expect("the drain is not told of");
    assert_eq!(health.health, Level::Degraded, "{health:?}");
    assert!(health.message.contains("is drained"), "{}", health.message);
    assert!(matches!(health.remedy, Some(Remedy::EndDrain(_))), "{:?}", health.remedy);
    let peers = client.peers();
    assert!(peers.iter().any(|peer| peer.id == id && peer.drain.is_some()));
    // The remedy is one.
    cluster.sees(0, &id, PeerState::Down).await;
    client.remove_member(&id, Running::Stays).await.unwrap();
    assert!(client.health().await.unwrap().drains.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_dead_member_held_is_copied_to_others() {
    let mut cluster = Cluster::with(4, None, Duration::from_secs(1)).await;
    cluster.share().await;
    let id = cluster.id(2);
    cluster.crash(2);
    cluster.settled(0, 3).await;
    cluster.is_whole(3).await;
    cluster.sees(0, &id, PeerState::Out).await;
    // It comes back with everything it had, and is given a share again.
    cluster.start(2).await;
    cluster.sees(0, &id, PeerState::Alive).await;
    cluster.settled(2, 4).await;
    cluster.is_whole(2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_is_gone_is_removed_by_hand() {
    let mut cluster = Cluster::with(4, None, OUT_AFTER).await;
    cluster.share().await;
    let (id, other) = (cluster.id(3), cluster.id(2));
    let running = cluster.node(0).remove_member(&id, Running::Stays).await;
    assert!(matches!(running, Err(MemberError::IsRunning(_))), "{running:?}");
    cluster.crash(3);
    cluster.crash(2);
    cluster.sees(0, &id, PeerState::Suspect).await;
    cluster.sees(0, &other, PeerState::Suspect).await;
    let risky = cluster.node(0).remove_member(&id, Running::Stays).await;
    let why = "two replicas of some partitions are away";
    assert!(matches!(risky, Err(MemberError::TooFewReplicas { .. })), "{why}: {risky:?}");
    cluster.start(2).await;
    cluster.sees(0, &other, PeerState::Alive).await;
    cluster.node(0).remove_member(&id, Running::Stays).await.unwrap();
    cluster.settled(0, 3).await;
    cluster.is_whole(2).await;
    // What it brings back takes part in nothing.
    cluster.start(3).await;
    let gone = async {
        while !matches!(cluster.get(3, "f1").await, Err(Error::Retired(_))) {
            crate::a_moment().await;
        }
    };
    tokio::time::timeout(LIMIT, gone).await.expect("it still believes to be a member");
    cluster.settled(0, 3).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_runs_is_evicted_and_nothing_is_asked_of_it() {
    let cluster = Cluster::with(4, None, OUT_AFTER).await;
    cluster.share().await;
    let id = cluster.id(3);
    cluster.node(0).remove_member(&id, Running::Evicted).await.unwrap();
    cluster.settled(0, 3).await;
    cluster.is_whole(2).await;
    // It still runs, still has the key, and takes part in nothing.
    let gone = async {
        while !matches!(cluster.get(3, "f1").await, Err(Error::Retired(_))) {
            crate::a_moment().await;
        }
    };
    tokio::time::timeout(LIMIT, gone).await.expect("it still believes to be a member");
    cluster.settled(0, 3).await;
}
