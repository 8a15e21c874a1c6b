//! Whom to ask next, and what answers mean: tables, and schedules drawn at random.

use proptest::prelude::*;

use super::*;
use crate::codec::{Canonical, DecodeError};
use crate::id::{DirId, RecordKey, Tag, VaultId, Vid};

const NOW: u64 = 1_800_000_000_000;
const MINUTE: u64 = 60_000;

fn node(of: u8) -> NodeId {
    NodeId::new([of; 32])
}

fn used(blob: u8) -> Use {
    let key = RecordKey {
        vault: VaultId::new([1; 16]),
        dir: DirId::new([2; 16]),
        tag: Tag::new([3; 16]),
    };
    Use { blob: BlobId::new([blob; 32]), vid: Vid::new([4; 16]), key }
}

fn cadence() -> Cadence {
    Cadence::default()
}

fn met(nodes: &[u8]) -> Possession {
    let mut possession = Possession::default();
    possession.meet(&nodes.iter().map(|of| (node(*of), MemberState::Active)).collect());
    possession.covered(NOW, None, 0, &cadence());
    possession
}

fn tell(possession: &mut Possession, now_ms: u64, findings: &[(u8, Finding)]) {
    let findings: Vec<_> = findings.iter().map(|(blob, found)| (used(*blob), *found)).collect();
    possession.answered(now_ms, &node(1), &findings, true, &cadence());
}

const LACKS: Finding = Finding::Lacks { claimed: false };
const CLAIMS: Finding = Finding::Lacks { claimed: true };

#[test]
fn a_digest_needs_no_bytes_where_two_show_it_and_nobody_anything_else() {
    let shown = |of: &[u8]| -> Vec<Proof> {
        let proof = |of: &u8| match of {
            0 => Proof::HaveNot,
            255 => Proof::Unread,
            of => Proof::Digest([*of; 32]),
        };
        of.iter().map(proof).collect()
    };
    let cases: [(&[u8], Option<u8>); 7] = [
        (&[], None),
        (&[1], None),
        (&[1, 1], Some(1)),
        (&[1, 1, 1], Some(1)),
        (&[1, 1, 2], None),
        (&[1, 1, 0], None),
        (&[255, 1, 1], None),
    ];
    for (of, expected) in cases {
        assert_eq!(agreed(&shown(of)), expected.map(|of| [of; 32]), "{of:?}");
    }
    let right = digest(&[7; 32], b"sealed");
    assert_ne!(right, digest(&[8; 32], b"sealed"));
    assert_eq!(Proof::Digest(right).finding(&right, true), Finding::Proved);
    assert_eq!(Proof::Digest([0; 32]).finding(&right, false), Finding::Wrong);
    assert_eq!(Proof::HaveNot.finding(&right, true), CLAIMS);
    assert_eq!(Proof::Unread.finding(&right, true), LACKS);
}

#[test]
fn who_is_most_overdue_is_asked_next() {
    let mut possession = met(&[1, 2]);
    assert_eq!(possession.next(NOW, &cadence()), Next::Random(node(1)));
    tell(&mut possession, NOW, &[(1, Finding::Proved)]);
    assert_eq!(possession.next(NOW, &cadence()), Next::Random(node(2)));
    possession.unasked(NOW, &node(2), &cadence());
    let Next::Wait(wait) = possession.next(NOW, &cadence()) else { panic!() };
    assert_eq!(wait, cadence().silent_again);
    // Over and over a member is asked for more than 200 blobs a day.
    let a_day = DAY.as_secs() / cadence().random_every.as_secs();
    assert!(usize::try_from(a_day).unwrap() * BLOBS_AT_ONCE >= 200);
    // A clock that was set back puts nothing off.
    assert_eq!(possession.next(NOW - 999 * MINUTE, &cadence()), Next::Random(node(2)));
}

#[test]
fn what_a_member_lacks_is_asked_for_again_ever_more_seldom_until_it_is_shown() {
    let mut possession = met(&[1]);
    tell(&mut possession, NOW, &[(1, Finding::Proved), (2, LACKS)]);
    let mut now = NOW;
    for minutes in [1, 1, 1, 1, 1, 1, 1, 1, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 1440] {
        let waits_until = now + minutes * MINUTE;
        assert!(!matches!(possession.next(waits_until - 1, &cadence()), Next::Again(..)));
        assert_eq!(possession.next(waits_until, &cadence()), Next::Again(node(1), used(2)));
        now = waits_until;
        tell(&mut possession, now, &[(2, LACKS)]);
    }
    let account = possession.account(&node(1)).unwrap();
    assert_eq!((account.lacking.len(), account.lacking[0].since_ms), (1, NOW));
    assert_eq!((account.asked, account.proved, account.distrusted_ms), (22, 1, None));
    tell(&mut possession, now, &[(2, Finding::Proved)]);
    assert!(possession.account(&node(1)).unwrap().lacking.is_empty());
}

#[test]
fn only_what_no_honest_member_says_makes_one_distrusted() {
    let cases: [(&[(u8, Finding)], bool); 8] = [
        (&[(1, LACKS), (2, LACKS), (3, LACKS), (1, LACKS), (1, LACKS), (1, LACKS)], false),
        (&[(1, CLAIMS), (2, CLAIMS), (3, CLAIMS)], false),
        (&[(1, LACKS), (1, CLAIMS)], false),
        (&[(1, LACKS), (1, CLAIMS), (1, CLAIMS)], true),
        (&[(1, Finding::Wrong), (2, Finding::Wrong)], false),
        (&[(1, Finding::Wrong), (2, Finding::Wrong), (3, Finding::Wrong)], true),
        (&[(1, Finding::Wrong), (1, Finding::Proved), (1, Finding::Wrong)], true),
        (&[(1, LACKS), (1, Finding::Proved), (1, CLAIMS)], false),
    ];
    for (said, expected) in cases {
        let mut possession = met(&[1]);
        said.iter().for_each(|one| tell(&mut possession, NOW, &[*one]));
        let account = possession.account(&node(1)).unwrap();
        assert_eq!(account.distrusted_ms, expected.then_some(NOW), "{said:?}");
    }
}

#[test]
fn who_is_silent_four_times_within_an_hour_is_suspect_until_it_answers() {
    let mut possession = met(&[1]);
    let mut now = NOW;
    for asked in 1..=4 {
        assert_eq!(possession.next(now, &cadence()), Next::Random(node(1)));
        possession.silent(now, &node(1), &cadence());
        let account = possession.account(&node(1)).unwrap();
        assert_eq!(account.is_suspect(), asked == 4);
        assert_eq!(account.silent, Some(Silent { since_ms: NOW, askings: asked }));
        now += millis(cadence().silent_again);
    }
    assert!(now - NOW <= 60 * MINUTE);
    tell(&mut possession, now, &[(1, LACKS)]);
    let account = possession.account(&node(1)).unwrap();
    assert!(!account.is_suspect() && account.silent.is_none() && account.distrusted_ms.is_none());
}

#[test]
fn whoever_an_operator_lets_in_again_begins_anew() {
    let mut possession = met(&[1, 2]);
    let lies = [(1, Finding::Wrong), (1, Finding::Wrong)];
    let meet = |possession: &mut Possession, state| {
        possession.meet(&BTreeMap::from([(node(1), state)]));
    };
    tell(&mut possession, NOW, &lies);
    meet(&mut possession, MemberState::Active);
    assert!(possession.account(&node(1)).unwrap().distrusted_ms.is_some());
    assert!(possession.account(&node(2)).is_none(), "it left");
    meet(&mut possession, MemberState::Draining);
    assert!(possession.account(&node(1)).unwrap().distrusted_ms.is_some());
    meet(&mut possession, MemberState::Active);
    assert_eq!(possession.account(&node(1)), Some(&Account::default()));
    tell(&mut possession, NOW, &lies);
    possession.forgive(&node(1));
    assert_eq!(possession.account(&node(1)), Some(&Account::default()));
}

#[test]
fn the_look_at_every_blob_is_done_in_time_and_begins_anew() {
    let mut possession = met(&[]);
    let count = 100_000_u64;
    let (mut now, mut seen) = (NOW, 0);
    possession.covered(now, None, count, &cadence());
    while seen < count {
        if let Next::Wait(wait) = possession.next(now, &cadence()) {
            now += millis(wait);
        }
        assert!(matches!(possession.next(now, &cadence()), Next::Cover(_)));
        seen += BLOBS_AT_ONCE as u64;
        let place = u128::from(u64::MAX) * u128::from(seen.min(count)) / u128::from(count);
        let mut id = [0; 32];
        id[..8].copy_from_slice(&u64::try_from(place).unwrap().to_be_bytes());
        possession.covered(now, Some(BlobId::new(id)), count, &cadence());
        // What was missed by standing still for a while is made up for.
        now += if seen.is_multiple_of(10_000) { millis(DAY) } else { 0 };
    }
    assert!(Duration::from_millis(now - NOW) <= DAY * 90, "{} days", (now - NOW) / millis(DAY));
    possession.covered(now, None, count, &cadence());
    assert!(matches!(possession.next(now, &cadence()), Next::Wait(_)));
}

#[derive(Debug, Clone)]
enum Event {
    Answers(Vec<(u8, Finding)>),
    Silent,
    Unasked,
    Needless(u8),
}

fn event() -> impl Strategy<Value = Event> {
    let honest = prop_oneof![Just(Finding::Proved), Just(LACKS)];
    prop_oneof![
        prop::collection::vec((0..40_u8, honest), 0..9).prop_map(Event::Answers),
        Just(Event::Silent),
        Just(Event::Unasked),
        (0..40_u8).prop_map(Event::Needless),
    ]
}

proptest! {
    #[test]
    fn who_lacks_and_crashes_and_is_slow_is_never_distrusted_and_never_forgotten(
        events in prop::collection::vec((event(), 0..3_000_000_u64), 0..80),
    ) {
        let mut possession = met(&[1]);
        let mut now = NOW;
        for (event, later) in events {
            now += later;
            match event {
                Event::Answers(said) => tell(&mut possession, now, &said),
                Event::Silent => possession.silent(now, &node(1), &cadence()),
                Event::Unasked => possession.unasked(now, &node(1), &cadence()),
                Event::Needless(blob) => possession.needless(&node(1), &used(blob).blob),
            }
            let account = possession.account(&node(1)).unwrap();
            prop_assert_eq!(account.distrusted_ms, None);
            prop_assert!(account.lacking.len() <= LACKING_MAX);
            prop_assert!(account.proved <= account.asked);
            if let Next::Wait(wait) = possession.next(now, &cadence()) {
                prop_assert!(wait <= cadence().random_every);
            }
            let bytes = possession.to_canonical();
            prop_assert_eq!(Possession::from_canonical(bytes), Ok(possession.clone()));
        }
    }
}

#[test]
fn what_is_cut_off_or_of_another_version_is_no_account() {
    let mut possession = met(&[1, 2]);
    tell(&mut possession, NOW, &[(1, Finding::Wrong), (2, LACKS)]);
    possession.silent(NOW, &node(2), &cadence());
    let bytes = possession.to_canonical();
    for cut in 0..bytes.len() {
        assert!(Possession::from_canonical(bytes[..cut].to_vec()).is_err());
    }
    assert_eq!(Possession::from_canonical(vec![2]), Err(DecodeError::UnknownVersion(2)));
}
