//! The newest that every node said about itself, of a bounded number of nodes.
//!
//! A member always finds a place. When there are no more, the stranger that spoke longest ago gives
//! way, by the stamp that it signed: so all directories come to keep the same strangers, and do not
//! hand each other again and again what the other has just let go of.

use std::collections::BTreeMap;

use crate::codec::Canonical;
use crate::hlc::Hlc;
use crate::id::NodeId;
use crate::node::member::{IncarnationOrder, NodeInfo, compare_incarnations};
use crate::signature::BadSignature;

/// What became of an info that was offered to a [`Directory`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Learned {
    /// Nothing: the same or newer was known.
    Known,
    /// A node heard of for the first time.
    NewNode,
    /// News about a known node.
    Newer,
    /// Nothing: a later incarnation of the node is known.
    Former,
    /// Nothing: every place is taken by a member, or by a stranger that spoke later.
    Full,
}

/// The newest genuine info of every node heard of, at most [`NODES_MAX`].
#[derive(Debug, Clone, Default)]
pub struct Directory {
    nodes: BTreeMap<NodeId, NodeInfo>,
}

impl Directory {
    /// Takes in an info if it is genuine and newer than what is known. `now_unix_ms` is the wall
    /// clock's reading, and `is_member` tells who may not be forgotten; both matter only once all
    /// places are taken.
    ///
    /// # Errors
    /// [`BadSignature`] when the named node did not sign it; nothing changes.
    pub fn learn(
        &mut self,
        info: NodeInfo,
        now_unix_ms: u64,
        is_member: impl Fn(&NodeId) -> bool,
    ) -> Result<Learned, BadSignature> {
        let known = self.nodes.get(&info.node_id);
        if known.is_some_and(|known| known.seq >= info.seq) {
            return Ok(Learned::Known);
        }
        let known = known.map(|known| known.incarnation);
        let gives_way = match known {
            None if self.nodes.len() >= NODES_MAX => {
                match self.gives_way_to(&info, now_unix_ms, is_member) {
                    None => return Ok(Learned::Full),
                    some => some,
                }
            }
            _ => None,
        };
        info.verify()?;
        if compare_incarnations(known, info.incarnation) == IncarnationOrder::Former {
            return Ok(Learned::Former);
        }
        gives_way.map(|stranger| self.nodes.remove(&stranger));
        Ok(match self.nodes.insert(info.node_id, info) {
            None => Learned::NewNode,
            Some(_) => Learned::Newer,
        })
    }

    /// The stranger that spoke first: any gives way to a member, to a stranger only one that spoke
    /// before it.
    fn gives_way_to(
        &self,
        newcomer: &NodeInfo,
        now_unix_ms: u64,
        is_member: impl Fn(&NodeId) -> bool,
    ) -> Option<NodeId> {
        // A stamp from the future says nothing about when it was made, and goes first.
        let latest = now_unix_ms.saturating_add(AHEAD_MAX_MS);
        let rank = |info: &NodeInfo| (info.seq.unix_ms() <= latest, info.seq);
        let to_any = is_member(&newcomer.node_id);
        let infos = self.nodes.values().filter(|info| to_any || rank(info) < rank(newcomer));
        let mut in_order: Vec<_> = infos.map(|info| (rank(info), info.node_id)).collect();
        in_order.sort_unstable();
        in_order.into_iter().map(|(_, node)| node).find(|node| !is_member(node))
    }

    /// The newest info of a node.
    pub fn get(&self, node: &NodeId) -> Option<&NodeInfo> {
        self.nodes.get(node)
    }

    /// Every node known, in order of ids.
    pub fn iter(&self) -> impl Iterator<Item = &NodeInfo> {
        self.nodes.values()
    }

    /// What is known, in short: for each node the number of its newest info.
    pub fn digest(&self) -> Vec<(NodeId, Hlc)> {
        self.nodes.values().map(|info| (info.node_id, info.seq)).collect()
    }

    /// The infos that someone with `digest` lacks, as many as fit one message; what is left
    /// over goes with the next one.
    pub fn missing_from(&self, digest: &[(NodeId, Hlc)]) -> Vec<NodeInfo> {
        let theirs: BTreeMap<_, _> = digest.iter().copied().collect();
        let lacking = |info: &&NodeInfo| theirs.get(&info.node_id).is_none_or(|s| *s < info.seq);
        let mut bytes = 0;
        let fits = |info: &&NodeInfo| {
            bytes += info.to_canonical().len();
            bytes <= MESSAGE_BYTES_MAX
        };
        self.nodes.values().filter(lacking).take_while(fits).cloned().collect()
    }
}

/// Nodes one directory keeps: every member a layout may name, and some who want to join.
pub const NODES_MAX: usize = crate::layout::epoch::MEMBERS_MAX + 256;
/// How far a stranger's clock may be ahead of this node's.
const AHEAD_MAX_MS: u64 = 5 * 60 * 1000;
/// Infos in one message: half a frame, beside the digest.
const MESSAGE_BYTES_MAX: usize = 100 * 1024;
