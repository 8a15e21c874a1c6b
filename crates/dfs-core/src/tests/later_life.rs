//! What ends a start of a node for good, and what does not.

use super::epoch::key;
use super::member::info;
use crate::codec::Canonical;
use crate::node::later_life::{LaterLife, StillRuns};
use crate::node::member::NodeInfo;

const CHALLENGE: [u8; 32] = [5; 32];

/// What the node with key 1 says as boot `boot` with these random bits.
fn life(boot: u64, bits: u64, durable_epoch: u64) -> NodeInfo {
    let incarnation = boot << 32 | bits;
    NodeInfo { incarnation, durable_epoch, ..info(1, 5) }.sign(&key(1))
}

#[track_caller]
fn check(later: LaterLife, ends: bool) {
    let bytes = later.to_canonical();
    assert_eq!(LaterLife::from_canonical(bytes), Ok(later.clone()));
    assert_eq!(later.ends(&life(3, 7, 10), &CHALLENGE), ends, "{later:?}");
}

fn told(info: NodeInfo) -> LaterLife {
    LaterLife::Info(Box::new(info))
}

#[test]
fn only_what_the_node_itself_said_later_ends_a_start() {
    check(told(life(4, 1, 10)), true);
    check(told(life(3, 8, 10)), true);
    check(told(life(2, 1, 11)), true);
    // Its own words, and those of its earlier starts, prove nothing.
    check(told(life(3, 7, 10)), false);
    check(told(life(3, 7, 99)), false);
    check(told(life(2, 1, 10)), false);
    // Nor does what another node said, or what nobody signed.
    check(told(NodeInfo { incarnation: 9 << 32, ..info(2, 5) }.sign(&key(2))), false);
    check(told(NodeInfo { incarnation: 9 << 32, ..life(3, 7, 10) }), false);
    check(told(NodeInfo { node_id: info(1, 5).node_id, ..info(2, 5) }.sign(&key(2))), false);
}

#[test]
fn an_earlier_start_that_still_runs_ends_the_one_it_was_asked_about() {
    let said = |boot: u64, challenge| StillRuns::sign(boot << 32 | 7, challenge, &key(1));
    check(LaterLife::StillRuns(said(2, CHALLENGE)), true);
    // What was said of another connection may be an old word played again.
    check(LaterLife::StillRuns(said(2, [6; 32])), false);
    // This very start was asked about itself.
    check(LaterLife::StillRuns(said(3, CHALLENGE)), false);
    check(LaterLife::StillRuns(StillRuns::sign(2 << 32, CHALLENGE, &key(2))), false);
    check(LaterLife::StillRuns(StillRuns { incarnation: 9, ..said(2, CHALLENGE) }), false);
}
