//! What has changed in a listing since somebody looked at it last: the newest changes, in memory.
//!
//! Whatever it does not know, it says so of; then the listing is looked at whole.

use std::collections::VecDeque;

use super::listing::ListedName;

/// A point in one log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ListingMark {
    /// Names the log.
    pub log: u64,
    /// How many changes it had seen.
    pub at: u64,
}

/// What became of one name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NameChange {
    /// What was listed before.
    pub before: Option<ListedName>,
    /// What is listed now; `None` where the name is gone.
    pub now: Option<ListedName>,
}

/// The newest changes of one listing.
#[derive(Debug, Clone)]
pub struct ListingLog {
    id: u64,
    at: u64,
    /// In their order; the last has the number `at`.
    recent: VecDeque<NameChange>,
}

impl ListingLog {
    /// An empty log. `id` is drawn at random.
    pub fn new(id: u64) -> Self {
        Self { id, at: 0, recent: VecDeque::new() }
    }

    /// Where it stands.
    pub fn mark(&self) -> ListingMark {
        ListingMark { log: self.id, at: self.at }
    }

    /// Notes a change.
    pub fn note(&mut self, change: NameChange) {
        self.at += 1;
        self.recent.push_back(change);
        if self.recent.len() > KEPT_MAX {
            self.recent.pop_front();
        }
    }

    /// Notes that more changed than is worth noting.
    pub fn skip(&mut self) {
        self.at += 1;
        self.recent.clear();
    }

    /// The changes since a mark, in their order; `None` where they are not known. `O(changes)`.
    pub fn since(&self, mark: ListingMark) -> Option<impl Iterator<Item = &NameChange>> {
        let newer = usize::try_from(self.at.checked_sub(mark.at)?).ok()?;
        let is_known = mark.log == self.id && newer <= self.recent.len();
        is_known.then(|| self.recent.iter().skip(self.recent.len() - newer))
    }
}

/// Changes kept: a few hundred kilobytes for a directory that is watched.
const KEPT_MAX: usize = 1_024;

#[cfg(test)]
mod tests {
    use super::*;

    fn change() -> NameChange {
        NameChange { before: None, now: None }
    }

    fn count(log: &ListingLog, mark: ListingMark) -> Option<usize> {
        log.since(mark).map(Iterator::count)
    }

    #[test]
    fn it_tells_what_came_after_a_mark_and_says_what_it_does_not_know() {
        let mut log = ListingLog::new(7);
        let begin = log.mark();
        assert_eq!(count(&log, begin), Some(0));
        (0..3).for_each(|_| log.note(change()));
        let third = log.mark();
        log.note(change());
        assert_eq!((count(&log, begin), count(&log, third)), (Some(4), Some(1)));
        // Of another log, and of one that has not come so far.
        assert_eq!(count(&log, ListingMark { log: 8, ..begin }), None);
        assert_eq!(count(&log, ListingMark { at: 5, ..begin }), None);
        log.skip();
        assert_eq!((count(&log, third), count(&log, log.mark())), (None, Some(0)));
    }

    #[test]
    fn it_keeps_the_newest() {
        let mut log = ListingLog::new(7);
        let begin = log.mark();
        (0..=KEPT_MAX).for_each(|_| log.note(change()));
        assert_eq!(count(&log, begin), None);
        let second = ListingMark { at: 1, ..begin };
        assert_eq!(count(&log, second), Some(KEPT_MAX));
    }
}
