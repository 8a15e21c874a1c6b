//! Which infos of nodes are kept: genuine, newest, and when there is no room for all.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::LazyLock;

use ed25519_dalek::SigningKey;

use super::epoch::{key, node};
use super::member::info;
use crate::hlc::Hlc;
use crate::id::NodeId;
use crate::node::directory::{Directory, Learned, NODES_MAX};
use crate::node::member::NodeInfo;
use crate::signature::BadSignature;

fn learn(directory: &mut Directory, info: NodeInfo) -> Result<Learned, BadSignature> {
    directory.learn(info, 0, |_| false)
}

#[test]
fn the_newest_genuine_info_stays() {
    let mut directory = Directory::default();
    assert_eq!(learn(&mut directory, info(1, 5)), Ok(Learned::NewNode));
    assert_eq!(learn(&mut directory, info(1, 5)), Ok(Learned::Known));
    assert_eq!(learn(&mut directory, info(1, 4)), Ok(Learned::Known));
    assert_eq!(learn(&mut directory, info(1, 6)), Ok(Learned::Newer));
    let forged = NodeInfo { capacity: 1 << 60, seq: Hlc(7), ..info(1, 6) };
    assert!(learn(&mut directory, forged).is_err());
    assert_eq!(directory.get(&node(1)).unwrap().seq, Hlc(6));
}

#[test]
fn what_a_former_incarnation_says_is_no_news() {
    let mut directory = Directory::default();
    let of = |boot: u64, seq| {
        let info = NodeInfo { incarnation: boot << 32 | 7, ..info(1, seq) };
        info.sign(&key(1))
    };
    assert_eq!(learn(&mut directory, of(3, 5)), Ok(Learned::NewNode));
    assert_eq!(learn(&mut directory, of(2, 9)), Ok(Learned::Former));
    assert_eq!(learn(&mut directory, of(4, 6)), Ok(Learned::Newer));
    assert_eq!(directory.get(&node(1)).unwrap().incarnation >> 32, 4);
}

#[test]
fn two_directories_learn_from_each_others_digests() {
    let (mut ours, mut theirs) = (Directory::default(), Directory::default());
    for info in [info(1, 5), info(2, 1)] {
        learn(&mut ours, info).unwrap();
    }
    for info in [info(2, 9), info(3, 1)] {
        learn(&mut theirs, info).unwrap();
    }
    for info in theirs.missing_from(&ours.digest()) {
        learn(&mut ours, info).unwrap();
    }
    for info in ours.missing_from(&theirs.digest()) {
        learn(&mut theirs, info).unwrap();
    }
    assert_eq!(ours.digest(), theirs.digest());
}

/// What node `of` said at this second.
fn said(of: usize, second: u64) -> NodeInfo {
    let mut secret = [0; 32];
    secret[..8].copy_from_slice(&of.to_le_bytes());
    let key = SigningKey::from_bytes(&secret);
    let node_id = NodeId::new(key.verifying_key().to_bytes());
    let seq = Hlc::from_unix_ms(START_MS + second * 1000);
    NodeInfo { node_id, seq, ..info(1, 0) }.sign(&key)
}

/// A full directory, and whom it knows: node `n` spoke at second `n`.
static FULL: LazyLock<(Directory, Vec<NodeId>)> = LazyLock::new(|| {
    let mut directory = Directory::default();
    let infos: Vec<_> = (0..NODES_MAX).map(|of| said(of, of as u64)).collect();
    let nodes = infos.iter().map(|info| info.node_id).collect();
    infos.into_iter().for_each(|info| assert!(learn(&mut directory, info).is_ok()));
    (directory, nodes)
});

/// At second [`NODES_MAX`] the full directory is offered what a node that it does not know said at
/// `second`: that node takes a place or is told why not.
#[track_caller]
fn check_full(members: Range<usize>, second: u64, is_member: bool, gone: Result<usize, Learned>) {
    let (mut directory, nodes) = FULL.clone();
    let members: BTreeSet<NodeId> = nodes[members].iter().copied().collect();
    let now = START_MS + NODES_MAX as u64 * 1000;
    let newcomer = said(NODES_MAX, second);
    let node = newcomer.node_id;
    let keeps = |of: &NodeId| members.contains(of) || (is_member && *of == node);
    let learned = directory.learn(newcomer.clone(), now, keeps);
    let forgotten = nodes.iter().position(|node| directory.get(node).is_none());
    assert_eq!(directory.iter().count(), NODES_MAX);
    match gone {
        Ok(gone) => {
            assert_eq!((learned, forgotten), (Ok(Learned::NewNode), Some(gone)));
            assert_eq!(directory.get(&node), Some(&newcomer));
        }
        Err(why) => assert_eq!((learned, forgotten), (Ok(why), None)),
    }
}

#[test]
fn in_a_full_directory_the_stranger_that_spoke_longest_ago_gives_way() {
    let last = NODES_MAX as u64;
    check_full(0..0, last, false, Ok(0));
    check_full(0..5, last, false, Ok(5));
    check_full(0..5, 7, false, Ok(5));
    // What a directory let go of does not come back from another one.
    check_full(0..5, 4, false, Err(Learned::Full));
    check_full(0..NODES_MAX, last, false, Err(Learned::Full));
    // A clock that is ahead wins no place.
    check_full(0..5, last + 299, false, Ok(5));
    check_full(0..5, last + 301, false, Err(Learned::Full));
}

#[test]
fn a_member_finds_a_place_in_a_full_directory_whenever_it_spoke() {
    for second in [0, NODES_MAX as u64, NODES_MAX as u64 + 301] {
        check_full(0..5, second, true, Ok(5));
    }
}

#[test]
fn nobody_gives_way_to_a_forged_info_or_to_news_of_a_known_node() {
    let (mut directory, nodes) = FULL.clone();
    let later = NODES_MAX as u64;
    let forged = NodeInfo { used: 1 << 60, ..said(NODES_MAX, later) };
    assert!(learn(&mut directory, forged).is_err());
    assert_eq!(learn(&mut directory, said(7, later)), Ok(Learned::Newer));
    assert!(nodes.iter().all(|node| directory.get(node).is_some()));
}

/// When the first of them speaks.
const START_MS: u64 = 2_000_000_000_000;
