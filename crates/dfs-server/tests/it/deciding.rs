//! What a majority decides: the layout of larger clusters, and conditional writes.

use dfs_core::id::{Vid, from_hex};
use dfs_server::Condition;
use futures_util::future::join_all;

use super::*;

async fn put_if(
    cluster: &Cluster,
    at: usize,
    path: &str,
    content: &[u8],
    condition: Condition,
) -> Result<Vid, Error> {
    let path = FilePath::parse(path).unwrap();
    let stored = cluster.node(at).store_if(&path, content, condition).await?;
    Ok(Vid::new(from_hex(&stored.version).unwrap()))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_writers_that_want_a_name_absent_exactly_one_wins() {
    let cluster = Cluster::of(3).await;
    for round in 0..8 {
        let name = format!("race/{round}");
        let race = (0..6).map(|number| {
            let (cluster, name) = (&cluster, &name);
            async move {
                let content = [number; 3];
                put_if(cluster, usize::from(number) % 3, name, &content, Condition::Absent).await
            }
        });
        let results = join_all(race).await;
        let winners: Vec<_> = results.iter().filter(|result| result.is_ok()).collect();
        assert_eq!(winners.len(), 1, "{results:?}");
        let lost = |result: &Result<Vid, Error>| matches!(result, Ok(_) | Err(Error::Condition));
        assert!(results.iter().all(lost), "{results:?}");
        let winner = results.iter().position(Result::is_ok).unwrap();
        for at in 0..3 {
            let winner = u8::try_from(winner).unwrap();
            assert_eq!(cluster.get(at, &name).await.unwrap(), [winner; 3]);
        }
    }
    assert_eq!(cluster.node(0).health().await.unwrap().conflicts, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_version_is_replaced_only_while_it_is_the_current_one() {
    let cluster = Cluster::of(3).await;
    let first = put_if(&cluster, 0, "f", b"1", Condition::Absent).await.unwrap();
    let second = put_if(&cluster, 1, "f", b"2", Condition::Version(first)).await.unwrap();
    let late = put_if(&cluster, 2, "f", b"3", Condition::Version(first)).await;
    assert!(matches!(late, Err(Error::Condition)), "{late:?}");
    assert_eq!(cluster.get(2, "f").await.unwrap(), b"2");
    // A plain put needs no condition, and changes what is current.
    cluster.put(0, "f", b"4").await.unwrap();
    let late = put_if(&cluster, 1, "f", b"5", Condition::Version(second)).await;
    assert!(matches!(late, Err(Error::Condition)), "{late:?}");
    let path = FilePath::parse("f").unwrap();
    cluster.node(2).remove(&path, Mode::Default).await.unwrap();
    put_if(&cluster, 1, "f", b"6", Condition::Absent).await.unwrap();
    assert_eq!(cluster.get(0, "f").await.unwrap(), b"6");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_majority_no_condition_is_decided() {
    let mut cluster = Cluster::of(3).await;
    cluster.crash(1);
    cluster.crash(2);
    let alone = put_if(&cluster, 0, "f", b"1", Condition::Absent).await;
    assert!(matches!(alone, Err(Error::Unavailable(_))), "{alone:?}");
    cluster.start(1).await;
    cluster.connected(0, 2).await;
    put_if(&cluster, 0, "f", b"2", Condition::Absent).await.unwrap();
    assert_eq!(cluster.get(1, "f").await.unwrap(), b"2");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_nodes_share_the_partitions_and_any_one_may_go() {
    let mut cluster = Cluster::of(5).await;
    let names: Vec<String> = (0..20).map(|number| format!("d{}/f{number}", number % 4)).collect();
    for (at, name) in names.iter().enumerate() {
        assert!(cluster.put(at % 5, name, &content(100_000 + at)).await.unwrap() >= 2);
    }
    cluster.settled(0, 5).await;
    for gone in 0..5 {
        cluster.crash(gone);
        let other = (gone + 1) % 5;
        for (at, name) in names.iter().enumerate() {
            assert_eq!(cluster.get(other, name).await.unwrap(), content(100_000 + at));
        }
        assert!(cluster.put(other, &format!("without/{gone}"), b"x").await.unwrap() >= 2);
        cluster.start(gone).await;
        cluster.settled(gone, 5).await;
    }
    assert_eq!(cluster.list(0, "without/", true).await.len(), 5);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_its_founder_a_cluster_still_admits_nodes() {
    let mut cluster = Cluster::of(3).await;
    cluster.put(0, "f", b"f").await.unwrap();
    cluster.settled(1, 3).await;
    cluster.crash(0);
    cluster.disks.push(MemoryFs::default());
    cluster.servers.push(None);
    cluster.start(3).await;
    cluster.connected(3, 3).await;
    assert_eq!(cluster.get(3, "f").await.unwrap(), b"f");
    cluster.start(0).await;
    cluster.settled(0, 4).await;
    assert_eq!(cluster.get(0, "f").await.unwrap(), b"f");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_cut_off_from_every_replica_accepts_writes_and_hands_them_over() {
    let mut cluster = Cluster::of(5).await;
    cluster.put(0, "d/known", b"known").await.unwrap();
    cluster.settled(4, 5).await;
    for at in 0..4 {
        cluster.crash(at);
    }
    let client = cluster.node(4);
    for number in 0..20u8 {
        let path = FilePath::parse(&format!("d/offline-{number}")).unwrap();
        let content = content(20_000 + usize::from(number));
        let stored = client.store(&path, &content[..], Mode::Available).await.unwrap();
        assert_eq!((stored.copies, stored.quorum), (1, false));
        let file = client.find(&path, None, Mode::Available).await.unwrap();
        let read = client.read(&file, 0..u64::MAX).await.unwrap();
        let parts: Vec<Bytes> = read.content.try_collect().await.unwrap();
        assert_eq!(parts.concat(), content);
    }
    let listed = client.list("d/", Depth::Files, "", 100, Mode::Available).await.unwrap();
    assert!(listed.entries.len() >= 20);
    for at in 0..4 {
        cluster.start(at).await;
    }
    for at in (0..5).rev() {
        cluster.settled(at, 5).await;
        assert_eq!(cluster.list(at, "d/", true).await.len(), 21);
        for number in 0..20u8 {
            let name = format!("d/offline-{number}");
            assert_eq!(
                cluster.get(at, &name).await.unwrap(),
                content(20_000 + usize::from(number))
            );
        }
    }
}
