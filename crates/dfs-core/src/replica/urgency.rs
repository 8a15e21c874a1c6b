//! Which of many missing blobs is fetched first, and how many at once.

use std::time::Duration;

use crate::id::BlobId;

/// How urgent it is to copy a blob, most urgent first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Urgency {
    /// One failure more, and it is lost.
    LastCopy,
    /// Two copies are left.
    TwoCopies,
    /// There are enough: it is fetched because its partition moves here.
    Move,
    /// Nobody has counted its copies yet.
    Uncounted,
    /// No copy is in reach: whoever has one must come back first.
    OutOfReach,
}

impl Urgency {
    /// Of a blob with so many copies in reach; `None` while they are not counted.
    pub fn of(copies: Option<usize>) -> Self {
        match copies {
            None => Self::Uncounted,
            Some(0) => Self::OutOfReach,
            Some(1) => Self::LastCopy,
            Some(2) => Self::TwoCopies,
            Some(_) => Self::Move,
        }
    }
}

/// How many blobs may be fetched now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// Of any urgency.
    pub any: usize,
    /// These included, when the others are last copies: what may be lost does not wait for users.
    pub last_copies: usize,
}

impl Room {
    /// What a window leaves when so many fetches are under way: less while users wait for blobs of
    /// this node, none while it is told to fetch nothing.
    pub fn beside(window: Window, under_way: usize, users_wait: bool, paused: bool) -> Self {
        let most = if paused { 0 } else { window.0 };
        let any = if users_wait { most.min(FETCHES_BESIDE_USERS) } else { most };
        let left = |of: usize| of.saturating_sub(under_way);
        Self { any: left(any), last_copies: left(most) }
    }
}

/// How many fetches at once the line and the peers bear: those under way share the line, and a few
/// that come soon are better than many that come late.
///
/// One more for each that came soon, one less for each that took long, half after one that did not
/// come. Source: Chiu and Jain, "Analysis of
/// the increase and decrease algorithms for congestion avoidance", 1989.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window(usize);

impl Default for Window {
    fn default() -> Self {
        Self(FETCHES_FIRST)
    }
}

impl Window {
    /// A blob came after so long.
    pub fn came(&mut self, took: Duration) {
        if took <= CAME_SOON {
            self.0 = FETCHES_MAX.min(self.0 + 1);
        } else if took >= CAME_LATE {
            self.0 = FETCHES_MIN.max(self.0.saturating_sub(1));
        }
    }

    /// One did not, though somebody may have it.
    pub fn failed(&mut self) {
        self.0 = (self.0 / 2).max(1);
    }
}

/// Fetches under way at once: enough to fill a fast line.
const FETCHES_MAX: usize = 16;
/// As many on a slow line: while one is checked and kept the next is on its way.
const FETCHES_MIN: usize = 2;
/// A fetch that was quicker leaves room for one more.
const CAME_SOON: Duration = Duration::from_secs(1);
/// After one that took longer there is one less.
const CAME_LATE: Duration = Duration::from_secs(3);
/// As many before anything is known of the line.
const FETCHES_FIRST: usize = 4;
/// The same while users wait for blobs, but for those with one copy left: users come first.
const FETCHES_BESIDE_USERS: usize = 2;

/// Of blobs that wait, most urgent first, those that there is room for. `O(room)`.
pub fn that_fit(
    waiting: impl IntoIterator<Item = (Urgency, BlobId)>,
    room: Room,
) -> impl Iterator<Item = BlobId> {
    let fits = move |(at, (urgency, _)): &(usize, (Urgency, BlobId))| {
        *at < room.any || (*urgency == Urgency::LastCopy && *at < room.last_copies)
    };
    waiting.into_iter().enumerate().take_while(fits).map(|(_, (_, id))| id)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[track_caller]
    fn check(copies: &[Option<usize>], count: usize, expected: &[u8]) {
        check_room(copies, Room { any: count, last_copies: count }, expected);
    }

    #[track_caller]
    fn check_room(copies: &[Option<usize>], room: Room, expected: &[u8]) {
        let waiting = copies.iter().zip(0u8..);
        let waiting: BTreeSet<_> =
            waiting.map(|(copies, byte)| (Urgency::of(*copies), BlobId::new([byte; 32]))).collect();
        let expected: Vec<_> = expected.iter().map(|byte| BlobId::new([*byte; 32])).collect();
        assert_eq!(that_fit(waiting, room).collect::<Vec<_>>(), expected);
    }

    #[test]
    fn the_last_copy_comes_first_and_moves_later() {
        let one = Some(1);
        check(&[], 4, &[]);
        check(&[one], 0, &[]);
        check(&[Some(3), Some(2), one], 4, &[2, 1, 0]);
        check(&[Some(3), Some(2), one], 1, &[2]);
        check(&[Some(0), None, Some(9), Some(2), one], 9, &[4, 3, 2, 1, 0]);
        check(&[one, Some(2), one, Some(2), one], 4, &[0, 2, 4, 1]);
        check(&[Some(4), Some(3), Some(5)], 2, &[0, 1]);
    }

    #[test]
    fn users_come_before_all_but_last_copies() {
        for (under_way, users_wait, paused, any, last_copies) in [
            (0, false, false, 16, 16),
            (10, false, false, 6, 6),
            (16, false, false, 0, 0),
            (0, true, false, 2, 16),
            (1, true, false, 1, 15),
            (9, true, false, 0, 7),
            (0, false, true, 0, 0),
            (3, true, true, 0, 0),
        ] {
            let room = Room::beside(Window(16), under_way, users_wait, paused);
            assert_eq!(room, Room { any, last_copies }, "{under_way} {users_wait} {paused}");
        }
    }

    #[test]
    fn a_slow_line_gets_one_blob_at_a_time_and_a_fast_one_many() {
        let mut window = Window::default();
        let seen = "+++++++++++++-+-----+++~~~".chars().map(|came| {
            match came {
                '+' => window.came(CAME_SOON),
                '~' => window.came(CAME_LATE),
                _ => window.failed(),
            }
            window.0
        });
        let seen: Vec<_> = seen.collect();
        let grown = [5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 16];
        assert_eq!(seen, [&grown[..], &[8, 9, 4, 2, 1, 1, 1, 2, 3, 4, 3, 2, 2]].concat());
        let room = Room::beside(window, 1, false, false);
        assert_eq!(room, Room { any: 1, last_copies: 1 });
    }

    #[test]
    fn only_last_copies_go_beyond_the_room_for_any() {
        let (one, two) = (Some(1), Some(2));
        for (any, last_copies, expected) in
            [(1, 3, &[0, 2][..]), (0, 1, &[0]), (0, 0, &[]), (3, 4, &[0, 2, 1]), (2, 0, &[0, 2])]
        {
            check_room(&[one, two, one, two], Room { any, last_copies }, expected);
        }
    }
}
