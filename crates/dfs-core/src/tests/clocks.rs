//! Whose clock is wrong.

use proptest::prelude::*;

use crate::node::clocks::{Ahead, Compared, WrongClock};

const SECOND: i64 = 1000;
const MINUTE: i64 = 60 * SECOND;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;

/// Peers 1, 2, …, whose clocks are so far ahead of this node's.
fn compared(ahead: &[i64]) -> Compared<u8> {
    let peers = (1u8..).zip(ahead).map(|(node, ahead)| (node, Ahead(*ahead)));
    Compared::new(peers.collect())
}

/// What clocks so far ahead of this node's mean: how far its own is ahead of the right ones,
/// whether it may stamp, and which peers are off.
#[track_caller]
fn check(ahead: &[i64], own: Option<i64>, stamps: Result<(), WrongClock<u8>>, off: &[u8]) {
    let compared = compared(ahead);
    assert_eq!(compared.own(), own.map(Ahead));
    assert_eq!(compared.may_stamp(), stamps);
    assert_eq!(compared.peers_off().map(|(node, _)| node).collect::<Vec<_>>(), off);
}

#[test]
fn whoever_is_alone_or_agrees_may_stamp() {
    check(&[], Some(0), Ok(()), &[]);
    check(&[0], Some(0), Ok(()), &[]);
    check(&[90 * SECOND, -20 * SECOND], Some(0), Ok(()), &[]);
    check(&[0, 0, 0, 0], Some(0), Ok(()), &[]);
}

#[test]
fn a_majority_tells_who_is_off_and_by_how_much() {
    // Another is off: that is no concern of this node's.
    for off in [-56 * 365 * DAY, -13 * HOUR, 6 * MINUTE, 40 * DAY] {
        check(&[0, off], Some(0), Ok(()), &[2]);
        check(&[off, off, 0, 0], Some(0), Ok(()), &[1, 2]);
    }
    // This one is.
    for own in [-56 * 365 * DAY, -13 * HOUR, 330 * SECOND, 40 * DAY] {
        let (ahead, wrong) = (-own, Err(WrongClock::Own(Ahead(own))));
        check(&[ahead, ahead], Some(own), wrong, &[]);
        // With a clock that is off as well, the other way.
        check(&[ahead, ahead, ahead, ahead - own], Some(own), wrong, &[4]);
    }
}

#[test]
fn a_clock_that_replicas_would_take_may_stamp_though_it_is_off() {
    for own in [-11 * HOUR, -3 * MINUTE, 4 * MINUTE] {
        check(&[-own, -own], Some(own), Ok(()), &[]);
        assert_eq!(compared(&[-own, -own]).own_off(), Some(Ahead(own)));
        assert_eq!(compared(&[-own, -own]).correction(), Ahead(-own));
    }
    let near = compared(&[90 * SECOND, 90 * SECOND]);
    assert_eq!((near.own_off(), near.correction()), (None, Ahead(0)));
}

#[test]
fn of_two_that_differ_nobody_can_tell_which_is_wrong() {
    for own in [-56 * 365 * DAY, -13 * HOUR, 6 * MINUTE, 40 * DAY] {
        let wrong = Err(WrongClock::Either(1, Ahead(own)));
        check(&[-own], None, wrong, &[]);
        let compared = compared(&[-own]);
        assert_eq!(compared.undecided(), Some((1, Ahead(-own))));
        assert_eq!((compared.correction(), compared.own_off()), (Ahead(0), None));
        assert!(!compared.is_borne_out());
    }
    // The one that is behind by less than replicas take goes on.
    check(&[6 * MINUTE], None, Ok(()), &[]);
    assert_eq!(compared(&[0]).undecided(), None);
}

#[test]
fn two_against_two_and_all_apart_are_undecided() {
    let both = Err(WrongClock::Either(2, Ahead(-40 * DAY)));
    check(&[0, 40 * DAY, 40 * DAY], None, both, &[]);
    check(&[HOUR, -HOUR], None, Ok(()), &[]);
    assert_eq!(compared(&[HOUR, -2 * HOUR]).undecided(), Some((2, Ahead(-2 * HOUR))));
    let apart = Err(WrongClock::Either(1, Ahead(-40 * DAY)));
    check(&[40 * DAY, -40 * DAY], None, apart, &[]);
}

#[test]
fn only_who_is_borne_out_counts() {
    assert!(!compared(&[]).is_borne_out());
    assert!(compared(&[0]).is_borne_out());
    assert!(compared(&[40 * DAY, 40 * DAY]).is_borne_out());
}

#[test]
fn offsets_read_as_people_say_them() {
    for (ms, text) in [
        (0, "0 s ahead"),
        (-1400, "1 s behind"),
        (330 * SECOND, "5 min 30 s ahead"),
        (-13 * HOUR + 3, "13 h behind"),
        (-13 * HOUR - 20 * MINUTE, "13 h 20 min behind"),
        (DAY, "1 day ahead"),
        (40 * DAY + 5 * HOUR, "40 days 5 h ahead"),
        (i64::MIN, "106751991167 days 7 h behind"),
    ] {
        assert_eq!(Ahead(ms).to_string(), text);
    }
    assert_eq!(Ahead(6 * MINUTE).than("mine"), "6 min ahead of mine");
    assert_eq!(Ahead(-DAY).than("mine"), "1 day behind mine");
    assert_eq!(Ahead::of(5, 9), Ahead(-4));
    assert_eq!(Ahead::of(u64::MAX, 0), Ahead(i64::MAX));
}

proptest! {
    /// Fewer than half of all clocks, wherever they stand, make nobody doubt a right one.
    #[test]
    fn a_minority_changes_nothing(
        right in 1usize..6,
        liars in proptest::collection::vec(any::<i64>(), 0..6),
    ) {
        prop_assume!(liars.len() < right + 1);
        let ahead: Vec<_> = std::iter::repeat_n(0, right).chain(liars).collect();
        let compared = compared(&ahead);
        prop_assert_eq!(compared.may_stamp(), Ok(()));
        prop_assert_eq!(compared.correction(), Ahead(0));
    }

    /// Whatever is told: nothing overflows, and what is called off is off.
    #[test]
    fn any_readings_are_judged(ahead in proptest::collection::vec(any::<i64>(), 0..9)) {
        let compared = compared(&ahead);
        let off = compared.peers_off().count();
        prop_assert!(off * 2 <= ahead.len());
        prop_assert!(compared.undecided().is_none() || compared.own().is_none());
        let _ = (compared.may_stamp(), compared.correction(), compared.own_off());
    }
}
