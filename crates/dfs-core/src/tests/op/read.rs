//! Reading records by table: what one replica's answer does to a read.

use std::collections::BTreeMap;
use std::time::Duration;

use super::Bench;
use crate::hlc::Hlc;
use crate::id::{DirId, RecordKey, Tag, VaultId};
use crate::record::version::{Kind, Place, Record, merge};
use crate::replica::op::fan_out::PATIENCE;
use crate::replica::op::read::{Read, ReadAnswer, ReadEvent, ReadResult, ReadSpec, ReadTask};
use crate::replica::op::{Counting, Failure, Fault};
use crate::tests::versions::version;

pub(super) type Reading = Read<u8, Fault>;

pub(super) fn key(tag: u8) -> RecordKey {
    RecordKey { vault: VaultId::new([0; 16]), dir: DirId::new([0; 16]), tag: Tag::new([tag; 16]) }
}

fn record(vid: u8) -> Record {
    let place = Place { actor: vid.into(), hlc: Hlc(vid.into()), context: BTreeMap::new() };
    Record::of(version(vid, place, Kind::Live))
}

pub(super) fn spec(set: &[u8], me: u8, needs_quorum: bool) -> ReadSpec<u8> {
    let (keys, set, counting) = (vec![key(0)], set.to_vec(), Counting::read(needs_quorum));
    let (guards, all_in_reach, is_moving) = (Vec::new(), true, false);
    ReadSpec { keys, set, guards, me, counting, needs_quorum, all_in_reach, is_moving }
}

/// A node tells of its record, or of its hash.
fn tells(node: u8, record: &Record) -> ReadEvent<u8, Fault> {
    ReadEvent::Answered(node, Ok(ReadAnswer::Records(vec![(key(0), record.clone())])))
}

fn hashes(node: u8, record: &Record) -> ReadEvent<u8, Fault> {
    ReadEvent::Answered(node, Ok(ReadAnswer::Hashes(vec![record.state_hash()])))
}

fn fails(node: u8) -> ReadEvent<u8, Fault> {
    ReadEvent::Answered(node, Err(Fault::Silent))
}

fn asks(node: u8, digest_only: bool) -> ReadTask<u8> {
    ReadTask::Ask { node, keys: vec![key(0)], digest_only }
}

fn verifies(node: u8, record: &Record) -> ReadTask<u8> {
    ReadTask::Verify { node, records: vec![(key(0), record.clone())] }
}

#[track_caller]
fn ends(mut read: Bench<Reading>, record: &Record, is_written_back: bool) {
    if is_written_back {
        assert_eq!(read.begun().last(), Some(&ReadTask::WriteBack(vec![(key(0), record.clone())])));
        assert_eq!(read.outcome, None);
        read.feed(ReadEvent::WrittenBack(Ok(true)));
    }
    assert_eq!(read.begun(), []);
    let records = vec![record.clone()];
    assert_eq!(read.outcome, Some(Ok(ReadResult { records, quorum: true, guarded: true })));
}

#[test]
fn two_that_agree_are_enough() {
    let mut read = Bench::start(Reading::new(spec(&[0, 1, 2], 0, true)));
    assert_eq!(read.begun(), [asks(0, false), asks(1, true), asks(2, true)]);
    read.feed(hashes(2, &record(1)));
    read.feed(tells(0, &record(1)));
    assert!(read.is_detached);
    ends(read, &record(1), false);
}

#[test]
fn replicas_that_differ_are_brought_together() {
    let mut read = Bench::start(Reading::new(spec(&[0, 1, 2], 0, true)));
    read.feed(tells(0, &record(1)));
    read.begun();
    read.feed(hashes(1, &record(2)));
    assert_eq!(read.begun(), [verifies(0, &record(1))]);
    read.feed(ReadEvent::Verified(0, true));
    assert_eq!(read.begun(), [asks(1, false)]);
    read.feed(tells(1, &record(2)));
    assert_eq!(read.begun(), [verifies(1, &record(2))]);
    read.feed(ReadEvent::Verified(1, true));
    ends(read, &merge(&record(1), &record(2)), true);
}

#[test]
fn one_that_holds_nothing_verifies_what_it_is_told() {
    let mut read = Bench::start(Reading::new(spec(&[0, 1, 2], 9, true)));
    assert_eq!(read.begun(), [0, 1, 2].map(|node| asks(node, false)));
    for node in [1, 0] {
        read.feed(tells(node, &record(1)));
    }
    // The other says the same.
    assert_eq!(read.begun(), [verifies(1, &record(1))]);
    read.feed(ReadEvent::Verified(1, true));
    ends(read, &record(1), false);
}

#[test]
fn what_guards_say_is_known_before_the_others_are_looked_at() {
    let guarded = ReadSpec { guards: vec![vec![2]], ..spec(&[0, 1, 2], 9, true) };
    let mut read = Bench::start(Reading::new(guarded));
    read.begun();
    read.feed(tells(1, &record(2)));
    read.feed(tells(2, &record(1)));
    for (node, told) in [(2, 1), (1, 2)] {
        assert_eq!(read.begun(), [verifies(node, &record(told))]);
        read.feed(ReadEvent::Verified(node, true));
    }
    ends(read, &merge(&record(1), &record(2)), true);
}

#[test]
fn one_that_lies_or_goes_away_is_one_less() {
    let lies: [&[ReadEvent<u8, Fault>]; 5] = [
        &[tells(1, &record(2)), ReadEvent::Verified(1, false)],
        &[fails(1)],
        &[ReadEvent::Answered(1, Ok(ReadAnswer::Other))],
        &[ReadEvent::Answered(1, Ok(ReadAnswer::Records(Vec::new())))],
        &[ReadEvent::Answered(1, Ok(ReadAnswer::Records(vec![(key(7), record(2))])))],
    ];
    for lie in lies {
        let mut read = Bench::start(Reading::new(spec(&[0, 1, 2], 0, true)));
        read.feed(tells(0, &record(1)));
        read.feed(hashes(1, &record(2)));
        read.feed(ReadEvent::Verified(0, true));
        read.begun();
        lie.iter().for_each(|event| read.feed(event.clone()));
        let begun = read.begun();
        assert_eq!(begun[begun.len() - 2..], [asks(0, false), asks(2, true)], "{lie:?}");
        read.feed(tells(0, &record(1)));
        read.feed(hashes(2, &record(1)));
        ends(read, &record(1), false);
    }
}

#[test]
fn when_too_few_are_left_the_read_fails() {
    let mut read = Bench::start(Reading::new(spec(&[0, 1, 2], 9, true)));
    read.feed(fails(0));
    read.feed(tells(1, &record(1)));
    read.feed(tells(2, &record(1)));
    read.feed(ReadEvent::Verified(1, false));
    read.feed(fails(0));
    assert_eq!(read.outcome, Some(Err(Failure::TooFew(vec![(0, Fault::Silent)]))));
}

#[test]
fn rot_on_the_own_disk_makes_this_node_one_less() {
    let mut read = Bench::start(Reading::new(spec(&[0, 1, 2], 0, true)));
    read.feed(tells(0, &record(9)));
    read.feed(hashes(1, &record(1)));
    read.begun();
    read.feed(ReadEvent::Verified(0, false));
    assert_eq!(read.begun(), [asks(1, true), asks(2, true)]);
    read.feed(hashes(1, &record(1)));
    read.feed(hashes(2, &record(1)));
    for node in [1, 2] {
        assert_eq!(read.begun(), [asks(node, false)]);
        read.feed(tells(node, &record(1)));
        read.begun();
        read.feed(ReadEvent::Verified(node, true));
    }
    // Against an empty record everything differs.
    read.begun = vec![ReadTask::WriteBack(vec![(key(0), record(1))])];
    ends(read, &record(1), true);
}

#[test]
fn records_that_fill_more_than_an_answer_are_asked_for_again() {
    let keys = vec![key(0), key(1), key(2)];
    let mut read = Bench::start(Reading::new(ReadSpec { keys, ..spec(&[1], 9, true) }));
    let page = |tags: &[u8]| {
        let records = tags.iter().map(|tag| (key(*tag), record(*tag))).collect();
        ReadEvent::Answered(1, Ok(ReadAnswer::Records(records)))
    };
    let rest = |tags: &[u8]| {
        let keys = tags.iter().map(|tag| key(*tag)).collect();
        [ReadTask::Ask { node: 1, keys, digest_only: false }]
    };
    assert_eq!(read.begun(), rest(&[0, 1, 2]));
    read.feed(page(&[0]));
    assert_eq!(read.begun(), rest(&[1, 2]));
    read.feed(page(&[1]));
    assert_eq!(read.begun(), rest(&[2]));
    read.feed(page(&[2, 3]));
    read.feed(ReadEvent::Verified(1, true));
    let records = [0, 1, 2].map(record).to_vec();
    assert_eq!(read.outcome, Some(Ok(ReadResult { records, quorum: true, guarded: true })));
}

#[test]
fn both_of_two_are_waited_for_and_one_alone_is_written_back() {
    for all_in_reach in [true, false] {
        let spec = ReadSpec { all_in_reach, ..spec(&[0, 1], 0, true) };
        let mut read = Bench::start(Reading::new(spec));
        read.feed(tells(0, &record(1)));
        let begun = read.begun();
        assert_eq!(begun.len(), if all_in_reach { 2 } else { 3 });
        if all_in_reach {
            read.wait(PATIENCE - Duration::from_millis(1));
            assert_eq!(read.begun(), []);
            read.wait(Duration::from_millis(1));
        } else {
            read.begun.extend(begun.into_iter().skip(2));
        }
        ends(read, &record(1), true);
    }
}

#[test]
fn while_a_partition_moves_everything_is_written_back() {
    let spec = ReadSpec { is_moving: true, ..spec(&[0, 1, 2], 0, true) };
    let mut read = Bench::start(Reading::new(spec));
    read.feed(tells(0, &record(1)));
    read.feed(hashes(1, &record(1)));
    ends(read, &record(1), true);
}

#[test]
fn what_is_kept_here_is_shown_where_no_quorum_is_needed() {
    let mut read = Bench::start(Reading::new(spec(&[0, 1, 2], 9, false)));
    read.begun();
    (0..3).for_each(|node| read.feed(fails(node)));
    assert_eq!(read.begun(), [ReadTask::LookHere]);
    read.feed(ReadEvent::Here(vec![record(1)]));
    let records = vec![record(1)];
    assert_eq!(read.outcome, Some(Ok(ReadResult { records, quorum: false, guarded: false })));
}

#[test]
fn what_was_not_given_back_to_the_guards_is_not_guarded() {
    for (given, expected) in [(true, true), (false, false)] {
        let spec = ReadSpec { guards: vec![vec![0]], ..spec(&[0, 1, 2], 0, true) };
        let mut read = Bench::start(Reading::new(spec));
        read.feed(tells(0, &Record::default()));
        read.feed(hashes(1, &record(1)));
        read.feed(ReadEvent::Verified(0, true));
        read.feed(tells(1, &record(1)));
        read.feed(ReadEvent::Verified(1, true));
        read.feed(ReadEvent::WrittenBack(Ok(given)));
        let guarded = read.outcome.map(|outcome| outcome.unwrap().guarded);
        assert_eq!(guarded, Some(expected));
    }
}
