//! Exchanging what is known about nodes, and keeping it on disk.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use dfs_core::id::NodeId;
use dfs_core::node::member::NodeInfo;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tracing::{debug, warn};

use crate::book;
use crate::config::OwnFacts;
use crate::error::CallError;
use crate::hello::ConnClass;
use crate::message::{Call, Gossip, Priority, Request, Response};
use crate::peer::Conn;
use crate::shared::Shared;

impl Shared {
    /// Changes what this node says about itself, and publishes it if it is news.
    pub(crate) fn change_facts(&self, change: impl FnOnce(&mut OwnFacts)) {
        let changed = self.own().change_facts(&self.env, &self.config, change);
        changed.into_iter().for_each(|info| self.publish(info));
    }

    /// Publishes the same once more, under a new number.
    pub(crate) fn say_again(&self) {
        let info = self.own().say_again(&self.env, &self.config);
        self.publish(info);
    }

    /// A peer told where it sees us. Only a node that listens on every interface needs that. It is
    /// told to others on the word of a gateway, or of two members; of anyone while this node is in
    /// no cluster yet.
    pub(crate) fn observed(&self, seen: SocketAddr, by: &Conn) {
        if !self.listen.ip().is_unspecified() {
            return;
        }
        // An IPv4 address that came over an IPv6 socket counts as IPv4.
        let ip = seen.ip().to_canonical();
        let port = if by.dialled.is_none() { seen.port() } else { self.listen.port() };
        let addr = SocketAddr::new(ip, port);
        let is_gateway = || by.admin.is_some_and(|admin| self.handler.is_admin(&admin));
        let counts = self.handler.cluster_id().is_none()
            || is_gateway()
            || (self.handler.is_member(&by.peer) && self.own().is_seen_at(addr, by.peer));
        if !counts {
            return;
        }
        let changed = self.own().add_addr(&self.env, &self.config, addr);
        changed.into_iter().for_each(|info| self.publish(info));
    }

    pub(crate) fn publish(&self, info: NodeInfo) {
        self.learn(vec![info], &self.identity.node);
        self.gossip_wake.notify_one();
    }

    /// Takes in what a peer knows and answers with what it lacks.
    pub(crate) fn answer_gossip(&self, from: &NodeId, gossip: Gossip) -> Response {
        self.learn(gossip.infos, from);
        if !gossip.want_reply {
            return Response::Done;
        }
        let registry = self.registry();
        Response::Gossip(Gossip {
            digest: registry.directory.digest(),
            infos: registry.directory.missing_from(&gossip.digest, |node| self.is_kept(node)),
            want_reply: false,
        })
    }

    /// Exchanges everything known with a new peer.
    pub(crate) async fn introduce(self: Arc<Self>, conn: Arc<Conn>) {
        if let Err(error) = self.exchange(&conn).await {
            debug!(peer = ?conn.peer, %error, "an exchange of infos failed");
        }
    }

    async fn exchange(&self, conn: &Conn) -> Result<(), CallError> {
        let digest = self.registry().directory.digest();
        let ask = Gossip { digest, infos: Vec::new(), want_reply: true };
        let answer = conn.call(gossip_call(ask)).await?;
        let Ok(Response::Gossip(theirs)) = answer.result else { return Ok(()) };
        self.learn(theirs.infos, &conn.peer);
        let is_kept = |node: &NodeId| self.is_kept(node);
        let infos = self.registry().directory.missing_from(&theirs.digest, is_kept);
        if !infos.is_empty() {
            let tell = Gossip { infos, ..Gossip::default() };
            conn.call(gossip_call(tell)).await?;
        }
        Ok(())
    }

    /// Tells news about this node at once, compares notes with one random peer at a time, and
    /// forgets who is gone.
    pub(crate) async fn gossip(self: Arc<Self>) {
        let mut ticker = self.env.ticker(GOSSIP_EVERY);
        let mut running = FuturesUnordered::new();
        loop {
            tokio::select! {
                biased;
                () = self.shutdown.cancelled() => return,
                Some(_) = running.next() => {}
                () = self.gossip_wake.notified() => {
                    let infos = vec![self.own().info().clone()];
                    for conn in self.control_conns() {
                        let tell = Gossip { infos: infos.clone(), ..Gossip::default() };
                        running.push(self.env.spawn("tell", async move {
                            // Whoever misses it hears it in the next exchange.
                            let _ = conn.call(gossip_call(tell)).await;
                        }));
                    }
                }
                () = ticker.tick() => {
                    self.forget_strangers();
                    let conns = self.control_conns();
                    let pick = self.env.random_u64() % (conns.len().max(1) as u64);
                    let pick = usize::try_from(pick).unwrap_or(0);
                    if let Some(conn) = conns.get(pick) {
                        let run = self.clone().introduce(conn.clone());
                        running.push(self.env.spawn("exchange", run));
                    }
                }
            }
        }
    }

    fn control_conns(&self) -> Vec<Arc<Conn>> {
        let registry = self.registry();
        let control = registry.conns.iter().filter(|((_, class), _)| *class == ConnClass::Control);
        control.map(|(_, conn)| conn.clone()).collect()
    }

    pub(crate) async fn keep_book(self: Arc<Self>) {
        let Some(path) = self.config.book.clone() else { return };
        loop {
            let last = tokio::select! {
                biased;
                () = self.shutdown.cancelled() => true,
                () = self.env.sleep(BOOK_EVERY) => false,
            };
            let infos: Vec<_> = {
                let mut registry = self.registry();
                if !std::mem::take(&mut registry.book_is_old) && !last {
                    continue;
                }
                registry.directory.iter().cloned().collect()
            };
            let (env, path) = (self.env.clone(), path.clone());
            let written = self.env.offload(move || book::write(env.fs(), &path, &infos)).await;
            if let Err(error) = written {
                warn!(%error, "the peer book could not be written");
            }
            if last {
                return;
            }
        }
    }
}

fn gossip_call(gossip: Gossip) -> Call {
    Call::new(Priority::Layout, GOSSIP_DEADLINE, Request::Gossip(gossip))
}

/// How often notes are compared with a random peer.
const GOSSIP_EVERY: Duration = Duration::from_secs(2);
/// An exchange that takes longer is given up.
const GOSSIP_DEADLINE: Duration = Duration::from_secs(5);
/// The book is written at most this often.
const BOOK_EVERY: Duration = Duration::from_secs(10);
