//! One word and one sentence for how the cluster is, and what can be done.

use dfs_core::id::NodeId;
use dfs_core::layout::epoch::{EpochState, Loss};

use super::outlook::CostName;
use super::types::{Doubt, Health, Level, Remedy};
use crate::json::rfc3339;

/// The word and the sentence.
pub(super) fn judge(
    health: &Health,
    state: &EpochState,
    down: &[NodeId],
    failed: Option<String>,
) -> (Level, String, Option<Remedy>) {
    let copies = state.copies_at_rest();
    let holders = state.rows.iter().map(|row| {
        let up = |idx: &u16| state.node(*idx).is_some_and(|node| !down.contains(&node));
        row.current.iter().filter(|idx| up(idx)).count()
    });
    let fewest = holders.min().unwrap_or(0);
    let away = down.iter().map(NodeId::short).collect::<Vec<_>>().join(", ");
    if health.unrecoverable > 0 {
        let message = format!("{} pieces of files have no good copy left", health.unrecoverable);
        return (Level::Lost, message, None);
    }
    if let Some(message) = failed {
        return (Level::AtRisk, message, Some(Remedy::MendDisk));
    }
    if fewest == 0 {
        return (Level::AtRisk, format!("some files are out of reach: {away} do not answer"), None);
    }
    if fewest == 1 && copies > 1 && !down.is_empty() {
        return (
            Level::AtRisk,
            format!("some files are on one node only: {away} do not answer"),
            None,
        );
    }
    if !down.is_empty() && health.next_failure.cost == CostName::Files {
        let message = format!(
            "some pieces may be on one node only, and are being copied: {away} do not answer"
        );
        return (Level::AtRisk, message, None);
    }
    if !down.is_empty() {
        let message = format!(
            "{} of {} nodes are away ({away}); everything is readable and kept on {fewest} nodes",
            down.len(),
            health.nodes
        );
        return (Level::Degraded, message, None);
    }
    if let Some(doubt) = health.doubts.iter().find(|doubt| doubt.distrusted) {
        let remedy = Remedy::TakeOut(doubt.node.clone());
        return (Level::Degraded, doubted(doubt), Some(remedy));
    }
    if health.moving > 0 {
        return (Level::Degraded, format!("{} partitions are moving", health.moving), None);
    }
    if health.under_replicated > 0 {
        let message = format!("{} pieces are being copied", health.under_replicated);
        return (Level::Degraded, message, None);
    }
    if health.unreadable > 0 {
        let message = format!(
            "{} pieces or rows on this node's disk could not be read back",
            health.unreadable
        );
        return (Level::Degraded, message, Some(Remedy::LookAtScrub));
    }
    if let Some(doubt) = health.doubts.first() {
        return (Level::Degraded, doubted(doubt), None);
    }
    let message = match copies {
        1 => "one node holds everything; add nodes for more copies".to_owned(),
        copies => format!("every file has {copies} copies"),
    };
    match &health.unvouched[..] {
        [] => (Level::Ok, message, None),
        waiting => {
            let nodes = if waiting.len() == 1 { "node waits" } else { "nodes wait" };
            let message = format!("{message}; {} {nodes} to be admitted", waiting.len());
            (Level::Ok, message, Some(Remedy::Admit(waiting.to_vec())))
        }
    }
}

/// Which member did what, and since when.
fn doubted(doubt: &Doubt) -> String {
    let Doubt { node, distrusted, why, since_ms } = doubt;
    let since = since_ms.map(|since_ms| format!(", since {}", rfc3339(since_ms)));
    let distrusted = if *distrusted { " is distrusted:" } else { "" };
    format!("node {node}{distrusted} {why}{}", since.unwrap_or_default())
}

/// Others went on by hand without members that this node counts on.
pub(super) fn went_on_without(loss: &Loss, own: &NodeId) -> (String, Remedy) {
    if loss.lost.contains(own) {
        let message = "others went on by hand and count this node as lost";
        return (message.to_owned(), Remedy::AskOthers);
    }
    let lost = loss.lost.iter().map(NodeId::short).collect();
    let message = "others went on by hand without nodes that this one counts on";
    (message.to_owned(), Remedy::FollowLoss(lost))
}
