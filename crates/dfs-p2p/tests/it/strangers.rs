//! Nodes that have the cluster key and are no members: what they can make of another node's book.

use std::time::Duration;

use dfs_core::id::ClusterId;
use dfs_core::node::member::NodeInfo;
use dfs_env::{Env, Listener, Stream};
use dfs_p2p::message::Gossip;

use super::*;

/// A node in a cluster, a member of that, and a stranger; both are connected to the first.
struct Met {
    inside: Node,
    member: Node,
    stranger: Node,
    member_key: SigningKey,
}

const PORTS: [u16; 3] = [4001, 4002, 4003];

impl Met {
    async fn new(world: &World) -> Self {
        let setup = |at: usize, list: &[u16]| {
            let env = Env::in_memory(u64::from(PORTS[at]), world.net.clone());
            let cluster = Some(ClusterId::new([9; 32]));
            (env.clone(), Setup { cluster, ..Setup::new(&env, PORTS[at], list) })
        };
        // The member takes the first one for a stranger, and so does not dial what it hears there.
        let (env, of_member) = setup(1, &[]);
        let member_key = SigningKey::from_bytes(&of_member.node_key);
        let member = start_with(env, of_member).await;
        let (env, of_inside) = setup(0, &PORTS[1..2]);
        let members = [member.network.node_id()].into();
        let mut inside = start_with(env, Setup { members, ..of_inside }).await;
        let (env, of_stranger) = setup(2, &PORTS[..1]);
        let stranger = start_with(env, of_stranger).await;
        inside.sees(2).await;
        Self { inside, member, stranger, member_key }
    }

    /// One of them tells the first of others.
    async fn tells(&self, teller: &Node, infos: Vec<NodeInfo>) {
        let gossip = Request::Gossip(Gossip { infos, ..Gossip::default() });
        let call = Call::new(Priority::Layout, Duration::from_secs(5), gossip);
        let told = teller.network.call(&self.inside.network.node_id(), call).await;
        told.unwrap().result.unwrap();
    }

    fn knows(&self, info: &NodeInfo) -> bool {
        self.inside.network.info(&info.node_id).is_some()
    }

    /// What a node that does not exist says about itself; it names the address of the trap.
    fn invented(&self, number: u8) -> NodeInfo {
        let key = SigningKey::from_bytes(&[number; 32]);
        let node_id = id(&[number; 32]);
        let addrs = vec![format!("127.0.0.1:{TRAP}")];
        NodeInfo { node_id, addrs, ..self.stranger.network.own_info() }.sign(&key)
    }
}

fn id(node_key: &[u8; 32]) -> NodeId {
    NodeId::new(SigningKey::from_bytes(node_key).verifying_key().to_bytes())
}

/// Accepts connections and never says a word.
struct Trap {
    listener: Box<dyn Listener>,
    caught: Vec<Stream>,
}

impl Trap {
    async fn new(world: &World) -> Self {
        let env = Env::in_memory(9, world.net.clone());
        let on = SocketAddr::from(([127, 0, 0, 1], TRAP));
        Self { listener: env.net().listen(on).await.unwrap(), caught: Vec::new() }
    }

    /// Waits for so many, and looks whether there are more.
    async fn catches(&mut self, count: usize) {
        while self.caught.len() < count {
            let accepted = tokio::time::timeout(LIMIT, self.listener.accept()).await;
            self.caught.push(accepted.expect("it was not dialled").unwrap().0);
        }
        let more = tokio::time::timeout(NO_MORE, self.listener.accept()).await;
        assert!(more.is_err(), "it was dialled more than {count} times at once");
    }
}

#[tokio::test]
async fn what_a_stranger_tells_of_strangers_is_neither_kept_nor_dialled() {
    let world = World::new();
    let mut trap = Trap::new(&world).await;
    let met = Met::new(&world).await;
    let infos: Vec<_> = (1..=100).map(|number| met.invented(number)).collect();
    met.tells(&met.stranger, infos.clone()).await;
    assert!(!infos.iter().any(|info| met.knows(info)));
    trap.catches(0).await;
    // But of itself it may tell, and of members.
    assert!(met.knows(&met.stranger.network.own_info()));
    let news = met.member.network.own_info();
    let news = NodeInfo { used: 77, seq: news.seq.next(), ..news }.sign(&met.member_key);
    met.tells(&met.stranger, vec![infos[0].clone(), news]).await;
    met.inside.hears(&met.member, |info| info.used == 77).await;
}

#[tokio::test]
async fn strangers_that_a_member_tells_of_are_dialled_four_at_a_time() {
    let world = World::new();
    let mut trap = Trap::new(&world).await;
    let met = Met::new(&world).await;
    let infos: Vec<_> = (1..=100).map(|number| met.invented(number)).collect();
    // It would soon dial them too, as its operator named the first one.
    met.stranger.network.abort();
    met.tells(&met.member, infos.clone()).await;
    assert!(infos.iter().all(|info| met.knows(info)));
    trap.catches(4).await;
}

#[tokio::test]
async fn a_message_is_heard_up_to_the_first_forged_info() {
    let world = World::new();
    let met = Met::new(&world).await;
    let [first, second, third] = [1, 2, 3].map(|number| met.invented(number));
    let forged = NodeInfo { used: 1 << 60, ..second.clone() };
    met.tells(&met.member, vec![first.clone(), forged, third.clone()]).await;
    assert!(met.knows(&first) && !met.knows(&second) && !met.knows(&third));
    met.tells(&met.member, vec![first, second.clone(), third.clone()]).await;
    assert!(met.knows(&second) && met.knows(&third));
}

/// Where invented nodes say that they are.
const TRAP: u16 = 4999;
/// A dial within one process takes much less.
const NO_MORE: Duration = Duration::from_millis(300);
