//! Connections: accepted or dialled, greeted, put into use, and taken out of it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use dfs_core::address::Address;
use dfs_core::id::NodeId;
use dfs_core::node::conn::replaces;
use dfs_env::{Bug, Listener, Stream, bug};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::sync::OwnedSemaphorePermit;
use tracing::{debug, info, warn};

use crate::dial::{Dials, Due, Target};
use crate::error::ConnError;
use crate::greet::greet;
use crate::half_open::{HalfOpen, HalfOpenSlot};
use crate::hello::ConnClass;
use crate::message::Code;
use crate::peer::{Conn, Origin};
use crate::refusals::{Direction, apart_reason};
use crate::shared::Shared;

impl Shared {
    pub(crate) async fn accept(self: Arc<Self>, listener: Box<dyn Listener>) {
        let mut running = FuturesUnordered::new();
        let half_open = Arc::new(HalfOpen::default());
        loop {
            tokio::select! {
                biased;
                () = self.shutdown.cancelled() => break,
                Some(_) = running.next() => {}
                accepted = listener.accept(), if running.len() < CONNECTIONS_MAX => match accepted {
                    Ok((stream, from)) => {
                        if let Some(slot) = half_open.take(from.ip()) {
                            let run = self.clone().accepted(stream, from, slot);
                            running.push(self.env.spawn("accepted", run));
                        }
                    }
                    Err(error) => {
                        warn!(%error, "accepting a connection failed");
                        self.env.sleep(ACCEPT_RETRY).await;
                    }
                },
            }
        }
        drop(listener); // Refuse newcomers while the others finish.
        self.retire_all();
        while running.next().await.is_some() {}
    }

    async fn accepted(self: Arc<Self>, stream: Stream, from: SocketAddr, slot: HalfOpenSlot) {
        let origin = Origin::Accepted(from);
        let mut place = Some(Place::HalfOpen(slot));
        let result = self.run(stream, origin, None, &mut place).await;
        if let Err(error) = result {
            self.report(from, Direction::Accepted, &error);
        }
    }

    pub(crate) async fn dial(self: Arc<Self>) {
        let mut dials = Dials::new(self.env.mono());
        let mut running = FuturesUnordered::new();
        loop {
            let now = self.env.mono();
            let wanted = {
                let mut registry = self.registry();
                for node in std::mem::take(&mut registry.hurry) {
                    dials.hurry(now, &node);
                }
                registry.wanted(&self.identity.node, &self.config.bootstrap)
            };
            let (due, next) = dials.due(now, wanted, |node| !self.is_kept(node));
            for Due { target, place } in due {
                let place = place.map(|place| Place::Stranger { _place: place });
                let dialled = self.clone().dialled(target.clone(), place);
                let dialled = self.env.spawn("dialled", dialled);
                running.push(async move { (target, dialled.await) });
            }
            let look_again = now + DIAL_LOOK_AGAIN;
            let next = next.map_or(look_again, |next| next.min(look_again));
            tokio::select! {
                biased;
                () = self.shutdown.cancelled() => break,
                Some((target, ended)) = running.next() => {
                    let random = u32::from_be_bytes(self.env.random());
                    if bug(Bug::NoRedial) && matches!(target, Target::Control(_)) {
                        continue;
                    }
                    // A dial that panicked brought nothing, and is tried again all the same.
                    dials.ended(self.env.mono(), &target, ended.unwrap_or(false), random);
                }
                () = self.dial_wake.notified() => {}
                () = self.env.sleep_until(next) => {}
            }
        }
        self.retire_all();
        while running.next().await.is_some() {}
    }

    /// Dials a target and carries the connection to its end; says whether there was one.
    async fn dialled(self: Arc<Self>, target: Target, mut place: Option<Place>) -> bool {
        let (class, expected) = match &target {
            Target::Bootstrap(_) => (ConnClass::Control, None),
            Target::Control(node) => (ConnClass::Control, Some(*node)),
            Target::Bulk(node, _) => (ConnClass::Bulk, Some(*node)),
        };
        let mut connected = false;
        let mut met_myself = false;
        let mut why = None;
        for addr in self.addresses(&target).await {
            if self.shutdown.is_cancelled() {
                break;
            }
            let connect = self.env.timeout(CONNECT_MAX, self.env.net().connect(addr));
            let stream = match connect.await {
                Ok(Ok(stream)) => stream,
                Ok(Err(error)) => {
                    debug!(%addr, %error, "a dial failed");
                    self.registry().refusals.forget(addr);
                    why = Some(error.to_string());
                    continue;
                }
                Err(_) => {
                    why = Some("no answer".to_owned());
                    continue;
                }
            };
            let origin = Origin::Dialled(addr, class, self.count_dial());
            let bootstrap = match &target {
                Target::Bootstrap(address) => Some(address.clone()),
                _ => None,
            };
            match self.run(stream, origin, Some((expected, bootstrap)), &mut place).await {
                Ok(()) => {
                    connected = true;
                    break;
                }
                Err(ConnError::Myself) => met_myself = true,
                Err(error) => self.report(addr, Direction::Dialled, &error),
            }
        }
        if let (Target::Bootstrap(address), false, true) = (&target, connected, met_myself) {
            self.registry().bootstrap_ids.insert(address.clone(), self.identity.node);
        }
        if let (Target::Bootstrap(address), false, Some(why)) = (&target, connected, why) {
            self.tell_unanswered(address, &why);
        }
        if !connected {
            self.registry().note_tried(target);
            self.dialled_once.notify_waiters();
        }
        connected
    }

    /// Tells why a connection did not come up, if it takes someone to do something.
    fn report(&self, addr: SocketAddr, direction: Direction, error: &ConnError) {
        debug!(%addr, %error, "a connection did not come up");
        let in_cluster = self.handler.cluster_id().is_some();
        let Some(reason) = apart_reason(error, in_cluster) else { return };
        let now = self.env.mono();
        if self.registry().refusals.note(now, addr, direction, reason) {
            warn!(%addr, why = %reason, "a node is kept apart");
        }
    }

    fn count_dial(&self) -> u64 {
        let mut registry = self.registry();
        registry.dials += 1;
        registry.dials
    }

    /// Says that a bootstrap address does not answer: at first, and again when the reason changes.
    fn tell_unanswered(&self, address: &Address, why: &str) {
        let told = self.registry().unanswered.insert(address.clone(), why.to_owned());
        if told.as_deref() != Some(why) {
            info!(%address, why, "a bootstrap address does not answer yet");
        }
    }

    async fn addresses(&self, target: &Target) -> Vec<SocketAddr> {
        match target {
            Target::Bulk(_, addr) => vec![*addr],
            Target::Control(node) => {
                let addrs = self.registry().directory.get(node).map(|info| info.addrs.clone());
                addrs.unwrap_or_default().iter().filter_map(|addr| addr.parse().ok()).collect()
            }
            Target::Bootstrap(address) => {
                let resolve = self.env.net().resolve(address.dial_host(), address.port);
                match self.env.timeout(CONNECT_MAX, resolve).await {
                    Ok(Ok(addrs)) => addrs,
                    Ok(Err(error)) => {
                        debug!(%address, %error, "a bootstrap name does not resolve");
                        Vec::new()
                    }
                    Err(_) => Vec::new(),
                }
            }
        }
    }

    /// Greets, registers and carries one connection to its end. An error means that it never
    /// came into use.
    async fn run(
        self: &Arc<Self>,
        stream: Stream,
        origin: Origin,
        dialled: Option<(Option<NodeId>, Option<Address>)>,
        place: &mut Option<Place>,
    ) -> Result<(), ConnError> {
        let own_info = self.own().info().clone();
        let (expected, bootstrap) = dialled.unwrap_or_default();
        let gives_way = async {
            match &place {
                Some(Place::HalfOpen(slot)) => slot.given_to_another().await,
                Some(Place::Stranger { .. }) | None => std::future::pending().await,
            }
        };
        let greeting = tokio::select! {
            biased;
            () = self.shutdown.cancelled() => return Err(ConnError::Closed),
            () = gives_way => return Err(ConnError::GaveWay),
            greeting = greet(self, stream, origin, expected, &own_info) => greeting?,
        };
        *place = None;
        if let Some(address) = bootstrap {
            self.registry().bootstrap_ids.insert(address, greeting.peer);
        }
        let _open = self.count_open(greeting.peer).ok_or(ConnError::TooMany)?;
        let shares = (self.budget.clone(), self.traffic.clone());
        let (node, closing) = (self.identity.node, self.force.child_token());
        let conn = Arc::new(Conn::new(&self.env, node, &greeting, origin, shares, closing));
        if let Some(seen) = greeting.observed {
            self.observed(seen, &conn);
        }
        if let Some(addr) = conn.dialled {
            self.registry().refusals.forget(addr);
        }
        self.take_in(greeting.info.clone(), &greeting.peer);
        let is_new_peer = self.register(&conn);
        let greeter =
            is_new_peer.then(|| self.env.spawn("introduce", self.clone().introduce(conn.clone())));
        let carried = conn.clone().run(self.handler.clone(), greeting);
        let end = carried.await;
        drop(greeter);
        debug!(peer = ?conn.peer, class = ?conn.class, %end, "a connection ended");
        if let ConnError::Refused { .. } = end {
            // The peer looked at this node's greeting only after it had sent its own.
            self.heed(&end, &conn.challenge);
            let (Origin::Dialled(addr, ..) | Origin::Accepted(addr)) = origin;
            self.report(addr, Direction::Dialled, &end);
        }
        self.unregister(&conn);
        Ok(())
    }

    /// Counts a connection of a peer until the guard is dropped; `None` when it has too many, each
    /// of which may hold bytes.
    fn count_open(self: &Arc<Self>, peer: NodeId) -> Option<OpenSlot> {
        let mut registry = self.registry();
        let open = registry.open.entry(peer).or_default();
        if open.count >= CONNECTIONS_OF_PEER_MAX {
            return None;
        }
        open.count += 1;
        Some(OpenSlot { shared: self.clone(), peer })
    }

    /// Puts a connection into use unless another one of its class stays; says whether the peer
    /// was not connected before.
    fn register(&self, conn: &Arc<Conn>) -> bool {
        if self.shutdown.is_cancelled() {
            conn.retire(Code::Ok, "shutting down");
            return false;
        }
        let key = (conn.peer, conn.class);
        let mut registry = self.registry();
        let was_connected = registry.is_connected(&conn.peer);
        match registry.conns.get(&key) {
            Some(old) if !old.is_retired() && !replaces(conn.facts, old.facts) => {
                conn.retire(Code::Duplicate, "another connection is kept");
                return false;
            }
            _ => {}
        }
        if let Some(old) = registry.conns.insert(key, conn.clone()) {
            old.retire(Code::Duplicate, "another connection is kept");
        }
        if conn.class == ConnClass::Control {
            registry.down_since.remove(&conn.peer);
        }
        let is_new_peer = !was_connected && registry.is_connected(&conn.peer);
        drop(registry);
        self.dial_wake.notify_one();
        self.dialled_once.notify_waiters();
        if is_new_peer {
            info!(peer = ?conn.peer, "connected");
            self.handler.peer_changed(conn.peer, true);
        }
        is_new_peer
    }

    fn unregister(&self, conn: &Arc<Conn>) {
        let key = (conn.peer, conn.class);
        let mut registry = self.registry();
        let in_use = registry.conns.get(&key).is_some_and(|used| Arc::ptr_eq(used, conn));
        if !in_use {
            return;
        }
        registry.conns.remove(&key);
        if conn.class == ConnClass::Control {
            registry.note_down(conn.peer, self.env.mono());
            let bulk = registry.conns.get(&(conn.peer, ConnClass::Bulk)).cloned();
            drop(registry);
            // A peer without a control connection is gone; do not let the other one linger.
            if let Some(bulk) = bulk {
                bulk.close();
            }
            info!(peer = ?conn.peer, "disconnected");
            self.handler.peer_changed(conn.peer, false);
        }
        self.dial_wake.notify_one();
    }

    fn retire_all(&self) {
        let conns: Vec<_> = self.registry().conns.values().cloned().collect();
        for conn in conns {
            conn.retire(Code::Ok, "shutting down");
        }
    }
}

/// What a connection takes up until it has greeted.
enum Place {
    HalfOpen(HalfOpenSlot),
    Stranger { _place: OwnedSemaphorePermit },
}

/// One open connection of a peer.
struct OpenSlot {
    shared: Arc<Shared>,
    peer: NodeId,
}

impl Drop for OpenSlot {
    fn drop(&mut self) {
        let mut registry = self.shared.registry();
        if let Some(open) = registry.open.get_mut(&self.peer) {
            open.count -= 1;
            if open.count == 0 {
                registry.open.remove(&self.peer);
            }
        }
    }
}

/// Connections that may be open at once: two for each of the peers one node keeps.
const CONNECTIONS_MAX: usize = 1024;
/// Connections of one peer that have not ended: two in use, and those that give way to them when
/// it redials.
const CONNECTIONS_OF_PEER_MAX: usize = 8;
/// A failing accept, as when descriptors run out, is not retried in a busy loop.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);
/// A host that does not answer by then is not waited for.
const CONNECT_MAX: Duration = Duration::from_secs(2);
/// How often the dialler looks without being told.
const DIAL_LOOK_AGAIN: Duration = Duration::from_secs(1);
