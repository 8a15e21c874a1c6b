//! Which infos of nodes are kept: genuine, newest, and when there is no room for all.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::LazyLock;

use ed25519_dalek::SigningKey;

use super::epoch::{key, node};
use super::member::info;
use crate::hlc::Hlc;
use crate::id::NodeId;
use crate::node::directory::{Directory, Learned, NODES_MAX, STRANGER_KEPT, STRANGERS_MAX, View};
use crate::node::member::{Genuine, NodeInfo};

/// Everyone is a stranger that was heard of lately.
const ALL_HEARD: View<'static> =
    View { is_vouched_for: true, now_unix_ms: 0, is_member: &|_| false, is_heard: &|_| true };

fn learn(directory: &mut Directory, info: NodeInfo) -> Learned {
    directory.learn(genuine(info), &ALL_HEARD)
}

fn genuine(info: NodeInfo) -> Genuine {
    info.genuine().unwrap()
}

#[test]
fn the_newest_info_stays() {
    let mut directory = Directory::default();
    assert_eq!(learn(&mut directory, info(1, 5)), Learned::NewNode);
    assert_eq!(learn(&mut directory, info(1, 5)), Learned::Known);
    assert_eq!(learn(&mut directory, info(1, 4)), Learned::Known);
    assert_eq!(learn(&mut directory, info(1, 6)), Learned::Newer);
    assert_eq!(directory.get(&node(1)).unwrap().seq, Hlc(6));
}

#[test]
fn what_another_node_signed_is_not_genuine() {
    assert!(NodeInfo { capacity: 1 << 60, ..info(1, 6) }.genuine().is_err());
    assert!(NodeInfo { node_id: node(2), ..info(1, 6) }.genuine().is_err());
}

#[test]
fn what_a_former_incarnation_says_is_no_news() {
    let mut directory = Directory::default();
    let of = |boot: u64, seq| {
        let info = NodeInfo { incarnation: boot << 32 | 7, ..info(1, seq) };
        info.sign(&key(1))
    };
    assert_eq!(learn(&mut directory, of(3, 5)), Learned::NewNode);
    assert_eq!(learn(&mut directory, of(2, 9)), Learned::Former);
    assert_eq!(learn(&mut directory, of(4, 6)), Learned::Newer);
    assert_eq!(directory.get(&node(1)).unwrap().incarnation >> 32, 4);
}

#[test]
fn of_strangers_only_those_are_told_whose_word_counts() {
    let mut directory = Directory::default();
    let view = View { is_vouched_for: false, ..ALL_HEARD };
    assert_eq!(directory.learn(genuine(info(1, 5)), &view), Learned::Hearsay);
    assert_eq!(directory.iter().count(), 0);
    let of_member = View { is_member: &|_| true, ..view };
    assert_eq!(directory.learn(genuine(info(1, 5)), &of_member), Learned::NewNode);
}

#[test]
fn two_directories_learn_from_each_others_digests() {
    let (mut ours, mut theirs) = (Directory::default(), Directory::default());
    for info in [info(1, 5), info(2, 1)] {
        learn(&mut ours, info);
    }
    for info in [info(2, 9), info(3, 1)] {
        learn(&mut theirs, info);
    }
    for info in theirs.missing_from(&ours.digest(), |_| false) {
        learn(&mut ours, info);
    }
    for info in ours.missing_from(&theirs.digest(), |_| false) {
        learn(&mut theirs, info);
    }
    assert_eq!(ours.digest(), theirs.digest());
}

/// What node `of` said at this second.
fn said(of: usize, second: u64) -> NodeInfo {
    said_at(of, second, 1)
}

/// The same, with so many long addresses.
fn said_at(of: usize, second: u64, addrs: usize) -> NodeInfo {
    let mut secret = [0; 32];
    secret[..8].copy_from_slice(&of.to_le_bytes());
    let key = SigningKey::from_bytes(&secret);
    let node_id = NodeId::new(key.verifying_key().to_bytes());
    let (seq, addrs) = (Hlc::from_unix_ms(wall(second)), vec!["x".repeat(100); addrs]);
    NodeInfo { node_id, seq, addrs, ..info(1, 0) }.sign(&key)
}

/// The wall clock at this second.
fn wall(second: u64) -> u64 {
    START_MS + second * 1000
}

/// A directory with as many strangers as it keeps, and whom it knows: node `n` spoke at second `n`.
static FULL: LazyLock<(Directory, Vec<NodeId>)> = LazyLock::new(|| {
    let mut directory = Directory::default();
    let infos: Vec<_> = (0..STRANGERS_MAX).map(|of| said(of, of as u64)).collect();
    let nodes = infos.iter().map(|info| info.node_id).collect();
    for info in infos {
        assert_eq!(learn(&mut directory, info), Learned::NewNode);
    }
    (directory, nodes)
});

/// At second [`LAST`] the full directory is offered what a node that it does not know said at
/// `second`: that node takes a place or is told why not. `heard` are those of the known ones with a
/// connection; the newcomer has one too if `is_heard`.
#[track_caller]
fn check_full(heard: Range<usize>, second: u64, is_heard: bool, gone: Result<usize, Learned>) {
    let (mut directory, nodes) = FULL.clone();
    let mut heard: BTreeSet<NodeId> = nodes[heard].iter().copied().collect();
    let newcomer = said(STRANGERS_MAX, second);
    let node = newcomer.node_id;
    if is_heard {
        heard.insert(node);
    }
    let view = View {
        is_vouched_for: true,
        now_unix_ms: wall(LAST),
        is_member: &|_| false,
        is_heard: &|node| heard.contains(node),
    };
    let refused = directory.refuses(&newcomer, &view);
    let learned = directory.learn(genuine(newcomer.clone()), &view);
    let forgotten = nodes.iter().position(|node| directory.get(node).is_none());
    assert_eq!(directory.iter().count(), STRANGERS_MAX);
    match gone {
        Ok(gone) => {
            assert_eq!((refused, learned, forgotten), (None, Learned::NewNode, Some(gone)));
            assert_eq!(directory.get(&node), Some(&newcomer));
        }
        Err(why) => assert_eq!((refused, learned, forgotten), (Some(why), why, None)),
    }
}

#[test]
fn of_too_many_strangers_the_one_that_spoke_longest_ago_gives_way() {
    check_full(0..0, LAST, false, Ok(0));
    check_full(0..5, LAST, false, Ok(5));
    check_full(0..5, 7, false, Ok(5));
    // What a directory let go of does not come back from another one.
    check_full(0..5, 4, false, Err(Learned::Full));
    // One that is there comes before one that is only heard of, whatever their clocks say.
    check_full(0..STRANGERS_MAX, LAST, false, Err(Learned::Full));
    check_full(0..STRANGERS_MAX, LAST, true, Ok(0));
    check_full(0..5, 4, true, Ok(5));
    check_full(0..5, LAST + 301, true, Ok(5));
    check_full(0..STRANGERS_MAX, LAST + 301, true, Err(Learned::Full));
    // A clock that is ahead wins no place.
    check_full(0..5, LAST + 299, false, Ok(5));
    check_full(0..5, LAST + 301, false, Err(Learned::Stale));
}

#[test]
fn strangers_keep_no_member_out_and_push_none_out() {
    let (mut directory, nodes) = FULL.clone();
    let (member, other) = (said(9_000, 0), said(9_001, LAST + 301));
    let members: BTreeSet<_> = [nodes[0], member.node_id, other.node_id].into();
    let view = View { is_member: &|node| members.contains(node), ..ALL_HEARD };
    assert_eq!(directory.forget_strangers(&view), []);
    for member in [member, other] {
        assert_eq!(directory.learn(genuine(member), &view), Learned::NewNode);
    }
    assert_eq!(directory.iter().count(), STRANGERS_MAX + 2);
    for of in 0..1_000 {
        directory.learn(genuine(said(10_000 + of, LAST)), &view);
    }
    assert!(members.iter().all(|node| directory.get(node).is_some()));
    // A stranger took the place that the first left when it became a member.
    assert_eq!(directory.iter().count(), STRANGERS_MAX + 3);
}

#[test]
fn who_has_just_become_a_member_does_not_give_way() {
    let (mut directory, nodes) = FULL.clone();
    let view = View { is_member: &|node| *node == nodes[0], ..ALL_HEARD };
    assert_eq!(directory.learn(genuine(said(9_000, LAST)), &view), Learned::NewNode);
    assert!(directory.get(&nodes[0]).is_some() && directory.get(&nodes[1]).is_none());
}

#[test]
fn a_member_takes_the_place_of_a_stranger_when_there_is_no_other() {
    let (mut directory, nodes) = FULL.clone();
    let all = View { is_member: &|_| true, ..ALL_HEARD };
    let mut members = BTreeSet::new();
    for of in STRANGERS_MAX..NODES_MAX {
        let info = said(of, LAST);
        members.insert(info.node_id);
        assert_eq!(directory.learn(genuine(info), &all), Learned::NewNode);
    }
    assert_eq!(directory.iter().count(), NODES_MAX);
    let newcomer = said(NODES_MAX, 0);
    let is_member = |node: &NodeId| members.contains(node) || *node == newcomer.node_id;
    let view = View { is_member: &is_member, ..ALL_HEARD };
    assert_eq!(directory.learn(genuine(newcomer.clone()), &view), Learned::NewNode);
    assert_eq!(directory.iter().count(), NODES_MAX);
    assert!(directory.get(&nodes[0]).is_none());
    assert_eq!(directory.learn(genuine(said(9_999, LAST)), &all), Learned::Full);
}

#[test]
fn nobody_gives_way_to_news_of_a_known_node() {
    let (mut directory, nodes) = FULL.clone();
    assert_eq!(learn(&mut directory, said(7, LAST)), Learned::Newer);
    assert!(nodes.iter().all(|node| directory.get(node).is_some()));
}

/// Whether a stranger that spoke at second 0, or one that says what it likes, is still kept.
#[track_caller]
fn check_kept(now: u64, is_member: bool, is_heard: bool, kept: bool) {
    let (now_unix_ms, is_member, is_heard) = (wall(now), &|_: &_| is_member, &|_: &_| is_heard);
    let view = View { is_vouched_for: true, now_unix_ms, is_member, is_heard };
    let info = said(1, 0);
    let mut directory = Directory::default();
    learn(&mut directory, info.clone());
    let forgotten = directory.forget_strangers(&view);
    let expected = if kept { Vec::new() } else { vec![info.node_id] };
    assert_eq!((forgotten, directory.iter().count()), (expected, usize::from(kept)));
    // What was forgotten does not come back from those who have not forgotten it yet.
    let again = Directory::default().refuses(&info, &view);
    assert_eq!(again, (!kept).then_some(Learned::Stale));
}

#[test]
fn a_stranger_is_forgotten_a_while_after_it_was_heard_of_last() {
    let kept = STRANGER_KEPT.as_secs();
    check_kept(kept, false, false, true);
    check_kept(kept + 1, false, false, false);
    check_kept(kept + 1, false, true, true);
    check_kept(kept + 1, true, false, true);
}

#[test]
fn what_members_say_of_themselves_is_told_first() {
    let (mut directory, nodes) = FULL.clone();
    for of in 0..STRANGERS_MAX {
        learn(&mut directory, said_at(of, LAST, 16));
    }
    let last: Vec<_> = nodes[STRANGERS_MAX - 5..].to_vec();
    let told = directory.missing_from(&[], |node| last.contains(node));
    assert!(told.len() < STRANGERS_MAX);
    assert!(told[..5].iter().all(|info| last.contains(&info.node_id)));
}

/// When the first of them speaks.
const START_MS: u64 = 2_000_000_000_000;
/// The second at which all have spoken.
const LAST: u64 = STRANGERS_MAX as u64;
