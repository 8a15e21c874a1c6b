//! Writers that meet on one name, or on a directory that goes.

use dfs_core::id::{Vid, from_hex};
use dfs_core::name::FilePath;
use dfs_server::{Condition, Error, ListedKind, Mode, VersionState};

use crate::Cluster;

fn path(text: &str) -> FilePath {
    FilePath::parse(text).unwrap()
}

const ROUNDS: usize = 60;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_a_file_and_a_directory_made_at_once_one_is_acknowledged() {
    let cluster = Cluster::of(3).await;
    let (mut files, mut dirs) = (0, 0);
    for round in 0..ROUNDS {
        let (file, below) = (format!("n{round}"), format!("n{round}/a/b"));
        let (one, other) = tokio::join!(
            cluster.put(round % 3, &file, b"file"),
            cluster.put((round + 1) % 3, &below, b"below"),
        );
        assert!(one.is_err() || other.is_err(), "both in round {round}");
        for (stored, name) in [(&one, &file), (&other, &below)] {
            let is_there = cluster.get(2, name).await.is_ok();
            match stored {
                Ok(_) => assert!(is_there, "{name} in round {round}"),
                Err(Error::IsDirectory(_) | Error::NotDirectory(_)) => {
                    assert!(!is_there, "{name} in round {round}");
                }
                Err(error) => panic!("{name}: {error}"),
            }
        }
        (files, dirs) = (files + usize::from(one.is_ok()), dirs + usize::from(other.is_ok()));
    }
    assert!(files + dirs > ROUNDS * 9 / 10, "{files} files and {dirs} directories of {ROUNDS}");
    assert!(cluster.list(0, "", false).await.len() >= files + dirs);
    assert_eq!(cluster.node(0).health().await.unwrap().conflicts, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_stored_while_its_directory_is_removed_is_there_or_was_deleted() {
    let cluster = Cluster::of(3).await;
    for round in 0..ROUNDS {
        let dir = format!("d{round}");
        cluster.put(0, &format!("{dir}/old"), b"old").await.unwrap();
        cluster.put(0, &format!("{dir}/sub/old"), b"old").await.unwrap();
        let (new, deep) = (format!("{dir}/new"), format!("{dir}/sub/z"));
        let (client, top) = (cluster.node(0), path(&dir));
        let (_, one, other) = tokio::join!(
            client.remove_all(&top, Mode::Default),
            cluster.put(1, &new, b"new"),
            cluster.put(2, &deep, b"z"),
        );
        for (stored, name) in [(one, new), (other, deep)] {
            if stored.is_ok() && cluster.get(0, &name).await.is_err() {
                let log = cluster.node(1).log(&path(&name), Mode::Default).await.unwrap();
                assert_eq!(log[0].state, VersionState::Deleted, "{name} in round {round}");
            }
        }
    }
}

/// Of two sides of a split one makes a file, the other one a directory of the same name.
async fn both() -> Cluster {
    let mut cluster = Cluster::of(3).await;
    cluster.put(0, "other", b"x").await.unwrap();
    for at in 0..3 {
        cluster.settled(at, 3).await;
    }
    cluster.crash(1);
    cluster.crash(2);
    let below = path("g/bar");
    cluster.node(0).store(&below, &b"below"[..], Mode::Available).await.unwrap();
    cluster.crash(0);
    cluster.start(1).await;
    cluster.node(1).store(&path("g"), &b"file"[..], Mode::Available).await.unwrap();
    cluster.start(0).await;
    cluster.start(2).await;
    for at in 0..3 {
        cluster.connected(at, 3).await;
    }
    let merged = async {
        while cluster.node(2).health().await.unwrap().conflicts != 1 {
            crate::a_moment().await;
        }
    };
    tokio::time::timeout(crate::LIMIT, merged).await.expect("the two sides do not meet");
    cluster
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_that_is_a_file_and_a_directory_hides_neither() {
    let cluster = both().await;
    assert_eq!(cluster.get(2, "g").await.unwrap(), b"file");
    assert_eq!(cluster.get(0, "g/bar").await.unwrap(), b"below");
    assert_eq!(cluster.list(2, "", true).await, ["g/bar", "other"]);
    // Both sides go on.
    cluster.put(1, "g", b"file again").await.unwrap();
    cluster.put(2, "g/new", b"new").await.unwrap();
    assert_eq!(cluster.get(0, "g").await.unwrap(), b"file again");
    assert_eq!(cluster.list(1, "g/", true).await, ["g/bar", "g/new"]);
    let page = cluster.node(0).conflicts(&FilePath::root(), "", 10, Mode::Default).await.unwrap();
    let kinds: Vec<_> = page.conflicts[0].versions.iter().map(|line| line.kind).collect();
    assert_eq!(kinds, [Some(ListedKind::File), Some(ListedKind::Dir)]);
    // The directory is chosen: the file is an earlier version.
    let dir = page.conflicts[0].versions[1].version.clone();
    cluster.node(1).restore(&path("g"), &dir, Mode::Default).await.unwrap();
    let states: Vec<_> = cluster.node(0).log(&path("g"), Mode::Default).await.unwrap();
    assert_eq!(states[0].kind, Some(ListedKind::Dir));
    assert_eq!(cluster.list(0, "", true).await, ["g/bar", "g/new", "other"]);
    let stat = cluster.node(2).stat(&path("g"), Mode::Default).await.unwrap();
    assert_eq!((stat.kind, stat.conflicts), (ListedKind::Dir, 0));
    let file = states.iter().find(|line| line.bytes == 10).unwrap();
    assert_eq!(cluster.get_version(2, "g", Some(&file.version)).await.unwrap(), b"file again");
    assert!(matches!(cluster.put(0, "g", b"x").await, Err(Error::IsDirectory(_))));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_condition_on_a_name_that_is_both_is_one_on_the_file() {
    let cluster = both().await;
    let client = cluster.node(0);
    let version = client.find(&path("g"), None, Mode::Default).await.unwrap().version();
    let vid = Vid::new(from_hex(&version).unwrap());
    let absent = client.store_if(&path("g"), &b"x"[..], Condition::Absent).await;
    assert!(matches!(absent, Err(Error::Condition)), "{absent:?}");
    let condition = Condition::Version(vid);
    client.store_if(&path("g"), &b"by condition"[..], condition).await.unwrap();
    assert_eq!(cluster.get(1, "g").await.unwrap(), b"by condition");
    assert_eq!(cluster.get(1, "g/bar").await.unwrap(), b"below");
    let again = client.store_if(&path("g"), &b"x"[..], condition).await;
    assert!(matches!(again, Err(Error::Condition)), "{again:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_overwrite_below_a_directory_that_becomes_a_file_is_there_or_was_deleted() {
    let cluster = Cluster::of(3).await;
    for round in 0..ROUNDS {
        let (dir, below) = (format!("w{round}"), format!("w{round}/f"));
        cluster.put(0, &below, b"first").await.unwrap();
        let (client, top) = (cluster.node(0), path(&dir));
        let remake = async {
            client.remove_all(&top, Mode::Default).await.map_err(drop)?;
            cluster.put(1, &dir, b"file").await.map_err(drop)
        };
        let (file, over) = tokio::join!(remake, cluster.put(2, &below, b"second"));
        if over.is_ok() && cluster.get(1, &below).await.is_err() {
            let log = cluster.node(1).log(&path(&below), Mode::Default).await.unwrap();
            assert_eq!(log[0].state, VersionState::Deleted, "round {round}");
        }
        if file.is_ok() {
            assert_eq!(cluster.get(2, &dir).await.unwrap(), b"file", "round {round}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_a_name_that_is_both_each_is_removed_by_itself() {
    let cluster = both().await;
    cluster.node(0).remove(&path("g"), Mode::Default).await.unwrap();
    assert!(matches!(cluster.get(1, "g").await, Err(Error::IsDirectory(_))));
    assert_eq!(cluster.get(1, "g/bar").await.unwrap(), b"below");
    let page = cluster.node(2).conflicts(&FilePath::root(), "", 10, Mode::Default).await.unwrap();
    assert!(page.conflicts.is_empty());
    let cluster = both().await;
    cluster.node(1).remove_all(&path("g"), Mode::Default).await.unwrap();
    assert_eq!(cluster.list(0, "", true).await, ["other"]);
}
