//! Two of five nodes by themselves: what they have a majority of, they serve.

use dfs_core::name::FilePath;
use dfs_server::{Error, Mode};

use crate::{Cluster, LIMIT};

const DIRS: usize = 40;

fn path(text: &str) -> FilePath {
    FilePath::parse(text).unwrap()
}

impl Cluster {
    /// Leaves only these running, and waits until they know it.
    async fn only(&mut self, left: &[usize]) {
        for at in 0..self.servers.len() {
            if !left.contains(&at) && self.servers[at].is_some() {
                self.crash(at);
            }
        }
        for at in left {
            if self.servers[*at].is_none() {
                self.start(*at).await;
            }
        }
        for at in left {
            self.connected(*at, left.len()).await;
        }
    }

    /// Waits until a node says no more that it has yet to join.
    async fn ready(&self, at: usize) {
        let joined = async {
            while matches!(self.get(at, "none").await, Err(Error::NotJoined)) {
                crate::a_moment().await;
            }
        };
        tokio::time::timeout(LIMIT, joined).await.expect("it has not joined in time");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_directory_is_written_where_its_contents_are_though_its_name_is_out_of_reach() {
    let mut cluster = Cluster::of(5).await;
    for dir in 0..DIRS {
        cluster.put(dir % 5, &format!("d{dir}/sub/old"), b"old").await.unwrap();
    }
    for at in 0..5 {
        cluster.settled(at, 5).await;
    }
    // Two that have no majority of what lies in the root.
    let pairs = (1..5).flat_map(|one| (one + 1..5).map(move |other| [one, other]));
    let mut apart = None;
    for pair in pairs {
        // Nobody starts without the first one, which the others were told of.
        cluster.only(&[0, 1, 2, 3, 4]).await;
        cluster.only(&pair).await;
        cluster.ready(pair[0]).await;
        if matches!(cluster.put(pair[0], "root", b"x").await, Err(Error::Unavailable(_))) {
            apart = Some(pair);
            break;
        }
    }
    let pair = apart.expect("some pair holds less than two of three copies");
    let mut stored = Vec::new();
    for dir in 0..DIRS {
        let name = format!("d{dir}/sub/new");
        match cluster.put(pair[0], &name, b"new").await {
            Ok(_) => stored.push(name),
            Err(Error::Unavailable(_)) => {}
            Err(error) => panic!("{name}: {error}"),
        }
    }
    assert!(!stored.is_empty() && stored.len() < DIRS, "{} of {DIRS}", stored.len());
    for name in &stored {
        assert_eq!(cluster.get(pair[1], name).await.unwrap(), b"new");
        let below = name.trim_end_matches("new");
        assert!(cluster.list(pair[1], below, false).await.contains(name));
    }
    let none = cluster.get(pair[0], "none/sub/new").await;
    assert!(matches!(none, Err(Error::Unavailable(_))), "nobody knows that: {none:?}");
    // The others delete what they see of all that meanwhile.
    let others: Vec<_> = (0..5).filter(|at| !pair.contains(at)).collect();
    cluster.only(&others).await;
    cluster.ready(others[0]).await;
    let mut deleted = 0;
    for dir in 0..DIRS {
        let top = path(&format!("d{dir}"));
        let gone = cluster.node(others[0]).remove_all(&top, Mode::Available).await;
        deleted += usize::from(gone.is_ok());
    }
    assert_eq!(deleted, DIRS);
    cluster.only(&[0, 1, 2, 3, 4]).await;
    for at in 0..5 {
        cluster.settled(at, 5).await;
    }
    let listed = cluster.list(2, "", true).await;
    for name in &stored {
        assert_eq!(cluster.get(0, name).await.unwrap(), b"new");
        assert!(listed.contains(name));
    }
}
