//! Writes of records: who has them, when this node keeps them, and how they are cut into calls.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::{Bench, World, any_fault, run, up_to};
use crate::codec::Canonical;
use crate::hlc::Hlc;
use crate::id::{DirId, PartitionBits, RecordKey, Tag, VaultId};
use crate::quorum::Tally;
use crate::record::version::{Kind, Place, Record};
use crate::replica::op::write::{Put, Write, WriteEvent, WriteSpec, WriteTask, batches};
use crate::replica::op::{Counting, Failure, Fault};
use crate::tests::random::Random;
use crate::tests::versions::version;

type Writing = Write<u8, Fault>;

const ME: u8 = 9;

fn spec(needs_quorum: bool) -> WriteSpec<u8> {
    let (sets, counting) = (vec![vec![0, 1, 2]], Counting::write(needs_quorum));
    WriteSpec { sets, guards: Vec::new(), counting, needs_quorum, me: ME }
}

fn put(nodes: &[u8], guarded: bool) -> Put<u8> {
    Put { nodes: nodes.iter().copied().collect(), guarded }
}

#[test]
fn two_acks_of_three_commit_and_the_third_is_owed() {
    let mut write = Bench::start(Writing::new(spec(true)));
    assert_eq!(write.begun(), [0, 1, 2].map(WriteTask::Put));
    write.feed(WriteEvent::Put(2, Err(Fault::Silent)));
    write.feed(WriteEvent::Put(0, Ok(())));
    write.feed(WriteEvent::Put(1, Ok(())));
    assert_eq!(write.outcome, Some(Ok(put(&[0, 1], true))));
    assert_eq!(write.owed, [2]);
}

#[test]
fn a_copy_here_is_kept_only_where_no_quorum_is_needed() {
    for needs_quorum in [true, false] {
        let mut write = Bench::start(Writing::new(spec(needs_quorum)));
        for node in 0..3 {
            write.feed(WriteEvent::Put(node, Err(Fault::Silent)));
        }
        if needs_quorum {
            assert!(matches!(write.outcome, Some(Err(Failure::TooFew(_)))));
            assert!(write.owed.is_empty());
            continue;
        }
        assert_eq!(write.begun().last(), Some(&WriteTask::KeepHere));
        assert_eq!(write.outcome, None);
        write.feed(WriteEvent::Kept);
        assert_eq!(write.outcome, Some(Ok(put(&[ME], false))));
    }
}

#[test]
fn a_full_disk_or_a_wrong_clock_is_told_and_not_hidden_by_a_copy_here() {
    for (fault, failure) in [
        (Fault::NoSpace, Failure::NoSpace),
        (Fault::ClockSkew, Failure::ClockSkew(Fault::ClockSkew)),
        (Fault::Stale, Failure::Stale),
    ] {
        let mut write = Bench::start(Writing::new(spec(false)));
        (0..3).for_each(|node| write.feed(WriteEvent::Put(node, Err(fault))));
        assert_eq!(write.outcome, Some(Err(failure)));
    }
}

#[test]
fn writes_are_cut_by_partition_bytes_and_count() {
    let record = |vid: u8| {
        let place = Place { actor: 1, hlc: Hlc(vid.into()), context: BTreeMap::new() };
        Record::of(version(vid, place, Kind::Live))
    };
    let key = |dir: u8, tag: u8| {
        let (vault, dir, tag) = (VaultId::new([0; 16]), DirId::new([dir; 16]), Tag::new([tag; 16]));
        RecordKey { vault, dir, tag }
    };
    let bits = PartitionBits::GENESIS;
    let bytes = RecordKey::LEN + record(1).to_canonical().len();
    // Two directories in turn: what one of them takes must not count for the other.
    let rows: Vec<_> = (0..10).map(|nth: u8| (key(nth % 2, nth), record(nth))).collect();
    let cut = |records_max, bytes_max| -> Vec<usize> {
        let cut = batches(rows.clone(), bits, records_max, bytes_max);
        for (partition, batch) in &cut {
            assert!(batch.iter().all(|(key, _)| key.partition(bits) == *partition));
            assert!(batch.len() == 1 || batch.len() * bytes <= bytes_max);
        }
        let mut all: Vec<_> = cut.iter().flat_map(|(_, batch)| batch.clone()).collect();
        all.sort_by_key(|(key, _)| key.tag);
        assert_eq!(all, rows);
        cut.iter().map(|(_, batch)| batch.len()).collect()
    };
    assert_ne!(key(0, 0).partition(bits), key(1, 0).partition(bits));
    assert_eq!(cut(100, usize::MAX), [5, 5]);
    assert_eq!(cut(3, usize::MAX), [3, 2, 3, 2]);
    assert_eq!(cut(100, 2 * bytes), [2, 2, 1, 2, 2, 1]);
    assert_eq!(cut(100, 3 * bytes - 1), [2, 2, 1, 2, 2, 1]);
    assert_eq!(cut(100, 1), [1; 10]);
}

/// Replicas that take what they are given, or fail before or after they took it.
struct Replicas {
    random: Random,
    plans: BTreeMap<u8, (Duration, Option<Fault>)>,
    have: BTreeSet<u8>,
    is_over: bool,
}

impl World for Replicas {
    type Op = Writing;

    fn random(&mut self) -> &mut Random {
        &mut self.random
    }

    fn begin(&mut self, _: Duration, task: &WriteTask<u8>) -> Option<Duration> {
        match task {
            WriteTask::Put(node) => Some(self.plans[node].0),
            WriteTask::KeepHere => Some(Duration::ZERO),
        }
    }

    fn end(&mut self, _: Duration, task: WriteTask<u8>) -> WriteEvent<u8, Fault> {
        match task {
            WriteTask::Put(node) => {
                let fault = self.plans[&node].1;
                if !self.is_over && (fault.is_none() || self.random.chance(30)) {
                    self.have.insert(node);
                }
                WriteEvent::Put(node, fault.map_or(Ok(()), Err))
            }
            WriteTask::KeepHere => {
                self.have.insert(ME);
                WriteEvent::Kept
            }
        }
    }

    fn over(&mut self) {
        self.is_over = true;
    }
}

/// Whether a random write tells the truth: everyone it names has it, and they are enough.
fn is_true(seed: u64, counting: fn(bool) -> Counting<u8>) -> bool {
    let mut random = Random::new(seed);
    let size = 1 + random.index(5);
    let sets = vec![(0..u8::try_from(size).unwrap()).collect::<Vec<u8>>()];
    let needs_quorum = random.chance(60);
    let plan = |random: &mut Random| {
        let fault = random.chance(40).then(|| any_fault(random));
        (up_to(random, 4000), fault)
    };
    let plans = sets[0].iter().map(|node| (*node, plan(&mut random))).collect();
    let (guards, counting) = (Vec::new(), counting(needs_quorum));
    let spec = WriteSpec { sets, guards, counting, needs_quorum, me: ME };
    let mut world = Replicas { random, plans, have: BTreeSet::new(), is_over: false };
    let ended = run(&mut world, Writing::new(spec));
    match ended.outcome {
        Ok(Put { nodes, .. }) => {
            let enough = if needs_quorum { Tally::<u8>::write_majority(size) } else { 1 };
            nodes.is_subset(&world.have) && nodes.len() >= enough
        }
        Err(Failure::TooFew(_)) => needs_quorum,
        Err(_) => true,
    }
}

#[test]
fn those_that_a_write_names_have_it_and_are_enough() {
    assert!((0..5000).all(|seed| is_true(seed, Counting::write)));
}

#[test]
fn a_weaker_count_would_acknowledge_what_is_not_written() {
    let any = |_| Counting::write(false);
    assert!(!(0..500).all(|seed| is_true(seed, any)));
    let failures_count =
        |needs_quorum| Counting { failure: Tally::ack, ..Counting::write(needs_quorum) };
    assert!(!(0..500).all(|seed| is_true(seed, failures_count)));
}
