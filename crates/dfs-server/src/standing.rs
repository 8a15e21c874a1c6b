//! Taking a member out: `drain` for one that is well, `remove` for one that will not come back.

use std::sync::Arc;

use dfs_core::id::{NodeId, Partition, hex};
use dfs_core::layout::epoch::{EpochOp, EpochState, Member, MemberState};
use dfs_core::quorum::Tally;
use tracing::info;

use crate::client::{Client, short};
use crate::error::Error;
use crate::node::Node;
use crate::views::Departure;

impl Client {
    /// Lets a member give its partitions to the others; it leaves by itself once it holds nothing.
    /// Returns when that is decided, long before it is done.
    ///
    /// `name` is the beginning of the member's id or the whole of its address, as the list of peers
    /// shows them.
    ///
    /// # Errors
    /// [`Error::NotFound`] for no or several such members, [`Error::Refused`] when it may not be
    /// drained, [`Error::Unavailable`] when a majority of the voters is out of reach.
    pub async fn drain(&self, name: &str) -> Result<Departure, Error> {
        let node = &self.0;
        let state = node.joined()?;
        let member = node.find_member(&state, name)?;
        if member.state == MemberState::Out {
            let why = "it is away and its data is being copied already; 'remove' makes that final";
            return Err(Error::Refused(why.to_owned()));
        }
        node.set_standing(member.node_id, MemberState::Draining).await?;
        info!(member = ?member.node_id, "a member is drained");
        Ok(departure(&state, &member.node_id))
    }

    /// Takes out a member that will not come back. Its id never takes part again.
    ///
    /// # Errors
    /// As [`Client::drain`]. Refused for a member that answers (that one is drained), and where
    /// what others in reach hold may not be all that was acknowledged.
    pub async fn remove_member(&self, name: &str) -> Result<Departure, Error> {
        let node = &self.0;
        let state = node.joined()?;
        let member = node.find_member(&state, name)?;
        if node.is_reachable(&member.node_id) {
            let why =
                "it is running: 'drain' takes it out without a gap; to remove it, stop it first";
            return Err(Error::Refused(why.to_owned()));
        }
        let risk = node.partitions_without(&state, member.idx);
        if risk > 0 {
            let why = format!(
                "of {risk} partitions too few other replicas answer to be sure of what it held; \
                 bring the other nodes back first"
            );
            return Err(Error::Refused(why));
        }
        node.set_standing(member.node_id, MemberState::Left).await?;
        info!(member = ?member.node_id, "a member is removed");
        Ok(departure(&state, &member.node_id))
    }
}

impl Node {
    /// The member that did not leave and has this address, or an id that begins so.
    pub(crate) fn find_member(&self, state: &EpochState, name: &str) -> Result<Member, Error> {
        let has_addr = |member: &Member| {
            let info = self.network().info(&member.node_id);
            info.is_some_and(|info| info.addrs.iter().any(|addr| addr == name))
        };
        let has_id = |member: &Member| {
            let id = member.node_id;
            name.len() >= ID_PREFIX_MIN
                && (id.to_string().starts_with(name) || hex(id.as_bytes()).starts_with(name))
        };
        let mut found = state.present().filter(|member| has_addr(member) || has_id(member));
        match (found.next(), found.next()) {
            (Some(one), None) => Ok(one.clone()),
            (None, _) => Err(Error::NotFound(format!("member {name}"))),
            (Some(_), Some(_)) => Err(Error::Refused(format!("several members begin with {name}"))),
        }
    }

    /// Partitions of which so few replicas beside one answer that they may lack a write.
    fn partitions_without(&self, state: &EpochState, idx: u16) -> usize {
        let is_at_risk = |partition: &Partition| {
            let row = state.row(*partition);
            let others = row.current.iter().filter(|other| **other != idx);
            let up = others
                .filter(|other| state.node(**other).is_some_and(|node| self.is_reachable(&node)));
            row.current.contains(&idx)
                && up.count() < Tally::<NodeId>::read_majority(row.current.len())
        };
        (0..=Partition::MAX).take(state.rows.len()).filter(is_at_risk).count()
    }

    /// Has a member's standing decided, this node proposing it.
    async fn set_standing(self: &Arc<Self>, member: NodeId, to: MemberState) -> Result<(), Error> {
        let ops = |state: &EpochState| {
            let now = state.member(&member).map(|member| member.state);
            if now == Some(to) || now == Some(MemberState::Left) {
                return Ok(Vec::new());
            }
            if state.active().all(|active| active.node_id == member) {
                return Err(Error::Refused("it is the last member that holds data".to_owned()));
            }
            Ok(vec![EpochOp::SetState(member, to)])
        };
        self.decide_all(ops).await.map(|_| ())
    }

    /// Why this node takes part in nothing any more, if the cluster let it go.
    pub(crate) fn left(&self, state: &EpochState) -> Option<String> {
        let own = state.member(&self.id).filter(|member| member.state == MemberState::Left)?;
        Some(format!("the cluster let node {} go, and its data is on others", short(&own.node_id)))
    }
}

fn departure(state: &EpochState, member: &NodeId) -> Departure {
    let copies_wanted = usize::from(state.target_copies);
    let left = state.active().filter(|active| active.node_id != *member).count();
    Departure { id: member.to_string(), copies: copies_wanted.min(left), copies_wanted }
}

/// The shortest beginning of an id that names a member.
const ID_PREFIX_MIN: usize = 4;
