//! Nodes that do not belong together: both ends say why.

use dfs_core::id::ClusterId;
use dfs_env::Env;
use dfs_p2p::{ApartReason, Direction, KeptApart};

use super::{LIMIT, Node, Setup, World, start_with};

/// Waits until a node keeps someone apart.
async fn apart(node: &Node, direction: Direction) -> KeptApart {
    let waited = async {
        loop {
            let found = node.network.kept_apart().into_iter().find(|a| a.direction == direction);
            if let Some(found) = found {
                return found;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(LIMIT, waited).await.expect("nobody is kept apart")
}

async fn pair(world: &World, keys: [u8; 2], clusters: [Option<u8>; 2]) -> [Node; 2] {
    let cluster = |at: usize| clusters[at].map(|byte| ClusterId::new([byte; 32]));
    let start = |at: usize, port, list: &[u16]| {
        let env = Env::in_memory(port, world.net.clone());
        let setup = Setup::new(&env, u16::try_from(port).unwrap(), list);
        start_with(env, Setup { cluster_key: keys[at], cluster: cluster(at), ..setup })
    };
    [start(0, 4001, &[]).await, start(1, 4002, &[4001]).await]
}

#[tokio::test]
async fn a_wrong_cluster_key_is_told_at_both_ends() {
    let world = World::new();
    let [inside, outside] = pair(&world, [1, 2], [Some(9), None]).await;
    let refused = apart(&outside, Direction::Dialled).await;
    assert_eq!(refused.addr, ([127, 0, 0, 1], 4001).into());
    assert_eq!(refused.reason, ApartReason::KeyHere);
    assert_eq!(apart(&inside, Direction::Accepted).await.reason, ApartReason::KeyThere);
}

#[tokio::test]
async fn another_cluster_with_the_same_key_is_told_at_both_ends() {
    let world = World::new();
    let [inside, outside] = pair(&world, [1, 1], [Some(9), Some(8)]).await;
    for (node, direction) in [(&outside, Direction::Dialled), (&inside, Direction::Accepted)] {
        assert_eq!(apart(node, direction).await.reason, ApartReason::OtherCluster);
    }
}

#[tokio::test]
async fn who_is_let_in_after_all_is_not_kept_apart_any_more() {
    let world = World::new();
    let [inside, outside] = pair(&world, [1, 2], [None, None]).await;
    apart(&outside, Direction::Dialled).await;
    inside.network.shutdown().await;
    let mut inside = world.start(3, 4001, &[], 2).await;
    inside.sees(1).await;
    assert!(outside.network.kept_apart().is_empty());
}
