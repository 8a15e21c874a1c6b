//! Old versions, deletions and conflicts: listed, read, brought back.

use std::sync::Arc;
use std::time::Duration;

use dfs_core::name::FilePath;
use dfs_core::record::retention::{KEPT_FOR_MS, VERSIONS_KEPT};
use dfs_server::health::Level;
use dfs_server::{Error, ListedKind, Logged, Mode, VersionState};

use crate::clock::Ahead;
use crate::{Cluster, LIMIT, content};

const INLINE_MAX: usize = 16 * 1024;

fn path(text: &str) -> FilePath {
    FilePath::parse(text).unwrap()
}

impl Cluster {
    /// Stores a file and gives its version.
    async fn version(&self, at: usize, name: &str, content: &[u8], mode: Mode) -> String {
        self.node(at).store(&path(name), content, mode).await.unwrap().version
    }

    async fn log(&self, at: usize, name: &str) -> Vec<Logged> {
        self.node(at).log(&path(name), Mode::Default).await.unwrap()
    }

    async fn states(&self, at: usize, name: &str) -> Vec<VersionState> {
        self.log(at, name).await.iter().map(|line| line.state).collect()
    }

    async fn restore(&self, at: usize, name: &str, version: &str) -> Result<String, Error> {
        Ok(self.node(at).restore(&path(name), version, Mode::Default).await?.version)
    }

    #[track_caller]
    fn kept(&self, log: &[Logged], versions: &[String]) {
        let logged: Vec<_> = log.iter().map(|line| &line.version).collect();
        assert_eq!(logged, versions.iter().rev().collect::<Vec<_>>());
    }

    /// Writes a name on node 0, and then, without having seen that, on node 1.
    async fn in_conflict(&mut self, name: &str, contents: [&[u8]; 2]) -> [String; 2] {
        self.crash(1);
        self.crash(2);
        let first = self.version(0, name, contents[0], Mode::Available).await;
        self.crash(0);
        self.start(1).await;
        let second = self.version(1, name, contents[1], Mode::Available).await;
        self.start(0).await;
        self.start(2).await;
        for at in 0..3 {
            self.settled(at, 3).await;
        }
        [first, second]
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn old_versions_are_listed_newest_first_and_read_from_another_node() {
    let cluster = Cluster::of(3).await;
    let sizes = [0, 5, 3 << 20, INLINE_MAX, INLINE_MAX + 1, 100];
    let mut versions = Vec::new();
    for size in sizes {
        versions.push(cluster.version(0, "d/f", &content(size), Mode::Default).await);
    }
    let log = cluster.log(2, "d/f").await;
    cluster.kept(&log, &versions);
    assert_eq!(
        log.iter().map(|line| line.bytes).rev().collect::<Vec<_>>(),
        sizes.map(|n| n as u64)
    );
    assert_eq!(log[0].state, VersionState::Current);
    assert!(log[1..].iter().all(|line| line.state == VersionState::Old));
    for (version, size) in versions.iter().zip(sizes) {
        let got = cluster.get_version(1, "d/f", Some(version)).await.unwrap();
        assert_eq!(got, content(size), "{size} bytes");
    }
    let stat = cluster.node(1).stat_version(&path("d/f"), Some(&versions[2]), Mode::Default).await;
    let stat = stat.unwrap();
    assert_eq!((stat.version.as_str(), stat.bytes, stat.chunks), (&*versions[2], 3 << 20, 3));
    let other = "00".repeat(16);
    let missing = cluster.get_version(1, "d/f", Some(&other)).await;
    assert!(matches!(missing, Err(Error::NotFound(_))));
    assert!(matches!(
        cluster.node(0).log(&path("d/nothing"), Mode::Default).await,
        Err(Error::NotFound(_))
    ));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_old_versions_are_kept() {
    let cluster = Cluster::of(1).await;
    let mut versions = Vec::new();
    for number in 0..VERSIONS_KEPT + 3 {
        versions.push(cluster.version(0, "f", &content(number), Mode::Default).await);
    }
    cluster.kept(&cluster.log(0, "f").await, &versions[2..]);
    let gone = cluster.get_version(0, "f", Some(&versions[1])).await;
    assert!(matches!(gone, Err(Error::NotFound(_))));
    assert!(matches!(cluster.restore(0, "f", &versions[1]).await, Err(Error::NotFound(_))));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_version_goes_a_month_after_it_was_replaced() {
    let clock = Arc::new(Ahead::new());
    let cluster = Cluster::with_clock(3, Some(clock.clone())).await;
    let mut versions = vec![cluster.version(0, "f", b"last year's", Mode::Default).await];
    clock.advance(Duration::from_secs(300 * 24 * 60 * 60) / 10);
    versions.push(cluster.version(1, "f", b"spoiled", Mode::Default).await);
    clock.advance(Duration::from_millis(KEPT_FOR_MS) - Duration::from_secs(3600));
    versions.push(cluster.version(2, "f", b"spoiled again", Mode::Default).await);
    // Two months old, and replaced within the last one.
    cluster.kept(&cluster.log(0, "f").await, &versions);
    clock.advance(Duration::from_secs(2 * 3600));
    // Nobody but a writer prunes.
    cluster.kept(&cluster.log(0, "f").await, &versions);
    versions.push(cluster.version(0, "f", b"four", Mode::Default).await);
    cluster.kept(&cluster.log(0, "f").await, &versions[1..]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_old_version_is_brought_back_and_nothing_is_lost_by_it() {
    let cluster = Cluster::of(3).await;
    for (name, size) in [("small", 10), ("large", 3 << 20)] {
        let old = cluster.version(0, name, &content(size), Mode::Default).await;
        let newer = cluster.version(1, name, b"newer", Mode::Default).await;
        let restored = cluster.restore(2, name, &old).await.unwrap();
        assert_eq!(cluster.get(0, name).await.unwrap(), content(size));
        cluster.kept(&cluster.log(0, name).await, &[old, newer, restored.clone()]);
        cluster.settled(0, 3).await;
        let stat = cluster.node(0).stat(&path(name), Mode::Default).await.unwrap();
        assert_eq!((stat.version, stat.copies, stat.wanted), (restored, 3, 3));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_version_whose_content_is_gone_is_not_brought_back() {
    let cluster = Cluster::of(3).await;
    let old = cluster.version(0, "f", &content(3 << 20), Mode::Default).await;
    cluster.version(0, "f", b"new", Mode::Default).await;
    cluster.settled(0, 3).await;
    for at in 0..3 {
        cluster.damage(at);
    }
    let refused = cluster.restore(0, "f", &old).await;
    assert!(matches!(refused, Err(Error::Lost(_))), "{refused:?}");
    assert_eq!(cluster.get(0, "f").await.unwrap(), b"new");
    // An old version is needed as much as the one shown.
    let told = async {
        while cluster.node(0).health().await.unwrap().health != Level::Lost {
            crate::a_moment().await;
        }
    };
    tokio::time::timeout(LIMIT, told).await.expect("the loss is not told of");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deleted_file_is_found_and_brought_back() {
    let cluster = Cluster::of(3).await;
    let one = cluster.version(0, "f", &content(2 << 20), Mode::Default).await;
    let two = cluster.version(0, "f", b"two", Mode::Default).await;
    cluster.node(0).remove(&path("f"), Mode::Default).await.unwrap();
    let log = cluster.log(1, "f").await;
    assert_eq!(log[0].state, VersionState::Deleted);
    assert_eq!((log[0].kind, log[1].kind), (None, Some(ListedKind::File)));
    cluster.kept(&log[1..], &[one.clone(), two.clone()]);
    assert!(matches!(cluster.get(1, "f").await, Err(Error::NotFound(_))));
    assert_eq!(cluster.get_version(1, "f", Some(&two)).await.unwrap(), b"two");
    let restored = cluster.restore(1, "f", &one).await.unwrap();
    assert_eq!(cluster.get(2, "f").await.unwrap(), content(2 << 20));
    // There is nothing in a deletion to keep.
    cluster.kept(&cluster.log(2, "f").await, &[one, two, restored]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_is_found_after_its_directory_was_deleted_and_made_anew() {
    let cluster = Cluster::of(1).await;
    let client = cluster.node(0);
    let one = cluster.version(0, "d/e/f", b"one", Mode::Default).await;
    client.remove_all(&path("d"), Mode::Default).await.unwrap();
    assert_eq!(cluster.states(0, "d/e/f").await, [VersionState::Deleted, VersionState::Old]);
    let two = cluster.restore(0, "d/e/f", &one).await.unwrap();
    assert_eq!(cluster.list(0, "", true).await, ["d/e/f"]);
    assert_eq!(cluster.get(0, "d/e/f").await.unwrap(), b"one");
    client.remove_all(&path("d"), Mode::Default).await.unwrap();
    cluster.put(0, "d/other", b"x").await.unwrap();
    let log = cluster.log(0, "d/e/f").await;
    let old: Vec<_> = log.iter().filter(|line| line.state == VersionState::Old).collect();
    assert_eq!((log.len(), old.len()), (3, 2), "the last deletion is told of");
    cluster.restore(0, "d/e/f", &two).await.unwrap();
    assert_eq!(cluster.list(0, "d/", true).await, ["d/e/f", "d/other"]);
    let directory = cluster.restore(0, "d", &cluster.log(0, "d").await[0].version).await;
    assert!(matches!(directory, Err(Error::IsDirectory(_))), "{directory:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_sides_make_a_conflict_and_a_put_settles_it() {
    let mut cluster = Cluster::of(3).await;
    cluster.put(0, "d/other", b"x").await.unwrap();
    let base = cluster.version(0, "d/f", b"base", Mode::Default).await;
    cluster.settled(0, 3).await;
    let [first, second] = cluster.in_conflict("d/f", [b"one", b"two"]).await;
    let states = [VersionState::Current, VersionState::Conflict, VersionState::Old];
    assert_eq!(cluster.states(2, "d/f").await, states);
    let conflicts = |after: &'static str, limit| {
        let client = cluster.node(2);
        async move { client.conflicts(&path("d"), after, limit, Mode::Default).await.unwrap() }
    };
    let page = conflicts("", 10).await;
    assert_eq!((page.conflicts.len(), page.next), (1, None));
    let shown = &page.conflicts[0];
    assert_eq!((shown.path.as_str(), shown.versions.len()), ("d/f", 2));
    assert_eq!(shown.versions[0].version, second, "the later one is shown");
    assert!(conflicts("d/f", 10).await.conflicts.is_empty());
    assert_eq!(cluster.node(0).health().await.unwrap().conflicts, 1);
    for (version, expected) in [(&first, &b"one"[..]), (&second, b"two"), (&base, b"base")] {
        assert_eq!(cluster.get_version(2, "d/f", Some(version)).await.unwrap(), expected);
    }
    let settled = cluster.version(0, "d/f", b"both", Mode::Default).await;
    assert!(conflicts("", 10).await.conflicts.is_empty());
    cluster.kept(&cluster.log(1, "d/f").await, &[base, first, second, settled]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_conflict_is_settled_by_a_restore_and_by_a_removal() {
    let mut cluster = Cluster::of(3).await;
    let [first, second] = cluster.in_conflict("f", [&content(2 << 20), &content(1)]).await;
    let settled = cluster.restore(2, "f", &first).await.unwrap();
    let stat = cluster.node(0).stat(&path("f"), Mode::Default).await.unwrap();
    assert_eq!((stat.conflicts, stat.bytes), (0, 2 << 20));
    cluster.kept(&cluster.log(1, "f").await, &[first, second, settled]);
    let [first, second] = cluster.in_conflict("g", [b"one", b"two"]).await;
    cluster.node(0).remove(&path("g"), Mode::Default).await.unwrap();
    let log = cluster.log(1, "g").await;
    assert_eq!(log[0].state, VersionState::Deleted);
    cluster.kept(&log[1..], &[first, second]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_versions_of_the_largest_inline_content_are_kept_and_mended() {
    let cluster = Cluster::of(3).await;
    let mut versions = Vec::new();
    for number in 0..VERSIONS_KEPT + 1 {
        let content = content(INLINE_MAX - number);
        versions.push(cluster.version(number % 3, "f", &content, Mode::Default).await);
    }
    cluster.kept(&cluster.log(0, "f").await, &versions);
    cluster.settled(0, 3).await;
    assert!(cluster.damage(0) > 0, "what does not fit a record is in blobs");
    for (number, version) in versions.iter().enumerate() {
        let got = cluster.get_version(0, "f", Some(version)).await.unwrap();
        assert_eq!(got, content(INLINE_MAX - number), "version {number}");
    }
    cluster.settled(0, 3).await;
    // A deletion keeps as much as the version it follows, without a byte more.
    cluster.node(1).remove(&path("f"), Mode::Default).await.unwrap();
    let restored = cluster.restore(2, "f", &versions[4]).await.unwrap();
    assert_eq!(cluster.get(0, "f").await.unwrap(), content(INLINE_MAX - 4));
    cluster.settled(0, 3).await;
    let stat = cluster.node(0).stat(&path("f"), Mode::Default).await.unwrap();
    assert_eq!((stat.version, stat.copies), (restored, 3));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_writes_at_once_each_is_shown_or_kept_and_can_be_read() {
    let cluster = Cluster::of(3).await;
    let client = |number: usize| cluster.node(number % 3);
    let writes = (0..VERSIONS_KEPT).map(|number| {
        let client = client(number);
        async move {
            // Two do not fit one record: writers move the same ones out at the same time.
            let content = content(INLINE_MAX - number);
            client.store(&path("f"), &content[..], Mode::Default).await.unwrap().version
        }
    });
    let versions = futures_util::future::join_all(writes).await;
    let log = cluster.log(0, "f").await;
    assert_eq!(log.len(), VERSIONS_KEPT);
    cluster.version(1, "f", b"settled", Mode::Default).await;
    let log = cluster.log(2, "f").await;
    assert_eq!(log.len(), VERSIONS_KEPT + 1);
    assert!(log[1..].iter().all(|line| line.state == VersionState::Old));
    for (number, version) in versions.iter().enumerate() {
        assert!(log.iter().any(|line| line.version == *version));
        let got = cluster.get_version(0, "f", Some(version)).await.unwrap();
        assert_eq!(got, content(INLINE_MAX - number), "write {number}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn content_that_did_not_get_out_of_a_record_is_not_lost() {
    let mut cluster = Cluster::of(3).await;
    let old = content(INLINE_MAX);
    cluster.put(0, "f", &old).await.unwrap();
    cluster.settled(0, 3).await;
    // The old content has to move out first: its reference is noted, and nobody takes the blob.
    cluster.disks[1].set_room(Some(0));
    cluster.disks[2].set_room(Some(0));
    assert!(cluster.put(0, "f", &content(INLINE_MAX - 1)).await.is_err());
    for at in 0..3 {
        cluster.disks[at].set_room(None);
        cluster.crash(at);
    }
    // A node that starts looks for what its references name.
    for at in 0..3 {
        cluster.start(at).await;
    }
    for at in 0..3 {
        cluster.settled(at, 3).await;
        assert_eq!(cluster.get(at, "f").await.unwrap(), old);
        assert_eq!(cluster.log(at, "f").await.len(), 1);
    }
}
