//! Going on by hand after a disaster: `layout force` where partitions lost too many replicas to be
//! sure of what they held, `layout recover` where the majority of the voters is gone.
//!
//! What is allowed, and what it makes of the layout, is decided in [`dfs_core::layout::epoch::Loss`].

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use dfs_core::id::NodeId;
use dfs_core::layout::epoch::{EpochState, Loss};
use tracing::{info, warn};

use crate::client::{Client, short};
use crate::error::Error;
use crate::layout::Newest;
use crate::node::Node;
use crate::views::WentOn;

impl Client {
    /// Gives up members that are gone for ever, though other replicas may lack what they held: the
    /// partitions concerned go on with whoever is left.
    ///
    /// `names` are as [`Client::remove_member`] takes them.
    ///
    /// # Errors
    /// [`Error::NotFound`] for no or several such members, [`Error::Refused`] for one that answers,
    /// where nothing is at risk, and where a majority of the voters is among them;
    /// [`Error::Unavailable`] when voters that are left are out of reach.
    pub async fn force_layout(&self, names: &[String]) -> Result<WentOn, Error> {
        let node = &self.0;
        let state = node.joined()?;
        let loss = node.loss(&state, names)?;
        if loss.is_of_majority(&state) {
            let why = "most voters are among them, so nobody could decide that: 'dfs layout recover' \
                       makes a new majority";
            return Err(Error::Refused(why.to_owned()));
        }
        let partitions = loss.at_risk(&state).len();
        if partitions == 0 {
            let why = "the others have all that they held: 'dfs remove' takes them out";
            return Err(Error::Refused(why.to_owned()));
        }
        let epoch = node.decide_all(|state| Ok(loss.ops(state))).await?;
        info!(lost = ?loss.lost, partitions, epoch, "went on without members by hand");
        Ok(WentOn::Decided { epoch, partitions })
    }

    /// Makes a new majority of voters from those that are left, where most are gone for ever, and
    /// gives up what partitions lost with them, as [`Client::force_layout`] does.
    ///
    /// It has to be told to every node that is left, each by its own operator, within an hour: a node
    /// follows only when it was told of the same loss. Every member that is not lost must be in reach,
    /// so that nobody knows of a newer layout. Those who decide do so once a majority of them was told.
    ///
    /// # Errors
    /// As [`Client::force_layout`], but refused where a majority of the voters is left, where another
    /// member is out of reach, and where others went on from another loss.
    pub async fn recover_layout(&self, names: &[String]) -> Result<WentOn, Error> {
        let node = &self.0;
        let state = node.joined()?;
        let loss = node.loss(&state, names)?;
        match node.layout.untold() {
            // Others have gone on: then this node only has to be told.
            Some(untold) if untold.lost == loss.lost => {}
            Some(untold) => {
                let lost = shown(untold.lost.iter());
                let why = format!("others went on by hand without {lost}; say the same here");
                return Err(Error::Refused(why));
            }
            None if !loss.is_of_majority(&state) => {
                let why = "a majority of the voters is left and decides: 'dfs remove' takes the nodes \
                           out, or 'dfs layout force' where others may lack what they held";
                return Err(Error::Refused(why.to_owned()));
            }
            None => {
                let is_away = |member: &NodeId| {
                    *member != node.id && !loss.lost.contains(member) && !node.is_reachable(member)
                };
                let present: Vec<_> = state.present().map(|member| member.node_id).collect();
                let away = shown(present.iter().filter(|member| is_away(member)));
                if !away.is_empty() {
                    let why =
                        format!("{away} may know of a newer layout: start them, or name them");
                    return Err(Error::Refused(why));
                }
            }
        }
        let loss = node.layout.untold().unwrap_or(loss);
        let partitions = loss.at_risk(&state).len();
        node.layout.tell(loss.clone(), node.env.mono() + TOLD_FOR);
        warn!(lost = ?loss.lost, "told that members are gone, most voters among them");
        for _ in 0..TRIES {
            node.catch_up_with_all().await;
            let newest = node.layout.newest().clone().ok_or(Error::NotJoined)?;
            if newest.state.generation >= loss.generation {
                return Ok(WentOn::Decided { epoch: newest.state.epoch, partitions });
            }
            if !node.recover(&newest, &loss).await? {
                node.env.sleep(node.backoff()).await;
            }
        }
        let electors = loss.electors(&state);
        let others = electors.iter().filter(|elector| **elector != node.id);
        Ok(WentOn::Waits { nodes: others.map(short).collect() })
    }
}

impl Node {
    fn loss(&self, state: &EpochState, names: &[String]) -> Result<Loss, Error> {
        let mut lost = BTreeSet::new();
        for name in names {
            let member = self.find_member(state, name)?;
            if self.is_reachable(&member.node_id) || member.node_id == self.id {
                return Err(Error::Refused(format!("{name} is running, so it is not lost")));
            }
            lost.insert(member.node_id);
        }
        if lost.is_empty() {
            return Err(Error::Refused("no node is named that is lost".to_owned()));
        }
        if state.active().all(|active| lost.contains(&active.node_id)) {
            return Err(Error::Refused("nobody would be left that holds data".to_owned()));
        }
        Ok(Loss::of(state, lost))
    }

    /// One attempt to begin the new generation, if this node is one of those who decide and nobody
    /// that is left knows of a newer layout.
    async fn recover(self: &Arc<Self>, newest: &Newest, loss: &Loss) -> Result<bool, Error> {
        let electors = loss.electors(&newest.state);
        let is_behind = |member: &NodeId| {
            let theirs = self.network().with_info(member, |info| info.durable_epoch);
            !loss.lost.contains(member) && theirs.is_none_or(|epoch| epoch > newest.state.epoch)
        };
        let elects = electors.contains(&self.id) && loss.is_of_majority(&newest.state);
        if !elects || newest.state.present().any(|member| is_behind(&member.node_id)) {
            return Ok(false);
        }
        let previous = newest.cert.proposal.hash();
        let proposed = loss.propose(&newest.state, previous, self.id);
        let (_, proposal) = proposed.map_err(|error| Error::Refused(error.to_string()))?;
        match self.propose(newest, electors, proposal).await {
            Ok(decided) => Ok(decided),
            // Who was not told yet refuses.
            Err(Error::Unavailable(_) | Error::Moving) => Ok(false),
            Err(error) => Err(error),
        }
    }

    async fn catch_up_with_all(&self) {
        let peers = self.network().peers();
        let up = peers.iter().filter(|peer| peer.down_for.is_none());
        for node in up.map(|peer| peer.info.node_id).collect::<Vec<NodeId>>() {
            if let Err(error) = self.catch_up(&node).await {
                warn!(%error, "a newer layout could not be stored");
            }
        }
    }
}

/// The beginnings of ids.
pub(crate) fn shown<'a>(nodes: impl Iterator<Item = &'a NodeId>) -> String {
    nodes.map(short).collect::<Vec<_>>().join(" ")
}

/// How long a node's word counts: a later disaster needs another one.
const TOLD_FOR: Duration = Duration::from_secs(60 * 60);
/// Attempts to begin a new generation before the others are waited for.
const TRIES: u32 = 4;
