//! Which earlier versions are kept.

use crate::hlc::{EPOCH_UNIX_MS, Hlc};
use crate::id::Vid;
use crate::record::retention::{
    Earlier, KEPT_FOR_MS, UNKNOWN_MS, VERSIONS_KEPT, kept, noted_again, replaced_at,
};
use crate::record::version::RETAINED_MAX;

const NOW: u64 = EPOCH_UNIX_MS + 2 * KEPT_FOR_MS;

fn earlier(stamp: u64, replaced_ms: Option<u64>) -> Earlier {
    let mut vid = [0; 16];
    vid[..8].copy_from_slice(&stamp.to_be_bytes());
    Earlier { vid: Vid::new(vid), hlc: Hlc(stamp), replaced_ms }
}

/// Versions of stamps 1 to `older`, replaced a moment ago, then `now` that are replaced now.
fn versions(older: u64, now: u64) -> Vec<Earlier> {
    let old = (1..=older).map(|stamp| earlier(stamp, Some(NOW - 1)));
    old.chain((older + 1..=older + now).map(|stamp| earlier(stamp, None))).collect()
}

#[track_caller]
fn check(earlier: Vec<Earlier>, stamps: impl IntoIterator<Item = u64>) {
    check_at(Some(NOW), earlier, stamps);
}

#[track_caller]
fn check_at(now: Option<u64>, earlier: Vec<Earlier>, stamps: impl IntoIterator<Item = u64>) {
    let kept: Vec<_> =
        kept(earlier, now, KEPT_FOR_MS).iter().map(|version| version.hlc.0).collect();
    assert_eq!(kept, stamps.into_iter().collect::<Vec<_>>());
}

#[test]
fn the_last_ten_are_kept_newest_first() {
    let count = VERSIONS_KEPT as u64;
    check(Vec::new(), []);
    check(versions(count - 1, 1), (1..=count).rev());
    check(versions(count, 1), (2..=count + 1).rev());
}

#[test]
fn a_version_goes_thirty_days_after_it_was_replaced_and_not_before() {
    let old = |replaced: u64| vec![earlier(1, Some(replaced)), earlier(2, None)];
    check(old(NOW - KEPT_FOR_MS), [2, 1]);
    check(old(NOW - KEPT_FOR_MS - 1), [2]);
    // A clock that was set back does not make anything old.
    check(old(NOW + 1), [2, 1]);
    check(old(UNKNOWN_MS), [2, 1]);
}

#[test]
fn a_clock_that_nobody_bears_out_makes_nothing_old() {
    let old = |replaced: u64| vec![earlier(1, Some(replaced)), earlier(2, None)];
    check_at(None, old(NOW - KEPT_FOR_MS - 1), [2, 1]);
    // Of a clock that was never set, as in 1970.
    check(old(0), [2, 1]);
    check(old(EPOCH_UNIX_MS - 1), [2, 1]);
    // Nothing is replaced before it is made.
    let made = Hlc::from_unix_ms(NOW - 1).0;
    let both = vec![earlier(made, Some(NOW - KEPT_FOR_MS - 1)), earlier(made + 1, None)];
    check(both, [made + 1, made]);
    // The number is bounded whatever the clock says.
    check_at(None, versions(12, 1), (4..=13).rev());
}

#[test]
fn the_count_begins_when_someone_knows_the_time() {
    assert_eq!(replaced_at(Some(NOW)), NOW);
    assert_eq!([replaced_at(None), replaced_at(Some(1))], [UNKNOWN_MS; 2]);
    assert_eq!(noted_again(NOW, Some(NOW + 5)), NOW);
    for unknown in [UNKNOWN_MS, 0, EPOCH_UNIX_MS - 1] {
        assert_eq!(noted_again(unknown, Some(NOW)), NOW);
        assert_eq!(noted_again(unknown, None), UNKNOWN_MS);
    }
}

#[test]
fn what_is_replaced_now_is_kept_whatever_its_age_and_number() {
    check(vec![earlier(0, None)], [0]);
    check(versions(5, 12), (6..=17).rev());
    let most = RETAINED_MAX as u64;
    check(versions(5, most + 3), (9..=most + 8).rev());
}
