//! Who is alive, from what this node reaches itself and what the nodes it reaches say they reach.
//!
//! A member that nobody in reach can reach is down; one that only others reach is not. Being down
//! is a hint: it changes where requests go at once and starts timers, and never moves data by
//! itself.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::codec::{Canonical, DecodeError, Reader, Writer};
use crate::id::NodeId;
use crate::layout::epoch::{MEMBERS_MAX, MemberIdx};

/// The members a node has a connection to, as bits by their number in the layout. Numbers are never
/// given to another member, so a set means the same under every layout of a cluster.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reach(Vec<u8>);

impl Reach {
    /// The set of these members.
    pub fn of(members: impl IntoIterator<Item = MemberIdx>) -> Self {
        let mut reach = Self::default();
        for idx in members.into_iter().filter(|idx| usize::from(*idx) < MEMBERS_MAX) {
            let at = usize::from(idx / 8);
            if reach.0.len() <= at {
                reach.0.resize(at + 1, 0);
            }
            reach.0[at] |= 1 << (idx % 8);
        }
        reach
    }

    /// Whether the member is in it.
    pub fn contains(&self, idx: MemberIdx) -> bool {
        self.0.get(usize::from(idx / 8)).is_some_and(|bits| bits >> (idx % 8) & 1 == 1)
    }

    /// Takes in every member of another set.
    pub fn add(&mut self, other: &Self) {
        if self.0.len() < other.0.len() {
            self.0.resize(other.0.len(), 0);
        }
        for (bits, more) in self.0.iter_mut().zip(&other.0) {
            *bits |= more;
        }
    }
}

impl Canonical for Reach {
    fn encode(&self, out: &mut Writer) {
        out.bytes(&self.0);
    }

    fn decode(input: &mut Reader) -> Result<Self, DecodeError> {
        let bits = input.bytes("reach", REACH_BYTES_MAX)?.to_vec();
        // One set has one encoding: it ends with its last member.
        if bits.last() == Some(&0) {
            return Err(DecodeError::Invalid("reach"));
        }
        Ok(Self(bits))
    }
}

/// Since when nobody reaches each member. Moments are counted from the start of the node.
#[derive(Debug, Default)]
pub struct Watch {
    unreached_since: BTreeMap<NodeId, Duration>,
}

impl Watch {
    /// Notes at a moment who is reached, by this node or by one that it reaches; members that it is
    /// not told of are forgotten.
    pub fn look(&mut self, now: Duration, members: impl IntoIterator<Item = (NodeId, bool)>) {
        let before = std::mem::take(&mut self.unreached_since);
        let unreached = members.into_iter().filter(|(_, reached)| !reached);
        let since = |(node, _)| (node, before.get(&node).copied().unwrap_or(now));
        self.unreached_since = unreached.map(since).collect();
    }

    /// How long nobody has reached the member, as far as was looked; `None` while someone does.
    pub fn down_for(&self, now: Duration, node: &NodeId) -> Option<Duration> {
        self.unreached_since.get(node).map(|since| now.saturating_sub(*since))
    }
}

/// One bit for every member a layout may have.
pub const REACH_BYTES_MAX: usize = MEMBERS_MAX.div_ceil(8);
