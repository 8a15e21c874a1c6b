//! Peers whose rows may differ from those here, and what was brought together with whom.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use dfs_core::id::{NodeId, Partition};
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::Notify;
use tokio::time::Instant;

/// What the comparing of rows must know; it alone takes from here.
#[derive(Debug, Default)]
pub(crate) struct Owed {
    plans: Mutex<Plans>,
    /// Wakes the comparing.
    pub(crate) wake: Notify,
}

/// A move towards this node: the partition, and the epoch that prepared it.
pub(crate) type Move = (Partition, u64);

#[derive(Debug, Default)]
struct Plans {
    /// Peers that may hold something else than this node.
    owed: BTreeSet<NodeId>,
    /// Peers that know a newer layout.
    ahead: BTreeSet<NodeId>,
    /// When each peer was compared with last.
    last: BTreeMap<NodeId, Instant>,
    /// For each peer, when the last comparison that came to its end began, and of what.
    compared: BTreeMap<NodeId, (Instant, Vec<Partition>)>,
    /// For each move, the sources that were pulled from.
    pulled: BTreeMap<Move, BTreeSet<NodeId>>,
}

impl Owed {
    fn plans(&self) -> MutexGuard<'_, Plans> {
        self.plans.lock()
    }

    /// A peer may hold something else: compare soon.
    pub(crate) fn owe(&self, node: NodeId) {
        self.plans().owed.insert(node);
        self.wake.notify_one();
    }

    /// A peer knows a newer layout: fetch it.
    pub(crate) fn catch_up_from(&self, node: NodeId) {
        self.plans().ahead.insert(node);
        self.wake.notify_one();
    }

    /// Takes those peers that know a newer layout which `may` be asked now; the others stay.
    pub(crate) fn take_ahead(&self, may: impl Fn(&NodeId) -> bool) -> BTreeSet<NodeId> {
        let mut plans = self.plans();
        let taken = plans.ahead.iter().copied().filter(may).collect();
        plans.ahead.retain(|node| !BTreeSet::contains(&taken, node));
        taken
    }

    /// Whether everything that a peer held of a partition at some time after `since` is here.
    pub(crate) fn compared_since(
        &self,
        node: &NodeId,
        partition: Partition,
        since: Instant,
    ) -> bool {
        let plans = self.plans();
        let compared = plans.compared.get(node);
        compared.is_some_and(|(began, all)| *began > since && all.contains(&partition))
    }

    /// Whether everything that a peer held of a partition at some time since the start is here.
    pub(crate) fn has_compared(&self, node: &NodeId, partition: Partition) -> bool {
        let plans = self.plans();
        plans.compared.get(node).is_some_and(|(_, all)| all.contains(&partition))
    }

    /// Whether a comparison with a peer begins now: when something is owed to it or `asked` for, or
    /// when the last one is long ago; never more often than every [`COMPARE_APART`].
    pub(crate) fn begin(&self, node: NodeId, asked: bool, now: Instant) -> bool {
        let mut plans = self.plans();
        let since = plans.last.get(&node).map(|last| now - *last);
        let rested = since.is_none_or(|since| since >= COMPARE_APART);
        let routine = since.is_none_or(|since| since >= COMPARE_EVERY);
        let begins = rested && (asked || plans.owed.contains(&node) || routine);
        if begins {
            plans.owed.remove(&node);
            plans.last.insert(node, now);
        }
        begins
    }

    /// A comparison came to its end, and these partitions were brought together.
    pub(crate) fn ended(&self, node: NodeId, partitions: Vec<Partition>) {
        let mut plans = self.plans();
        if let Some(began) = plans.last.get(&node).copied() {
            plans.compared.insert(node, (began, partitions));
        }
    }

    /// Everything that a source of a move holds was pulled.
    pub(crate) fn pulled_from(&self, source: NodeId, of: Move) {
        self.plans().pulled.entry(of).or_default().insert(source);
    }

    /// The sources of a move that were pulled from.
    pub(crate) fn pulled(&self, of: &Move) -> BTreeSet<NodeId> {
        self.plans().pulled.get(of).cloned().unwrap_or_default()
    }

    /// Forgets moves that are over.
    pub(crate) fn keep_moves(&self, is_under_way: impl Fn(&Move) -> bool) {
        self.plans().pulled.retain(|of, _| is_under_way(of));
    }
}

/// The same peer is not compared with more often.
const COMPARE_APART: Duration = Duration::from_millis(500);
/// Every co-replica is compared with at least this often.
const COMPARE_EVERY: Duration = Duration::from_secs(30);
