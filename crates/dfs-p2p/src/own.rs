//! What this node says about itself: facts and addresses, signed anew whenever they change.

use std::net::SocketAddr;

use dfs_core::hlc::{Clock, Hlc};
use dfs_core::id::NodeId;
use dfs_core::node::member::{ADDRS_MAX, NodeInfo};
use dfs_env::Env;

use crate::config::{Config, OwnFacts};

/// The newest that this node said about itself, and what it is made of.
pub(crate) struct Own {
    facts: OwnFacts,
    addrs: Vec<SocketAddr>,
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
        Self { facts, addrs, clock, info }
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

    /// Puts a new address first. Returns what to publish, unless it was known.
    pub(crate) fn add_addr(
        &mut self,
        env: &Env,
        config: &Config,
        addr: SocketAddr,
    ) -> Option<NodeInfo> {
        if self.addrs.contains(&addr) {
            return None;
        }
        self.addrs.insert(0, addr);
        self.addrs.truncate(ADDRS_MAX);
        Some(self.sign_anew(env, config))
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
