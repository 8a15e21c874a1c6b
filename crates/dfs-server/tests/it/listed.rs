//! Listings: what one node stored every other lists at once, whatever it remembers of before.

use dfs_core::id::Tag;
use dfs_core::record::digest::HeadsDigest;
use dfs_p2p::message::{Answer, Request, Response};

use super::*;

/// Names of a directory, as a node lists them.
async fn names(cluster: &Cluster, at: usize) -> Vec<String> {
    cluster.list(at, "d/", false).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_node_lists_what_another_acknowledged() {
    let mut cluster = Cluster::of(3).await;
    let mut expected = Vec::new();
    for round in 0..6 {
        // Writers and readers change; now and then one is away, or forgot what it knew.
        let (writer, reader) = (round % 3, (round + 1) % 3);
        for name in ["a", "b/x"] {
            cluster.put(writer, &format!("d/{name}{round}"), b"x").await.unwrap();
        }
        expected.extend([format!("d/a{round}"), "d/b/".to_owned()]);
        expected.sort();
        expected.dedup();
        assert_eq!(names(&cluster, reader).await, expected, "round {round}");
        let gone = FilePath::parse(&format!("d/a{round}")).unwrap();
        match round {
            1 => {
                cluster.node(reader).remove(&gone, Mode::Default).await.unwrap();
                expected.retain(|name| name != gone.as_str());
            }
            2 => {
                cluster.crash(writer);
                assert_eq!(names(&cluster, reader).await, expected, "one is away");
                cluster.put(reader, "d/meanwhile", b"x").await.unwrap();
                expected.push("d/meanwhile".to_owned());
                cluster.start(writer).await;
                cluster.settled(writer, 3).await;
                assert_eq!(names(&cluster, writer).await, expected, "it came back");
            }
            _ => {}
        }
        for at in 0..3 {
            assert_eq!(names(&cluster, at).await, expected, "round {round}, node {at}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_names_are_listed_in_pages_and_removed_by_whoever_is_left() {
    let mut cluster = Cluster::of(3).await;
    let mut putting = tokio::task::JoinSet::new();
    for lane in 0..8 {
        let client = cluster.node(0);
        putting.spawn(async move {
            for at in (lane..600).step_by(8) {
                let path = FilePath::parse(&format!("d/{at:03}")).unwrap();
                client.store(&path, &b"x"[..], Mode::Default).await.unwrap();
            }
        });
    }
    putting.join_all().await;
    let (mut after, mut all) = (String::new(), Vec::new());
    loop {
        let page =
            cluster.node(1).list("d/", Depth::Files, &after, 90, Mode::Default).await.unwrap();
        all.extend(page.entries.iter().map(|entry| entry.path.clone()));
        assert!(page.guarded);
        if !page.more {
            break;
        }
        assert_eq!(page.entries.len(), 90);
        after = page.entries[89].order();
    }
    assert_eq!(all, (0..600).map(|at| format!("d/{at:03}")).collect::<Vec<_>>());
    let client = cluster.node(1);
    let files = async {
        while client.health().await.unwrap().files != 600 {
            crate::a_moment().await;
        }
    };
    tokio::time::timeout(LIMIT, files).await.expect("not counted");
    // One dies while it is removed.
    let removing = tokio::spawn(async move {
        client.remove_all(&FilePath::parse("d").unwrap(), Mode::Default).await
    });
    while names(&cluster, 1).await.len() > 500 {
        crate::a_moment().await;
    }
    cluster.crash(2);
    assert_eq!(removing.await.unwrap().unwrap(), 601);
    assert_eq!(cluster.list(0, "", true).await, Vec::<String>::new());
}

/// Lists names that nobody wrote.
fn made_up(_: &Request, mut answer: Answer) -> Answer {
    let names = (0..3_000u128).map(|at| (at * (u128::MAX / 3_001)).to_be_bytes());
    let names = names.map(|tag| (Tag::new(tag), HeadsDigest::new([9; 8])));
    match &mut answer.result {
        Ok(Response::Changed { changed: Some(changed), .. }) => {
            changed.extend(names.take(1_500).map(|(tag, heads)| (tag, Some(heads))));
        }
        Ok(Response::Listed { digests, .. }) => *digests = names.collect(),
        _ => {}
    }
    answer
}

/// Lists nothing, and says that nothing changes.
fn hidden(_: &Request, mut answer: Answer) -> Answer {
    match &mut answer.result {
        Ok(Response::Changed { changed, .. }) => *changed = Some(Vec::new()),
        Ok(Response::Listed { digests, .. }) => digests.clear(),
        _ => {}
    }
    answer
}

/// Says that its list goes on for ever.
fn endless(_: &Request, mut answer: Answer) -> Answer {
    match &mut answer.result {
        Ok(Response::Changed { changed, .. }) => *changed = None,
        Ok(Response::Listed { next, .. }) => *next = Some([7; 16]),
        _ => {}
    }
    answer
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_only_stores_lists_nothing_into_being_and_nothing_away() {
    for lie in [made_up as liar::Lie, hidden, endless] {
        let mut cluster = Cluster::of(2).await;
        cluster.disks.push(MemoryFs::default());
        cluster.servers.push(None);
        let wrap =
            move |honest| -> Arc<dyn dfs_p2p::Handler> { Arc::new(liar::Answers { honest, lie }) };
        cluster.start_as(2, false, wrap).await;
        cluster.admit(0, 2).await;
        cluster.settled(0, 3).await;
        for at in 0..5 {
            cluster.put(0, &format!("d/{at}"), b"x").await.unwrap();
            assert_eq!(names(&cluster, 0).await.len(), at + 1);
            assert_eq!(names(&cluster, 1).await.len(), at + 1);
        }
        let dir = FilePath::parse("d").unwrap();
        assert_eq!(cluster.node(1).remove_all(&dir, Mode::Default).await.unwrap(), 6);
        assert_eq!(names(&cluster, 0).await, Vec::<String>::new());
    }
}
