//! Infos of nodes: genuine, newest, and compared in short.

use super::epoch::{key, node};
use crate::codec::Canonical;
use crate::hlc::Hlc;
use crate::node::liveness::Reach;
use crate::node::member::{
    Clean, IncarnationOrder, MoveFact, NodeInfo, compare_incarnations, ranges,
};

pub(super) fn info(of: u8, seq: u64) -> NodeInfo {
    let info = NodeInfo {
        node_id: node(of),
        incarnation: 1,
        seq: Hlc(seq),
        addrs: vec!["127.0.0.1:3000".to_owned()],
        zone: "z".to_owned(),
        capacity: 5,
        used: 4,
        build: "test".to_owned(),
        durable_epoch: 3,
        repair_queue: 2,
        lost: 1,
        synced: vec![MoveFact { first: 0, last: 9, prepare_epoch: 7 }],
        bodies: Vec::new(),
        emptied: Vec::new(),
        reach: Reach::of([1, 9]),
        clean: Clean { at: Hlc(9), epoch: 3 },
        signature: [0; 64],
    };
    info.sign(&key(of))
}

#[test]
fn a_lower_boot_or_an_equal_one_with_other_bits_is_a_former_incarnation() {
    let at = |boot: u64, bits: u64| boot << 32 | bits;
    assert_eq!(compare_incarnations(None, at(1, 5)), IncarnationOrder::Newer);
    assert_eq!(compare_incarnations(Some(at(1, 5)), at(1, 5)), IncarnationOrder::Same);
    assert_eq!(compare_incarnations(Some(at(1, 5)), at(2, 3)), IncarnationOrder::Newer);
    assert_eq!(compare_incarnations(Some(at(2, 3)), at(1, 5)), IncarnationOrder::Former);
    assert_eq!(compare_incarnations(Some(at(2, 3)), at(2, 4)), IncarnationOrder::Former);
    assert_eq!(compare_incarnations(Some(at(2, 3)), at(2, 2)), IncarnationOrder::Former);
}

#[test]
fn infos_come_back_and_cut_ones_do_not() {
    let info = info(1, 5);
    let bytes = info.to_canonical();
    assert_eq!(NodeInfo::from_canonical(bytes.clone()), Ok(info));
    for len in 0..bytes.len() {
        assert!(NodeInfo::from_canonical(bytes[..len].to_vec()).is_err(), "cut at {len}");
    }
}

#[test]
fn progress_is_told_in_ranges() {
    let facts = ranges([(0, 3), (1, 3), (2, 3), (4, 3), (5, 8)]);
    let shown: Vec<_> = facts.iter().map(|f| (f.first, f.last, f.prepare_epoch)).collect();
    assert_eq!(shown, [(0, 2, 3), (4, 4, 3), (5, 5, 8)]);
    assert!(facts[0].covers(2, 3) && !facts[0].covers(2, 4) && !facts[0].covers(3, 3));
}

#[test]
fn that_nothing_is_kept_for_others_is_told_from_time_to_time_and_its_end_at_once() {
    let clean = |ms: u64, epoch| Clean { at: Hlc::from_unix_ms(2_000_000_000_000 + ms), epoch };
    let every = std::time::Duration::from_millis(10);
    let never = Clean::default();
    for (found, told, expected) in [
        (clean(9, 1), clean(0, 1), clean(0, 1)),
        (clean(10, 1), clean(0, 1), clean(10, 1)),
        (clean(1, 2), clean(0, 1), clean(1, 2)),
        (never, clean(0, 1), never),
        (clean(1, 1), never, clean(1, 1)),
        (never, never, never),
        // A clock that was set back, a little and further.
        (clean(0, 1), clean(9, 1), clean(9, 1)),
        (clean(0, 1), clean(50, 1), clean(0, 1)),
    ] {
        assert_eq!(found.to_tell(told, every), expected, "{found:?} after {told:?}");
    }
}
