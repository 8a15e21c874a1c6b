//! Who founds a cluster when nodes that are in none list each other.
//!
//! A set is what lists close over ([`closure`]). The lowest gateway of a set founds once every
//! other node of the set has promised it to, for a cluster is governed by who holds a vault's key;
//! a node promises only for its own set, and keeps the promise across restarts. A promise binds:
//! until the founder gives it back, the node promises nobody else and joins no cluster that the
//! founder is not in. So no set of nodes ever ends up in two clusters, whatever is lost, late or
//! restarted between an offer and the founding. Nothing here depends on time.
//!
//! The caller makes a promise durable before it tells the founder, and the first epoch durable
//! before it tells anyone; both, and joining, one after the other.

use std::collections::BTreeSet;

use crate::id::NodeId;

/// What a node that is in no cluster should do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FormingStep {
    /// Nothing, until something changes.
    Wait(Waiting),
    /// Offer the set to these nodes; hand what they promise to [`Forming::promised`].
    Offer {
        /// To be handed back with the answers.
        attempt: u64,
        /// Every node of the set, this one included.
        nodes: BTreeSet<NodeId>,
        /// Those that have not promised yet.
        whom: Vec<NodeId>,
    },
    /// Found: see [`Forming::begin_founding`].
    Found,
    /// Ask the founder to give the promise back; hand its consent to [`Forming::released`].
    AskRelease {
        /// Whom this node is bound to.
        founder: NodeId,
        /// To be handed back with the consent.
        promise: u64,
    },
}

/// What a node waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Waiting {
    /// Some listed peer is out of reach, or in a cluster already.
    Peers,
    /// This node founds, once all list the same.
    Founder(NodeId),
    /// None of the listed, nor this node, has the key of a vault.
    Gateway,
    /// There are too many listed peers to agree in this way.
    TooMany,
    /// A cluster was founded or joined.
    Done,
}

/// Why an offer is not taken. The sender asks again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Declined {
    /// Founding, founded or joined.
    #[error("it is in a cluster")]
    InCluster,
    /// The sender is not the lowest gateway of the set, or this node is not in it.
    #[error("the offer is not for it")]
    NotForMe,
    /// Some peer it lists is out of reach, or in a cluster already.
    #[error("it does not reach every peer that it lists")]
    NotReady,
    /// The lists differ.
    #[error("it lists other peers")]
    OtherSet,
    /// It has promised another founder.
    #[error("it has promised to join the cluster of {0:?}")]
    Bound(NodeId),
}

/// The founder has founded, or is in a cluster: whoever is bound to it may join that one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it is in a cluster, which the caller may join")]
pub struct TooLate;

/// This node and all it lists, while it reaches them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    nodes: BTreeSet<NodeId>,
    /// The lowest that has the key of a vault.
    founder: Option<NodeId>,
}

impl Listed {
    /// The nodes, and which of them have proved to have the key of a vault.
    pub fn new(nodes: BTreeSet<NodeId>, is_gateway: impl Fn(&NodeId) -> bool) -> Self {
        let founder = nodes.iter().copied().find(is_gateway);
        Self { nodes, founder }
    }
}

/// A node whose list is not known, so that nobody can tell yet whom a list stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ListUnknown {
    /// Whose list it is.
    pub of: NodeId,
    /// Who lists that node.
    pub by: NodeId,
}

/// The nodes that a list stands for: those on it, those that these list, and so on. So nodes that
/// each list the next one have one list between them.
///
/// Which set a node goes by is no matter of safety: a promise is given only for a set that is its
/// maker's own, and all of it must promise. `O(n log n)` for `n` nodes on all lists together.
///
/// # Errors
/// [`ListUnknown`] of the first that has not told its list.
pub fn closure(
    me: NodeId,
    own: &BTreeSet<NodeId>,
    list_of: impl Fn(&NodeId) -> Option<BTreeSet<NodeId>>,
) -> Result<BTreeSet<NodeId>, ListUnknown> {
    let mut nodes = BTreeSet::from([me]);
    let mut found: Vec<(NodeId, NodeId)> = own.iter().map(|node| (*node, me)).collect();
    while let Some((node, by)) = found.pop() {
        if !nodes.insert(node) {
            continue;
        }
        let listed = list_of(&node).ok_or(ListUnknown { of: node, by })?;
        found.extend(listed.into_iter().map(|next| (next, node)));
        // More than may found together: there is no need to know the rest.
        if nodes.len() > FOUNDERS_MAX {
            break;
        }
    }
    Ok(nodes)
}

/// One node's part in forming a cluster.
#[derive(Debug)]
pub struct Forming {
    me: NodeId,
    /// The founder this node has promised.
    bound_to: Option<NodeId>,
    /// Counts promises, so that an old consent gives no new promise back.
    promises: u64,
    /// Another cluster is there to join.
    leaving: bool,
    listed: Option<Listed>,
    /// Changes whenever promises given to this node stop counting.
    attempt: u64,
    given: BTreeSet<NodeId>,
    stage: Stage,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Open,
    Founding,
    Done,
}

impl Forming {
    /// Starts with the promise found on disk. `first` is random: numbers begin there, so that what
    /// was answered to an earlier life means nothing to this one.
    pub fn new(me: NodeId, bound_to: Option<NodeId>, first: u64) -> Self {
        Self {
            me,
            bound_to,
            promises: first,
            leaving: false,
            listed: None,
            attempt: first,
            given: BTreeSet::new(),
            stage: Stage::Open,
        }
    }

    /// Takes in which nodes the list stands for, this one included; `None` while one of them is out
    /// of reach or in a cluster.
    pub fn see(&mut self, listed: Option<Listed>) {
        if self.listed != listed {
            self.listed = listed;
            self.forget_promises();
        }
    }

    fn forget_promises(&mut self) {
        self.attempt = self.attempt.wrapping_add(1);
        self.given.clear();
    }

    /// What to do next.
    pub fn step(&self) -> FormingStep {
        if self.stage != Stage::Open {
            return FormingStep::Wait(Waiting::Done);
        }
        let lowest = self.listed.as_ref().and_then(|listed| listed.founder);
        if let Some(founder) = self.bound_to
            && (self.leaving || lowest.is_some_and(|lowest| lowest != founder))
        {
            return FormingStep::AskRelease { founder, promise: self.promises };
        }
        let Some(Listed { nodes, .. }) = &self.listed else {
            return FormingStep::Wait(Waiting::Peers);
        };
        if nodes.len() > FOUNDERS_MAX {
            return FormingStep::Wait(Waiting::TooMany);
        }
        match lowest {
            None => return FormingStep::Wait(Waiting::Gateway),
            Some(lowest) if lowest != self.me => {
                return FormingStep::Wait(Waiting::Founder(lowest));
            }
            Some(_) => {}
        }
        let others = nodes.iter().filter(|node| **node != self.me);
        let whom: Vec<_> = others.filter(|node| !self.given.contains(node)).copied().collect();
        match whom.is_empty() {
            true => FormingStep::Found,
            false => FormingStep::Offer { attempt: self.attempt, nodes: nodes.clone(), whom },
        }
    }

    /// Takes or declines an offer. One that is taken binds this node: the caller makes that durable
    /// before it answers.
    ///
    /// # Errors
    /// [`Declined`]; nothing changes.
    pub fn offered(&mut self, from: NodeId, nodes: &BTreeSet<NodeId>) -> Result<(), Declined> {
        if self.stage != Stage::Open {
            return Err(Declined::InCluster);
        }
        if from == self.me || !nodes.contains(&self.me) {
            return Err(Declined::NotForMe);
        }
        match &self.listed {
            None => return Err(Declined::NotReady),
            Some(listed) if listed.nodes != *nodes => return Err(Declined::OtherSet),
            Some(listed) if listed.founder != Some(from) => return Err(Declined::NotForMe),
            Some(_) => {}
        }
        if let Some(founder) = self.bound_to.filter(|founder| *founder != from) {
            return Err(Declined::Bound(founder));
        }
        self.bound_to = Some(from);
        self.promises = self.promises.wrapping_add(1);
        Ok(())
    }

    /// Notes that a node promised, in answer to an offer of this attempt.
    pub fn promised(&mut self, by: NodeId, attempt: u64) {
        if attempt == self.attempt {
            self.given.insert(by);
        }
    }

    /// A bound node asks for its promise back. From here on what it promised before does not count.
    ///
    /// # Errors
    /// [`TooLate`] when the promise has been made use of.
    pub fn withdrawn(&mut self) -> Result<(), TooLate> {
        if self.stage != Stage::Open {
            return Err(TooLate);
        }
        self.forget_promises();
        Ok(())
    }

    /// The founder gave the promise back. Whether this node is free now: the caller makes that
    /// durable. A promise given since the question was asked still binds.
    pub fn released(&mut self, promise: u64) -> bool {
        let freed = promise == self.promises && self.bound_to.is_some();
        if freed {
            self.bound_to = None;
            self.leaving = false;
        }
        freed
    }

    /// The founder is in a cluster: this node waits for that one.
    pub fn refused_release(&mut self) {
        self.leaving = false;
    }

    /// Whether this node may join the cluster that has these members. If not, it will ask its
    /// founder for the promise.
    pub fn may_join(&mut self, has_member: impl Fn(&NodeId) -> bool) -> bool {
        let may = self.bound_to.is_none_or(|founder| has_member(&founder));
        self.leaving = !may;
        may
    }

    /// Whom this node has promised.
    pub fn bound_to(&self) -> Option<NodeId> {
        self.bound_to
    }

    /// Goes over to founding if that is the next step. From here on nothing is given back.
    pub fn begin_founding(&mut self) -> bool {
        let founds = self.step() == FormingStep::Found;
        if founds {
            self.stage = Stage::Founding;
        }
        founds
    }

    /// This node is in a cluster now.
    pub fn done(&mut self) {
        self.stage = Stage::Done;
    }
}

/// Nodes that may found a cluster together. Each offer is one small message to each of them; larger
/// clusters grow from a smaller one.
pub const FOUNDERS_MAX: usize = 64;
