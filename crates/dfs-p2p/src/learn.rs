//! Taking in what is told about nodes: whose word counts, and how many signatures are checked.

use dfs_core::hlc::Hlc;
use dfs_core::id::NodeId;
use dfs_core::node::directory::Learned;
use dfs_core::node::member::{Genuine, NodeInfo};
use tracing::debug;

use crate::registry::Moment;
use crate::shared::Shared;

impl Shared {
    /// Takes in infos that a peer told, or this node itself; those that are news are passed on to
    /// the layer above. Signatures are checked without a lock. The first forged info ends the
    /// message: nobody who checks what it passes on sends one.
    pub(crate) fn learn(&self, infos: Vec<NodeInfo>, from: &NodeId) {
        let mut own_is_old = None;
        for info in infos {
            if !self.is_news(&info, from) {
                continue;
            }
            let node = info.node_id;
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
