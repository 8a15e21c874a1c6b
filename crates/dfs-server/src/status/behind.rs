//! How many partitions other replicas hold different rows of: asked beside whoever wants to know,
//! who waits a moment for the answers and then takes what is known.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use dfs_core::id::{NodeId, Partition};
use dfs_core::layout::epoch::{EpochState, Member, MemberState};
use dfs_core::replica::sync::Table;
use dfs_env::TaskMap;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::error::Error;
use crate::replica::Replica;
use crate::sync::RowSync;

/// Asks replicas whether their rows differ, when someone wants to know.
pub(crate) struct Behind {
    replica: Arc<Replica>,
    sync: Arc<RowSync>,
    members: Mutex<BTreeMap<NodeId, Asked>>,
    /// Some are to be asked.
    wake: Notify,
    /// One has answered, or failed to.
    answered: Notify,
}

/// What one member was asked.
#[derive(Debug, Clone, Copy, Default)]
struct Asked {
    /// It is to be asked, or is being asked.
    awaited: bool,
    /// When it answered last, and in how many partitions it differed.
    answer: Option<(Instant, u64)>,
}

impl Behind {
    pub(crate) fn new(replica: Arc<Replica>, sync: Arc<RowSync>) -> Self {
        let (wake, answered) = (Notify::new(), Notify::new());
        Self { replica, sync, members: Mutex::default(), wake, answered }
    }

    /// Asks those that someone wants to know of, until shutdown.
    pub(crate) async fn run(self: Arc<Self>) {
        let mut running = TaskMap::new(&self.replica.env, "differs");
        loop {
            tokio::select! {
                biased;
                () = self.replica.shutdown.cancelled() => return,
                Some((node, ended)) = running.join_next() => {
                    // A comparison that panicked is one that failed.
                    self.note(node, ended.unwrap_or_default());
                }
                () = self.wake.notified() => {}
            }
            let awaited: Vec<NodeId> = {
                let members = self.members.lock();
                members.iter().filter(|(_, asked)| asked.awaited).map(|(node, _)| *node).collect()
            };
            for node in awaited {
                if !running.contains(&node) {
                    running.spawn(node, self.clone().compare(node));
                }
            }
        }
    }

    /// Partitions in which a replica that is not `down` holds other rows than this node. One that
    /// does not answer cannot be called up to date.
    pub(super) async fn partitions(&self, state: &EpochState, down: &[NodeId]) -> u64 {
        let may_differ = |member: &&Member| {
            member.node_id != self.replica.id && member.state != MemberState::Out
        };
        // Not whether it can be reached now: whoever was not counted as away must answer.
        let asked: Vec<NodeId> = state
            .counted()
            .filter(may_differ)
            .map(|member| member.node_id)
            .filter(|node| !down.contains(node))
            .collect();
        let since = self.replica.env.mono();
        self.ask(&asked);
        loop {
            let mut answered = std::pin::pin!(self.answered.notified());
            answered.as_mut().enable();
            if asked.iter().all(|node| !self.known(node).awaited) {
                break;
            }
            tokio::select! {
                biased;
                () = answered => {}
                () = self.replica.env.sleep_until(since + WAIT_MAX) => break,
            }
        }
        let counts = |(at, _): &(Instant, u64)| *at + KEPT >= since;
        let differ = |node| self.known(node).answer.filter(counts).map_or(1, |(_, differ)| differ);
        asked.iter().map(differ).sum()
    }

    fn ask(&self, nodes: &[NodeId]) {
        let mut members = self.members.lock();
        members.retain(|node, _| nodes.contains(node));
        for node in nodes {
            members.entry(*node).or_default().awaited = true;
        }
        self.wake.notify_one();
    }

    fn known(&self, node: &NodeId) -> Asked {
        self.members.lock().get(node).copied().unwrap_or_default()
    }

    fn note(&self, node: NodeId, differ: Option<u64>) {
        let now = self.replica.env.mono();
        if let Some(asked) = self.members.lock().get_mut(&node) {
            asked.awaited = false;
            asked.answer = differ.map(|differ| (now, differ));
        }
        self.answered.notify_waiters();
    }

    async fn compare(self: Arc<Self>, node: NodeId) -> Option<u64> {
        let state = self.replica.joined().ok()?;
        self.differ(&node, &state).await.ok()
    }

    async fn differ(&self, node: &NodeId, state: &EpochState) -> Result<u64, Error> {
        let theirs = state.partitions_of(node);
        let ours = self.replica.partitions(state).into_iter();
        let shared: Vec<Partition> = ours.filter(|ours| theirs.contains(ours)).collect();
        let mut differ = 0;
        for table in [Table::Records, Table::Refs] {
            let (partitions, _) = self.sync.differing_with(node, table, &shared, state).await?;
            differ += partitions.len() as u64;
        }
        Ok(differ)
    }
}

/// How long who asks waits: members that are near have answered then.
const WAIT_MAX: Duration = Duration::from_millis(400);
/// How long an answer stands for one that does not come in time, over a slow line.
const KEPT: Duration = Duration::from_secs(10);
