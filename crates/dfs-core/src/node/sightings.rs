//! Where others see this node. One peer may say what it likes: an address counts once two have
//! named the same one.
//!
//! Until then the peer that spoke first is believed alone. A cluster of two has nobody else, and a
//! node without any address cannot be dialled.

use std::net::SocketAddr;

use crate::id::NodeId;
use crate::node::member::ADDRS_MAX;

/// The addresses that peers have named, and who did.
#[derive(Debug, Clone, Default)]
pub struct Sightings {
    /// The oldest first; an address is as old as its confirmation, once it has one.
    seen: Vec<Sighting>,
}

#[derive(Debug, Clone)]
struct Sighting {
    addr: SocketAddr,
    /// Never empty.
    by: Vec<NodeId>,
}

impl Sightings {
    /// Notes that a peer sees this node at an address. `counts` tells whose word counts now; what
    /// the others said is forgotten.
    pub fn note(&mut self, addr: SocketAddr, by: NodeId, counts: impl Fn(&NodeId) -> bool) {
        for sighting in &mut self.seen {
            sighting.by.retain(&counts);
        }
        self.seen.retain(|sighting| !sighting.by.is_empty());
        if !counts(&by) {
            return;
        }
        match self.seen.iter().position(|sighting| sighting.addr == addr) {
            Some(at) => self.confirm(at, by),
            None => self.seen.push(Sighting { addr, by: vec![by] }),
        }
        self.drop_oldest(CANDIDATES_OF_ONE_MAX, |sighting| sighting.by == [by]);
        self.drop_oldest(CANDIDATES_MAX, |sighting| !sighting.is_confirmed());
        self.drop_oldest(ADDRS_MAX, Sighting::is_confirmed);
    }

    /// The addresses that count, the newest first.
    pub fn addrs(&self) -> Vec<SocketAddr> {
        let first = self.seen.first().map(|sighting| sighting.by[0]);
        let is_any_confirmed = self.seen.iter().any(Sighting::is_confirmed);
        let newest_first = self.seen.iter().rev();
        let counted = newest_first.filter(|sighting| match is_any_confirmed {
            true => sighting.is_confirmed(),
            false => sighting.by.first() == first.as_ref(),
        });
        counted.map(|sighting| sighting.addr).collect()
    }

    fn confirm(&mut self, at: usize, by: NodeId) {
        let sighting = &mut self.seen[at];
        if sighting.by.contains(&by) || sighting.by.len() >= WITNESSES_MAX {
            return;
        }
        sighting.by.push(by);
        if sighting.by.len() == CONFIRMED_BY {
            self.seen[at..].rotate_left(1);
        }
    }

    /// Keeps at most so many of a kind.
    fn drop_oldest(&mut self, max: usize, is_of_kind: impl Fn(&Sighting) -> bool) {
        if self.seen.iter().filter(|sighting| is_of_kind(sighting)).count() > max
            && let Some(oldest) = self.seen.iter().position(is_of_kind)
        {
            self.seen.remove(oldest);
        }
    }
}

impl Sighting {
    fn is_confirmed(&self) -> bool {
        self.by.len() >= CONFIRMED_BY
    }
}

/// Peers that must name an address.
const CONFIRMED_BY: usize = 2;
/// Peers that are remembered to have named it: some may leave.
const WITNESSES_MAX: usize = 4;
/// Addresses that one peer alone has named: a machine has a few of each kind, and moves.
const CANDIDATES_OF_ONE_MAX: usize = 4;
/// Addresses that nobody else has named, in all: it takes sixteen liars to push out a true one.
const CANDIDATES_MAX: usize = 64;
