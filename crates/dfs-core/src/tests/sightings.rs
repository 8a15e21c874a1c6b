//! Where others see a node: whom it believes.

use std::net::SocketAddr;

use super::epoch::node;
use crate::node::member::ADDRS_MAX;
use crate::node::sightings::Sightings;

fn addr(last: u8) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, last], 4000))
}

/// The addresses that count after these peers, members below 100, named these.
#[track_caller]
fn check(named: &[(u8, u8)], expected: &[u8]) {
    let mut sightings = Sightings::default();
    for (by, last) in named {
        sightings.note(addr(*last), node(*by), |of| (0..100).any(|member| *of == node(member)));
    }
    let expected: Vec<_> = expected.iter().map(|last| addr(*last)).collect();
    assert_eq!(sightings.addrs(), expected);
}

#[test]
fn an_address_counts_once_two_peers_have_named_it() {
    check(&[(1, 10), (2, 20), (3, 20)], &[20]);
    check(&[(1, 10), (2, 20), (3, 20), (3, 10)], &[10, 20]);
    check(&[(1, 10), (2, 20), (3, 20), (3, 10), (4, 20)], &[10, 20]);
    check(&[(1, 10), (2, 10), (2, 20), (2, 20), (2, 20)], &[10]);
}

#[test]
fn a_single_peer_is_believed_and_so_is_the_first_until_two_agree() {
    check(&[], &[]);
    check(&[(1, 10)], &[10]);
    check(&[(1, 10), (1, 11)], &[11, 10]);
    check(&[(1, 10), (2, 20), (3, 30)], &[10]);
}

#[test]
fn a_stranger_is_not_believed() {
    check(&[(100, 10), (101, 10)], &[]);
    check(&[(100, 10), (1, 20)], &[20]);
    check(&[(1, 20), (100, 10), (1, 10)], &[10, 20]);
}

#[test]
fn who_stops_to_count_is_forgotten() {
    let mut sightings = Sightings::default();
    for by in [100, 101, 1, 2] {
        sightings.note(addr(by), node(by), |_| true);
        sightings.note(addr(7), node(by), |_| true);
    }
    assert_eq!(sightings.addrs(), [addr(7)]);
    sightings.note(addr(9), node(1), |of| *of == node(1));
    assert_eq!(sightings.addrs(), [addr(9), addr(1), addr(7)]);
}

#[test]
fn one_that_lies_pushes_nothing_out() {
    let lies: Vec<_> = (100..250).map(|last| (9, last)).collect();
    let confirmed = [(1, 10), (2, 10)];
    check(&[&confirmed[..], &lies].concat(), &[10]);
    // Nor what waits for a second witness, nor what the first peer said.
    check(&[&[(1, 10)][..], &lies, &[(2, 10)]].concat(), &[10]);
    check(&[&[(1, 10)][..], &lies].concat(), &[10]);
}

#[test]
fn a_bounded_number_is_kept() {
    let named = |by: u8| (0..20).map(move |last| (by, last + by * 20));
    let mut sightings = Sightings::default();
    for (by, last) in
        (0..10).flat_map(named).chain((0..60).flat_map(|last| [(50, last), (51, last)]))
    {
        sightings.note(addr(last), node(by), |_| true);
    }
    let newest: Vec<_> = (0..60).rev().take(ADDRS_MAX).map(addr).collect();
    assert_eq!(sightings.addrs(), newest);
}
