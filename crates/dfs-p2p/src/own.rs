//! What this node says about itself: facts and addresses, signed anew whenever they change.

use std::collections::VecDeque;
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
    seen_at: SeenAt,
}

/// At which address members say that they see this node: the newest of each.
#[derive(Debug, Default)]
struct SeenAt(VecDeque<(NodeId, SocketAddr)>);

impl SeenAt {
    /// Notes what one says. Returns whether another says the same.
    fn note(&mut self, by: NodeId, addr: SocketAddr) -> bool {
        self.0.retain(|(other, _)| *other != by);
        let agrees = self.0.iter().any(|(_, other)| *other == addr);
        self.0.push_back((by, addr));
        if self.0.len() > WITNESSES_MAX {
            self.0.pop_front();
        }
        agrees
    }
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
        Self { facts, addrs, clock, info, seen_at: SeenAt::default() }
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

    /// Notes where a member says that it sees this node. Returns whether another one says the same:
    /// one alone could have others dial whomever it likes.
    pub(crate) fn is_seen_at(&mut self, addr: SocketAddr, by: NodeId) -> bool {
        self.seen_at.note(by, addr)
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

/// Members of which it is remembered where they see this node: two that agree are enough.
const WITNESSES_MAX: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_needs_two_members_that_see_this_node_there() {
        let node = |of: u8| NodeId::new([of; NodeId::LEN]);
        let addr = |port| SocketAddr::from(([10, 0, 0, 1], port));
        let mut seen = SeenAt::default();
        for (by, port, agrees) in [
            (1, 1, false),
            // However often one says it.
            (1, 1, false),
            (2, 2, false),
            (1, 3, false),
            (2, 1, false),
            (3, 1, true),
            (4, 3, true),
        ] {
            assert_eq!(seen.note(node(by), addr(port)), agrees, "{by} {port}");
        }
        for by in 0..100 {
            seen.note(node(by), addr(by.into()));
        }
        assert_eq!(seen.0.len(), WITNESSES_MAX);
    }
}
