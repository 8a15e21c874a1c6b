//! What directories were and hold: their history, what is forgotten of it, and their sums.

use std::collections::BTreeMap;
use std::time::Duration;

use dfs_core::name::FilePath;
use dfs_server::{Error, HistoryCursor, Mode, VersionState};

use crate::{Cluster, collect, content};

fn path(text: &str) -> FilePath {
    FilePath::parse(text).unwrap()
}

fn dir(text: &str) -> FilePath {
    if text.is_empty() { FilePath::root() } else { path(text) }
}

impl Cluster {
    /// Every name that a directory has had, with the states of its versions.
    async fn dir_history(&self, at: usize, of: &str) -> BTreeMap<String, Vec<VersionState>> {
        let (mut all, mut from) = (BTreeMap::new(), HistoryCursor::default());
        loop {
            let page = self.node(at).dir_history(&dir(of), from, Mode::Default).await.unwrap();
            for name in page.names {
                let states = name.versions.iter().map(|version| version.state).collect();
                assert!(all.insert(name.path, states).is_none(), "shown twice");
            }
            let Some(next) = page.next else { return all };
            from = next.parse().unwrap();
        }
    }

    async fn purge(&self, at: usize, name: &str, older_than: Duration) -> Result<u64, Error> {
        let purged = self.node(at).purge(&path(name), older_than, Mode::Default).await?;
        Ok(purged.versions)
    }

    async fn delete(&self, at: usize, name: &str) {
        self.node(at).remove_all(&path(name), Mode::Default).await.unwrap();
    }
}

fn named(names: &[(&str, &[VersionState])]) -> BTreeMap<String, Vec<VersionState>> {
    names.iter().map(|(name, states)| ((*name).to_owned(), states.to_vec())).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_history_of_a_directory_has_deleted_names_and_outlives_it() {
    use VersionState::{Current, Deleted, Old};
    let cluster = Cluster::of(3).await;
    for (name, text) in [("d/a", "1"), ("d/a", "2"), ("d/b", "1"), ("d/sub/c", "1")] {
        cluster.put(0, name, text.as_bytes()).await.unwrap();
    }
    cluster.delete(1, "d/b").await;
    let expected =
        named(&[("d/a", &[Current, Old]), ("d/b", &[Deleted, Old]), ("d/sub", &[Current])]);
    assert_eq!(cluster.dir_history(2, "d").await, expected);
    assert_eq!(cluster.dir_history(2, "").await, named(&[("d", &[Current])]));
    cluster.delete(0, "d").await;
    let expected = named(&[
        ("d/a", &[Deleted, Old, Old]),
        ("d/b", &[Deleted, Old]),
        ("d/sub", &[Deleted, Old]),
    ]);
    assert_eq!(cluster.dir_history(1, "d").await, expected);
    assert_eq!(cluster.dir_history(1, "d/sub").await, named(&[("d/sub/c", &[Deleted, Old])]));
    for none in ["nothing", "d/a"] {
        let (client, first) = (cluster.node(0), HistoryCursor::default());
        let page = client.dir_history(&path(none), first, Mode::Default).await;
        assert!(matches!(page, Err(Error::NotFound(_))), "{none}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_history_of_many_names_comes_in_pages_and_misses_none() {
    let cluster = Cluster::of(3).await;
    let mut putting = tokio::task::JoinSet::new();
    for lane in 0..8 {
        let client = cluster.node(lane % 3);
        putting.spawn(async move {
            for at in (lane..500).step_by(8) {
                let name = path(&format!("d/{at:03}"));
                client.store(&name, &b"x"[..], Mode::Default).await.unwrap();
                if at % 3 == 0 {
                    client.remove(&name, Mode::Default).await.unwrap();
                }
            }
        });
    }
    putting.join_all().await;
    let (client, first) = (cluster.node(1), HistoryCursor::default());
    let page = client.dir_history(&path("d"), first, Mode::Default).await.unwrap();
    assert!(page.next.is_some(), "one page is all");
    let all = cluster.dir_history(1, "d").await;
    let expected: Vec<_> = (0..500).map(|at| format!("d/{at:03}")).collect();
    assert_eq!(all.keys().cloned().collect::<Vec<_>>(), expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_purged_is_gone_and_what_is_there_stays() {
    use VersionState::{Current, Deleted};
    let cluster = Cluster::of(3).await;
    let large = content(2 << 20);
    for (name, text) in [("d/a", &b"1"[..]), ("d/a", &large), ("d/a", b"2"), ("d/b", &large)] {
        cluster.put(0, name, text).await.unwrap();
    }
    cluster.put(1, "d/large", b"small").await.unwrap();
    cluster.put(1, "d/large", &large).await.unwrap();
    cluster.delete(1, "d/b").await;
    // Nothing is that old.
    for name in ["d/a", "d/b"] {
        assert_eq!(cluster.purge(2, name, Duration::from_secs(60)).await.unwrap(), 0, "{name}");
    }
    for (name, versions) in [("d/a", 2), ("d/b", 1), ("d/large", 1), ("d", 0), ("nothing", 0)] {
        assert_eq!(cluster.purge(2, name, Duration::ZERO).await.unwrap(), versions, "{name}");
        assert_eq!(cluster.purge(0, name, Duration::ZERO).await.unwrap(), 0, "{name} again");
    }
    let all = cluster.dir_history(0, "d").await;
    // A deletion that keeps nothing does not say what it was of.
    assert_eq!(all, named(&[("d/a", &[Current]), ("d/large", &[Current])]));
    let log = cluster.node(1).log(&path("d/b"), Mode::Default).await.unwrap();
    assert_eq!(log.iter().map(|line| line.state).collect::<Vec<_>>(), [Deleted]);
    assert_eq!(cluster.get(1, "d/a").await.unwrap(), b"2");
    assert_eq!(cluster.get(2, "d/large").await.unwrap(), large);
    assert!(matches!(cluster.get(2, "d/b").await, Err(Error::NotFound(_))));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_purge_decides_no_conflict() {
    let mut cluster = Cluster::of(2).await;
    cluster.put(0, "f", b"before").await.unwrap();
    cluster.crash(1);
    let client = cluster.node(0);
    let first = client.store(&path("f"), &b"one"[..], Mode::Available).await.unwrap().version;
    cluster.crash(0);
    cluster.start(1).await;
    let client = cluster.node(1);
    let second = client.store(&path("f"), &b"two"[..], Mode::Available).await.unwrap().version;
    cluster.start(0).await;
    for at in 0..2 {
        cluster.settled(at, 2).await;
    }
    let purged = cluster.purge(0, "f", Duration::ZERO).await;
    assert!(matches!(purged, Err(Error::InConflict(_))), "{purged:?}");
    let log = cluster.node(0).log(&path("f"), Mode::Default).await.unwrap();
    for version in [first, second] {
        assert!(log.iter().any(|line| line.version == version && line.state != VersionState::Old));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_that_two_nodes_deleted_at_once_is_purged() {
    let mut cluster = Cluster::of(2).await;
    cluster.put(0, "f", b"before").await.unwrap();
    cluster.crash(1);
    cluster.node(0).remove(&path("f"), Mode::Available).await.unwrap();
    cluster.crash(0);
    cluster.start(1).await;
    cluster.node(1).remove(&path("f"), Mode::Available).await.unwrap();
    cluster.start(0).await;
    for at in 0..2 {
        cluster.settled(at, 2).await;
    }
    assert_eq!(cluster.purge(0, "f", Duration::ZERO).await.unwrap(), 1);
    let log = cluster.node(1).log(&path("f"), Mode::Default).await.unwrap();
    assert!(log.iter().all(|line| line.state == VersionState::Deleted), "{log:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_space_of_what_is_purged_comes_back() {
    let (cluster, clock) = collect::cluster(3).await;
    let large = content(3 << 20);
    cluster.put(0, "kept", &large[1..]).await.unwrap();
    cluster.put(0, "gone", &large).await.unwrap();
    cluster.delete(1, "gone").await;
    let before = cluster.blob_count(0);
    assert_eq!(cluster.purge(2, "gone", Duration::ZERO).await.unwrap(), 1);
    clock.advance(collect::HOUR * 2);
    cluster.until_blobs(&[0, 1, 2], before / 2).await;
    assert_eq!(cluster.get(1, "kept").await.unwrap(), large[1..]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn directories_are_added_up_without_going_through_their_names() {
    let cluster = Cluster::of(3).await;
    for name in ["a/1", "a/2", "a/b/3", "a-/4", "5"] {
        cluster.put(0, name, name.as_bytes()).await.unwrap();
    }
    cluster.node(0).make_dir(&path("empty"), false, Mode::Default).await.unwrap();
    let expected =
        [("", 1, 1), ("a", 2, 6), ("a/b", 1, 5), ("a-", 1, 4), ("empty", 0, 0)].map(|line| {
            let (path, files, bytes) = line;
            (path.to_owned(), files, bytes)
        });
    for (limit, at) in [(1, 0), (2, 1), (100, 2)] {
        let (mut all, mut after, client) = (Vec::new(), String::new(), cluster.node(at));
        loop {
            let root = FilePath::root();
            let page = client.usage(&root, &after, limit, Mode::Default).await.unwrap();
            assert!(page.dirs.len() <= limit.max(2) && page.guarded);
            all.extend(page.dirs.into_iter().map(|dir| (dir.path, dir.files, dir.bytes)));
            let Some(next) = page.next else { break };
            after = next;
        }
        all.sort();
        let mut expected = expected.to_vec();
        expected.sort();
        assert_eq!(all, expected, "by {limit}");
    }
    let below = cluster.node(1).usage(&path("a"), "", 9, Mode::Default).await.unwrap().dirs;
    assert_eq!(below.iter().map(|dir| &*dir.path).collect::<Vec<_>>(), ["a", "a/b"]);
    let none = cluster.node(1).usage(&path("nothing"), "", 9, Mode::Default).await;
    assert!(matches!(none, Err(Error::NotFound(_))));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_an_empty_directory_is_removed_as_one() {
    let cluster = Cluster::of(3).await;
    cluster.put(0, "d/f", b"x").await.unwrap();
    let remove = |name: &'static str| {
        let client = cluster.node(1);
        async move { client.remove_dir(&path(name), Mode::Default).await }
    };
    assert!(matches!(remove("d").await, Err(Error::NotEmpty(_))));
    assert!(matches!(remove("d/f").await, Err(Error::NotDirectory(_))));
    assert!(matches!(remove("nothing").await, Err(Error::NotFound(_))));
    cluster.delete(2, "d/f").await;
    remove("d").await.unwrap();
    assert!(matches!(remove("d").await, Err(Error::NotFound(_))));
}
