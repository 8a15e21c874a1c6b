//! What this node says about itself: facts and addresses, signed anew whenever they change.

use std::net::SocketAddr;

use dfs_core::hlc::{Clock, Hlc};
use dfs_core::id::NodeId;
use dfs_core::node::member::NodeInfo;
use dfs_core::node::sightings::Sightings;
use dfs_env::Env;

use crate::config::{Config, OwnFacts};

/// The newest that this node said about itself, and what it is made of.
pub(crate) struct Own {
    facts: OwnFacts,
    addrs: Vec<SocketAddr>,
    sightings: Sightings,
    clock: Clock,
    info: NodeInfo,
}

impl Own {
    /// `clock` is above every stamp that an earlier start of this node gave out.
    pub(crate) fn new(
        env: &Env,
        config: &Config,
        facts: OwnFacts,
        addrs: Vec<SocketAddr>,
        mut clock: Clock,
    ) -> Self {
        let info = sign(env, config, &mut clock, &facts, &addrs);
        Self { facts, addrs, sightings: Sightings::default(), clock, info }
    }

    pub(crate) fn info(&self) -> &NodeInfo {
        &self.info
    }

    /// Changes the facts. Returns what to publish, if anything is different now.
    pub(crate) fn change_facts(
        &mut self,
        env: &Env,
        config: &Config,
        change: impl FnOnce(&mut OwnFacts),
    ) -> Option<NodeInfo> {
        let before = self.facts.clone();
        change(&mut self.facts);
        (self.facts != before).then(|| self.sign_anew(env, config))
    }

    /// Signs the same under a new number. Returns what to publish.
    pub(crate) fn say_again(&mut self, env: &Env, config: &Config) -> NodeInfo {
        self.sign_anew(env, config)
    }

    /// Notes where a peer sees this node; `counts` tells whose word counts. Returns what to
    /// publish, if this node has other addresses now.
    pub(crate) fn seen_at(
        &mut self,
        env: &Env,
        config: &Config,
        (addr, by): (SocketAddr, NodeId),
        counts: impl Fn(&NodeId) -> bool,
    ) -> Option<NodeInfo> {
        self.sightings.note(addr, by, counts);
        let before = std::mem::replace(&mut self.addrs, self.sightings.addrs());
        (self.addrs != before).then(|| self.sign_anew(env, config))
    }

    /// Signs with a stamp above `seq`. Returns what to publish.
    pub(crate) fn go_on_after(&mut self, env: &Env, config: &Config, seq: Hlc) -> NodeInfo {
        self.clock = Clock::starting_after(seq);
        self.sign_anew(env, config)
    }

    fn sign_anew(&mut self, env: &Env, config: &Config) -> NodeInfo {
        self.info = sign(env, config, &mut self.clock, &self.facts, &self.addrs);
        self.info.clone()
    }
}

fn sign(
    env: &Env,
    config: &Config,
    clock: &mut Clock,
    facts: &OwnFacts,
    addrs: &[SocketAddr],
) -> NodeInfo {
    let info = NodeInfo {
        node_id: NodeId::new(config.node_key.verifying_key().to_bytes()),
        incarnation: config.incarnation,
        seq: clock.tick(env.wall_ms()),
        addrs: addrs.iter().map(ToString::to_string).collect(),
        zone: config.zone.clone(),
        capacity: facts.capacity,
        used: facts.used,
        build: config.build.clone(),
        durable_epoch: facts.durable_epoch,
        repair_queue: facts.repair_queue,
        lost: facts.lost,
        synced: facts.synced.clone(),
        bodies: facts.bodies.clone(),
        emptied: facts.emptied.clone(),
        reach: facts.reach.clone(),
        clean: facts.clean,
        signature: [0; 64],
    };
    info.sign(&config.node_key)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::quiet::{self, Quiet};

    /// The addresses that a node on every interface says it has, after peers that listen where
    /// they like named these.
    async fn told(members: Option<Vec<NodeId>>, named: &[(u8, u8)]) -> Vec<String> {
        let on = SocketAddr::from(([0, 0, 0, 0], 0));
        let network = quiet::start(Env::real(), on, [7; 32], Quiet { members }).await;
        for (by, last) in named {
            network.0.observed(peer(*by), SocketAddr::from(([192, 0, 2, *last], 4000)), true);
        }
        let addrs = network.own_info().addrs;
        network.shutdown().await;
        addrs
    }

    fn peer(number: u8) -> NodeId {
        NodeId::new([number; 32])
    }

    #[tokio::test]
    async fn one_peer_cannot_push_out_the_addresses_that_others_named() {
        let members = Some(vec![peer(1), peer(2), peer(3)]);
        let lies: Vec<_> = (100..150).map(|last| (3, last)).collect();
        let true_ones = [(1, 10), (2, 10)];
        let addrs = told(members.clone(), &[&true_ones[..], &lies].concat()).await;
        assert_eq!(addrs, ["192.0.2.10:4000"]);
        // Two strangers are nobody, in a cluster.
        let strangers: Vec<_> = (4..8).map(|by| (by, 66)).collect();
        let addrs = told(members, &[&true_ones[..], &strangers].concat()).await;
        assert_eq!(addrs, ["192.0.2.10:4000"]);
    }

    #[tokio::test]
    async fn a_single_peer_is_enough_for_a_node_without_an_address() {
        assert_eq!(told(Some(vec![peer(1)]), &[(2, 66), (1, 10)]).await, ["192.0.2.10:4000"]);
        assert_eq!(told(None, &[(1, 10)]).await, ["192.0.2.10:4000"]);
    }
}
