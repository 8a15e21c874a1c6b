//! Going on by hand: with too few replicas left to be sure, or too few voters.

use std::time::Duration;

use dfs_server::health::{Health, Level, Remedy};
use dfs_server::{MemberError, RecoveryOutcome, Running};

use crate::{Cluster, LIMIT, content};

const FILES: usize = 6;

impl Cluster {
    async fn store_some(&self) {
        for at in 0..FILES {
            self.put(0, &format!("f{at}"), &content(at << 18)).await.unwrap();
        }
        self.settled(0, self.servers.len()).await;
    }

    async fn has_some(&self, at: usize) {
        for file in 0..FILES {
            assert_eq!(self.get(at, &format!("f{file}")).await.unwrap(), content(file << 18));
        }
    }

    /// Ends nodes for ever, and gives their ids once `seen_by` cannot reach them.
    async fn lose(&mut self, lost: &[usize], seen_by: &[usize]) -> Vec<String> {
        let id = |at: &usize| {
            let peers = self.node(*at).peers();
            peers.into_iter().find(|peer| peer.is_self).unwrap().id
        };
        let ids: Vec<_> = lost.iter().map(id).collect();
        let left = self.servers.len() - lost.len();
        lost.iter().for_each(|at| self.crash(*at));
        for at in seen_by {
            self.until_health(*at, |health| health.alive == left).await;
        }
        ids
    }

    async fn until_health(&self, at: usize, is: impl Fn(&Health) -> bool) -> Health {
        let client = self.node(at);
        let waited = async {
            loop {
                let health = client.health().await.unwrap();
                if is(&health) {
                    return health;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        match tokio::time::timeout(LIMIT, waited).await {
            Ok(health) => health,
            Err(_) => panic!("node {at} says {:?}", client.health().await),
        }
    }
}

/// Checks that the layout was not changed, and why.
macro_rules! refused {
    ($result:expr, $why:pat) => {{
        let result = $result;
        assert!(matches!(result, Err($why)), "{result:?}");
    }};
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn partitions_with_one_replica_left_go_on_when_told() {
    let mut cluster = Cluster::of(6).await;
    cluster.store_some().await;
    let running = cluster.node(1).peers().into_iter().find(|peer| peer.is_self).unwrap().id;
    let lost = cluster.lose(&[4, 5], &[0]).await;
    let client = cluster.node(0);
    refused!(
        client.remove_member(&lost[0], Running::Stays).await,
        MemberError::TooFewReplicas { .. }
    );
    refused!(client.force_layout(&[running, lost[0].clone()]).await, MemberError::NotLost(_));
    refused!(client.force_layout(&lost[..1]).await, MemberError::NothingAtRisk);
    refused!(client.force_layout(&[]).await, MemberError::NoneNamed);
    refused!(client.recover_layout(&lost).await, MemberError::VotersRemain);
    let nobody = ["dn1nobody".to_owned()];
    refused!(client.force_layout(&nobody).await, MemberError::NoSuchMember(_));
    let went_on = client.force_layout(&lost).await.unwrap();
    assert!(matches!(went_on, RecoveryOutcome::Decided { partitions: 1.., .. }), "{went_on:?}");
    for at in 0..4 {
        cluster.settled(at, 4).await;
        cluster.has_some(at).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_last_of_three_goes_on_alone_when_told() {
    let mut cluster = Cluster::of(3).await;
    cluster.store_some().await;
    let lost = cluster.lose(&[1, 2], &[0]).await;
    let client = cluster.node(0);
    assert!(cluster.put(0, "new", b"x").await.is_err());
    refused!(client.force_layout(&lost).await, MemberError::MostVotersLost);
    refused!(client.recover_layout(&lost[..1]).await, MemberError::VotersRemain);
    let went_on = client.recover_layout(&lost).await.unwrap();
    assert!(matches!(went_on, RecoveryOutcome::Decided { partitions: 1.., .. }), "{went_on:?}");
    cluster.settled(0, 1).await;
    cluster.has_some(0).await;
    cluster.put(0, "new", b"x").await.unwrap();
    // It lasts, and what was lost and comes back knows that it does not count.
    cluster.crash(0);
    cluster.start(0).await;
    cluster.settled(0, 1).await;
    cluster.start(1).await;
    let told = |health: &Health| health.message.contains("count this node as lost");
    cluster.until_health(1, told).await;
    cluster.settled(0, 1).await;
    assert_eq!(cluster.get(0, "new").await.unwrap(), b"x");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_node_that_is_left_has_to_be_told_of_the_same() {
    let mut cluster = Cluster::of(5).await;
    cluster.store_some().await;
    let lost = cluster.lose(&[2, 3, 4], &[0, 1]).await;
    refused!(cluster.node(0).recover_layout(&lost[..2]).await, MemberError::VotersRemain);
    let (one, other) = match cluster.node(0).recover_layout(&lost).await.unwrap() {
        RecoveryOutcome::Decided { .. } => (0, 1),
        RecoveryOutcome::Waits { nodes } => {
            assert_eq!(nodes.len(), 1, "an odd number of two voters decides");
            let went_on = cluster.node(1).recover_layout(&lost).await.unwrap();
            assert!(matches!(went_on, RecoveryOutcome::Decided { .. }), "{went_on:?}");
            (1, 0)
        }
    };
    if other == 1 {
        // It hears of it, and does not follow by itself.
        let untold = |health: &Health| matches!(health.remedy, Some(Remedy::FollowLoss(_)));
        let health = cluster.until_health(1, untold).await;
        assert_eq!((health.health, health.nodes), (Level::AtRisk, 5));
        let went_on = cluster.node(1).recover_layout(&lost).await.unwrap();
        assert!(matches!(went_on, RecoveryOutcome::Decided { .. }), "{went_on:?}");
    }
    for at in [one, other] {
        let both = |health: &Health| (health.nodes, health.alive, health.moving) == (2, 2, 0);
        cluster.until_health(at, both).await;
        cluster.put(at, &format!("new{at}"), &content(1000)).await.unwrap();
    }
    for at in [one, other] {
        assert_eq!(cluster.get(other, &format!("new{at}")).await.unwrap(), content(1000));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_goes_on_alone_while_someone_may_know_more() {
    let mut cluster = Cluster::of(5).await;
    cluster.settled(0, 5).await;
    let lost = cluster.lose(&[1, 2, 3, 4], &[0]).await;
    let client = cluster.node(0);
    refused!(client.recover_layout(&lost[1..]).await, MemberError::MembersAway(_));
    assert_eq!(client.health().await.unwrap().nodes, 5);
    // Whoever is named must stay away until it is decided, and then it is.
    cluster.start(4).await;
    cluster.until_health(0, |health| health.alive == 2).await;
    refused!(client.recover_layout(&lost).await, MemberError::NotLost(_));
    let went_on = client.recover_layout(&lost[..3]).await.unwrap();
    let last = cluster.node(4).recover_layout(&lost[..3]).await.unwrap();
    let decided = |went_on: &RecoveryOutcome| matches!(went_on, RecoveryOutcome::Decided { .. });
    assert!(decided(&last) || decided(&went_on), "{went_on:?} {last:?}");
}
