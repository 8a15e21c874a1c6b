//! Whether what clients saw of one name could have happened one operation at a time.
//!
//! Two checkers that know nothing of each other: a search over orders, for any history (Wing and
//! Gong 1993, with Lowe's memory of dead ends, 2017), and an interval test for histories whose
//! writes are all different (Gibbons and Korach 1997), in `O(n²)`. Each is tested by the other.

use std::collections::{BTreeMap, BTreeSet};

/// A value: which write made it, or none when the name does not exist.
pub type Value = Option<u64>;

/// What an operation did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Put a value there; `None` deletes.
    Write(Value),
    /// Saw a value.
    Read(Value),
}

/// One operation on one name, in the simulator's time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Operation {
    /// When it was called.
    pub start: u64,
    /// When it was answered; `None` for a write whose outcome nobody knows.
    pub end: Option<u64>,
    /// What it did.
    pub action: Action,
}

/// Whether some order of the operations, each between its start and its end, explains every read.
/// The name does not exist at first. `None` when the history is too long to be searched.
pub fn is_linearizable(history: &[Operation]) -> Option<bool> {
    within(history, STATES_MAX)
}

fn within(history: &[Operation], dead_max: usize) -> Option<bool> {
    let seen: BTreeSet<Value> = history
        .iter()
        .filter_map(|op| match op.action {
            Action::Read(value) => Some(value),
            Action::Write(_) => None,
        })
        .collect();
    // A write nobody knows of and nobody saw need not have happened.
    let matters = |op: &&Operation| match (op.end, op.action) {
        (None, Action::Write(value)) => seen.contains(&value),
        (None, Action::Read(_)) => false,
        (Some(_), _) => true,
    };
    let ops: Vec<Operation> = history.iter().filter(matters).copied().collect();
    if ops.len() > OPERATIONS_MAX {
        return None;
    }
    let mut search = Search { ops: &ops, dead: BTreeSet::new(), dead_max };
    let found = search.finds(0, None);
    (found || search.dead.len() < dead_max).then_some(found)
}

struct Search<'a> {
    ops: &'a [Operation],
    /// Sets of operations done, and the value then, that lead nowhere.
    dead: BTreeSet<(u128, Value)>,
    dead_max: usize,
}

impl Search<'_> {
    fn finds(&mut self, done: u128, value: Value) -> bool {
        let left = |at: usize| done & (1 << at) == 0;
        let all = 0..self.ops.len();
        let pending = all.clone().filter(|at| left(*at));
        let Some(first_end) = pending.filter_map(|at| self.ops[at].end).min() else {
            return true; // Every answered operation has its place.
        };
        if self.dead.len() >= self.dead_max || self.dead.contains(&(done, value)) {
            return false;
        }
        // A read of the value that is there changes nothing for those after it: if any order is
        // right, one with this read first is.
        let fits = |at: usize| {
            let op = self.ops[at];
            op.start <= first_end && op.action == Action::Read(value)
        };
        if let Some(at) = all.clone().find(|at| left(*at) && fits(*at)) {
            return self.finds(done | 1 << at, value);
        }
        for at in all.filter(|at| left(*at)) {
            let op = self.ops[at];
            if op.start > first_end {
                continue; // Something else was answered before it was called.
            }
            let next = match op.action {
                Action::Write(written) => written,
                Action::Read(_) => continue,
            };
            if self.finds(done | 1 << at, next) {
                return true;
            }
        }
        self.dead.insert((done, value));
        false
    }
}

/// The same question for histories without deletes whose writes are all different; `None` for
/// others.
pub fn zones_agree(history: &[Operation]) -> Option<bool> {
    let mut clusters: BTreeMap<Value, Zone> = BTreeMap::from([(None, Zone::initial())]);
    for op in history {
        if let Action::Write(value) = op.action {
            value?;
            if clusters.insert(value, Zone::of_write(op)).is_some() {
                return None;
            }
        }
    }
    for op in history {
        let (Action::Read(value), Some(end)) = (op.action, op.end) else { continue };
        let Some(zone) = clusters.get_mut(&value) else { return Some(false) };
        if end < zone.write_start {
            return Some(false);
        }
        zone.first_end = zone.first_end.min(end);
        zone.last_start = zone.last_start.max(op.start);
        zone.was_read = true;
    }
    // A write nobody knows of and nobody saw need not have happened.
    let zones: Vec<&Zone> =
        clusters.values().filter(|zone| zone.was_read || zone.write_ended).collect();
    for (at, one) in zones.iter().enumerate() {
        for other in &zones[at + 1..] {
            if one.conflicts(other) || other.conflicts(one) {
                return Some(false);
            }
        }
    }
    Some(true)
}

/// Whether the values of a history of any length can have an order: deletes are left out, and reads
/// that saw nothing. What this denies has none; what it allows may have none all the same.
pub fn values_agree(history: &[Operation]) -> bool {
    let has_value = |op: &&Operation| match op.action {
        Action::Write(value) | Action::Read(value) => value.is_some(),
    };
    let values: Vec<Operation> = history.iter().filter(has_value).copied().collect();
    zones_agree(&values).unwrap_or(true)
}

/// The operations of one value: the write, and the reads that saw it.
#[derive(Debug, Clone, Copy)]
struct Zone {
    write_start: u64,
    write_ended: bool,
    first_end: u64,
    last_start: u64,
    was_read: bool,
}

impl Zone {
    fn initial() -> Self {
        Self { write_start: 0, write_ended: true, first_end: 0, last_start: 0, was_read: false }
    }

    fn of_write(op: &Operation) -> Self {
        Self {
            write_start: op.start,
            write_ended: op.end.is_some(),
            first_end: op.end.unwrap_or(u64::MAX),
            last_start: op.start,
            was_read: false,
        }
    }

    /// Forward: the value must hold from the first end to the last start, without a break.
    fn is_forward(&self) -> bool {
        self.first_end < self.last_start
    }

    fn conflicts(&self, other: &Self) -> bool {
        if !self.is_forward() {
            return false;
        }
        let (from, to) = (self.first_end, self.last_start);
        match other.is_forward() {
            true => other.first_end < to && from < other.last_start,
            // It must take effect somewhere inside, where this value must not be broken.
            false => from < other.last_start && other.first_end < to,
        }
    }
}

/// One bit each.
const OPERATIONS_MAX: usize = 128;
/// Dead ends remembered: some 100 MiB and seconds. With many writes of unknown outcome there can be
/// more than anybody waits for.
const STATES_MAX: usize = 1 << 20;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn op(start: u64, end: impl Into<Option<u64>>, action: Action) -> Operation {
        Operation { start, end: end.into(), action }
    }

    #[track_caller]
    fn check(history: &[Operation], expected: bool) {
        assert_eq!(is_linearizable(history), Some(expected));
        assert!(zones_agree(history).is_none_or(|agrees| agrees == expected));
    }

    #[test]
    fn a_search_ends_and_says_so_where_it_is_too_long() {
        let unknown = (1..60).map(|value| op(value, None, Action::Write(Some(value))));
        let reads = |values: [u64; 3]| {
            let read = |(at, value): (u64, u64)| op(100 + at, 101 + at, Action::Read(Some(value)));
            [0_u64, 2, 4].into_iter().zip(values).map(read)
        };
        let seen = (0..60).map(|at| op(200 + at, 400 + at, Action::Read(Some(1 + at % 59))));
        // The same value twice with another between, whose write may be anywhere.
        let history: Vec<_> = unknown.chain(reads([7, 8, 7])).chain(seen).collect();
        assert_eq!(within(&history, 1000), None);
    }

    #[test]
    fn a_read_after_a_write_sees_it() {
        let write = op(1, 2, Action::Write(Some(1)));
        check(&[write, op(3, 4, Action::Read(Some(1)))], true);
        check(&[write, op(3, 4, Action::Read(None))], false);
    }

    #[test]
    fn a_concurrent_write_may_be_seen_or_not_but_not_unseen() {
        let write = op(1, 10, Action::Write(Some(1)));
        check(&[write, op(2, 3, Action::Read(None)), op(4, 5, Action::Read(Some(1)))], true);
        check(&[write, op(2, 3, Action::Read(Some(1))), op(4, 5, Action::Read(None))], false);
    }

    #[test]
    fn a_write_of_unknown_outcome_may_appear_late_or_never() {
        let writes = [op(1, None, Action::Write(Some(1))), op(2, 3, Action::Write(Some(2)))];
        let read = |at, value| op(at, at + 1, Action::Read(value));
        check(&writes, true);
        check(&[writes[0], writes[1], read(4, Some(2)), read(6, Some(1))], true);
        check(&[writes[0], writes[1], read(4, Some(1)), read(6, Some(2))], false);
    }

    #[test]
    fn a_delete_is_a_write_of_nothing() {
        let history = [
            op(1, 2, Action::Write(Some(1))),
            op(3, 4, Action::Write(None)),
            op(5, 6, Action::Read(Some(1))),
        ];
        assert_eq!(is_linearizable(&history), Some(false));
        assert_eq!(zones_agree(&history), None);
        assert_eq!(is_linearizable(&history[..2]), Some(true));
    }

    #[test]
    fn values_are_in_order_also_where_there_are_deletes() {
        let mut history = vec![
            op(1, 2, Action::Write(Some(1))),
            op(3, 4, Action::Write(None)),
            op(5, 6, Action::Write(Some(2))),
            op(7, 8, Action::Read(Some(2))),
        ];
        assert!(values_agree(&history));
        history.push(op(9, 10, Action::Read(Some(1))));
        assert!(!values_agree(&history));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(3000))]

        #[test]
        fn the_two_checkers_agree(ops in drawn()) {
            let history = history(ops, false);
            prop_assert_eq!(is_linearizable(&history), zones_agree(&history));
        }

        #[test]
        fn what_has_an_order_has_one_without_its_deletes(ops in drawn()) {
            let history = history(ops, true);
            prop_assert!(is_linearizable(&history) != Some(true) || values_agree(&history));
        }
    }

    /// Start, length, value, whether it writes, and whether the outcome is known.
    type Drawn = (u64, u64, u64, bool, u8);

    fn drawn() -> impl Strategy<Value = Vec<Drawn>> {
        prop::collection::vec((0u64..40, 1u64..12, 0u64..6, any::<bool>(), 0u8..8), 1..9)
    }

    fn history(ops: Vec<Drawn>, deletes: bool) -> Vec<Operation> {
        let mut times = 0;
        let mut history = Vec::new();
        let mut written = BTreeSet::new();
        for (start, len, value, is_write, fate) in ops {
            times += 1;
            // Distinct instants, as in a run.
            let (start, end) = (start * 100 + times, (start + len) * 100 + times + 50);
            let value = (value > 0).then_some(value);
            let action = match value {
                Some(_) if is_write && written.insert(value) => Action::Write(value),
                None if is_write && deletes => Action::Write(None),
                _ => Action::Read(value),
            };
            let unknown = fate == 0 && matches!(action, Action::Write(_));
            history.push(Operation { start, end: (!unknown).then_some(end), action });
        }
        history
    }
}
