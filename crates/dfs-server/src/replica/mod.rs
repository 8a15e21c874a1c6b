//! What every part of a running node shares: its id, its store, its layout and its network.
//!
//! Nothing here knows of the parts above. They find here the few states that several of them touch:
//! which blobs are missing, which peers are owed a comparison, what no one waits for any more.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use dfs_core::hlc::{Clock, Hlc};
use dfs_core::id::{NodeId, Partition};
use dfs_core::layout::epoch::{EpochState, MemberState, NO_CAP};
use dfs_core::replica::possession::Cadence;
use dfs_core::replica::room::{Stand, cannot_fit};
use dfs_env::Env;
use dfs_p2p::Network;
use dfs_store::Store;
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use crate::config::{Grace, Mode};
use crate::error::Error;

pub(crate) mod clocks;
pub(crate) mod conduct;
pub(crate) mod finisher;
pub(crate) mod layout;
pub(crate) mod load;
pub(crate) mod missing;
pub(crate) mod owed;
pub(crate) mod refusing;
pub(crate) mod retirement;
pub(crate) mod rows;
pub(crate) mod unwanted;
pub(crate) mod wakes;

use self::clocks::Clocks;
use self::conduct::Conduct;
use self::finisher::Finisher;
use self::layout::Layout;
use self::load::Load;
use self::missing::Missing;
use self::owed::Owed;
use self::refusing::Refusing;
use self::retirement::Retirement;
use self::unwanted::Unwanted;
use self::wakes::Wakes;

/// One node among those that hold the data.
pub(crate) struct Replica {
    pub(crate) env: Env,
    pub(crate) id: NodeId,
    pub(crate) store: Store,
    pub(crate) layout: Layout,
    pub(crate) grace: Grace,
    /// How members behave.
    pub(crate) conduct: Conduct,
    /// Members that do not store what they are given.
    pub(crate) refusing: Refusing,
    /// Blobs that should be on this disk and are not.
    pub(crate) missing: Missing,
    /// Blobs on this disk that no row here needs.
    pub(crate) unwanted: Unwanted,
    /// Peers whose rows may differ.
    pub(crate) owed: Owed,
    pub(crate) load: Load,
    pub(crate) finisher: Finisher,
    pub(crate) wakes: Wakes,
    pub(crate) retirement: Retirement,
    pub(crate) shutdown: CancellationToken,
    network: OnceLock<Network>,
    clock: Mutex<Clock>,
    clocks: Clocks,
}

impl Replica {
    pub(crate) fn new(
        env: Env,
        id: NodeId,
        store: Store,
        layout: Layout,
        grace: Grace,
        cadence: Cadence,
        finisher: Finisher,
    ) -> Self {
        let now = env.mono();
        Self {
            env,
            id,
            store,
            layout,
            grace,
            conduct: Conduct::new(id, cadence),
            refusing: Refusing::default(),
            missing: Missing::new(now),
            unwanted: Unwanted::default(),
            owed: Owed::default(),
            load: Load::default(),
            finisher,
            wakes: Wakes::default(),
            retirement: Retirement::default(),
            shutdown: CancellationToken::new(),
            network: OnceLock::new(),
            clock: Mutex::new(Clock::default()),
            clocks: Clocks::default(),
        }
    }

    /// Takes the network, before its first connection: every call finds it.
    pub(crate) fn set_network(&self, network: Network) {
        let _ = self.network.set(network);
    }

    /// The network.
    pub(crate) fn net(&self) -> &Network {
        self.network.get().expect("the network is set before anything runs")
    }

    /// Whether the node can be called now.
    pub(crate) fn is_reachable(&self, node: &NodeId) -> bool {
        *node == self.id || self.net().is_connected(node)
    }

    /// Holds no more than whoever vouched for this node allowed.
    pub(crate) fn keep_to_cap(&self, state: &EpochState) {
        let cap = state.member(&self.id).map(|member| member.cap);
        self.store.limit(cap.unwrap_or(u64::MAX));
    }

    /// Whether a member holds what whoever vouched for it allowed, as far as can be told from what
    /// is here: it may say of itself what it likes. Blobs are spread evenly, so a node with so many
    /// partitions holds about so much. While this node gives partitions away it cannot tell.
    pub(crate) fn is_at_cap(&self, node: &NodeId, state: &EpochState) -> bool {
        let Some(member) = state.member(node).filter(|member| member.cap != NO_CAP) else {
            return false;
        };
        let own = state.member(&self.id).filter(|own| own.state == MemberState::Active);
        if own.is_none_or(|own| state.rows.iter().any(|row| row.former.contains(&own.idx))) {
            return false;
        }
        let partitions = |of: &NodeId| state.partitions_of(of).len() as u64;
        let own = partitions(&self.id);
        let share = u128::from(self.store.held()) * u128::from(partitions(node));
        own > 0 && share > u128::from(member.cap) * u128::from(own)
    }

    /// Whether so many bytes of new content, in so many blobs, surely find no room.
    pub(crate) fn has_no_room(
        &self,
        bytes: u64,
        blobs: u64,
        mode: Mode,
        state: &EpochState,
    ) -> bool {
        let by_majority = self.is_quorum(mode, state);
        let all = (0..=Partition::MAX).take(state.bits.count());
        let partitions: Vec<_> = all.map(|partition| state.write_sets(partition)).collect();
        let mut stands = BTreeMap::new();
        for node in partitions.iter().flatten().flatten() {
            stands.entry(*node).or_insert_with(|| self.stand(node, state));
        }
        let needed = |set: usize| if by_majority { set / 2 + 1 } else { 1.min(set) };
        cannot_fit(bytes, blobs, &partitions, needed, |node| stands[node])
    }

    /// How much of new contents a node takes, as it says of itself.
    fn stand(&self, node: &NodeId, state: &EpochState) -> Stand {
        let told = if *node == self.id {
            Some((self.store.held(), self.store.capacity()))
        } else {
            self.net().with_info(node, |info| (info.used, info.capacity))
        };
        // Of whom nothing is known there may be room.
        let free = told.map_or(u64::MAX, |(used, capacity)| {
            Store::new_blobs_up_to(capacity).saturating_sub(used)
        });
        Stand { free, partitions: state.partitions_of(node).len() as u64 }
    }

    /// Whether a node has proved, on the connection there is, to have the key of one of the admins.
    pub(crate) fn proves_admin(&self, state: &EpochState, node: &NodeId) -> bool {
        self.net().admin_of(node).is_some_and(|admin| state.admins.contains(&admin))
    }

    /// The layout, while this node is a member that takes part.
    pub(crate) fn joined(&self) -> Result<Arc<EpochState>, Error> {
        if let Some(why) = self.retirement.why() {
            return Err(Error::Retired(why.to_owned()));
        }
        let state = self.layout.current().ok_or(Error::NotJoined)?;
        if let Some(why) = self.left(&state) {
            return Err(Error::Retired(why));
        }
        if state.is_member(&self.id) { Ok(state) } else { Err(Error::NotJoined) }
    }

    /// Why this node takes part in nothing any more, if the cluster let it go.
    pub(crate) fn left(&self, state: &EpochState) -> Option<String> {
        let own = state.member(&self.id).filter(|member| member.state == MemberState::Left)?;
        let id = own.node_id.short();
        Some(format!("the cluster let node {id} go, and its data is on others"))
    }

    /// The partitions that this node should hold.
    pub(crate) fn partitions(&self, state: &EpochState) -> Vec<Partition> {
        state.partitions_of(&self.id)
    }

    /// Whether `mode` asks for a majority with this layout.
    pub(crate) fn is_quorum(&self, mode: Mode, state: &EpochState) -> bool {
        match mode {
            Mode::Quorum => true,
            Mode::Available => false,
            Mode::Default => {
                let fewest = state.rows.iter().map(|row| row.current.len()).min();
                fewest.unwrap_or(0) >= QUORUM_BY_DEFAULT_FROM
            }
        }
    }

    /// Blobs that are missing here, those included that no one has asked for again yet.
    pub(crate) fn missing_here(&self) -> u64 {
        // In this order: what was set aside goes over to the queue, and must not be missed on its
        // way.
        let set_aside = self.store.set_aside_count();
        set_aside.saturating_add(self.missing.queue_len(self.env.mono()))
    }

    /// The next stamp, by this node's own clock.
    pub(crate) fn tick(&self) -> Hlc {
        self.clock.lock().tick(self.env.wall_ms())
    }

    /// A random part of `longest`, for attempts that got into each other's way.
    pub(crate) fn jitter(&self, longest: Duration) -> Duration {
        let share = u16::from_le_bytes(self.env.random());
        longest.mul_f64(f64::from(share) / f64::from(u16::MAX))
    }
}

/// A time in milliseconds.
pub(crate) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// With fewer replicas a majority is all of them, and one dead node would stop every write.
const QUORUM_BY_DEFAULT_FROM: usize = 3;
