//! Taking in what is told about nodes: whose word counts, and how many signatures are checked.

use dfs_core::hlc::Hlc;
use dfs_core::id::NodeId;
use dfs_core::node::directory::Learned;
use dfs_core::node::member::{Genuine, NodeInfo};
use dfs_env::{Bug, bug};
use tracing::debug;

use crate::registry::Moment;
use crate::shared::Shared;

impl Shared {
    /// Takes in infos that a peer told, or this node itself; those that are news are passed on to
    /// the layer above. Signatures are checked without a lock, a bounded number a second. The first
    /// forged info ends the message: nobody who checks what it passes on sends one.
    pub(crate) fn learn(&self, infos: Vec<NodeInfo>, from: &NodeId) {
        let mut own_is_old = None;
        for info in infos {
            if !self.is_news(&info, from) {
                continue;
            }
            let node = info.node_id;
            if !self.may_check(from) {
                debug!(?from, "a peer tells more than is checked in a second");
                break;
            }
            match info.genuine() {
                Ok(info) => own_is_old = self.take_in(info, from).or(own_is_old),
                Err(error) => {
                    debug!(?from, ?node, %error, "an info is forged");
                    break;
                }
            }
        }
        if let Some(seq) = own_is_old {
            let info = self.own().go_on_after(&self.env, &self.config, seq);
            self.publish(info);
        }
    }

    /// Takes in what this node knew when it stopped, of others.
    pub(crate) fn learn_book(&self, known: Vec<NodeInfo>) {
        let me = self.identity.node;
        for info in known.into_iter().filter(|info| info.node_id != me) {
            match info.genuine() {
                Ok(info) => {
                    self.at_this_moment(|moment| self.registry().learn(info, &me, moment));
                }
                Err(error) => debug!(%error, "the peer book holds an info that is forged"),
            }
        }
    }

    /// Takes in an info that its node is known to have signed. Returns the number of what an
    /// earlier start of this node said, if this one must go on from there.
    pub(crate) fn take_in(&self, info: Genuine, from: &NodeId) -> Option<Hlc> {
        let is_mine = info.node_id == self.identity.node;
        let own_is_old = if is_mine { self.hear_of_myself(&info) } else { None };
        let learned = self.at_this_moment(|moment| {
            let mut registry = self.registry();
            let learned = registry.learn(info.clone(), from, moment);
            if is_learned(learned) {
                registry.book_is_old = true;
                registry.hurry.insert(info.node_id);
            }
            learned
        });
        if is_learned(learned) {
            self.dial_wake.notify_one();
            self.handler.info_changed(&info);
        }
        own_is_old
    }

    /// Whether an info is worth checking its signature.
    fn is_news(&self, info: &NodeInfo, from: &NodeId) -> bool {
        let is_mine = info.node_id == self.identity.node;
        if is_mine && info.incarnation != self.config.incarnation {
            return true; // Of another start of this node; whatever its number, it may end this one.
        }
        match self.at_this_moment(|moment| self.registry().refuses(info, from, moment)) {
            Some(Learned::Known) => false,
            Some(why) => {
                debug!(?from, node = ?info.node_id, ?why, "an info is not taken in");
                false
            }
            None => true,
        }
    }

    fn may_check(&self, from: &NodeId) -> bool {
        let is_free = *from == self.identity.node || bug(Bug::SignaturesUnbounded);
        is_free || self.registry().may_check(from, self.env.mono())
    }

    /// Forgets strangers that were not heard of lately.
    pub(crate) fn forget_strangers(&self) {
        self.at_this_moment(|moment| self.registry().forget_strangers(moment));
    }

    fn at_this_moment<T>(&self, run: impl FnOnce(&Moment<'_>) -> T) -> T {
        let is_member = |node: &NodeId| self.is_kept(node);
        let (now, wall_ms) = (self.env.mono(), self.env.wall_ms());
        run(&Moment { now, wall_ms, is_member: &is_member })
    }

    /// Whether the node is a member or this one.
    pub(crate) fn is_kept(&self, node: &NodeId) -> bool {
        *node == self.identity.node || self.handler.is_member(node)
    }
}

fn is_learned(learned: Learned) -> bool {
    matches!(learned, Learned::NewNode | Learned::Newer)
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use dfs_env::{Env, MemoryNet};
    use ed25519_dalek::SigningKey;

    use super::*;
    use crate::Network;
    use crate::registry::Open;
    use crate::tests::quiet::{self, Quiet};

    async fn network() -> Network {
        let env = Env::in_memory(1, MemoryNet::default());
        let on = SocketAddr::from(([127, 0, 0, 1], 4000));
        let network = quiet::start(env, on, [7; 32], Quiet { members: None }).await;
        network.0.registry().open.insert(peer(), Open::default());
        network
    }

    fn peer() -> NodeId {
        NodeId::new(peer_key().verifying_key().to_bytes())
    }

    fn peer_key() -> SigningKey {
        SigningKey::from_bytes(&[8; 32])
    }

    /// What the peer says about itself for the `number`th time.
    fn said(network: &Network, number: u64) -> NodeInfo {
        let own = network.own_info();
        let seq = Hlc(own.seq.0 + number);
        NodeInfo { node_id: peer(), seq, used: number, ..own }.sign(&peer_key())
    }

    #[tokio::test]
    async fn a_peer_that_has_used_up_its_checks_is_not_heard() {
        let network = network().await;
        // An hour ahead, so that none comes back while this runs.
        let later = network.0.env.mono() + std::time::Duration::from_secs(3600);
        while network.0.registry().may_check(&peer(), later) {}
        network.0.learn(vec![said(&network, 1)], &peer());
        assert!(network.info(&peer()).is_none());
        network.0.registry().open.insert(peer(), Open::default());
        network.0.learn(vec![said(&network, 1)], &peer());
        assert!(network.info(&peer()).is_some());
        network.shutdown().await;
    }

    #[tokio::test]
    async fn what_is_known_is_not_checked_and_a_forged_info_ends_the_message() {
        let network = network().await;
        let used = || network.info(&peer()).map(|info| info.used);
        let forged = |number| NodeInfo { used: 99, ..said(&network, number) };
        network.0.learn(vec![said(&network, 1)], &peer());
        network.0.learn(vec![forged(1), said(&network, 2)], &peer());
        assert_eq!(used(), Some(2));
        network.0.learn(vec![forged(3), said(&network, 4)], &peer());
        assert_eq!(used(), Some(2));
        network.shutdown().await;
    }

    #[tokio::test]
    async fn nothing_is_checked_for_who_is_not_connected() {
        let network = network().await;
        network.0.registry().open.clear();
        network.0.learn(vec![said(&network, 1)], &peer());
        assert!(network.info(&peer()).is_none());
        network.shutdown().await;
    }
}
