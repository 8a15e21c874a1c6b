//! What nobody needs any more: blobs, references and tombstones go, and nothing else does.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use dfs_core::name::FilePath;
use dfs_server::{Error, Grace, Mode};

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
};
const HOUR: Duration = Duration::from_secs(60 * 60);

/// Nodes with short times, and their clock.
async fn cluster(count: usize) -> (Cluster, Arc<Ahead>) {
    let clock = Arc::new(Ahead::new());
    (Cluster::with_grace(count, Some(clock.clone()), GRACE).await, clock)
}

impl Cluster {
    fn blob_files(&self, at: usize) -> usize {
        self.disks[at].files_below(Path::new("/data/blobs")).len()
    }

    /// Waits until every one of these nodes has so many blobs.
    async fn until_blobs(&self, nodes: &[usize], count: usize) {
        let waited = async {
            while nodes.iter().any(|at| self.blob_files(*at) != count) {
                tokio::time::sleep(LOOK_EVERY).await;
            }
        };
        let waited = tokio::time::timeout(LIMIT, waited).await;
        let left: Vec<_> = nodes.iter().map(|at| self.blob_files(*at)).collect();
        assert!(waited.is_ok(), "{left:?} blobs, not {count}");
    }

    async fn remove(&self, at: usize, name: &str) {
        self.node(at).remove(&path(name), Mode::Default).await.unwrap();
    }
}

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
    let of_kept = cluster.blob_files(0);
    cluster.put(1, "doomed", &doomed).await.unwrap();
    cluster.until_blobs(&all, of_kept + 3).await;
    cluster.remove(2, "doomed").await;
    clock.advance(2 * HOUR);
    cluster.until_blobs(&all, of_kept).await;
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
