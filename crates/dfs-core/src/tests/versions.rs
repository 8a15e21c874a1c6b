//! Merge, winner and placing, by table.

use bytes::Bytes;

use crate::codec::{Canonical, DecodeError};
use crate::hlc::Hlc;
use crate::id::{CertId, Vid};
use crate::record::version::{CONTEXT_MAX, Kind, Place, Record, Version, merge, place_after};

pub(super) fn version(vid: u8, place: Place, kind: Kind) -> Version {
    Version {
        vid: Vid::new([vid; 16]),
        actor: place.actor,
        hlc: place.hlc,
        context: place.context,
        kind,
        sealed: if kind == Kind::Live { Bytes::from_static(b"sealed") } else { Bytes::new() },
        refs_root: None,
        chunks: 0,
        bytes_stored: 0,
        retained: Vec::new(),
        writer: CertId::new([0; 32]),
        signature: [0; 64],
    }
}

fn write(vid: u8, read: &Record, tick: u64, actor: u64, kind: Kind) -> Record {
    Record::of(version(vid, place_after(read, Hlc(tick), actor, 999, true), kind))
}

fn heads(record: &Record) -> Vec<u8> {
    record.heads().map(|head| head.vid.as_bytes()[0]).collect()
}

#[test]
fn a_version_that_was_read_is_superseded_and_one_that_was_not_is_kept() {
    let first = write(1, &Record::default(), 10, 1, Kind::Live);
    let second = write(2, &first, 20, 1, Kind::Live);
    let blind = write(3, &Record::default(), 15, 2, Kind::Live);
    assert_eq!(heads(&merge(&first, &second)), [2]);
    let both = merge(&second, &blind);
    assert_eq!(heads(&both), [2, 3]);
    assert_eq!(both.conflicts(), 1);
    assert_eq!(heads(&merge(&both, &first)), [2, 3]);
}

#[test]
fn an_edit_beats_a_delete_and_then_the_later_stamp_wins() {
    let live = write(1, &Record::default(), 10, 1, Kind::Live);
    let dead = write(2, &Record::default(), 20, 2, Kind::Dead);
    let winner = |record: &Record| record.winner().unwrap().vid.as_bytes()[0];
    assert_eq!(winner(&merge(&live, &dead)), 1);
    let later = write(3, &Record::default(), 11, 3, Kind::Live);
    assert_eq!(winner(&merge(&live, &later)), 3);
    let tie = write(4, &Record::default(), 10, 4, Kind::Live);
    assert_eq!(winner(&merge(&live, &tie)), 4);
}

#[test]
fn a_lifted_stamp_takes_a_fresh_actor_and_leaves_the_clock_alone() {
    let ahead = write(1, &Record::default(), 1000, 1, Kind::Live);
    let place = place_after(&ahead, Hlc(5), 2, 77, true);
    assert_eq!((place.hlc, place.actor), (Hlc(1001), 77));
    let place = place_after(&ahead, Hlc(2000), 2, 77, true);
    assert_eq!((place.hlc, place.actor), (Hlc(2000), 2));
}

#[test]
fn a_stamp_may_be_ahead_of_the_clock_to_supersede_another_and_is_never_behind_it() {
    let now: u64 = 1_700_000_000_000;
    let at = |hours: i64| Hlc::from_unix_ms(now.saturating_add_signed(hours * 3_600_000));
    let seen = |hours: i64| [(1, at(hours))].into();
    for (stamp, context, is_plausible, is_not_ahead) in [
        (at(0), [].into(), true, true),
        (at(1), [].into(), false, false),
        (at(1), seen(-1), false, false),
        // Lifted above what it replaces.
        (at(1).next(), seen(1), true, true),
        (at(2), seen(1), false, false),
        // A clock that is behind, though what it replaces is older still or as old.
        (at(-13), [].into(), false, true),
        (at(-13), seen(-14), false, true),
        (at(-13).next(), seen(-13), false, true),
        (at(-11), seen(-13), true, true),
    ] {
        let place = Place { actor: 2, hlc: stamp, context };
        let version = version(1, place, Kind::Live);
        assert_eq!(version.is_plausible(now), is_plausible, "{version:?}");
        assert_eq!(version.is_not_ahead(now), is_not_ahead, "{version:?}");
    }
}

#[test]
fn a_write_without_a_quorum_read_takes_a_fresh_actor() {
    let place = place_after(&Record::default(), Hlc(5), 2, 77, false);
    assert_eq!(place.actor, 77);
}

#[test]
fn a_context_forgets_its_oldest_beyond_the_limit() {
    let mut record = Record::default();
    for at in 0..100u8 {
        let place = place_after(&Record::default(), Hlc(at.into()), at.into(), 0, true);
        record = merge(&record, &Record::of(version(at, place, Kind::Live)));
    }
    let place = place_after(&record, Hlc(1000), 500, 0, true);
    assert_eq!(place.context.len(), CONTEXT_MAX);
    assert!(place.context.contains_key(&99) && !place.context.contains_key(&1));
}

#[test]
fn records_come_back_and_disorder_is_refused() {
    let one = write(1, &Record::default(), 10, 1, Kind::Live);
    let both = merge(&one, &write(2, &Record::default(), 20, 2, Kind::Dead));
    let bytes = both.to_canonical();
    assert_eq!(Record::from_canonical(bytes.clone()), Ok(both));
    for len in 0..bytes.len() {
        assert!(Record::from_canonical(bytes[..len].to_vec()).is_err(), "cut at {len}");
    }
    let mut newer = bytes.clone();
    newer[0] = 9;
    assert_eq!(Record::from_canonical(newer), Err(DecodeError::UnknownVersion(9)));
    // The same head twice.
    let single = one.to_canonical();
    let head = &single[5..single.len() - 1];
    let twice = [&[1, 0, 0, 0, 2][..], head, head, &[0]].concat();
    assert_eq!(Record::from_canonical(twice), Err(DecodeError::Invalid("heads")));
}
