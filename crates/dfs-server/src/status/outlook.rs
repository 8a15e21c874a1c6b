//! What a status says of what comes: what one more failure would cost, and how long repair takes.

use dfs_core::id::NodeId;
use dfs_core::layout::epoch::EpochState;
use dfs_core::meter::Left;
use dfs_core::replica::outlook::{Cost, InReach, one_more};
use serde::Serialize;

/// What the failure of one more node would cost.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NextFailure {
    /// One word: `nothing`, `layout`, `majority` or `files`, each worse than the one before.
    pub cost: CostName,
    /// One sentence.
    pub message: String,
}

/// A cost as it is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum CostName {
    /// See [`Cost::Nothing`].
    Nothing,
    /// See [`Cost::Layout`].
    Layout,
    /// See [`Cost::Majority`].
    Majority,
    /// See [`Cost::Files`].
    Files,
}

/// What the node that was asked fetches, and how long that takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Copying {
    /// Pieces that it should hold and does not.
    pub pieces: u64,
    /// Their bytes, estimated from those that came last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    /// Bytes a second, measured over the last seconds.
    pub bytes_per_second: u64,
    /// How many seconds are left at this speed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seconds: Option<u64>,
}

impl NextFailure {
    /// Of a node that is in no cluster.
    pub(super) fn alone() -> Self {
        Self::from(Cost::Files)
    }

    pub(super) fn of(
        state: &EpochState,
        down: &[NodeId],
        missing: bool,
        by_majority: bool,
    ) -> Self {
        let reach = |nodes: &mut dyn Iterator<Item = NodeId>| {
            let mut reach = InReach { up: 0, all: 0 };
            for node in nodes {
                reach.all += 1;
                reach.up += usize::from(!down.contains(&node));
            }
            reach
        };
        let sets = state
            .rows
            .iter()
            .map(|row| reach(&mut row.current.iter().filter_map(|idx| state.node(*idx))));
        let voters = reach(&mut state.voters.iter().copied());
        Self::from(one_more(sets, voters, missing, by_majority))
    }
}

impl From<Cost> for NextFailure {
    fn from(cost: Cost) -> Self {
        let (cost, message) = match cost {
            Cost::Nothing => (CostName::Nothing, "everything stays readable and writable"),
            Cost::Layout => (
                CostName::Layout,
                "everything stays readable and writable, but no node can join and no copies move",
            ),
            Cost::Majority => (
                CostName::Majority,
                "some files can be read and written with --mode available only",
            ),
            Cost::Files => {
                (CostName::Files, "some files may be out of reach, or lost with its disk")
            }
        };
        Self { cost, message: message.to_owned() }
    }
}

impl Copying {
    pub(super) fn new(pieces: u64, bytes_per_second: u64, left: Left) -> Option<Self> {
        let seconds = left.time.map(|time| time.as_secs());
        (pieces > 0).then_some(Self { pieces, bytes: left.bytes, bytes_per_second, seconds })
    }
}
