//! The list of peers.

use std::collections::BTreeMap;
use std::time::Duration;

use dfs_core::id::NodeId;
use dfs_core::layout::epoch::{EpochState, MemberState, NO_CAP};
use dfs_core::node::member::NodeInfo;

use super::Status;
use super::drains::{seen_from, waits};
use super::types::{PeerState, PeerView};
use crate::layout::admit::PeerRole;

impl Status {
    /// This node and everyone it knows.
    pub(crate) fn peers(&self) -> Vec<PeerView> {
        let state = self.replica.joined().ok();
        let own = self.replica.net().own_info();
        let (clocks, wrong) = (self.replica.clocks(), self.replica.clock_sentences());
        let ahead: BTreeMap<NodeId, i64> =
            clocks.peers().iter().map(|(node, ahead)| (*node, ahead.0)).collect();
        let drains =
            state.as_ref().map(|state| seen_from(&self.replica, state)).unwrap_or_default();
        let view = |info: &NodeInfo, shown: PeerState, is_self| {
            let member = state.as_ref().and_then(|state| state.member(&info.node_id));
            PeerView {
                id: info.node_id.to_string(),
                addr: info.addrs.first().cloned().unwrap_or_default(),
                zone: info.zone.clone(),
                state: shown,
                role: match member {
                    _ if state.as_ref().is_some_and(|state| state.admins.is_empty()) => None,
                    Some(member) => Some(member.role.into()),
                    None => state.as_ref().map(|state| {
                        let is_gateway = self.replica.proves_admin(state, &info.node_id);
                        if is_gateway { PeerRole::Gateway } else { PeerRole::Unvouched }
                    }),
                },
                is_self,
                bytes: info.used,
                capacity: info.capacity,
                cap: member.map(|member| member.cap).filter(|cap| *cap != NO_CAP),
                distrusted: member.and_then(|_| {
                    self.replica.conduct.distrusted(&info.node_id).map(str::to_owned)
                }),
                drain: drains.iter().find(|drain| drain.node == info.node_id).map(waits),
                disk: match is_self {
                    true => self.own_disk().map(|said| said.text),
                    false => self.disk_of(&info.node_id),
                },
                clock_ahead_ms: if is_self { Some(0) } else { ahead.get(&info.node_id).copied() },
                clock: wrong
                    .iter()
                    .find(|said| said.about == info.node_id)
                    .map(|said| said.text.clone()),
            }
        };
        let mut own = view(&own, PeerState::Alive, true);
        if own.addr.is_empty() {
            own.addr = self.replica.net().listen_addr().to_string();
        }
        let mut peers = vec![own];
        let Some(state) = &state else { return peers };
        for peer in self.replica.net().peers() {
            let shown = peer_state(
                Some(state),
                &peer.info.node_id,
                self.reach.shown_down_for(&peer.info.node_id),
            );
            // Someone who once wanted to join and went away is nobody's concern.
            if shown != PeerState::Joining || peer.down_for.is_none() {
                peers.push(view(&peer.info, shown, false));
            }
        }
        peers.sort_by(|a, b| a.id.cmp(&b.id));
        peers
    }
}

fn peer_state(state: Option<&EpochState>, node: &NodeId, down_for: Option<Duration>) -> PeerState {
    let member = state.and_then(|state| state.member(node));
    match (member.map(|member| member.state), down_for) {
        (None, _) => PeerState::Joining,
        (Some(MemberState::Left), _) => PeerState::Left,
        (Some(MemberState::Out), _) => PeerState::Out,
        (Some(MemberState::Draining), None) => PeerState::Draining,
        (Some(MemberState::Active), None) => PeerState::Alive,
        (Some(_), Some(down)) if down < SUSPECT_FOR => PeerState::Suspect,
        (Some(_), Some(_)) => PeerState::Down,
    }
}

/// A peer out of reach for less than this may only have restarted.
const SUSPECT_FOR: Duration = Duration::from_secs(5);
