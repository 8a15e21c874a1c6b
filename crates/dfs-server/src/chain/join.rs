//! Asking to become a member.

use std::sync::Arc;
use std::time::Duration;

use dfs_core::id::NodeId;
use dfs_core::layout::epoch::Role;
use dfs_p2p::message::{Call, Priority, Request};
use tracing::{debug, warn};

use super::Chain;
use super::catch_up::CHAIN_DEADLINE;
use crate::error::Error;

impl Chain {
    /// Asks to become a member until this node is one.
    pub(crate) async fn join(self: Arc<Self>) {
        while matches!(self.replica.joined(), Err(Error::NotJoined)) {
            tokio::select! {
                biased;
                () = self.replica.shutdown.cancelled() => return,
                () = self.replica.wakes.join.notified() => {}
                () = self.replica.env.sleep(JOIN_EVERY) => {}
            }
            self.form().await;
            let peers = self.replica.net().peers();
            for peer in peers.iter().filter(|peer| peer.down_for.is_none()) {
                let node = peer.info.node_id;
                if let Err(error) = self.catch_up(&node).await {
                    warn!(%error, "the layout could not be stored");
                }
                match self.place_is_free() {
                    PlaceIsFree::Yes => self.ask_to_join(&node).await,
                    PlaceIsFree::NotKnownYet => {}
                    PlaceIsFree::No(why) => return self.joining.give_up(why),
                }
            }
            self.tell_if_nobody_decides();
        }
    }

    /// Says so when this node could take over, for none of those who decide answers.
    fn tell_if_nobody_decides(&self) {
        let Some(state) = self.replica.layout.current() else { return };
        let up = |voter: &NodeId| self.replica.is_reachable(voter);
        let governs = self.replica.proves_admin(&state, &self.replica.id);
        if self.replica.joined().is_err() && governs && !state.voters.iter().any(up) {
            let gateways = state.present().filter(|member| member.role == Role::Gateway);
            let gateways: Vec<_> = gateways.map(|member| member.node_id.short()).collect();
            let gateways = gateways.join(" ");
            self.joining.tell(format!(
                "none of the gateways of the cluster answers; if all of them are gone for ever, \
                 'dfs layout recover {gateways}' here goes on without them"
            ));
        }
    }

    /// Whether no member that is away has the address of this node. One that has would be this very
    /// node, before its disk was lost or not mounted: as another member it would leave the first
    /// one's copies to be made anew, and fill the wrong disk.
    fn place_is_free(&self) -> PlaceIsFree {
        let Some(state) = self.replica.layout.current() else { return PlaceIsFree::NotKnownYet };
        if self.joining.new_node || state.is_member(&self.replica.id) {
            return PlaceIsFree::Yes;
        }
        let net = self.replica.net();
        let own = net.own_info().addrs;
        let mut place = PlaceIsFree::Yes;
        for member in state.present() {
            let Some(away) = net.down_for(&member.node_id) else { continue };
            let shared = net.with_info(&member.node_id, |info| {
                info.addrs.iter().find(|addr| own.contains(addr)).cloned()
            });
            match shared {
                Some(Some(addr)) if away >= PLACE_AFTER => {
                    return PlaceIsFree::No(format!(
                        "member {} of this cluster has the address of this node, {addr}, and does \
                         not answer",
                        member.node_id.short()
                    ));
                }
                // It may have moved, and answer in a moment; or nobody has told of it yet.
                Some(Some(_)) | None if away < PLACE_AFTER => place = PlaceIsFree::NotKnownYet,
                _ => {}
            }
        }
        place
    }

    async fn ask_to_join(&self, voter: &NodeId) {
        let decides =
            self.replica.layout.current().is_some_and(|state| state.voters.contains(voter));
        if !decides || self.replica.joined().is_ok() {
            return;
        }
        let request = Request::Join(Box::new(self.replica.net().own_info()));
        let call = Call::new(Priority::Layout, CHAIN_DEADLINE, request);
        match self.replica.net().call(voter, call).await {
            Ok(answer) => {
                if let Err(refusal) = answer.result {
                    self.joining.tell(format!("asking to join: {}", refusal.message));
                }
            }
            Err(error) => debug!(%error, "asking to join failed"),
        }
    }
}

/// Whether a new node may have the place that it asks for.
enum PlaceIsFree {
    Yes,
    NotKnownYet,
    /// And why.
    No(String),
}

/// So long a node that joins looks for a member of its own address: the first dials are over then.
const PLACE_AFTER: Duration = Duration::from_secs(3);
/// A zone's name as the layout keeps it: a snapshot of many members must fit a frame.
pub const ZONE_BYTES_MAX: usize = 64;
/// How often a node asks to join.
const JOIN_EVERY: Duration = Duration::from_millis(500);
