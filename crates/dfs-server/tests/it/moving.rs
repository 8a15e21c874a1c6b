//! Copies, moves and directories that are made.

use dfs_core::name::FilePath;
use dfs_server::{Error, Mode, Moved, Onto};

use crate::{Cluster, content};

fn path(text: &str) -> FilePath {
    FilePath::parse(text).unwrap()
}

const ONTO: Onto = Onto { replace: true, merge: false, mode: Mode::Default };

impl Cluster {
    async fn rename(&self, at: usize, from: &str, to: &str) -> Result<Moved, Error> {
        self.node(at).rename(&path(from), &path(to), ONTO).await
    }

    async fn mkdir(&self, at: usize, name: &str, parents: bool) -> Result<(), Error> {
        self.node(at).make_dir(&path(name), parents, Mode::Default).await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_outlives_what_it_was_copied_from() {
    let cluster = Cluster::of(3).await;
    for (name, size) in [("small", 10), ("large", 3 << 20)] {
        cluster.put(0, name, &content(size)).await.unwrap();
        let first = cluster.node(1).find(&path(name), None, Mode::Default).await.unwrap().version();
        cluster.put(0, name, b"newer").await.unwrap();
        let (from, to) = (path(name), path(&format!("copies/{name}")));
        cluster.node(1).copy(&from, Some(&first), &to, ONTO).await.unwrap();
        cluster.node(2).remove(&from, Mode::Default).await.unwrap();
        assert_eq!(cluster.get(0, to.as_str()).await.unwrap(), content(size));
        for at in 0..3 {
            cluster.settled(at, 3).await;
        }
        let stat = cluster.node(2).stat(&to, Mode::Default).await.unwrap();
        assert_eq!((stat.copies, stat.wanted), (3, 3));
    }
    let onto = Onto { replace: false, ..ONTO };
    let kept = cluster.node(0).copy(&path("copies/small"), None, &path("copies/large"), onto).await;
    assert!(matches!(kept, Err(Error::Condition)), "{kept:?}");
    let dir = cluster.node(0).copy(&path("copies"), None, &path("more"), ONTO).await;
    assert!(matches!(dir, Err(Error::IsDirectory(_))), "{dir:?}");
    let all = cluster.node(0).copy_all(&path("copies"), &path("more"), ONTO).await.unwrap();
    assert_eq!(all, Moved { files: 2, dirs: 1 });
    let names = ["copies/large", "copies/small", "more/large", "more/small"];
    assert_eq!(cluster.list(1, "", true).await, names);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tree_moves_with_everything_in_it() {
    let cluster = Cluster::of(3).await;
    for number in 0..50 {
        let name = format!("a/{}/{number}", number % 5);
        cluster.put(number % 3, &name, &content(number * 1000)).await.unwrap();
    }
    cluster.mkdir(0, "a/empty", false).await.unwrap();
    let moved = cluster.rename(1, "a", "b/c").await.unwrap();
    assert_eq!(moved, Moved { files: 50, dirs: 7 });
    assert_eq!(cluster.list(2, "", false).await, ["b/"]);
    let below = ["b/c/0/", "b/c/1/", "b/c/2/", "b/c/3/", "b/c/4/", "b/c/empty/"];
    assert_eq!(cluster.list(2, "b/c/", false).await, below);
    for number in 0..50 {
        let name = format!("b/c/{}/{number}", number % 5);
        assert_eq!(cluster.get(2, &name).await.unwrap(), content(number * 1000));
    }
    let log = cluster.node(0).log(&path("a/1/1"), Mode::Default).await.unwrap();
    assert_eq!(log.len(), 2, "it was there, and was deleted");
    for (from, to) in [("b", "b/c/d"), ("b", "b"), ("b/c", "b/c/0")] {
        let refused = cluster.rename(0, from, to).await;
        assert!(matches!(refused, Err(Error::IntoItself(_))), "{refused:?}");
    }
    assert!(cluster.rename(0, "b/c/0", "b/c/00").await.is_ok(), "a longer name is no place below");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tree_merges_only_when_told_to() {
    let cluster = Cluster::of(1).await;
    for name in ["a/1", "a/2", "b/2", "b/3"] {
        cluster.put(0, name, name.as_bytes()).await.unwrap();
    }
    let refused = cluster.rename(0, "a", "b").await;
    assert!(matches!(refused, Err(Error::Exists(_))), "{refused:?}");
    let onto = Onto { replace: false, merge: true, ..ONTO };
    let stopped = cluster.node(0).rename(&path("a"), &path("b"), onto).await;
    assert!(matches!(stopped, Err(Error::Condition)), "{stopped:?}");
    assert_eq!(cluster.get(0, "b/2").await.unwrap(), b"b/2");
    let onto = Onto { replace: true, ..onto };
    cluster.node(0).rename(&path("a"), &path("b"), onto).await.unwrap();
    assert_eq!(cluster.list(0, "", true).await, ["b/1", "b/2", "b/3"]);
    assert_eq!(cluster.get(0, "b/2").await.unwrap(), b"a/2");
    let gone = cluster.rename(0, "a", "x").await;
    assert!(matches!(gone, Err(Error::NotFound(_))), "{gone:?}");
    let in_place_of_dir = cluster.rename(0, "b/1", "b").await;
    assert!(matches!(in_place_of_dir, Err(Error::IsDirectory(_))), "{in_place_of_dir:?}");
    let into_itself = cluster.rename(0, "b", "b/1").await;
    assert!(matches!(into_itself, Err(Error::IntoItself(_))), "{into_itself:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_fails_to_move_a_file_that_another_moves_leaves_nothing() {
    let cluster = Cluster::of(3).await;
    for round in 0..20 {
        let [from, one, other] = ["a", "b", "c"].map(|name| format!("{name}{round}"));
        cluster.put(0, &from, b"x").await.unwrap();
        let (first, second) =
            tokio::join!(cluster.rename(1, &from, &one), cluster.rename(2, &from, &other));
        let there = [&from, &one, &other].map(|name| cluster.get(0, name));
        let there: Vec<_> = futures_util::future::join_all(there).await;
        let count = there.iter().filter(|got| got.is_ok()).count();
        assert!(there[0].is_err() && count >= 1, "round {round}: {first:?}, {second:?}");
        assert!(first.is_ok() || second.is_ok());
        for (moved, got) in [(&first, &there[1]), (&second, &there[2])] {
            assert_eq!(moved.is_ok(), got.is_ok(), "round {round}: {moved:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_stored_while_a_file_moves_is_not_lost() {
    let cluster = Cluster::of(3).await;
    for round in 0..20 {
        let (from, to) = (format!("f{round}"), format!("g{round}"));
        cluster.put(0, &from, b"old").await.unwrap();
        let (moved, stored) =
            tokio::join!(cluster.rename(1, &from, &to), cluster.put(2, &from, b"new"));
        moved.unwrap();
        stored.unwrap();
        let both = [cluster.get(0, &from).await, cluster.get(0, &to).await];
        assert!(both.iter().flatten().any(|got| got == b"new"), "round {round}: {both:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn directories_are_made_once() {
    let cluster = Cluster::of(1).await;
    assert!(matches!(cluster.mkdir(0, "a/b", false).await, Err(Error::NotFound(_))));
    cluster.mkdir(0, "a/b", true).await.unwrap();
    cluster.mkdir(0, "a/b", true).await.unwrap();
    assert!(matches!(cluster.mkdir(0, "a/b", false).await, Err(Error::Exists(_))));
    cluster.put(0, "f", b"f").await.unwrap();
    assert!(matches!(cluster.mkdir(0, "f", true).await, Err(Error::Exists(_))));
    assert!(matches!(cluster.mkdir(0, "f/g", true).await, Err(Error::NotDirectory(_))));
    assert_eq!(cluster.list(0, "", false).await, ["a/", "f"]);
    cluster.node(0).remove(&path("a/b"), Mode::Default).await.unwrap();
    assert!(cluster.list(0, "a/", false).await.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_move_twice_at_once_loses_nothing() {
    let cluster = Cluster::of(3).await;
    for round in 0..20 {
        let (from, to) = (format!("a{round}"), format!("b{round}"));
        cluster.put(0, &from, &content(round * 2_000)).await.unwrap();
        if round % 2 == 1 {
            cluster.put(0, &to, b"was there").await.unwrap();
        }
        let (first, second) =
            tokio::join!(cluster.rename(1, &from, &to), cluster.rename(2, &from, &to));
        assert!(first.is_ok() || second.is_ok(), "round {round}: {first:?}, {second:?}");
        let there = cluster.get(0, &to).await.unwrap();
        assert!(there == content(round * 2_000), "round {round}: {} bytes", there.len());
        assert!(cluster.get(0, &from).await.is_err());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_move_that_fails_leaves_what_was_there() {
    let cluster = Cluster::of(3).await;
    for round in 0..20 {
        let (from, to) = (format!("a{round}"), format!("b{round}"));
        cluster.put(0, &from, b"moved").await.unwrap();
        cluster.put(0, &to, &content(30_000)).await.unwrap();
        let (client, gone) = (cluster.node(2), path(&from));
        let (moved, _) =
            tokio::join!(cluster.rename(1, &from, &to), client.remove(&gone, Mode::Default));
        let there = cluster.get(0, &to).await.unwrap();
        match moved {
            Ok(_) => assert_eq!(there, b"moved"),
            Err(Error::NotFound(_)) => {
                assert!(there == content(30_000), "round {round}: {} bytes", there.len());
            }
            Err(error) => panic!("{error}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wide_tree_with_many_directories_moves_to_its_end() {
    let cluster = Cluster::of(1).await;
    for number in 0..40 {
        cluster.put(0, &format!("a/{number:02}-file"), b"x").await.unwrap();
        cluster.put(0, &format!("a/{number:02}/in/deep"), b"x").await.unwrap();
    }
    let moved = cluster.rename(0, "a", "b/c").await.unwrap();
    assert_eq!(moved, Moved { files: 80, dirs: 81 });
    assert_eq!(cluster.list(0, "b/c/", true).await.len(), 80);
}
