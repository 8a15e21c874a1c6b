//! Incarnations of a node: which of several that claim one id may take part.
//!
//! Each start of a node has a higher boot counter than the one before, durable before the first
//! greeting. So a node with a lower counter than a peer has seen, or with the same one and other
//! random bits, runs from a copy of its data directory or from an older state of it. It would
//! answer for what it no longer has, and is turned away for good. So is one that lacks an epoch it
//! once had on disk: a state that was copied while the node ran counts up like a restart.

use std::time::Duration;

use dfs_core::hlc::Hlc;
use dfs_core::id::NodeId;
use dfs_core::node::later_life::{LaterLife, StillRuns};
use dfs_core::node::member::{Genuine, IncarnationOrder, NodeInfo, compare_incarnations};
use dfs_env::{Bug, bug};
use tracing::{debug, warn};

use crate::error::ConnError;
use crate::hello::ConnClass;
use crate::message::{Call, Code, Priority, Request, Response};
use crate::peer::Conn;
use crate::shared::Shared;

impl Shared {
    /// Why a peer that greets with this incarnation may not be let in, if it may not. `challenge`
    /// names the connection on which it greets.
    pub(crate) async fn later_life(
        &self,
        peer: &NodeId,
        incarnation: u64,
        challenge: [u8; 32],
    ) -> Option<LaterLife> {
        let (known, former) = {
            let registry = self.registry();
            let former = registry.conns.get(&(*peer, ConnClass::Control));
            let former = former.filter(|conn| conn.facts.peer_incarnation != incarnation);
            (registry.directory.get(peer).cloned(), former.cloned())
        };
        let known_incarnation = known.as_ref().map(|info| info.incarnation);
        match (compare_incarnations(known_incarnation, incarnation), former) {
            (IncarnationOrder::Former, _) => Some(LaterLife::Info(Box::new(known?))),
            (IncarnationOrder::Newer, Some(former)) => still_runs(&former, challenge).await,
            (IncarnationOrder::Newer | IncarnationOrder::Same, _) => None,
        }
    }

    /// What shows that the disk of a peer went back in time, given what it says in its greeting.
    pub(crate) fn before_going_back(&self, info: &NodeInfo) -> Option<LaterLife> {
        let registry = self.registry();
        let known = registry.directory.get(&info.node_id);
        let earlier = known.filter(|known| info.lacks_what_was_durable(known));
        earlier.map(|earlier| LaterLife::Info(Box::new(earlier.clone())))
    }

    /// Answers a peer that asks whether this start still runs, because another one greets it.
    pub(crate) fn say_still_runs(&self, challenge: [u8; 32]) -> StillRuns {
        StillRuns::sign(self.config.incarnation, challenge, &self.config.node_key)
    }

    /// Retires this start when the end of a connection proves that it must not go on; a peer's bare
    /// word ends that connection and nothing else.
    pub(crate) fn heed(&self, end: &ConnError, challenge: &[u8; 32]) {
        let ConnError::Refused { goodbye, .. } = end else { return };
        let ends = |later: &LaterLife| later.ends(self.own().info(), challenge);
        let is_told = bug(Bug::RetiredByHearsay) && goodbye.code == Code::Retired;
        if is_told || goodbye.later_life.as_deref().is_some_and(ends) {
            self.retire("a later state of this node is known");
        } else if goodbye.code == Code::Retired {
            debug!("a peer calls this node retired and does not prove it");
        }
    }

    /// Takes in what someone with this node's key said. Returns the number of what an earlier
    /// incarnation said with a clock that ran ahead: this one must go on from there.
    pub(crate) fn hear_of_myself(&self, info: &Genuine) -> Option<Hlc> {
        if info.incarnation == self.config.incarnation {
            return None;
        }
        match compare_incarnations(Some(info.incarnation), self.config.incarnation) {
            IncarnationOrder::Newer => (info.seq >= self.own().info().seq).then_some(info.seq),
            IncarnationOrder::Former | IncarnationOrder::Same => {
                self.retire("another node runs with its key and was started later");
                None
            }
        }
    }

    /// Takes part in nothing from now on: a peer knows a later incarnation of this node.
    pub(crate) fn retire(&self, why: &str) {
        if !self.shutdown.is_cancelled() {
            warn!(why, "this node is retired");
            self.shutdown.cancel();
            self.handler.retired(why);
        }
    }
}

/// Asks the other end of a connection whether it still is there; `None` unless it proves that.
async fn still_runs(former: &Conn, challenge: [u8; 32]) -> Option<LaterLife> {
    let ask = Call::new(Priority::Layout, ALIVE_MAX, Request::StillRuns { challenge });
    let answer = former.call(ask).await.ok()?;
    let Ok(Response::StillRuns(said)) = answer.result else { return None };
    let is_its = said.node_id == former.peer
        && said.incarnation == former.facts.peer_incarnation
        && said.challenge == challenge;
    if !is_its || said.verify().is_err() {
        return None;
    }
    debug!(peer = ?former.peer, "a node greets while an earlier incarnation of it is there");
    Some(LaterLife::StillRuns(said))
}

/// How long an earlier incarnation may take to answer. A node that was restarted waits so long at
/// most, when its former connection is still thought to be up; it must fit into a greeting.
const ALIVE_MAX: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests;
