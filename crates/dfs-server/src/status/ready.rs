//! Why a node does not serve yet.

use dfs_core::id::{NodeId, Partition};
use dfs_core::layout::epoch::EpochState;
use dfs_core::quorum::Tally;
use dfs_p2p::Direction;

use super::Status;
use super::types::{ClockOwner, NotReady, Remedy};
use crate::config::Mode;
use crate::replica::clocks::ClockSentence;

impl Status {
    /// Why the node does not serve yet; empty when it does.
    pub(crate) fn not_ready(&self) -> Vec<NotReady> {
        let mut reasons = Vec::new();
        match self.replica.joined() {
            Err(_) => reasons.push(self.not_joined()),
            Ok(state) => {
                let (nodes, alive) = (state.active().count(), self.alive(&state));
                let out = self.out_of_reach(&state);
                if out > 0 {
                    let all = state.rows.len();
                    let reason = format!(
                        "{out} of {all} partitions have too few replicas in reach \
                         ({alive} of {nodes} members answer)"
                    );
                    let remedy = if alive <= 1 { self.dialled_in_vain(&state) } else { None };
                    reasons.push(NotReady { reason, remedy });
                }
            }
        }
        if self.replica.clocks().may_stamp().is_err() {
            reasons.push(self.wrong_clock());
        }
        if self.replica.store.has_failed() {
            reasons.extend(self.own_disk().map(NotReady::from));
        }
        reasons
    }

    /// What about disks and clocks does not matter for whether this node serves, or not alone.
    pub(crate) fn notes(&self) -> Vec<NotReady> {
        let mut notes = self.disk_notes();
        notes.extend(self.clock_notes());
        notes
    }

    /// What there is to say of clocks.
    pub(super) fn clock_notes(&self) -> Vec<NotReady> {
        let said = self.replica.clock_sentences().into_iter().take(CLOCKS_SHOWN);
        said.map(|said| self.of_clock(said)).collect()
    }

    /// That this node takes no writes since its clock is wrong, or another.
    fn wrong_clock(&self) -> NotReady {
        let said = self.replica.clock_sentences().into_iter();
        let mut said = said.filter(|said| !said.is_known || said.about == self.replica.id);
        match said.next() {
            Some(said) => NotReady {
                reason: format!("a clock is wrong, and this node takes no writes: {}", said.text),
                ..self.of_clock(said)
            },
            None => "a clock is wrong, and this node takes no writes".to_owned().into(),
        }
    }

    pub(super) fn of_clock(&self, said: ClockSentence) -> NotReady {
        let owner = match said.is_known {
            false => ClockOwner::Unknown,
            true if said.about == self.replica.id => ClockOwner::Own,
            true => ClockOwner::Other(said.about.short()),
        };
        NotReady { reason: said.text, remedy: Some(Remedy::SetClock(owner)) }
    }

    /// That this node is in no cluster yet, and why.
    pub(super) fn not_joined(&self) -> NotReady {
        let left = || self.replica.left(&*self.replica.layout.current()?);
        if let Some(why) = self.replica.retirement.why().map(str::to_owned).or_else(left) {
            let reason = format!(
                "this node is retired: {why}; it takes part in nothing; start it with \
                 --new-node and an empty data directory"
            );
            return reason.into();
        }
        let apart = self.replica.net().kept_apart().into_iter();
        let mut apart = apart.filter(|peer| peer.direction == Direction::Dialled);
        let dialled = apart.next();
        let why = match &dialled {
            Some(peer) => format!("{}: {}", peer.addr, peer.reason),
            None => self.chain.why_not_joined(),
        };
        NotReady {
            reason: format!("this node has not joined a cluster yet: {why}"),
            remedy: dialled.map(|peer| Remedy::JoinApart(peer.reason)),
        }
    }

    /// Where this node dials the other members, when none of them is there: all may have moved, and
    /// then nobody in reach can say where to.
    pub(super) fn dialled_in_vain(&self, state: &EpochState) -> Option<Remedy> {
        let others: Vec<_> = state
            .active()
            .map(|member| member.node_id)
            .filter(|member| *member != self.replica.id)
            .collect();
        if others.is_empty() || others.iter().any(|member| self.replica.is_reachable(member)) {
            return None;
        }
        let addr =
            |member| self.replica.net().with_info(member, |info| info.addrs.first().cloned());
        let addrs = others.iter().filter_map(addr).flatten();
        Some(Remedy::NameAddress(addrs.take(DIALLED_SHOWN).collect()))
    }

    /// Partitions that cannot be read and written now, as the default mode asks.
    fn out_of_reach(&self, state: &EpochState) -> usize {
        let quorum = self.replica.is_quorum(Mode::Default, state);
        let reaches = |set: &[NodeId], needed: fn(usize) -> usize| {
            let needed = if quorum { needed(set.len()) } else { 1 };
            set.iter().filter(|replica| self.replica.is_reachable(replica)).count() >= needed
        };
        let all = (0..=Partition::MAX).take(state.rows.len());
        let out = all.filter(|partition| {
            let readable = reaches(&state.read_set(*partition), Tally::<NodeId>::read_majority);
            let mut sets = state.write_sets(*partition).into_iter();
            !readable || !sets.all(|set| reaches(&set, Tally::<NodeId>::write_majority))
        });
        out.count()
    }

    fn alive(&self, state: &EpochState) -> usize {
        state.active().filter(|member| self.replica.is_reachable(&member.node_id)).count()
    }
}

/// Addresses that are named: enough to see whether they are those of old.
const DIALLED_SHOWN: usize = 4;
/// Clocks of which something is said.
pub(super) const CLOCKS_SHOWN: usize = 8;
