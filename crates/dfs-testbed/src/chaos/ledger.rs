//! What was acknowledged, name by name: the answer key that the cluster is held against.

use std::collections::BTreeMap;
use std::fmt;

/// What a name may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// Never stored, or deleted.
    Absent,
    /// One of the contents that were stored under it.
    Content { generation: u32, bytes: usize },
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Absent => write!(f, "nothing"),
            Self::Content { generation, bytes } => write!(f, "write {generation} ({bytes} B)"),
        }
    }
}

/// One name: its last acknowledged state, and the state of a write after it that was not
/// acknowledged. No name is written to after such a write, so there is at most one.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    certain: State,
    possible: Option<State>,
    /// Whether anything was ever acknowledged.
    acknowledged: bool,
}

impl Entry {
    fn unwritten() -> Self {
        Self { certain: State::Absent, possible: None, acknowledged: false }
    }

    /// The state, when there is only one.
    pub(super) fn settled(&self) -> Option<State> {
        self.possible.is_none().then_some(self.certain)
    }

    /// What a read may find, oldest first.
    pub(super) fn allowed(&self) -> impl Iterator<Item = State> {
        [Some(self.certain), self.possible].into_iter().flatten()
    }

    /// Takes in what a read found; `false` when it may not be. Once the newer of two states was
    /// seen, the older one must not come back.
    #[must_use]
    pub(super) fn found(&mut self, state: State) -> bool {
        if self.possible == Some(state) {
            (self.certain, self.possible) = (state, None);
        }
        self.certain == state
    }

    /// What it should be, for people.
    pub(super) fn expected(&self) -> String {
        let allowed: Vec<String> = self.allowed().map(|state| state.to_string()).collect();
        allowed.join(" or ")
    }
}

/// Every name that one writer has used.
#[derive(Debug, Default)]
pub(super) struct Ledger(BTreeMap<String, Entry>);

impl Ledger {
    /// A write was acknowledged.
    pub(super) fn acknowledged(&mut self, name: &str, state: State) {
        let entry = Entry { certain: state, possible: None, acknowledged: true };
        self.0.insert(name.to_owned(), entry);
    }

    /// A write ended without an acknowledgement: it may have taken effect or not, or do so later.
    pub(super) fn uncertain(&mut self, name: &str, state: State) {
        let entry = self.0.entry(name.to_owned()).or_insert_with(Entry::unwritten);
        entry.possible = Some(state);
    }

    pub(super) fn get_mut(&mut self, name: &str) -> Option<&mut Entry> {
        self.0.get_mut(name)
    }

    pub(super) fn entries(&self) -> impl Iterator<Item = (&String, &Entry)> {
        self.0.iter()
    }

    pub(super) fn entries_mut(&mut self) -> impl Iterator<Item = (&str, &mut Entry)> {
        self.0.iter_mut().map(|(name, entry)| (name.as_str(), entry))
    }

    /// Names with something acknowledged, and the bytes of those that have content.
    pub(super) fn totals(&self) -> (usize, u64) {
        let acknowledged = self.0.values().filter(|entry| entry.acknowledged);
        acknowledged.fold((0, 0), |(names, bytes), entry| match entry.certain {
            State::Absent => (names + 1, bytes),
            State::Content { bytes: more, .. } => (names + 1, bytes + more as u64),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: State = State::Content { generation: 0, bytes: 10 };
    const NEW: State = State::Content { generation: 1, bytes: 20 };

    #[test]
    fn what_was_acknowledged_must_be_there() {
        let mut ledger = Ledger::default();
        ledger.acknowledged("a", OLD);
        let entry = ledger.get_mut("a").unwrap();
        assert!(entry.found(OLD) && !entry.found(NEW) && !entry.found(State::Absent));
        ledger.acknowledged("a", State::Absent);
        let entry = ledger.get_mut("a").unwrap();
        assert!(entry.found(State::Absent) && !entry.found(OLD));
    }

    #[test]
    fn an_uncertain_write_shows_or_not_and_never_goes_back() {
        let mut ledger = Ledger::default();
        ledger.acknowledged("a", OLD);
        ledger.uncertain("a", NEW);
        let entry = ledger.get_mut("a").unwrap();
        assert_eq!(entry.settled(), None);
        assert!(entry.found(OLD) && entry.found(OLD) && entry.found(NEW) && !entry.found(OLD));
        assert_eq!(entry.settled(), Some(NEW));
    }

    #[test]
    fn a_name_without_an_acknowledgement_is_not_counted() {
        let mut ledger = Ledger::default();
        ledger.uncertain("a", OLD);
        ledger.acknowledged("b", NEW);
        ledger.acknowledged("c", State::Absent);
        assert_eq!(ledger.totals(), (2, 20));
    }
}
