//! Rows of other nodes that are handed over while clients write, step by step.
#![allow(clippy::disallowed_methods, reason = "a test waits by the clock of its own machine")]

use std::sync::Arc;
use std::time::Duration;

use dfs_core::name::FilePath;
use dfs_core::replica::sync::Table;
use dfs_env::{Env, MemoryFs, MemoryNet};
use dfs_store::disk::store::PageLimit;
use futures_util::TryStreamExt;

use crate::client::Parts;
use crate::health::Level;
use crate::{Config, Mode, Server};

/// Nodes on disks and a network in memory.
struct Nodes {
    net: MemoryNet,
    disks: Vec<MemoryFs>,
    servers: Vec<Option<Server>>,
    starts: u64,
}

impl Nodes {
    async fn of(count: usize) -> Self {
        let (disks, servers) = (Vec::new(), Vec::new());
        let mut nodes = Self { net: MemoryNet::default(), disks, servers, starts: 0 };
        for at in 0..count {
            nodes.disks.push(MemoryFs::default());
            nodes.servers.push(None);
            nodes.start(at).await;
            nodes.settled(0, at + 1).await;
        }
        nodes
    }

    async fn start(&mut self, at: usize) {
        self.starts += 1;
        let env = Env::with_disk(self.starts, self.net.clone(), self.disks[at].clone());
        let config = Config {
            bootstrap: [":4000"][..at.min(1)].iter().map(|a| a.parse().unwrap()).collect(),
            ..Config::for_tests(4000 + u16::try_from(at).unwrap())
        };
        // A node that crashed a moment ago gives its port back when its tasks are gone.
        while env.net().listen(config.listen).await.is_err() {
            tokio::task::yield_now().await;
        }
        self.servers[at] = Some(Server::start(env, config).await.unwrap());
    }

    /// Ends a node without a goodbye; its disk keeps what was synced.
    fn crash(&mut self, at: usize) {
        drop(self.servers[at].take());
        self.disks[at].crash();
    }

    fn node(&self, at: usize) -> Arc<Parts> {
        self.servers[at].as_ref().unwrap().client().0
    }

    /// Waits until a node sees so many members and nothing left to do.
    async fn settled(&self, at: usize, count: usize) {
        let client = self.servers[at].as_ref().unwrap().client();
        let settled = async {
            loop {
                let health = client.health().await.unwrap();
                if health.nodes == count && health.health == Level::Ok {
                    return;
                }
                tokio::task::yield_now().await;
            }
        };
        let waited = tokio::time::timeout(LIMIT, settled).await;
        assert!(waited.is_ok(), "{:?}", client.health().await);
    }

    async fn get(&self, at: usize, path: &FilePath) -> Vec<u8> {
        let client = self.servers[at].as_ref().unwrap().client();
        let file = client.find(path, None, Mode::Default).await.unwrap();
        let download = client.read(&file, 0..u64::MAX).await.unwrap();
        let parts: Vec<bytes::Bytes> = download.content.try_collect().await.unwrap();
        parts.concat()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_between_the_comparison_and_the_forgetting_is_kept() {
    let mut nodes = Nodes::of(4).await;
    nodes.settled(3, 4).await;
    let client = nodes.servers[3].as_ref().unwrap().client();
    let node = nodes.node(3);
    let state = node.replica.joined().unwrap();
    // A directory whose names the other three hold.
    let mut number = 0;
    let (dir, partition) = loop {
        let dir = format!("d{number}");
        let path = FilePath::parse(&format!("{dir}/old")).unwrap();
        client.store(&path, &b"old"[..], Mode::Default).await.unwrap();
        let key = client.find(&path, None, Mode::Default).await.unwrap().key;
        let partition = key.partition(state.bits);
        if !state.is_replica(partition, &node.replica.id) {
            break (dir, partition);
        }
        number += 1;
    };
    for at in 0..4 {
        nodes.settled(at, 4).await;
    }
    let rows = nodes
        .node(0)
        .replica
        .store
        .scan_records(partition, state.bits, Vec::new(), PageLimit::of_rows(100))
        .await;
    let rows = rows.unwrap().rows;
    // A move left them over here. The node may hand them over by itself before they are compared.
    let compared = async {
        loop {
            node.replica.store.merge_records(rows.clone()).await.unwrap();
            let roots = node.replica.store.roots(Table::Records, state.bits).await.unwrap();
            let root = roots[usize::from(partition)];
            let known = node
                .status
                .handoff
                .is_known(Table::Records, partition, root, &state)
                .await
                .unwrap();
            if known && root.count > 0 {
                return root;
            }
        }
    };
    let compared = tokio::time::timeout(LIMIT, compared).await.expect("never found to be known");
    for at in 0..3 {
        nodes.crash(at);
    }
    let path = FilePath::parse(&format!("{dir}/new")).unwrap();
    let stored = client.store(&path, &b"new"[..], Mode::Available).await.unwrap();
    assert_eq!((stored.copies, stored.quorum), (1, false));
    node.status.handoff.hand_records(partition, Some(compared), &state).await.unwrap();
    for at in 0..3 {
        nodes.start(at).await;
    }
    for at in 0..4 {
        nodes.settled(at, 4).await;
        assert_eq!(nodes.get(at, &path).await, b"new");
    }
}

/// Generous: a busy machine must not fail a test.
const LIMIT: Duration = Duration::from_secs(120);
