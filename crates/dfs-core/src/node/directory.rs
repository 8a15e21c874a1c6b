//! The newest that every node said about itself, of a bounded number of nodes.
//!
//! Members and strangers have places of their own: anyone with the cluster key can make as many
//! nodes as they like, and these must not keep a member out. A stranger is kept while it is heard
//! of; when there are more than places, the one that spoke longest ago gives way, by the stamp that
//! it signed, and one that was not heard of directly before one that was.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::codec::Canonical;
use crate::hlc::Hlc;
use crate::id::NodeId;
use crate::layout::epoch::MEMBERS_MAX;
use crate::node::member::{Genuine, IncarnationOrder, NodeInfo, compare_incarnations};

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
    /// Nothing: someone whose word does not count says it of a stranger.
    Hearsay,
    /// Nothing: a stranger that was not heard of directly said it long ago, or says when it cannot
    /// have been.
    Stale,
    /// Nothing: every place is taken by a member, or by a stranger that comes before this one.
    Full,
}

/// Who is who at one moment.
#[derive(Clone, Copy)]
pub struct View<'a> {
    /// Whether whoever tells an info may tell of strangers: a member, someone whom the operator
    /// named, or the stranger itself. Otherwise a few strangers could bring any number of others.
    pub is_vouched_for: bool,
    /// The wall clock's reading.
    pub now_unix_ms: u64,
    /// Who may not be forgotten.
    pub is_member: &'a dyn Fn(&NodeId) -> bool,
    /// Whom this node has a connection to, or had one to within [`STRANGER_KEPT`].
    pub is_heard: &'a dyn Fn(&NodeId) -> bool,
}

/// The newest genuine info of every node heard of, at most [`NODES_MAX`].
#[derive(Debug, Clone, Default)]
pub struct Directory {
    nodes: BTreeMap<NodeId, NodeInfo>,
    /// Who of them was no member when it was last asked: asking about each of many members takes
    /// too long to do it whenever someone invents a node.
    strangers: BTreeSet<NodeId>,
}

impl Directory {
    /// Why an info would not be taken in, before its signature is checked; `None` when it would.
    pub fn refuses(&self, info: &NodeInfo, view: &View<'_>) -> Option<Learned> {
        self.place_for(info, view).err()
    }

    /// Takes in an info if it is newer than what is known and there is room for its node.
    pub fn learn(&mut self, info: Genuine, view: &View<'_>) -> Learned {
        let gives_way = match self.place_for(&info, view) {
            Ok(gives_way) => gives_way,
            Err(why) => return why,
        };
        if let Some(stranger) = gives_way {
            self.forget(&stranger);
        }
        self.sort_in(info.node_id, view);
        match self.nodes.insert(info.node_id, info.into_info()) {
            None => Learned::NewNode,
            Some(_) => Learned::Newer,
        }
    }

    /// Looks at who is a member now, forgets the strangers that were not heard of lately, and
    /// returns these.
    pub fn forget_strangers(&mut self, view: &View<'_>) -> Vec<NodeId> {
        let nodes: Vec<_> = self.nodes.keys().copied().collect();
        nodes.into_iter().for_each(|node| self.sort_in(node, view));
        let strangers = self.strangers.iter().filter_map(|node| self.nodes.get(node));
        let over = strangers.filter(|info| !view.keeps(info)).map(|info| info.node_id);
        let over: Vec<_> = over.collect();
        over.iter().for_each(|node| self.forget(node));
        over
    }

    /// Notes whether the node is a stranger.
    fn sort_in(&mut self, node: NodeId, view: &View<'_>) {
        if (view.is_member)(&node) {
            self.strangers.remove(&node);
        } else {
            self.strangers.insert(node);
        }
    }

    fn forget(&mut self, node: &NodeId) {
        self.nodes.remove(node);
        self.strangers.remove(node);
    }

    /// The node that gives way to this info, if one must; or why the info is not taken in.
    fn place_for(&self, info: &NodeInfo, view: &View<'_>) -> Result<Option<NodeId>, Learned> {
        let known = self.nodes.get(&info.node_id);
        if known.is_some_and(|known| known.seq >= info.seq) {
            return Err(Learned::Known);
        }
        let incarnation = known.map(|known| known.incarnation);
        if compare_incarnations(incarnation, info.incarnation) == IncarnationOrder::Former {
            return Err(Learned::Former);
        }
        let is_member = (view.is_member)(&info.node_id);
        if !is_member && !view.is_vouched_for {
            return Err(Learned::Hearsay);
        }
        if !is_member && !view.keeps(info) {
            return Err(Learned::Stale);
        }
        if known.is_some() || self.has_room(is_member) {
            return Ok(None);
        }
        self.gives_way_to(info, is_member, view).map(Some).ok_or(Learned::Full)
    }

    fn has_room(&self, for_member: bool) -> bool {
        self.nodes.len() < NODES_MAX && (for_member || self.strangers.len() < STRANGERS_MAX)
    }

    /// The first of the strangers: it gives way to any member, to a stranger only if it comes
    /// before that one.
    fn gives_way_to(
        &self,
        newcomer: &NodeInfo,
        is_member: bool,
        view: &View<'_>,
    ) -> Option<NodeId> {
        let strangers = self.strangers.iter().filter_map(|node| self.nodes.get(node));
        let mut in_order: Vec<_> = strangers.map(|info| (view.rank(info), info.node_id)).collect();
        in_order.sort_unstable();
        let (rank, first) = in_order.into_iter().find(|(_, node)| !(view.is_member)(node))?;
        (is_member || rank < view.rank(newcomer)).then_some(first)
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

    /// The infos that someone with `digest` lacks, as many as fit one message: those of members
    /// first, which the other one takes whatever else it has. What is left over goes with the next
    /// message.
    pub fn missing_from(
        &self,
        digest: &[(NodeId, Hlc)],
        is_member: impl Fn(&NodeId) -> bool,
    ) -> Vec<NodeInfo> {
        let theirs: BTreeMap<_, _> = digest.iter().copied().collect();
        let lacking = |info: &&NodeInfo| theirs.get(&info.node_id).is_none_or(|s| *s < info.seq);
        let mut bytes = 0;
        let fits = |info: &&NodeInfo| {
            bytes += info.to_canonical().len();
            bytes <= MESSAGE_BYTES_MAX
        };
        let lacked = self.nodes.values().filter(lacking);
        let (members, strangers): (Vec<_>, Vec<_>) =
            lacked.partition(|info| is_member(&info.node_id));
        members.into_iter().chain(strangers).take_while(fits).cloned().collect()
    }
}

impl View<'_> {
    /// Whether a stranger is not to be forgotten yet.
    fn keeps(&self, info: &NodeInfo) -> bool {
        let kept_ms = u64::try_from(STRANGER_KEPT.as_millis()).unwrap_or(u64::MAX);
        let earliest = self.now_unix_ms.saturating_sub(kept_ms);
        let is_recent = info.seq.unix_ms() >= earliest && !self.is_ahead(info);
        is_recent || (self.is_heard)(&info.node_id)
    }

    /// In which order strangers give way.
    fn rank(&self, info: &NodeInfo) -> (bool, bool, Hlc) {
        ((self.is_heard)(&info.node_id), !self.is_ahead(info), info.seq)
    }

    /// A stamp from the future says nothing about when it was made.
    fn is_ahead(&self, info: &NodeInfo) -> bool {
        info.seq.unix_ms() > self.now_unix_ms.saturating_add(AHEAD_MAX_MS)
    }
}

impl std::fmt::Debug for View<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("View").field("now_unix_ms", &self.now_unix_ms).finish_non_exhaustive()
    }
}

/// Nodes one directory keeps: every member a layout may name, and some who want to join.
pub const NODES_MAX: usize = MEMBERS_MAX + STRANGERS_MAX;
/// Places for nodes that are no members: more than ever wait to be admitted at a time.
pub const STRANGERS_MAX: usize = 256;
/// How long a stranger is kept that is not heard of any more: one that wants to join may be
/// switched off overnight, and one that is gone is not dialled for ever.
pub const STRANGER_KEPT: Duration = Duration::from_secs(24 * 60 * 60);
/// How far a stranger's clock may be ahead of this node's.
const AHEAD_MAX_MS: u64 = 5 * 60 * 1000;
/// Infos in one message: half a frame, beside the digest.
const MESSAGE_BYTES_MAX: usize = 100 * 1024;
