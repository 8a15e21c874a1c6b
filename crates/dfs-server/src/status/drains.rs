//! Drains: how far they are, what they wait for, and what ends them.

use dfs_core::id::NodeId;
use dfs_core::layout::drains::{Drain, DrainWait, drains};
use dfs_core::layout::epoch::EpochState;

use super::types::{Health, Level, Remedy};
use crate::replica::Replica;

/// The drains there are, seen from this node.
pub(super) fn seen_from(replica: &Replica, state: &EpochState) -> Vec<Drain> {
    let is_up = |node: &NodeId| replica.is_reachable(node);
    let is_convicted = |node: &NodeId| replica.conduct.convicted(node).is_some();
    drains(state, is_up, is_convicted)
}

/// Says which members are drained, after anything worse.
pub(super) fn say(drains: &[Drain], health: &mut Health) {
    health.drains = drains.iter().map(told).take(DRAINS_SHOWN).collect();
    let Some(first) = drains.first() else { return };
    if health.health == Level::Ok {
        (health.health, health.message) = (Level::Degraded, told(first));
    } else {
        health.message = format!("{}; {}", health.message, told(first));
    }
    if let Some(remedy) = remedy(first) {
        health.remedy.get_or_insert(remedy);
    }
}

/// One sentence on a drain.
fn told(drain: &Drain) -> String {
    format!("node {} is drained and {}", drain.node.short(), waits(drain))
}

/// What a drain waits for.
pub(super) fn waits(drain: &Drain) -> String {
    let holds = drain.holds;
    let named = |nodes: &[NodeId]| {
        let shorts: Vec<String> = nodes.iter().take(NODES_NAMED).map(NodeId::short).collect();
        shorts.join(", ")
    };
    match &drain.waits_for {
        DrainWait::Voters(away) => {
            format!("waits for those who decide: {} do not answer", named(away))
        }
        DrainWait::Heirs(away) => format!(
            "waits for those that take over {holds} partitions: {} do not answer",
            named(away)
        ),
        DrainWait::Copies => format!("has {holds} partitions left, which are being copied"),
        DrainWait::Room => format!(
            "has {holds} partitions left, which wait for other moves or for members with room"
        ),
        DrainWait::Itself => "waits for that node itself, which does not answer: it holds no \
                              partition any more, and may keep writes that the others lack"
            .to_owned(),
        DrainWait::Handover => "hands over what it kept for others".to_owned(),
        DrainWait::Operator => {
            "holds no partition any more; it is distrusted, so its word does not end it".to_owned()
        }
    }
}

fn remedy(drain: &Drain) -> Option<Remedy> {
    let node = drain.node.short();
    match &drain.waits_for {
        DrainWait::Itself => Some(Remedy::EndDrain(node)),
        DrainWait::Operator => Some(Remedy::TakeOut(node)),
        DrainWait::Room => Some(Remedy::MakeRoom),
        DrainWait::Voters(_) | DrainWait::Heirs(_) => Some(Remedy::StartNodes),
        DrainWait::Copies | DrainWait::Handover => None,
    }
}

/// Drains of which something is said.
const DRAINS_SHOWN: usize = 8;
/// Nodes named in one sentence.
const NODES_NAMED: usize = 5;
