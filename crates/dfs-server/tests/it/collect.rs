//! What nobody needs any more: blobs, references and tombstones go, and nothing else does.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use dfs_core::id::{DirId, PartitionBits, RecordKey, Tag, VaultId, Vid, from_hex};
use dfs_core::name::FilePath;
use dfs_core::record::refs::RefRow;
use dfs_core::replica::purge::lone_tombstone;
use dfs_core::replica::sync::Table;
use dfs_env::{Env, MemoryFs, MemoryNet, Task};
use dfs_server::{Condition, Error, Grace, Mode, Stored};
use dfs_store::disk::store::PageLimit;
use tokio::io::{AsyncWriteExt, DuplexStream};

use crate::clock::Ahead;
use crate::{Cluster, LIMIT};

fn path(text: &str) -> FilePath {
    FilePath::parse(text).unwrap()
}

/// Times that are measured by the wall are long, and passed by setting the clock ahead; the others
/// are short.
const GRACE: Grace = Grace {
    hold: HOUR,
    history: HOUR,
    purge_after: HOUR,
    collect_after: Duration::from_millis(300),
    audit_every: Duration::from_millis(200),
    claim_every: Duration::from_millis(400),
};
pub(crate) const HOUR: Duration = Duration::from_secs(60 * 60);

/// Nodes with short times, and their clock.
pub(crate) async fn cluster(count: usize) -> (Cluster, Arc<Ahead>) {
    let clock = Arc::new(Ahead::new());
    (Cluster::with_grace(count, Some(clock.clone()), GRACE).await, clock)
}

impl Cluster {
    pub(crate) fn blob_count(&self, at: usize) -> usize {
        self.disks[at].files_below(Path::new("/data/blobs")).len()
    }

    /// Waits until every one of these nodes has so many blobs.
    pub(crate) async fn until_blobs(&self, nodes: &[usize], count: usize) {
        let waited = async {
            while nodes.iter().any(|at| self.blob_count(*at) != count) {
                tokio::time::sleep(LOOK_EVERY).await;
            }
        };
        let waited = tokio::time::timeout(LIMIT, waited).await;
        let left: Vec<_> = nodes.iter().map(|at| self.blob_count(*at)).collect();
        assert!(waited.is_ok(), "{left:?} blobs, not {count}");
    }

    /// Waits until these nodes have looked everything through a few times more.
    async fn until_looked(&self, nodes: &[usize]) {
        for at in nodes {
            let looks = || self.node(*at).collected().looks;
            let enough = looks() + LOOKS;
            let waited = async {
                while looks() < enough {
                    tokio::time::sleep(LOOK_EVERY).await;
                }
            };
            tokio::time::timeout(LIMIT, waited).await.expect("no looks in time");
        }
    }

    /// Waits until no running node has a tombstone, and looks that another does not find the name.
    ///
    /// What one replica forgot others may know for a moment: an answer of a majority says nothing
    /// of the next.
    pub(crate) async fn until_forgotten(&self, at: usize, name: &str) {
        let waited = async {
            for at in (0..self.servers.len()).filter(|at| self.servers[*at].is_some()) {
                while self.tombstones(at).await != Some(0) {
                    tokio::time::sleep(LOOK_EVERY).await;
                }
            }
        };
        tokio::time::timeout(LIMIT, waited).await.expect("not purged in time");
        let missing = self.node(at).log(&path(name), Mode::Quorum).await;
        assert!(matches!(missing, Err(Error::NotFound(_))), "{missing:?}");
    }

    /// How many tombstones a node has on its disk.
    async fn tombstones(&self, at: usize) -> Option<usize> {
        let store = store_on(self.disks[at].copy()).await.ok()?;
        let mut count = 0;
        let halves = PartitionBits::new(1).ok()?;
        let all = PageLimit { rows: usize::MAX, bytes: usize::MAX };
        for half in 0..=1 {
            let page = store.scan_records(half, halves, Vec::new(), all).await.ok()?;
            count += page.rows.iter().filter(|(_, row)| lone_tombstone(row).is_some()).count();
        }
        Some(count)
    }

    /// How many reference rows a node has on its disk.
    async fn rows(&self, at: usize) -> Option<u64> {
        let store = store_on(self.disks[at].copy()).await.ok()?;
        let roots = store.roots(Table::Refs, PartitionBits::GENESIS).await.ok()?;
        Some(roots.iter().map(|root| root.count).sum())
    }

    /// Waits until every one of these nodes has so many reference rows.
    async fn until_rows(&self, nodes: &[usize], count: u64) {
        let waited = async {
            for at in nodes {
                while self.rows(*at).await != Some(count) {
                    tokio::time::sleep(LOOK_EVERY).await;
                }
            }
        };
        let waited = tokio::time::timeout(LIMIT, waited).await;
        assert!(waited.is_ok(), "{:?} rows, not {count}", self.rows(nodes[0]).await);
    }

    async fn remove(&self, at: usize, name: &str) {
        self.node(at).remove(&path(name), Mode::Default).await.unwrap();
    }
}

/// The store on a disk that no node uses.
async fn store_on(disk: MemoryFs) -> Result<dfs_store::Store, dfs_store::OpenStoreError> {
    let env = Env::with_disk(1, MemoryNet::default(), disk);
    let config = dfs_store::Config::new("/data");
    dfs_store::Store::open(env, config).await
}

/// Two looks end a use, two more collect its blob, and some.
const LOOKS: u64 = 6;
/// How often a condition is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(20);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_blobs_of_a_deleted_file_go_but_for_those_that_another_shares() {
    let (cluster, clock) = cluster(3).await;
    let all = [0, 1, 2];
    // Each chunk once: what repeats is one blob.
    let shared = vec![7; 1 << 20];
    let mut doomed = shared.clone();
    doomed.extend(vec![8; 1 << 20]);
    cluster.put(0, "kept", &shared).await.unwrap();
    cluster.settled(0, 3).await;
    let of_kept = cluster.blob_count(0);
    cluster.put(1, "doomed", &doomed).await.unwrap();
    cluster.until_blobs(&all, of_kept + 3).await;
    cluster.remove(2, "doomed").await;
    clock.advance(2 * HOUR);
    cluster.until_blobs(&all, of_kept).await;
    cluster.until_rows(&all, of_kept as u64).await;
    for at in all {
        cluster.settled(at, 3).await;
        assert_eq!(cluster.get(at, "kept").await.unwrap(), shared);
        assert!(matches!(cluster.get(at, "doomed").await, Err(Error::NotFound(_))));
    }
    // What was given up can be stored again.
    cluster.put(1, "doomed", &doomed).await.unwrap();
    cluster.until_blobs(&all, of_kept + 3).await;
    assert_eq!(cluster.get(0, "doomed").await.unwrap(), doomed);
}

/// Begins to store chunks that no other file has, and waits until most of them are everywhere; the
/// content ends when what is given back does.
async fn store_slowly(
    cluster: &Cluster,
    at: usize,
    name: &str,
    mode: Mode,
) -> (Task<Result<Stored, Error>>, DuplexStream) {
    let (mut sink, source) = tokio::io::duplex(1 << 20);
    let (client, content, name) = (cluster.node(at), chunks_of(name), path(name));
    let before: Vec<_> = (0..3).map(|at| cluster.blob_count(at)).collect();
    let store = async move { client.store(&name, source, mode).await };
    let storing = Env::real().spawn("store", store);
    sink.write_all(&content).await.unwrap();
    // The last ones, as many as are sent at once, go on with the end of the content.
    let waited = async {
        while (0..3).any(|at| cluster.blob_count(at) < before[at] + CHUNKS - 4) {
            tokio::time::sleep(LOOK_EVERY).await;
        }
    };
    tokio::time::timeout(LIMIT, waited).await.expect("not stored in time");
    (storing, sink)
}

fn chunks_of(name: &str) -> Vec<u8> {
    let chunk = |at: usize| vec![name.as_bytes()[0] + u8::try_from(at).unwrap(); 1 << 20];
    (0..CHUNKS).flat_map(chunk).collect()
}

const CHUNKS: usize = 8;
/// With a list of them, and a page of references.
const BLOBS: usize = CHUNKS + 2;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upload_under_way_is_not_collected_and_one_that_takes_too_long_fails() {
    let (cluster, clock) = cluster(3).await;
    let all = [0, 1, 2];
    cluster.put(0, "old", &vec![1; 1 << 20]).await.unwrap();
    cluster.settled(0, 3).await;
    cluster.remove(0, "old").await;
    clock.advance(HOUR / 2);
    let (stored, sink) = store_slowly(&cluster, 1, "A", Mode::Default).await;
    let (late, late_sink) = store_slowly(&cluster, 1, "a", Mode::Default).await;
    clock.advance(HOUR * 5 / 8);
    // What is left was looked at together with what is gone.
    for at in all {
        let is_gone = || cluster.node(at).collected().blobs >= 3;
        let waited = async {
            while !is_gone() {
                tokio::time::sleep(LOOK_EVERY).await;
            }
        };
        tokio::time::timeout(LIMIT, waited).await.expect("not collected in time");
    }
    cluster.until_looked(&all).await;
    drop(sink);
    stored.await.unwrap().unwrap();
    assert_eq!(cluster.get(2, "A").await.unwrap(), chunks_of("A"));
    clock.advance(HOUR / 4);
    drop(late_sink);
    let late = late.await.unwrap();
    assert!(matches!(late, Err(Error::TooSlow)), "{late:?}");
    clock.advance(HOUR);
    cluster.until_blobs(&all, BLOBS).await;
    assert_eq!(cluster.get(0, "A").await.unwrap(), chunks_of("A"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_that_only_a_node_away_knows_keeps_its_blobs() {
    let (mut cluster, clock) = cluster(3).await;
    let (stored, sink) = store_slowly(&cluster, 0, "f", Mode::Available).await;
    // The chunks are everywhere; what names them only node 0 will have.
    cluster.crash(1);
    cluster.crash(2);
    drop(sink);
    assert_eq!(stored.await.unwrap().unwrap().copies, 1);
    cluster.crash(0);
    cluster.start(1).await;
    cluster.start(2).await;
    cluster.connected(1, 2).await;
    clock.advance(2 * HOUR);
    cluster.until_looked(&[1, 2]).await;
    for at in [1, 2] {
        let collected = cluster.node(at).collected();
        assert_eq!((collected.uses, collected.blobs), (0, 0), "node 0 may name them");
    }
    cluster.start(0).await;
    for at in [0, 1, 2] {
        cluster.settled(at, 3).await;
    }
    cluster.crash(0);
    assert_eq!(cluster.get(1, "f").await.unwrap(), chunks_of("f"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_purged_name_does_not_come_back_from_a_node_that_was_away() {
    let (mut cluster, clock) = cluster(3).await;
    cluster.put(0, "f", b"doomed").await.unwrap();
    for at in 0..3 {
        cluster.settled(at, 3).await;
    }
    cluster.crash(2);
    cluster.remove(0, "f").await;
    clock.advance(2 * HOUR);
    cluster.until_looked(&[0, 1]).await;
    assert!(cluster.node(0).log(&path("f"), Mode::Quorum).await.is_ok(), "node 2 may have it");
    cluster.start(2).await;
    for at in 0..3 {
        cluster.until_forgotten(at, "f").await;
    }
    for at in 0..3 {
        cluster.crash(at);
        cluster.start(at).await;
        cluster.settled(at, 3).await;
    }
    for at in 0..3 {
        cluster.until_forgotten(at, "f").await;
        assert!(matches!(cluster.get(at, "f").await, Err(Error::NotFound(_))));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tombstone_that_remembers_conditional_writes_goes_too() {
    let (cluster, clock) = cluster(3).await;
    let client = cluster.node(0);
    let name = path("f");
    let store_if = |content: &'static [u8], condition| client.store_if(&name, content, condition);
    let first = store_if(b"one", Condition::Absent).await.unwrap().version;
    let refused = store_if(b"two", Condition::Absent).await;
    assert!(matches!(refused, Err(Error::Condition)));
    cluster.remove(1, "f").await;
    let gone = Condition::Version(Vid::new(from_hex(&first).unwrap()));
    assert!(matches!(store_if(b"three", gone).await, Err(Error::Condition)));
    clock.advance(2 * HOUR);
    cluster.until_forgotten(2, "f").await;
    store_if(b"four", Condition::Absent).await.unwrap();
    assert_eq!(cluster.get(1, "f").await.unwrap(), b"four");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn blobs_that_moved_to_others_are_given_up() {
    let (mut cluster, _) = cluster(3).await;
    let files: Vec<_> = (0..24u8).map(|byte| vec![byte; 20_000]).collect();
    for (number, file) in files.iter().enumerate() {
        cluster.put(0, &format!("{number}"), file).await.unwrap();
    }
    cluster.settled(0, 3).await;
    let blobs = cluster.blob_count(0);
    for at in 3..5 {
        cluster.disks.push(MemoryFs::default());
        cluster.servers.push(None);
        cluster.start(at).await;
    }
    for at in 0..5 {
        cluster.settled(at, 5).await;
    }
    let all = || (0..5).map(|at| cluster.blob_count(at)).sum::<usize>();
    let waited = async {
        while cluster.blob_count(4) == 0 || all() != 3 * blobs {
            tokio::time::sleep(LOOK_EVERY).await;
        }
    };
    let waited = tokio::time::timeout(LIMIT, waited).await;
    assert!(waited.is_ok(), "{} of {blobs} blobs, and not three copies of each", all());
    assert!(cluster.blob_count(4) > 0);
    for (number, file) in files.iter().enumerate() {
        assert_eq!(cluster.get(4, &format!("{number}")).await.unwrap(), *file);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_that_all_replicas_lost_are_noted_anew_and_what_is_gone_is_found_to_be_missing() {
    // Nothing is collected meanwhile.
    let grace = Grace { collect_after: HOUR, ..GRACE };
    let mut cluster = Cluster::with_grace(3, None, grace).await;
    let all = [0, 1, 2];
    let kept = vec![7; 2 << 20];
    cluster.put(0, "kept", &kept).await.unwrap();
    for at in all {
        cluster.settled(at, 3).await;
    }
    let before = cluster.rows(0).await.unwrap();
    assert!(before >= 3);
    all.iter().for_each(|at| cluster.crash(*at));
    for disk in &cluster.disks {
        let store = store_on(disk.clone()).await.unwrap();
        for partition in 0..1 << PartitionBits::GENESIS.get() {
            let bits = PartitionBits::GENESIS;
            let rows = store.scan_refs(partition, bits, Vec::new(), 100).await.unwrap();
            store.forget_refs(rows.clone()).await.unwrap();
            for row in rows {
                // The content is gone besides: without its row nobody would miss it.
                if store.get_blob(row.blob).await.unwrap().bytes.len() > 1 << 20 {
                    store.collect(row.blob, || true).await.unwrap().unwrap();
                }
            }
        }
        store.close().await;
    }
    for at in all {
        cluster.start(at).await;
    }
    cluster.until_rows(&all, before).await;
    let lost = async {
        while all.iter().any(|at| cluster.node(*at).repair().lost != 1) {
            tokio::time::sleep(LOOK_EVERY).await;
        }
    };
    tokio::time::timeout(LIMIT, lost).await.expect("nobody misses it");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_that_name_another_record_have_no_blob_thrown_away() {
    let (mut cluster, clock) = cluster(3).await;
    let content = vec![7; 2 << 20];
    cluster.put(0, "f", &content).await.unwrap();
    let count = cluster.blob_count(0);
    cluster.until_blobs(&[0, 1, 2], count).await;
    // What a member that lies would bring: each use again, by a record that does not exist.
    cluster.crash(2);
    add_made_up_rows(&cluster.disks[2]).await;
    cluster.start(2).await;
    cluster.settled(0, 3).await;
    clock.advance(HOUR * 2);
    cluster.until_looked(&[0, 1, 2]).await;
    clock.advance(HOUR * 2);
    cluster.until_looked(&[0, 1, 2]).await;
    assert_eq!(cluster.get(0, "f").await.unwrap(), content);
    cluster.until_blobs(&[0, 1, 2], count).await;
}

async fn add_made_up_rows(disk: &MemoryFs) {
    let env = Env::with_disk(77, MemoryNet::default(), disk.clone());
    let config = dfs_store::Config::new("/data");
    let store = dfs_store::Store::open(env, config).await.unwrap();
    let bits = PartitionBits::GENESIS;
    for partition in 0..u16::try_from(bits.count()).unwrap() {
        let rows = store.scan_refs(partition, bits, Vec::new(), 9999).await.unwrap();
        let key = RecordKey {
            vault: VaultId::new([0; 16]),
            dir: DirId::new([0; 16]),
            tag: Tag::new([0; 16]),
        };
        let made_up = rows.into_iter().map(|row| RefRow { key, ..row }).collect();
        store.add_refs(made_up).await.unwrap();
    }
    store.close().await;
}
