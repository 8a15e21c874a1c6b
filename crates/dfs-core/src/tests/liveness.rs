//! Who reaches whom, and who is down since when.

use std::time::Duration;

use super::epoch::node;
use crate::codec::Canonical;
use crate::layout::epoch::MEMBERS_MAX;
use crate::node::liveness::{REACH_BYTES_MAX, Reach, Watch};

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

#[test]
fn a_member_is_down_since_nobody_reaches_it() {
    let mut watch = Watch::default();
    let at = Duration::from_secs;
    let (a, b) = (node(1), node(2));
    watch.look(at(1), [(a, true), (b, false)]);
    assert_eq!((watch.down_for(at(1), &a), watch.down_for(at(4), &b)), (None, Some(at(3))));
    watch.look(at(5), [(a, false), (b, false)]);
    assert_eq!((watch.down_for(at(6), &a), watch.down_for(at(6), &b)), (Some(at(1)), Some(at(5))));
    // Someone reaches it again: the time counts anew afterwards.
    watch.look(at(7), [(a, false), (b, true)]);
    assert_eq!(watch.down_for(at(7), &b), None);
    watch.look(at(8), [(a, false), (b, false)]);
    assert_eq!((watch.down_for(at(9), &a), watch.down_for(at(9), &b)), (Some(at(4)), Some(at(1))));
    watch.look(at(9), [(b, false)]);
    assert_eq!(watch.down_for(at(9), &a), None, "it is no member any more");
}
