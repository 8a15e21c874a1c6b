//! Connections that have not greeted yet: how many there may be, and which gives way.
//!
//! Anyone can open a connection and say nothing. Such a one loses its place to a newcomer when all
//! are taken, so whoever greets at once gets in; nobody takes places by the number of addresses
//! that one machine has.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

use dfs_env::{Bug, bug};
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

/// Counts connections that have not greeted yet, in all and by source.
#[derive(Default)]
pub(crate) struct HalfOpen(Mutex<Open>);

#[derive(Default)]
struct Open {
    begun: u64,
    /// By number: the first is the oldest.
    slots: BTreeMap<u64, Held>,
    by_source: BTreeMap<IpAddr, usize>,
}

struct Held {
    source: IpAddr,
    gives_way: CancellationToken,
}

/// A place for one connection until it has greeted.
pub(crate) struct HalfOpenSlot {
    counts: Arc<HalfOpen>,
    number: u64,
    gives_way: CancellationToken,
}

impl HalfOpen {
    /// A place for a connection from `ip`, if need be that of the oldest one; `None` when its
    /// source has too many.
    pub(crate) fn take(self: &Arc<Self>, ip: IpAddr) -> Option<HalfOpenSlot> {
        let source = source_of(ip);
        let mut open = self.0.lock();
        if open.by_source.get(&source).is_some_and(|count| *count >= HALF_OPEN_PER_SOURCE_MAX) {
            return None;
        }
        if open.slots.len() >= HALF_OPEN_MAX {
            if bug(Bug::SilenceKeepsItsPlace) {
                return None;
            }
            open.oldest_gives_way();
        }
        let gives_way = CancellationToken::new();
        let number = open.add(Held { source, gives_way: gives_way.clone() });
        Some(HalfOpenSlot { counts: self.clone(), number, gives_way })
    }
}

impl Open {
    fn add(&mut self, held: Held) -> u64 {
        *self.by_source.entry(held.source).or_default() += 1;
        self.begun += 1;
        self.slots.insert(self.begun, held);
        self.begun
    }

    fn oldest_gives_way(&mut self) {
        let oldest = self.slots.keys().next().copied();
        if let Some(held) = oldest.and_then(|number| self.remove(number)) {
            held.gives_way.cancel();
        }
    }

    /// `None` when it has given way before.
    fn remove(&mut self, number: u64) -> Option<Held> {
        let held = self.slots.remove(&number)?;
        if let Some(count) = self.by_source.get_mut(&held.source) {
            *count -= 1;
            if *count == 0 {
                self.by_source.remove(&held.source);
            }
        }
        Some(held)
    }
}

impl HalfOpenSlot {
    /// Waits until the place is needed for another connection.
    pub(crate) async fn given_to_another(&self) {
        self.gives_way.cancelled().await;
    }
}

impl Drop for HalfOpenSlot {
    fn drop(&mut self) {
        self.counts.0.lock().remove(self.number);
    }
}

/// What counts as one source: an IPv4 address, also one that came over an IPv6 socket, or the /64
/// that any machine with IPv6 has to itself.
fn source_of(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        ip if bug(Bug::SourceIsWholeAddress) => ip,
        IpAddr::V6(ip) => IpAddr::V6(Ipv6Addr::from_bits(ip.to_bits() >> 64 << 64)),
        ip => ip,
    }
}

/// Connections that have not greeted yet: a flood of them costs this much memory and no more.
const HALF_OPEN_MAX: usize = 256;
/// The same from one source, so that one host cannot use up all of them.
const HALF_OPEN_PER_SOURCE_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    /// Whether a second address is refused once the first has all the places of one source.
    #[track_caller]
    fn check_source(first: &str, second: &str, is_same: bool) {
        let half_open = Arc::new(HalfOpen::default());
        let take = |text| half_open.take(ip(text));
        let mut taken: Vec<_> = (0..HALF_OPEN_PER_SOURCE_MAX).map(|_| take(first)).collect();
        assert!(taken.iter().all(Option::is_some) && take(first).is_none());
        assert_eq!(take(second).is_none(), is_same, "{first} and {second}");
        taken.pop();
        assert!(take(first).is_some());
    }

    #[test]
    fn a_source_is_an_ipv4_address_or_64_bits_of_ipv6() {
        check_source("2001:db8::1", "2001:db8::ffff:0:0:9", true);
        check_source("2001:db8::1", "2001:db8:0:1::1", false);
        check_source("192.0.2.1", "::ffff:192.0.2.1", true);
        check_source("::ffff:192.0.2.1", "::ffff:192.0.2.2", false);
        check_source("192.0.2.1", "192.0.2.2", false);
    }

    fn has_given_way(slot: &HalfOpenSlot) -> bool {
        slot.gives_way.is_cancelled()
    }

    #[test]
    fn the_oldest_gives_way_when_all_places_are_taken() {
        let half_open = Arc::new(HalfOpen::default());
        let take =
            |at: usize| half_open.take(IpAddr::from([10, 0, 0, (at / 8).try_into().unwrap()]));
        let mut slots: Vec<_> = (0..HALF_OPEN_MAX).map(|at| take(at).unwrap()).collect();
        assert!(!slots.iter().any(has_given_way));
        for at in 0..3 {
            slots.push(half_open.take(ip("192.0.2.1")).unwrap());
            assert!(slots[..=at].iter().all(has_given_way));
            assert!(!slots[at + 1..].iter().any(has_given_way));
        }
        // Those gave their places up already; one that greets makes room for another.
        slots.drain(..4);
        slots.push(take(0).unwrap());
        assert!(!slots.iter().any(has_given_way));
        drop(slots);
        let open = half_open.0.lock();
        assert!(open.slots.is_empty() && open.by_source.is_empty());
    }

    #[test]
    fn a_source_with_too_many_takes_no_place_of_another() {
        let half_open = Arc::new(HalfOpen::default());
        let of = |last: u8| half_open.take(IpAddr::from([10, 0, 0, last]));
        let slots: Vec<_> =
            (0..HALF_OPEN_MAX).map(|at| of((at / 64).try_into().unwrap()).unwrap()).collect();
        assert!((0..4).all(|last| of(last).is_none()));
        assert!(!slots.iter().any(has_given_way));
    }
}
