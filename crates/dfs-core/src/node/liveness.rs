//! Who is alive, from what this node reaches itself and what the nodes it reaches say they reach.
//!
//! A member that nobody in reach can reach is down; one that only others reach is not, for a while:
//! what they say of it counts for [`HEARSAY_MAX`], and longer only while the member itself, whose
//! signed words they pass on, says something new. So nobody keeps a dead node alive. Being down is
//! a hint: it changes where requests go at once and starts timers, and never moves data by itself.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::codec::{Canonical, DecodeError, Reader, Writer};
use crate::hlc::Hlc;
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

/// What is known at a moment of whether a member lives.
#[derive(Debug, Clone, Copy)]
pub struct Sign {
    /// The member.
    pub node: NodeId,
    /// Whether this node has a connection to it.
    pub direct: bool,
    /// Whether a node that this one reaches says that it has.
    pub hearsay: bool,
    /// The number of the newest that the member itself is known to have said.
    pub said: Hlc,
}

/// What was found out about one member.
#[derive(Debug, Clone, Copy)]
struct Watched {
    said: Hlc,
    /// Since when it has said nothing newer and was not connected.
    silent_since: Duration,
    unreached_since: Option<Duration>,
}

/// Since when nobody reaches each member. Moments are counted from the start of the node.
#[derive(Debug, Default)]
pub struct Watch {
    members: BTreeMap<NodeId, Watched>,
}

impl Watch {
    /// Notes the signs of a moment; members without any are forgotten.
    pub fn look(&mut self, now: Duration, signs: impl IntoIterator<Item = Sign>) {
        let before = std::mem::take(&mut self.members);
        let watched = |sign: Sign| (sign.node, Watched::after(before.get(&sign.node), now, sign));
        self.members = signs.into_iter().map(watched).collect();
    }

    /// How long nobody has reached the member, as far as was looked; `None` while someone does.
    pub fn down_for(&self, now: Duration, node: &NodeId) -> Option<Duration> {
        let since = self.members.get(node)?.unreached_since?;
        Some(now.saturating_sub(since))
    }
}

impl Watched {
    fn after(before: Option<&Self>, now: Duration, sign: Sign) -> Self {
        let is_silent = |before: &&Self| !sign.direct && sign.said <= before.said;
        let silent_since = before.filter(is_silent).map_or(now, |before| before.silent_since);
        let counts = now.saturating_sub(silent_since) < HEARSAY_MAX;
        let reached = sign.direct || (sign.hearsay && counts);
        let unreached = || before.and_then(|before| before.unreached_since).unwrap_or(now);
        let unreached_since = (!reached).then(unreached);
        let said = before.map_or(sign.said, |before| before.said.max(sign.said));
        Self { said, silent_since, unreached_since }
    }
}

/// How long others' word that they reach a member counts without a new one of its own.
pub const HEARSAY_MAX: Duration = Duration::from_secs(10 * 60);
/// How often a node says something, news or not: so one that lives and is reached by others only is
/// never silent for long.
pub const SAY_EVERY: Duration = Duration::from_secs(3 * 60);
/// One bit for every member a layout may have.
pub const REACH_BYTES_MAX: usize = MEMBERS_MAX.div_ceil(8);
