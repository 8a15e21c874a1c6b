//! What has changed in a directory since somebody last looked: a log in memory, of the newest
//! changes of one start of a store.
//!
//! It makes a listing that is asked for again cost what has changed. Whatever it does not know, it
//! says so of, and the whole directory is compared.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::id::{DirId, Tag, VaultId};

/// A point in the log of one start of one store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChangeMark {
    /// Names the start.
    pub boot: u64,
    /// How many changes it had seen.
    pub at: u64,
}

/// A directory of a vault.
pub type DirKey = (VaultId, DirId);

/// The newest changes. A change is noted before it is acknowledged, so that a mark taken after an
/// acknowledgement covers it.
#[derive(Debug)]
pub struct DirChanges {
    boot: u64,
    at: u64,
    /// In the order in which they were noted; the last has the number `at`.
    recent: VecDeque<DirKey>,
    /// The same by directory, with their numbers.
    of: BTreeMap<DirKey, VecDeque<(u64, Tag)>>,
}

impl DirChanges {
    /// An empty log. `boot` is drawn at random for each start.
    pub fn new(boot: u64) -> Self {
        Self { boot, at: 0, recent: VecDeque::new(), of: BTreeMap::new() }
    }

    /// Where the log stands.
    pub fn mark(&self) -> ChangeMark {
        ChangeMark { boot: self.boot, at: self.at }
    }

    /// Notes that the record of a name changed.
    pub fn note(&mut self, dir: DirKey, tag: Tag) {
        self.at += 1;
        self.recent.push_back(dir);
        self.of.entry(dir).or_default().push_back((self.at, tag));
        if self.recent.len() > KEPT_MAX
            && let Some(oldest) = self.recent.pop_front()
            && let Some(changes) = self.of.get_mut(&oldest)
        {
            changes.pop_front();
            if changes.is_empty() {
                self.of.remove(&oldest);
            }
        }
    }

    fn covers(&self, since: ChangeMark) -> bool {
        let oldest = self.at - self.recent.len() as u64;
        since.boot == self.boot && (oldest..=self.at).contains(&since.at)
    }

    /// The names of a directory that have changed since a mark. `None` where that is not known, or
    /// where they are more than [`TAGS_MAX`]. `O(changes of the directory since then)`.
    pub fn since(&self, dir: &DirKey, since: ChangeMark) -> Option<BTreeSet<Tag>> {
        if !self.covers(since) {
            return None;
        }
        let Some(changes) = self.of.get(dir) else { return Some(BTreeSet::new()) };
        let newer = changes.iter().rev().take_while(|(at, _)| *at > since.at);
        let mut tags = BTreeSet::new();
        for (_, tag) in newer {
            tags.insert(*tag);
            if tags.len() > TAGS_MAX {
                return None;
            }
        }
        Some(tags)
    }

    /// The directories with changes since a mark; `None` where that is not known. `O(changes)`.
    pub fn dirs_since(&self, since: ChangeMark) -> Option<BTreeSet<DirKey>> {
        let newer = usize::try_from(self.at.saturating_sub(since.at)).ok()?;
        self.covers(since).then(|| self.recent.iter().rev().take(newer).copied().collect())
    }
}

/// Changes kept: some seconds of the fastest writing, about 6 MiB.
const KEPT_MAX: usize = 65_536;
/// Names told of at once; beyond it, comparing the directory costs no more.
pub const TAGS_MAX: usize = 2_048;

#[cfg(test)]
mod tests {
    use super::*;

    fn dir(of: u8) -> DirKey {
        (VaultId::new([1; VaultId::LEN]), DirId::new([of; DirId::LEN]))
    }

    fn tag(of: usize) -> Tag {
        let mut bytes = [0; Tag::LEN];
        bytes[..8].copy_from_slice(&of.to_be_bytes());
        Tag::new(bytes)
    }

    #[test]
    fn each_directory_tells_its_own_changes_once() {
        let mut log = DirChanges::new(7);
        let begin = log.mark();
        [(1, 1), (2, 9), (1, 2), (1, 1)].iter().for_each(|(of, at)| log.note(dir(*of), tag(*at)));
        let later = ChangeMark { at: begin.at + 3, ..begin };
        assert_eq!(log.since(&dir(1), begin), Some(BTreeSet::from([tag(1), tag(2)])));
        assert_eq!(log.since(&dir(1), later), Some(BTreeSet::from([tag(1)])));
        assert_eq!(log.since(&dir(2), later), Some(BTreeSet::new()));
        assert_eq!(log.since(&dir(3), begin), Some(BTreeSet::new()));
        assert_eq!(log.dirs_since(begin), Some(BTreeSet::from([dir(1), dir(2)])));
        assert_eq!(log.dirs_since(later), Some(BTreeSet::from([dir(1)])));
        assert_eq!(log.dirs_since(log.mark()), Some(BTreeSet::new()));
    }

    #[test]
    fn what_is_not_known_is_said_so_of() {
        let mut log = DirChanges::new(7);
        let begin = log.mark();
        let other_start = ChangeMark { boot: 8, ..begin };
        let ahead = ChangeMark { at: 1, ..begin };
        for unknown in [other_start, ahead] {
            assert_eq!((log.since(&dir(1), unknown), log.dirs_since(unknown)), (None, None));
        }
        (0..=KEPT_MAX).for_each(|at| log.note(dir(u8::from(at > 0)), tag(at)));
        assert_eq!(log.since(&dir(0), begin), None);
        let since_first = ChangeMark { at: 1, ..begin };
        assert_eq!(log.since(&dir(0), since_first), Some(BTreeSet::new()));
        assert_eq!(log.since(&dir(1), since_first), None, "more than are told of at once");
        let near = ChangeMark { at: log.mark().at - TAGS_MAX as u64, ..begin };
        assert_eq!(log.since(&dir(1), near).map(|tags| tags.len()), Some(TAGS_MAX));
        assert_eq!(log.of.len(), 1, "what left the log takes no memory");
    }
}
