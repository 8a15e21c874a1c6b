//! Whole nodes in one process, on disks and a network in memory.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(clippy::disallowed_methods, reason = "a test waits by the clock of its own machine")]

/// What a [`Handler`] leaves to the honest one that it stands before.
macro_rules! honest_otherwise {
    () => {
        fn is_member(&self, node: &dfs_core::id::NodeId) -> bool {
            self.honest.is_member(node)
        }

        fn cluster_id(&self) -> Option<dfs_core::id::ClusterId> {
            self.honest.cluster_id()
        }

        fn peer_changed(&self, node: dfs_core::id::NodeId, connected: bool) {
            self.honest.peer_changed(node, connected);
        }

        fn retired(&self, why: &str) {
            self.honest.retired(why);
        }

        fn info_changed(&self, info: &dfs_core::node::member::NodeInfo) {
            self.honest.info_changed(info);
        }
    };
}

mod apart;
mod attributes;
mod clock;
mod clocks;
mod collect;
mod disaster;
mod disks;
mod history;
mod liar;
mod listed;
mod machines;
mod membership;
mod merged_registers;
mod moving;
mod past;
mod proof;
mod races;
mod reach;
mod repair;
mod scrub;
mod standing;
mod trust;
mod upload;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use dfs_core::name::FilePath;
use dfs_env::{Env, MemoryFs, MemoryNet};
use dfs_p2p::Handler;
use dfs_server::health::{CostName, Level};
use dfs_server::{
    CAP, Cadence, Config, Depth, Error, Grace, ListedKind, Mode, PeerRole, PeerState, PeerView,
    Server, StartServerError, VaultConfig,
};
use dfs_store::OpenStoreError;
use dfs_store::vault::keys::{ClusterKey, VaultKey};
use futures_util::TryStreamExt;

mod deciding;

struct Cluster {
    net: MemoryNet,
    disks: Vec<MemoryFs>,
    servers: Vec<Option<Server>>,
    /// What time it is on every node; `None` is the time of this machine.
    clock: Option<Arc<clock::Ahead>>,
    /// What time it is on nodes with a clock of their own.
    own_clocks: BTreeMap<usize, Arc<clock::Ahead>>,
    /// How long a member is away before its share is given to others.
    out_after: Duration,
    /// How often a node was started: one that starts again draws other ids than before.
    starts: u64,
    grace: Grace,
    cadence: Cadence,
}

impl Cluster {
    /// Nodes that know only the first, all with the vault's key.
    async fn of(count: usize) -> Self {
        Self::with_clock(count, None).await
    }

    async fn with_clock(count: usize, clock: Option<Arc<clock::Ahead>>) -> Self {
        Self::with(count, clock, dfs_server::OUT_AFTER).await
    }

    async fn with(count: usize, clock: Option<Arc<clock::Ahead>>, out_after: Duration) -> Self {
        Self::with_all(count, clock, out_after, Grace::default()).await
    }

    async fn with_grace(count: usize, clock: Option<Arc<clock::Ahead>>, grace: Grace) -> Self {
        Self::with_all(count, clock, dfs_server::OUT_AFTER, grace).await
    }

    async fn with_all(
        count: usize,
        clock: Option<Arc<clock::Ahead>>,
        out_after: Duration,
        grace: Grace,
    ) -> Self {
        let (disks, servers, net) = (Vec::new(), Vec::new(), MemoryNet::default());
        let cadence = Cadence::default();
        let own_clocks = BTreeMap::new();
        let mut cluster =
            Self { net, disks, servers, clock, own_clocks, out_after, starts: 0, grace, cadence };
        for at in 0..count {
            cluster.disks.push(MemoryFs::default());
            cluster.servers.push(None);
            cluster.start(at).await;
            // One after the other, so that the first three hold everything.
            cluster.settled(0, at + 1).await;
        }
        for at in 0..count {
            cluster.settled(at, count).await;
        }
        cluster
    }

    async fn start(&mut self, at: usize) {
        self.start_with(at, true).await;
    }

    async fn start_with(&mut self, at: usize, vault: bool) {
        self.start_as(at, vault, |answering| answering).await;
    }

    /// Starts a node that answers its peers through `wrap`.
    async fn start_wrapped(
        &mut self,
        at: usize,
        wrap: impl FnOnce(Arc<dyn Handler>) -> Arc<dyn Handler> + Send + 'static,
    ) {
        self.start_as(at, true, wrap).await;
    }

    async fn start_as(
        &mut self,
        at: usize,
        vault: bool,
        wrap: impl FnOnce(Arc<dyn Handler>) -> Arc<dyn Handler> + Send + 'static,
    ) {
        let disk = self.disks[at].clone();
        self.starts += 1;
        let seed = self.starts;
        let net = self.net.clone();
        let env = match self.own_clocks.get(&at).or(self.clock.as_ref()).cloned() {
            None => Env::with_disk(seed, net, disk),
            Some(clock) => Env::simulated(seed, disk, net, clock),
        };
        let config = self.config(at, vault);
        // A node that crashed a moment ago gives its port back when its tasks are gone.
        while env.net().listen(config.listen).await.is_err() {
            a_moment().await;
        }
        self.servers[at] = Some(Server::start_wrapped(env, config, wrap).await.unwrap());
    }

    fn config(&self, at: usize, vault: bool) -> Config {
        let port = u16::try_from(at).unwrap();
        Config {
            data_dir: PathBuf::from("/data"),
            listen: ([127, 0, 0, 1], 4000 + port).into(),
            init: false,
            bootstrap: [":4000", ":4001"][..at.min(2)].iter().map(|a| a.parse().unwrap()).collect(),
            cluster_key: ClusterKey::from_bytes([1; 32]),
            invite: None,
            founds: true,
            new_node: true,
            vault: vault.then(|| VaultConfig { key: VaultKey::from_bytes([2; 32]) }),
            zone: "z".to_owned(),
            capacity: None,
            // Tests count files, and damage some.
            packed_max: 0,
            out_after: self.out_after,
            build: "test".to_owned(),
            grace: self.grace,
            cadence: self.cadence,
        }
    }

    /// Waits until a node sees so many members alive.
    async fn connected(&self, at: usize, count: usize) {
        let client = self.node(at);
        let connected = async {
            while client.peers().iter().filter(|p| p.state == PeerState::Alive).count() != count {
                a_moment().await;
            }
        };
        let waited = tokio::time::timeout(LIMIT, connected).await;
        assert!(waited.is_ok(), "not connected in time: {:?}", client.peers());
    }

    /// Has a node vouch for another that has joined.
    async fn admit(&self, at: usize, whom: usize) {
        self.admit_with(at, whom, CAP).await;
    }

    /// The same, for so many bytes.
    async fn admit_with(&self, at: usize, whom: usize, cap: u64) {
        let (client, id) = (self.node(at), self.servers[whom].as_ref().unwrap().node_id());
        let waits =
            |peer: &PeerView| peer.id == id.to_string() && peer.role == Some(PeerRole::Unvouched);
        let joined = async {
            while !client.peers().iter().any(waits) {
                a_moment().await;
            }
        };
        tokio::time::timeout(LIMIT, joined).await.expect("has not joined in time");
        assert_eq!(client.admit(&id.to_string(), cap).await.unwrap().cap, cap);
    }

    fn node(&self, at: usize) -> dfs_server::Client {
        self.servers[at].as_ref().unwrap().client()
    }

    /// Drops a node without a goodbye; its disk keeps what was synced.
    fn crash(&mut self, at: usize) {
        drop(self.servers[at].take());
        self.disks[at].crash();
    }

    /// Waits until a node sees `count` members and nothing left to do.
    async fn settled(&self, at: usize, count: usize) {
        let client = self.node(at);
        let settled = async {
            loop {
                let health = client.health().await.unwrap();
                if health.nodes == count && health.health == Level::Ok {
                    return;
                }
                a_moment().await;
            }
        };
        let waited = tokio::time::timeout(LIMIT, settled).await;
        assert!(waited.is_ok(), "{:?}", client.health().await);
    }

    async fn put(&self, at: usize, path: &str, content: &[u8]) -> Result<usize, Error> {
        let path = FilePath::parse(path).unwrap();
        Ok(self.node(at).store(&path, content, Mode::Default).await?.copies)
    }

    async fn get(&self, at: usize, path: &str) -> Result<Vec<u8>, Error> {
        self.get_version(at, path, None).await
    }

    async fn get_version(
        &self,
        at: usize,
        path: &str,
        version: Option<&str>,
    ) -> Result<Vec<u8>, Error> {
        let client = self.node(at);
        let file = client.find(&FilePath::parse(path).unwrap(), version, Mode::Default).await?;
        let download = client.read(&file, 0..u64::MAX).await?;
        let parts: Vec<Bytes> = download.content.try_collect().await?;
        Ok(parts.concat())
    }

    async fn list(&self, at: usize, prefix: &str, recursive: bool) -> Vec<String> {
        let depth = if recursive { Depth::Files } else { Depth::Names };
        let page = self.node(at).list(prefix, depth, "", 1000, Mode::Default).await.unwrap();
        page.entries.iter().map(dfs_server::Listed::order).collect()
    }

    /// Changes every blob file of a node behind its back.
    fn damage(&self, at: usize) -> usize {
        let files = self.disks[at].files_below(Path::new("/data/blobs"));
        for (number, file) in files.iter().enumerate() {
            self.disks[at].damage(file, |bytes| match number % 2 {
                0 => bytes[number % 80] ^= 1,
                _ => bytes.truncate(bytes.len() / 2),
            });
        }
        files.len()
    }
}

fn content(len: usize) -> Vec<u8> {
    (0..len).map(|at| u8::try_from(at * 31 % 251).unwrap()).collect()
}

/// Between two looks at what no event tells of: asked without a pause, a node does nothing else.
async fn a_moment() {
    tokio::time::sleep(Duration::from_millis(5)).await;
}

/// Generous: a busy machine must not fail a test.
const LIMIT: Duration = Duration::from_secs(180);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_of_awkward_sizes_come_back_equal_from_another_node() {
    let cluster = Cluster::of(3).await;
    for size in [0, 1, 16_384, 16_385, (1 << 20) - 1, 1 << 20, (1 << 20) + 1, 5 << 20] {
        let path = format!("sizes/{size}");
        assert!(cluster.put(0, &path, &content(size)).await.unwrap() >= 2);
        assert_eq!(cluster.get(2, &path).await.unwrap(), content(size), "{size} bytes");
    }
    assert_eq!(cluster.list(1, "sizes/", false).await.len(), 8);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_range_touches_only_its_chunks() {
    let cluster = Cluster::of(1).await;
    cluster.put(0, "f", &content(3_000_000)).await.unwrap();
    let client = cluster.node(0);
    let file = client.find(&FilePath::parse("f").unwrap(), None, Mode::Default).await.unwrap();
    let reversed = std::ops::Range { start: 9, end: 3 };
    let odd = [0..0, 0..1, 1_048_570..1_048_589, 2_999_999..3_000_000, 5..u64::MAX, reversed];
    for range in odd {
        let download = client.read(&file, range.clone()).await.unwrap();
        let parts: Vec<Bytes> = download.content.try_collect().await.unwrap();
        let end = usize::try_from(range.end.min(3_000_000)).unwrap();
        let start = usize::try_from(range.start).unwrap().min(end);
        assert_eq!(parts.concat(), content(3_000_000)[start..end], "{range:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn listings_are_in_byte_order_and_paged() {
    let cluster = Cluster::of(1).await;
    for path in ["a.txt", "a/z", "a/b/c", "a0", "b", "文件/x"] {
        cluster.put(0, path, b"x").await.unwrap();
    }
    assert_eq!(cluster.list(0, "", false).await, ["a.txt", "a/", "a0", "b", "文件/"]);
    let all = ["a.txt", "a/b/c", "a/z", "a0", "b", "文件/x"];
    assert_eq!(cluster.list(0, "", true).await, all);
    assert_eq!(cluster.list(0, "a", true).await, all[..4]);
    assert_eq!(cluster.list(0, "a/b", true).await, ["a/b/c"]);
    let mut after = String::new();
    let mut seen = Vec::new();
    loop {
        let page = cluster.node(0).list("", Depth::Files, &after, 1, Mode::Default).await.unwrap();
        seen.extend(page.entries.iter().map(|entry| entry.path.clone()));
        assert!(page.entries.iter().all(|entry| entry.kind == ListedKind::File));
        if !page.more {
            break;
        }
        after = page.entries[0].order();
    }
    assert_eq!(seen, all);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_are_removed_made_again_and_told_apart() {
    let cluster = Cluster::of(1).await;
    let client = cluster.node(0);
    let path = |text| FilePath::parse(text).unwrap();
    cluster.put(0, "d/one", b"1").await.unwrap();
    cluster.put(0, "d/sub/two", b"2").await.unwrap();
    assert!(matches!(cluster.put(0, "d", b"x").await, Err(Error::IsDirectory(_))));
    assert!(matches!(cluster.put(0, "d/one/x", b"x").await, Err(Error::NotDirectory(_))));
    let refused = client.remove(&path("d"), Mode::Default).await;
    assert!(matches!(refused, Err(Error::NotEmpty(_))));
    assert_eq!(client.remove_all(&path("d"), Mode::Default).await.unwrap(), 4);
    assert!(matches!(cluster.get(0, "d/one").await, Err(Error::NotFound(_))));
    assert!(matches!(client.remove(&path("d"), Mode::Default).await, Err(Error::NotFound(_))));
    // Made again, it is another directory, and what was in it stays gone.
    cluster.put(0, "d/three", b"3").await.unwrap();
    assert_eq!(cluster.list(0, "d/", true).await, ["d/three"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crashed_node_costs_nothing_and_catches_up() {
    let mut cluster = Cluster::of(3).await;
    cluster.put(0, "before", &content(3 << 20)).await.unwrap();
    cluster.settled(0, 3).await;
    let health = cluster.node(0).health().await.unwrap();
    assert_eq!((health.next_failure.cost, health.copying), (CostName::Nothing, None));
    cluster.crash(1);
    assert_eq!(cluster.get(2, "before").await.unwrap(), content(3 << 20));
    assert_eq!(cluster.put(0, "after", &content(2 << 20)).await.unwrap(), 2);
    let health = cluster.node(0).health().await.unwrap();
    assert_eq!((health.health, health.alive), (Level::Degraded, 2));
    assert!(health.next_failure.cost >= CostName::Majority);
    cluster.start(1).await;
    cluster.settled(1, 3).await;
    // It has its own copy now, and with another node still makes a quorum.
    cluster.crash(0);
    assert_eq!(cluster.get(1, "after").await.unwrap(), content(2 << 20));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_majority_nothing_is_accepted_and_nothing_lost() {
    let mut cluster = Cluster::of(3).await;
    cluster.put(0, "kept", b"kept").await.unwrap();
    cluster.settled(0, 3).await;
    cluster.crash(1);
    cluster.crash(2);
    assert!(matches!(cluster.put(0, "lost", b"x").await, Err(Error::Unavailable(_))));
    assert!(matches!(cluster.get(0, "kept").await, Err(Error::Unavailable(_))));
    let path = FilePath::parse("offline").unwrap();
    let stored = cluster.node(0).store(&path, &b"here"[..], Mode::Available).await.unwrap();
    assert_eq!((stored.copies, stored.wanted, stored.quorum), (1, 3, false));
    cluster.start(1).await;
    cluster.start(2).await;
    for at in 0..3 {
        cluster.settled(at, 3).await;
        assert_eq!(cluster.get(at, "kept").await.unwrap(), b"kept");
        assert_eq!(cluster.get(at, "offline").await.unwrap(), b"here");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_of_two_does_not_show_by_quorum_what_it_alone_has() {
    let mut cluster = Cluster::of(2).await;
    let path = FilePath::parse("alone").unwrap();
    cluster.crash(1);
    let stored = cluster.node(0).store(&path, &b"here"[..], Mode::Available).await.unwrap();
    assert_eq!(stored.copies, 1);
    // Whoever asks the other one would not see it.
    let found = cluster.node(0).find(&path, None, Mode::Quorum).await;
    assert!(matches!(found, Err(Error::Unavailable(_))));
    cluster.start(1).await;
    cluster.settled(1, 2).await;
    assert!(cluster.node(1).find(&path, None, Mode::Quorum).await.is_ok());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_that_one_replica_took_survives_the_writers_next_one() {
    // Node 0 writes twice; each write reaches one replica, and the second has not seen the first.
    let mut cluster = Cluster::of(3).await;
    let path = FilePath::parse("both").unwrap();
    let client = cluster.node(0);
    cluster.disks[0].set_room(Some(0));
    cluster.crash(2);
    let first = client.store(&path, &b"one"[..], Mode::Available).await.unwrap();
    assert_eq!(first.copies, 1);
    cluster.crash(1);
    cluster.start(2).await;
    cluster.connected(0, 2).await;
    let second = client.store(&path, &b"two"[..], Mode::Available).await.unwrap();
    assert_eq!(second.copies, 1);
    cluster.disks[0].set_room(None);
    cluster.start(1).await;
    for at in 0..3 {
        cluster.settled(at, 3).await;
        let stat = cluster.node(at).stat(&path, Mode::Default).await.unwrap();
        assert_eq!(stat.conflicts, 1, "both are kept");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_whose_index_is_gone_does_not_come_back_empty() {
    let mut cluster = Cluster::of(1).await;
    cluster.put(0, "f", b"kept").await.unwrap();
    cluster.crash(0);
    cluster.disks[0].damage(Path::new("/data/index.redb"), Vec::clear);
    let env = Env::with_disk(1, cluster.net.clone(), cluster.disks[0].clone());
    let refused = Server::start(env, cluster.config(0, true)).await;
    assert!(matches!(refused, Err(StartServerError::Store(OpenStoreError::Index(..)))));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damage_is_read_around_and_mended() {
    let cluster = Cluster::of(3).await;
    cluster.put(0, "f", &content(4 << 20)).await.unwrap();
    cluster.settled(0, 3).await;
    assert!(cluster.damage(0) > 4);
    assert_eq!(cluster.get(0, "f").await.unwrap(), content(4 << 20));
    cluster.settled(0, 3).await;
    cluster.damage(1);
    cluster.damage(2);
    assert_eq!(cluster.get(1, "f").await.unwrap(), content(4 << 20), "node 0 was mended");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_every_copy_damaged_no_byte_is_released() {
    let cluster = Cluster::of(3).await;
    cluster.put(0, "f", &content(2 << 20)).await.unwrap();
    cluster.settled(0, 3).await;
    for at in 0..3 {
        cluster.damage(at);
    }
    assert!(matches!(cluster.get(0, "f").await, Err(Error::Lost(_))));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn data_moves_to_nodes_that_join_later() {
    let mut cluster = Cluster::of(1).await;
    for number in 0..20 {
        cluster.put(0, &format!("small/{number}"), &content(number * 100)).await.unwrap();
    }
    cluster.put(0, "big", &content(5 << 20)).await.unwrap();
    for at in 1..3 {
        cluster.disks.push(MemoryFs::default());
        cluster.servers.push(None);
        cluster.start(at).await;
    }
    for at in 0..3 {
        cluster.settled(at, 3).await;
    }
    let stat = cluster.node(2).stat(&FilePath::parse("big").unwrap(), Mode::Default).await;
    let stat = stat.unwrap();
    assert_eq!((stat.copies, stat.wanted, stat.chunks), (3, 3, 5));
    cluster.crash(0);
    assert_eq!(cluster.get(2, "big").await.unwrap(), content(5 << 20));
    assert_eq!(cluster.get(1, "small/19").await.unwrap(), content(1900));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_writes_of_one_name_are_all_kept_or_superseded() {
    let cluster = Cluster::of(3).await;
    let writes = (0..30usize).map(|number| {
        let client = cluster.node(number % 3);
        async move {
            let path = FilePath::parse("same").unwrap();
            client.store(&path, &content(number)[..], Mode::Default).await.unwrap()
        }
    });
    let stored = futures_util::future::join_all(writes).await;
    let got = cluster.get(1, "same").await.unwrap();
    assert!((0..30).any(|number| got == content(number)));
    assert_eq!(stored.len(), 30);
    // One more write, having seen them all, settles it.
    cluster.put(2, "same", b"settled").await.unwrap();
    let stat = cluster.node(0).stat(&FilePath::parse("same").unwrap(), Mode::Default).await;
    assert_eq!(stat.unwrap().conflicts, 0);
    assert_eq!(cluster.get(0, "same").await.unwrap(), b"settled");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_storage_only_node_holds_no_plaintext_and_opens_nothing() {
    let mut cluster = Cluster::of(2).await;
    cluster.disks.push(MemoryFs::default());
    cluster.servers.push(None);
    cluster.start_with(2, false).await;
    cluster.admit(0, 2).await;
    cluster.settled(0, 3).await;
    let secret = b"CANARY-0123456789abcdef";
    cluster.put(0, "very-secret-name/inline", secret).await.unwrap();
    cluster.put(0, "very-secret-name/big", &secret.repeat(100_000)).await.unwrap();
    cluster.settled(0, 3).await;
    assert!(matches!(cluster.get(2, "very-secret-name/inline").await, Err(Error::NoVaultKey)));
    let env = Env::with_disk(9, MemoryNet::default(), cluster.disks[2].clone());
    let mut held = 0;
    for file in cluster.disks[2].files_below(Path::new("/data")) {
        let bytes = env.fs().read(&file, 1 << 30).unwrap();
        held += bytes.len();
        let has = |needle: &[u8]| bytes.windows(needle.len()).any(|window| window == needle);
        assert!(!has(secret) && !has(b"very-secret-name"), "{}", file.display());
    }
    assert!(held > 2_000_000);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fourth_node_serves_what_it_does_not_hold_too() {
    let cluster = Cluster::of(4).await;
    cluster.put(3, "f", &content(2 << 20)).await.unwrap();
    assert_eq!(cluster.get(3, "f").await.unwrap(), content(2 << 20));
    assert_eq!(cluster.get(0, "f").await.unwrap(), content(2 << 20));
    assert_eq!(cluster.node(3).peers().len(), 4);
}
