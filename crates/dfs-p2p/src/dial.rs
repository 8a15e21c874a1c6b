//! Whom to dial, and when: bootstrap addresses, known nodes, and a bulk connection beside each
//! control connection. It never gives up.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use dfs_core::address::Address;
use dfs_core::id::NodeId;
use dfs_core::node::conn::Backoff;
use dfs_core::node::directory::NODES_MAX;
use dfs_env::{Bug, bug};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

/// What a dial is for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Target {
    /// An address from the configuration; whoever is there.
    Bootstrap(Address),
    /// A known node.
    Control(NodeId),
    /// A second connection, for chunks, where the first one was dialled.
    Bulk(NodeId, SocketAddr),
}

impl Target {
    /// The node that is dialled, if it must be a certain one.
    pub(crate) fn node(&self) -> Option<&NodeId> {
        match self {
            Self::Bootstrap(_) => None,
            Self::Control(node) | Self::Bulk(node, _) => Some(node),
        }
    }
}

/// A target to dial now.
#[derive(Debug)]
pub(crate) struct Due {
    pub(crate) target: Target,
    /// Held until the stranger has greeted, if it is one.
    pub(crate) place: Option<OwnedSemaphorePermit>,
}

/// The state of every target that is wanted, and of some that once were.
#[derive(Debug)]
pub(crate) struct Dials {
    started: Instant,
    targets: BTreeMap<Target, Dial>,
    strangers: Arc<Semaphore>,
}

#[derive(Debug)]
struct Dial {
    running: bool,
    next: Instant,
    backoff: Backoff,
}

impl Dials {
    pub(crate) fn new(now: Instant) -> Self {
        let strangers = Arc::new(Semaphore::new(STRANGER_DIALS_MAX));
        Self { started: now, targets: BTreeMap::new(), strangers }
    }

    /// Those of the wanted targets that are due, noted as running; and when the next one will be.
    /// Strangers take turns: those that have been due for longest get the free places.
    pub(crate) fn due(
        &mut self,
        now: Instant,
        wanted: Vec<Target>,
        is_stranger: impl Fn(&NodeId) -> bool,
    ) -> (Vec<Due>, Option<Instant>) {
        if self.targets.len() >= TARGETS_MAX {
            let wanted: BTreeSet<_> = wanted.iter().collect();
            self.targets.retain(|target, dial| dial.running || wanted.contains(target));
        }
        let mut due = Vec::new();
        let mut strangers = Vec::new();
        let mut next = None;
        for target in wanted {
            let dial = self.targets.entry(target.clone()).or_insert_with(|| Dial {
                running: false,
                next: now,
                backoff: Backoff::new(KNOWN_RETRY_MAX),
            });
            if dial.running {
                continue;
            }
            if dial.next > now {
                next = Some(next.map_or(dial.next, |at: Instant| at.min(dial.next)));
            } else if target.node().is_some_and(&is_stranger) && !bug(Bug::StrangersDialledAtOnce) {
                strangers.push((dial.next, target));
            } else {
                dial.running = true;
                due.push(Due { target, place: None });
            }
        }
        due.extend(self.strangers_due(strangers));
        (due, next)
    }

    fn strangers_due(&mut self, mut strangers: Vec<(Instant, Target)>) -> Vec<Due> {
        strangers.sort();
        let mut due = Vec::new();
        for (_, target) in strangers {
            let Ok(place) = self.strangers.clone().try_acquire_owned() else { break };
            if let Some(dial) = self.targets.get_mut(&target) {
                dial.running = true;
                due.push(Due { target, place: Some(place) });
            }
        }
        due
    }

    /// Notes that a dial ended. `connected` says whether it had brought a connection.
    pub(crate) fn ended(&mut self, now: Instant, target: &Target, connected: bool, random: u32) {
        let first_minute = now - self.started < BOOTSTRAP_EAGER;
        let Some(dial) = self.targets.get_mut(target) else { return };
        dial.running = false;
        if connected {
            dial.backoff.reset();
        }
        let wait = match target {
            Target::Bootstrap(_) if first_minute => BOOTSTRAP_RETRY_EAGER,
            Target::Bootstrap(_) => BOOTSTRAP_RETRY,
            Target::Control(_) | Target::Bulk(..) => dial.backoff.after_failure(random),
        };
        dial.next = now + wait;
    }

    /// News about a node: it may be reachable again, or elsewhere.
    pub(crate) fn hurry(&mut self, now: Instant, node: &NodeId) {
        if let Some(dial) = self.targets.get_mut(&Target::Control(*node)) {
            dial.next = now;
            dial.backoff.reset();
        }
    }
}

/// How long after the start bootstrap addresses are tried eagerly: nodes of one cluster are often
/// started together, in any order.
const BOOTSTRAP_EAGER: Duration = Duration::from_secs(60);
const BOOTSTRAP_RETRY_EAGER: Duration = Duration::from_millis(500);
/// Afterwards: cheap enough for ever, soon enough that a returned host is found within seconds.
const BOOTSTRAP_RETRY: Duration = Duration::from_secs(10);
/// Targets remembered before those that nobody wants any more are forgotten: two of each node that
/// is known at a time, and as many again.
const TARGETS_MAX: usize = 4 * NODES_MAX;
/// Strangers dialled at a time. Anyone can make some, with addresses of their choice: they must
/// cost neither this node nor whoever is at those addresses more than a few attempts at a time.
const STRANGER_DIALS_MAX: usize = 4;
/// The longest wait before a known node is tried again.
const KNOWN_RETRY_MAX: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use dfs_env::{Env, MemoryNet};

    use super::*;

    /// The targets that are due, all of which are members.
    fn due(dials: &mut Dials, now: Instant, wanted: &[Target]) -> (Vec<Target>, Option<Instant>) {
        let (due, next) = dials.due(now, wanted.to_vec(), |_| false);
        (due.into_iter().map(|due| due.target).collect(), next)
    }

    #[test]
    fn a_running_dial_is_not_started_again_and_a_failed_one_waits() {
        let start = Env::in_memory(0, MemoryNet::default()).mono();
        let mut dials = Dials::new(start);
        let target = Target::Control(NodeId::new([1; 32]));
        assert_eq!(due(&mut dials, start, std::slice::from_ref(&target)).0.len(), 1);
        assert!(due(&mut dials, start, std::slice::from_ref(&target)).0.is_empty());
        dials.ended(start, &target, false, 0);
        let (none, next) = due(&mut dials, start, std::slice::from_ref(&target));
        assert!(none.is_empty());
        let next = next.unwrap();
        assert!(next > start && next <= start + KNOWN_RETRY_MAX);
        assert_eq!(due(&mut dials, next, std::slice::from_ref(&target)).0, [target]);
    }

    #[test]
    fn what_is_wanted_no_more_is_forgotten_in_the_end() {
        let start = Env::in_memory(0, MemoryNet::default()).mono();
        let mut dials = Dials::new(start);
        let target = |port| Target::Bootstrap(format!(":{port}").parse().unwrap());
        due(&mut dials, start, &[target(1)]);
        for port in 2..10_000 {
            due(&mut dials, start, &[target(port)]);
            dials.ended(start, &target(port), false, 0);
        }
        assert!(dials.targets.len() <= TARGETS_MAX);
        // The first dial is still running.
        assert!(due(&mut dials, start, &[target(1)]).0.is_empty());
    }

    #[test]
    fn bootstrap_is_eager_in_the_first_minute() {
        let start = Env::in_memory(0, MemoryNet::default()).mono();
        let mut dials = Dials::new(start);
        let target = Target::Bootstrap(":1".parse().unwrap());
        for (age, wait) in [(0, BOOTSTRAP_RETRY_EAGER), (61, BOOTSTRAP_RETRY)] {
            let now = start + Duration::from_secs(age);
            assert_eq!(due(&mut dials, now, std::slice::from_ref(&target)).0.len(), 1);
            dials.ended(now, &target, false, 0);
            assert_eq!(due(&mut dials, now, std::slice::from_ref(&target)).1, Some(now + wait));
        }
    }

    #[test]
    fn few_strangers_are_dialled_at_a_time_and_all_take_their_turn() {
        let start = Env::in_memory(0, MemoryNet::default()).mono();
        let mut dials = Dials::new(start);
        let node = |at: u8| NodeId::new([at; 32]);
        let member = Target::Control(node(200));
        let mut wanted: Vec<_> = (0..100).map(|at| Target::Control(node(at))).collect();
        wanted.push(member.clone());
        let is_stranger = |of: &NodeId| *of != node(200);
        let mut dialled = BTreeSet::new();
        for round in 0..25 {
            let now = start + Duration::from_secs(round);
            let (due, _) = dials.due(now, wanted.clone(), is_stranger);
            let (members, strangers): (Vec<_>, _) =
                due.into_iter().partition(|due| due.target == member);
            assert_eq!(members.len(), usize::from(round == 0));
            assert_eq!(strangers.len(), STRANGER_DIALS_MAX);
            assert!(dials.due(now, wanted.clone(), is_stranger).0.is_empty());
            for Due { target, place } in strangers {
                drop(place); // It failed, or the stranger has greeted.
                dials.ended(now, &target, false, 0);
                dialled.insert(target);
            }
        }
        assert_eq!(dialled.len(), 100);
    }
}
