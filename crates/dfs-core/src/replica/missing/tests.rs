use super::*;

fn id(byte: u8) -> BlobId {
    BlobId::new([byte; 32])
}

fn room(count: usize) -> Room {
    Room { any: count, last_copies: count }
}

/// A queue whose references were all looked at.
fn looked_through() -> MissingBlobs {
    let mut missing = MissingBlobs::default();
    missing.look_begins();
    missing.look_ends();
    missing
}

const START: Duration = Duration::ZERO;
const COUNT_MAX: usize = 64;

#[test]
fn what_only_a_lost_node_may_have_is_missing_and_holds_up_no_move() {
    let bits = PartitionBits::GENESIS;
    let mut queue = looked_through();
    queue.want(id(7), None);
    let missing = |queue: &MissingBlobs| queue.missing_partitions(bits).unwrap().len();
    assert_eq!(missing(&queue), 1);
    queue.settle(START, id(7), Outcome::Away);
    assert_eq!((missing(&queue), queue.len(START)), (0, 1));
    queue.retry_all();
    assert_eq!(missing(&queue), 1, "the peer that came back may have it");
    queue.settle(START, id(7), Outcome::Away);
    queue.settle(START, id(7), Outcome::Later);
    assert_eq!(missing(&queue), 1);
    queue.found(&id(7));
    assert_eq!((missing(&queue), queue.len(START)), (0, 0));
}

#[test]
fn whatever_happens_each_wanted_blob_has_one_place_in_the_order() {
    let none = BTreeSet::new();
    let mut queue = MissingBlobs::default();
    for step in 0..4000u32 {
        let draw = step.wrapping_mul(2_654_435_761) >> 7;
        let (id, now) = (id((draw % 23) as u8), Duration::from_millis(step.into()));
        match draw / 23 % 11 {
            0 => queue.want(id, None),
            1 => queue.want(id, Some(now + Duration::from_millis(40))),
            2 => queue.found(&id),
            3 => queue.counted(&[id], vec![draw as usize % 4]),
            4 => queue.settle(now, id, Outcome::Away),
            5 => queue.settle(now, id, Outcome::Full),
            6 => queue.settle(now, id, Outcome::Lost),
            7 => queue.settle(now, id, Outcome::Settled),
            8 => queue.retry_all(),
            9 => queue.count_again(),
            _ => drop(queue.take_due(now, room(3), &none, COUNT_MAX)),
        }
        let places = queue.ready.iter().copied().map(|(_, id)| (id, None));
        let later = queue.later.iter().copied().map(|(at, id)| (id, Some(at)));
        let places: BTreeMap<_, _> = places.chain(later).collect();
        let wanted = queue.wanted.iter().map(|(id, want)| (*id, want.at)).collect();
        assert_eq!(places, wanted, "after step {step}");
        assert_eq!(places.len(), queue.ready.len() + queue.later.len(), "after step {step}");
        for (urgency, id) in &queue.ready {
            assert_eq!(*urgency, Urgency::of(queue.wanted[id].copies), "after step {step}");
        }
    }
}

#[test]
fn partitions_are_named_once_whatever_is_missing_of_them() {
    let bits = PartitionBits::new(3).unwrap();
    assert_eq!(MissingBlobs::default().missing_partitions(bits), None);
    let mut queue = looked_through();
    for byte in [0x00, 0x1f, 0x20, 0x9a, 0x9b, 0xe0, 0xff] {
        queue.want(id(byte), None);
    }
    assert_eq!(queue.missing_partitions(bits), Some([0, 1, 4, 7].into()));
    for byte in [0x00, 0x20, 0x9a, 0xff] {
        queue.settle(START, id(byte), Outcome::Lost);
    }
    assert_eq!(queue.missing_partitions(bits), Some([0, 4, 7].into()));
}

#[test]
fn a_full_disk_puts_off_nothing_for_long() {
    let none = BTreeSet::new();
    let mut queue = MissingBlobs::default();
    let next = |queue: &mut MissingBlobs, outcome| {
        queue.settle(START, id(7), outcome);
        queue.take_due(START, room(1), &none, COUNT_MAX).next.unwrap()
    };
    // Seed 435: wanted anew with every comparison of rows while the disk was full, and then put
    // off for an hour.
    for _ in 0..20 {
        queue.want(id(7), None);
        assert!(next(&mut queue, Outcome::Later) <= RETRY_FIRST * 2);
    }
    let waits: Vec<_> = (0..6).map(|_| next(&mut queue, Outcome::Full).as_secs()).collect();
    assert_eq!(waits, [8, 16, 30, 30, 30, 30]);
    let wait = next(&mut queue, Outcome::Later);
    assert_eq!(wait, RETRY_FIRST * 256, "others are put off longer and longer");
}

#[test]
fn what_has_one_copy_left_is_taken_before_what_was_wanted_first() {
    let none = BTreeSet::new();
    let mut queue = MissingBlobs::default();
    (0..6).for_each(|byte| queue.want(id(byte), None));
    let due = queue.take_due(START, room(4), &none, COUNT_MAX);
    assert_eq!((due.ids.len(), due.uncounted.len()), (4, 6));
    let all_fit = queue.take_due(START, room(6), &none, COUNT_MAX);
    assert!(all_fit.uncounted.is_empty(), "all find a place");
    queue.counted(&due.uncounted, vec![3, 2, 3, 0, 1, 2]);
    let mut taken = |count, busy: &_| queue.take_due(START, room(count), busy, COUNT_MAX).ids;
    assert_eq!(taken(9, &none), [4, 1, 5, 0, 2, 3].map(id));
    assert_eq!(taken(2, &[id(4)].into()), [1, 5].map(id));
    // It failed: until it is due again, and counted again, others go first.
    queue.settle(START, id(4), Outcome::Later);
    let due = queue.take_due(START, room(1), &none, COUNT_MAX);
    assert_eq!((due.ids, due.next), (vec![id(1)], Some(RETRY_FIRST)));
    let due = queue.take_due(RETRY_FIRST, room(1), &none, COUNT_MAX);
    assert_eq!((due.ids, due.uncounted), (vec![id(1)], vec![id(4)]));
    queue.count_again();
    assert_eq!(queue.take_due(RETRY_FIRST, room(1), &none, COUNT_MAX).uncounted.len(), 6);
}
