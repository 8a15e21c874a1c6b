//! Which connection stays, and how long to wait.

use std::time::Duration;

use super::epoch::node;
use crate::hlc::{Clock, Hlc};
use crate::node::conn::{Backoff, ConnFacts, replaces};
use crate::quorum::{Tally, Verdict};

#[test]
fn both_ends_keep_the_same_of_two_connections() {
    let (a, b) = (node(1), node(2));
    let (small, large) = if a < b { (a, b) } else { (b, a) };
    let by_small = ConnFacts { dialler: small, peer_incarnation: 1, dial: 3 };
    let by_large = ConnFacts { dialler: large, peer_incarnation: 1, dial: 9 };
    // Whichever comes second at either end, the one dialled by the smaller id stays.
    assert!(replaces(by_small, by_large));
    assert!(!replaces(by_large, by_small));
    // Of two dials by one side the later stays, whichever arrives first.
    let again = ConnFacts { dial: 4, ..by_small };
    assert!(replaces(again, by_small) && !replaces(by_small, again));
    // A restarted peer replaces its former incarnation.
    assert!(replaces(ConnFacts { peer_incarnation: 2, ..by_large }, by_small));
}

#[test]
fn waits_double_up_to_a_cap_and_start_anew_after_success() {
    let mut backoff = Backoff::new(Duration::from_secs(30));
    let middle = 30; // 100 %
    let waits: Vec<_> = (0..8).map(|_| backoff.after_failure(middle).as_millis()).collect();
    assert_eq!(waits, [500, 1000, 2000, 4000, 8000, 16_000, 30_000, 30_000]);
    assert_eq!(backoff.after_failure(0), Duration::from_secs(21));
    assert_eq!(backoff.after_failure(60), Duration::from_secs(39));
    for _ in 0..100 {
        backoff.after_failure(middle);
    }
    backoff.reset();
    assert_eq!(backoff.after_failure(middle), Duration::from_millis(500));
}

#[test]
fn a_clock_rises_also_when_the_wall_clock_does_not() {
    let mut clock = Clock::default();
    let now = 1_700_000_000_000;
    let stamps = [now, now, now - 5000, now + 1].map(|ms| clock.tick(ms));
    assert!(stamps.is_sorted_by(|a, b| a < b), "{stamps:?}");
    assert_eq!(stamps[0].unix_ms(), now);
    let mut later = Clock::starting_after(stamps[3]);
    assert!(later.tick(0) > stamps[3]);
}

#[test]
fn a_stamp_far_from_the_clock_is_not_plausible() {
    let now = 1_700_000_000_000;
    let at = |ms| Hlc::from_unix_ms(ms).is_plausible(now);
    assert!(at(now) && at(now + 299_000) && at(now - 43_000_000));
    assert!(!at(now + 301_000) && !at(now - 43_300_000));
    assert!(!Hlc(u64::MAX).is_plausible(now));
}

#[test]
fn clocks_that_agree_on_a_year_of_before_stamps_take_each_others() {
    let mut clock = Clock::default();
    for now in [1, 1, 3_600_000, 40 * 365 * 86_400_000] {
        let stamp = clock.tick(now);
        assert!(stamp.is_plausible(now) && stamp.is_plausible(now + 60_000), "{now}");
    }
    let later = Hlc::from_unix_ms(1_700_000_000_000);
    assert!(!later.is_plausible(1) && !Hlc(1).is_plausible(1_700_000_000_000));
}

#[track_caller]
fn tally(sets: &[&[u8]], answers: &[(u8, bool)], expected: Verdict) {
    let sets = sets.iter().map(|set| set.to_vec()).collect();
    let mut tally = Tally::new(sets, Tally::<u8>::write_majority);
    for (node, ok) in answers {
        if *ok {
            tally.ack(node)
        } else {
            tally.fail(node)
        };
    }
    assert_eq!(tally.verdict(), expected);
}

#[test]
fn a_write_needs_a_majority_of_each_set() {
    tally(&[&[1]], &[(1, true)], Verdict::Reached);
    tally(&[&[1, 2]], &[(1, true)], Verdict::Pending);
    tally(&[&[1, 2]], &[(1, true), (2, false)], Verdict::Impossible);
    tally(&[&[1, 2, 3]], &[(1, true), (3, true)], Verdict::Reached);
    tally(&[&[1, 2, 3]], &[(1, false), (3, false)], Verdict::Impossible);
    tally(&[&[1], &[1, 2]], &[(1, true)], Verdict::Pending);
    tally(&[&[1], &[1, 2]], &[(1, true), (2, true)], Verdict::Reached);
    tally(&[&[1, 2, 3], &[4, 5, 6]], &[(1, true), (2, true), (4, true)], Verdict::Pending);
}

#[test]
fn a_read_meets_every_write() {
    for n in 1..=9 {
        let (write, read) = (Tally::<u8>::write_majority(n), Tally::<u8>::read_majority(n));
        assert!(write + read > n && write <= n && read >= 1);
    }
}

#[test]
fn a_late_success_outweighs_a_failure_and_strangers_count_for_nothing() {
    tally(&[&[1, 2, 3]], &[(1, false), (1, true), (2, true)], Verdict::Reached);
    tally(&[&[1, 2, 3]], &[(8, true), (9, true)], Verdict::Pending);
}
