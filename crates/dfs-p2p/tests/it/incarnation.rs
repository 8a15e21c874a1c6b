//! Several starts of one node, from one data directory and from copies of it.

use dfs_env::Env;
use dfs_p2p::Direction;

use super::{LIMIT, Node, Setup, World, start_with};

impl World {
    /// Starts a node as boot `boot` of one id; `bits` are the random ones.
    async fn boot(&self, port: u16, bootstrap: &[u16], boot: u64, bits: u64) -> Node {
        let env = Env::in_memory(boot << 8 | bits, self.net.clone());
        let setup = Setup::new(&env, port, bootstrap);
        let incarnation = boot << 32 | bits;
        start_with(env, Setup { node_key: [7; 32], incarnation, ..setup }).await
    }

    /// As boot 1, 2, ... with this epoch on its disk.
    async fn boot_with_epoch(&self, boot: u64, durable_epoch: u64) -> Node {
        let env = Env::in_memory(boot, self.net.clone());
        let setup = Setup::new(&env, 4002, &[4001]);
        let incarnation = boot << 32;
        start_with(env, Setup { node_key: [7; 32], incarnation, durable_epoch, ..setup }).await
    }
}

impl Node {
    async fn is_retired(&mut self) -> String {
        let wait = self.retired.wait_for(Option::is_some);
        let why = tokio::time::timeout(LIMIT, wait).await.expect("not retired in time").unwrap();
        why.clone().unwrap()
    }
}

#[tokio::test]
async fn a_restart_is_let_in_and_an_older_state_is_not() {
    let world = World::new();
    let mut peer = world.start(1, 4001, &[], 1).await;
    for (boot, bits) in [(3, 1), (4, 1)] {
        let node = world.boot(4002, &[4001], boot, bits).await;
        peer.sees(1).await;
        node.network.shutdown().await;
        peer.sees(0).await;
    }
    for (boot, bits) in [(3, 1), (3, 2), (4, 2)] {
        let mut older = world.boot(4002, &[4001], boot, bits).await;
        let why = older.is_retired().await;
        assert!(why.contains("a later state of this node is known"), "{why}");
        assert!(peer.connected.borrow().is_empty());
        let told = peer.network.kept_apart();
        assert!(told.iter().any(|apart| apart.direction == Direction::Accepted));
        older.network.shutdown().await;
    }
    let again = world.boot(4002, &[4001], 5, 1).await;
    peer.sees(1).await;
    assert!(again.retired.borrow().is_none());
}

#[tokio::test]
async fn a_copy_started_beside_the_original_is_turned_away_and_the_original_stays() {
    let world = World::new();
    let mut peer = world.start(1, 4001, &[], 1).await;
    let mut original = world.boot(4002, &[4001], 3, 1).await;
    peer.sees(1).await;
    original.sees(1).await;
    let mut copy = world.boot(4003, &[4001], 4, 2).await;
    copy.is_retired().await;
    assert_eq!(original.echo(&peer, 100).await, Ok(100));
    assert!(original.retired.borrow().is_none());
}

#[tokio::test]
async fn a_node_that_hears_of_a_later_start_of_itself_retires() {
    let world = World::new();
    // The original knows the peer only; the copy, started later, reached another one.
    let mut original = world.boot(4002, &[], 3, 1).await;
    let mut other = world.start(2, 4004, &[], 1).await;
    let copy = world.boot(4003, &[4004], 4, 2).await;
    // Also when both were started in one millisecond, this is the newest of what they say.
    copy.network.update(|facts| facts.used = 7);
    other.hears(&copy, |info| info.used == 7).await;
    copy.network.shutdown().await;
    other.sees(0).await;
    let peer = world.start(1, 4001, &[4002, 4004], 1).await;
    original.is_retired().await;
    drop(peer);
}

#[tokio::test]
async fn a_restart_that_lacks_an_epoch_it_had_is_turned_away() {
    let world = World::new();
    let mut peer = world.start(1, 4001, &[], 1).await;
    for (boot, epoch) in [(1, 5), (2, 5), (3, 6)] {
        let node = world.boot_with_epoch(boot, epoch).await;
        peer.sees(1).await;
        node.network.shutdown().await;
        peer.sees(0).await;
    }
    world.boot_with_epoch(4, 5).await.is_retired().await;
}
