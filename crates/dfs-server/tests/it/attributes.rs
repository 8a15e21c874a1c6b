//! What is said of names beside their content, and symbolic links.

use dfs_core::name::FilePath;
use dfs_server::{Attributes, Depth, Error, ListedKind, Mode, Onto, Said};

use crate::{Cluster, content};

fn path(text: &str) -> FilePath {
    FilePath::parse(text).unwrap()
}

fn said(permissions: &str, mtime: &str) -> Attributes {
    Attributes {
        permissions: Some(permissions.parse().unwrap()),
        mtime: Some(mtime.parse().unwrap()),
        ..Attributes::default()
    }
}

fn shown(permissions: &str, mtime: &str) -> Said {
    let Attributes { permissions, mtime, .. } = said(permissions, mtime);
    Said { permissions, mtime, target: None }
}

const ONTO: Onto = Onto { replace: true, merge: false, mode: Mode::Default };

impl Cluster {
    async fn said(&self, at: usize, name: &str) -> Said {
        self.node(at).stat(&path(name), Mode::Default).await.unwrap().said
    }

    async fn set(&self, at: usize, name: &str, said: &Attributes) -> Result<(), Error> {
        self.node(at).set_attributes(&path(name), said, Mode::Default).await
    }

    async fn make(&self, at: usize, name: &str, said: &Attributes) -> Result<(), Error> {
        self.node(at).make_dir_as(&path(name), true, said, Mode::Default).await
    }

    async fn link(&self, at: usize, name: &str, says: &str, replace: bool) -> Result<(), Error> {
        let (client, said) = (self.node(at), Attributes::default());
        client.make_link(&path(name), says, said, replace, Mode::Default).await.map(|_| ())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_said_of_a_file_goes_where_its_content_goes() {
    let cluster = Cluster::of(3).await;
    for (name, size) in [("d/small", 10), ("d/large", 3 << 20)] {
        let (source, stored) = (content(size), said("0750", "-1.5"));
        let client = cluster.node(0);
        client.store_with(&path(name), &source[..], stored, None, Mode::Default).await.unwrap();
        let first = client.find(&path(name), None, Mode::Default).await.unwrap().version();
        assert_eq!(cluster.said(1, name).await, shown("0750", "-1.5"));
        // Something else is said, and the content stays.
        let mode = Attributes { mtime: None, ..said("0600", "0") };
        cluster.set(2, name, &mode).await.unwrap();
        assert_eq!(cluster.said(0, name).await, shown("0600", "-1.5"));
        assert_eq!(cluster.get(1, name).await.unwrap(), source);
        // New content says what its writer says of it.
        cluster.put(1, name, b"newer").await.unwrap();
        assert_eq!(cluster.said(0, name).await, Said::default());
        cluster.node(2).restore(&path(name), &first, Mode::Default).await.unwrap();
        assert_eq!(cluster.said(1, name).await, shown("0750", "-1.5"));
        let copy = path(&format!("copy/{name}"));
        cluster.node(0).copy(&path(name), None, &copy, ONTO).await.unwrap();
        assert_eq!(cluster.said(1, copy.as_str()).await, shown("0750", "-1.5"));
        assert_eq!(cluster.get(2, copy.as_str()).await.unwrap(), source);
    }
    assert!(matches!(cluster.set(0, "none", &said("0600", "0")).await, Err(Error::NotFound(_))));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_said_of_a_directory_stays_through_deletions_and_moves() {
    let cluster = Cluster::of(3).await;
    cluster.put(0, "a/b/f", b"x").await.unwrap();
    cluster.set(1, "a", &said("0700", "5")).await.unwrap();
    cluster.set(1, "a/b", &said("2775", "6.25")).await.unwrap();
    assert_eq!(cluster.said(2, "a/b").await, shown("2775", "6.25"));
    // Deleted, and made anew by who stores into it: it is the same directory.
    cluster.node(0).remove_all(&path("a/b"), Mode::Default).await.unwrap();
    cluster.put(2, "a/b/g", b"y").await.unwrap();
    assert_eq!(cluster.said(1, "a/b").await, shown("2775", "6.25"));
    cluster.node(1).rename(&path("a"), &path("c"), ONTO).await.unwrap();
    assert_eq!(cluster.said(0, "c").await, shown("0700", "5"));
    assert_eq!(cluster.said(0, "c/b").await, shown("2775", "6.25"));
    assert_eq!(cluster.get(0, "c/b/g").await.unwrap(), b"y");
    cluster.link(0, "c/l", "b", false).await.unwrap();
    cluster.node(1).copy_all(&path("c"), &path("d"), ONTO).await.unwrap();
    assert_eq!(cluster.said(2, "d/b").await, shown("2775", "6.25"));
    let page = cluster.node(2).list("d/", Depth::Tree, "", 2, Mode::Default).await.unwrap();
    let listed = page.entries.iter().map(|e| (e.path.as_str(), e.kind, e.said.mtime.is_some()));
    let expected = [("d/b", ListedKind::Dir, true), ("d/b/g", ListedKind::File, false)];
    assert_eq!((listed.collect::<Vec<_>>(), page.more), (expected.to_vec(), true));
    let page = cluster.node(2).list("d/", Depth::Tree, "d/b/g", 2, Mode::Default).await.unwrap();
    let [link] = &page.entries[..] else { panic!("{page:?}") };
    assert_eq!((link.kind, link.said.target.as_deref()), (ListedKind::Link, Some("b")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_link_is_a_name_like_others_and_nobody_follows_it() {
    let cluster = Cluster::of(3).await;
    cluster.put(0, "f", b"content").await.unwrap();
    cluster.link(1, "d/l", "../f", false).await.unwrap();
    let stat = cluster.node(2).stat(&path("d/l"), Mode::Default).await.unwrap();
    assert_eq!((stat.kind, stat.bytes), (ListedKind::Link, 4));
    assert_eq!(stat.said.target.as_deref(), Some("../f"));
    let read = cluster.get(0, "d/l").await;
    assert!(matches!(read, Err(Error::IsLink(_))), "{read:?}");
    let below = cluster.put(0, "d/l/x", b"x").await;
    assert!(matches!(below, Err(Error::NotDirectory(_))), "{below:?}");
    // Nothing is replaced unless that is meant, and a directory never.
    for name in ["d/l", "f", "d"] {
        let kept = cluster.link(2, name, "x", false).await;
        assert!(matches!(kept, Err(Error::Exists(_))), "{kept:?}");
    }
    assert!(matches!(cluster.link(0, "d", "x", true).await, Err(Error::IsDirectory(_))));
    assert!(matches!(cluster.link(0, "e", "", true).await, Err(Error::BadLink)));
    cluster.link(0, "f", "elsewhere", true).await.unwrap();
    let log = cluster.node(1).log(&path("f"), Mode::Default).await.unwrap();
    let kinds: Vec<_> = log.iter().map(|line| line.kind).collect();
    assert_eq!(kinds, [Some(ListedKind::Link), Some(ListedKind::File)]);
    cluster.node(1).restore(&path("f"), &log[1].version, Mode::Default).await.unwrap();
    assert_eq!(cluster.get(2, "f").await.unwrap(), b"content");
    cluster.node(0).rename(&path("d/l"), &path("l"), ONTO).await.unwrap();
    assert_eq!(cluster.said(1, "l").await.target.as_deref(), Some("../f"));
    cluster.node(2).remove_all(&path("l"), Mode::Default).await.unwrap();
    assert!(matches!(cluster.get(0, "l").await, Err(Error::NotFound(_))));
}

/// Links have no blobs to go to when a record is full of them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_long_links_the_newest_are_kept() {
    let cluster = Cluster::of(1).await;
    for number in 0..9 {
        let says = format!("{number}{}", "x".repeat(4000));
        cluster.link(0, "l", &says, true).await.unwrap();
    }
    let log = cluster.node(0).log(&path("l"), Mode::Default).await.unwrap();
    assert_eq!(log.len(), 4);
    // Content that leaves no room does not cost the link that it replaces.
    cluster.put(0, "l", &content(16 << 10)).await.unwrap();
    let log = cluster.node(0).log(&path("l"), Mode::Default).await.unwrap();
    assert_eq!((log.len(), log[1].kind), (2, Some(ListedKind::Link)));
    cluster.node(0).restore(&path("l"), &log[1].version, Mode::Default).await.unwrap();
    assert!(cluster.said(0, "l").await.target.unwrap().starts_with('8'));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_directory_is_made_with_what_is_said_of_it() {
    let cluster = Cluster::of(3).await;
    cluster.put(0, "f", b"x").await.unwrap();
    cluster.make(0, "d", &said("0700", "1")).await.unwrap();
    assert_eq!(cluster.said(1, "d").await, shown("0700", "1"));
    cluster.make(1, "d", &said("0750", "2")).await.unwrap();
    assert_eq!(cluster.said(2, "d").await, shown("0750", "2"));
    assert!(cluster.make(2, "f", &said("0750", "2")).await.is_err());
    assert_eq!(cluster.said(0, "f").await, Said::default());
}
