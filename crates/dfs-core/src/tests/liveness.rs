//! Who reaches whom, and who is down since when.

use std::time::Duration;

use super::epoch::node;
use crate::codec::Canonical;
use crate::hlc::Hlc;
use crate::layout::epoch::MEMBERS_MAX;
use crate::node::liveness::{REACH_BYTES_MAX, Reach, Sign, Watch};

#[test]
fn a_set_of_members_has_one_encoding() {
    let last = u16::try_from(MEMBERS_MAX - 1).unwrap();
    for members in [&[][..], &[0], &[7, 8], &[3, 900], &[last]] {
        let reach = Reach::of(members.iter().copied());
        for idx in 0..=u16::MAX {
            assert_eq!(reach.contains(idx), members.contains(&idx), "{idx} of {members:?}");
        }
        assert_eq!(Reach::from_canonical(reach.to_canonical()), Ok(reach));
    }
    assert_eq!(Reach::of([u16::MAX]), Reach::default(), "no member has this number");
    assert_eq!(Reach::of([last]).to_canonical().len(), 4 + REACH_BYTES_MAX);
    let mut both = Reach::of([1]);
    both.add(&Reach::of([200]));
    both.add(&Reach::of([2]));
    assert_eq!(both, Reach::of([1, 2, 200]));
}

fn sign(of: u8, direct: bool, hearsay: bool, said: u64) -> Sign {
    Sign { node: node(of), direct, hearsay, said: Hlc(said) }
}

#[test]
fn a_member_is_down_since_nobody_reaches_it() {
    let mut watch = Watch::default();
    let at = Duration::from_secs;
    let (a, b) = (node(1), node(2));
    let look = |watch: &mut Watch, second, a, b| {
        watch.look(at(second), [sign(1, a, false, 1), sign(2, false, b, 1)]);
    };
    look(&mut watch, 1, true, false);
    assert_eq!((watch.down_for(at(1), &a), watch.down_for(at(4), &b)), (None, Some(at(3))));
    look(&mut watch, 5, false, false);
    assert_eq!((watch.down_for(at(6), &a), watch.down_for(at(6), &b)), (Some(at(1)), Some(at(5))));
    // Someone reaches it again: the time counts anew afterwards.
    look(&mut watch, 7, false, true);
    assert_eq!(watch.down_for(at(7), &b), None);
    look(&mut watch, 8, false, false);
    assert_eq!((watch.down_for(at(9), &a), watch.down_for(at(9), &b)), (Some(at(4)), Some(at(1))));
    watch.look(at(9), [sign(2, false, false, 1)]);
    assert_eq!(watch.down_for(at(9), &a), None, "it is no member any more");
}

#[test]
fn what_others_say_of_a_silent_member_counts_for_ten_minutes() {
    let mut watch = Watch::default();
    let (a, minute) = (node(1), |minute: u64| Duration::from_secs(60 * minute));
    let mut look = |at: u64, direct, said| {
        watch.look(minute(at), [sign(1, direct, true, said)]);
        watch.down_for(minute(at), &a)
    };
    assert_eq!(look(0, true, 1), None);
    assert_eq!(look(100, true, 1), None, "whoever is connected need not say anything");
    assert_eq!(look(109, false, 1), None);
    assert_eq!(look(110, false, 1), Some(minute(0)), "a liar keeps no dead node alive");
    assert_eq!(look(115, false, 1), Some(minute(5)));
    // Its own word, signed, is a sign of life, and an old one is none.
    assert_eq!(look(116, false, 2), None);
    assert_eq!(look(125, false, 1), None);
    assert_eq!(look(126, false, 2), Some(minute(0)));
    for at in 127..300 {
        assert_eq!(look(at, false, at), None);
    }
}
