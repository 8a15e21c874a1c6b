//! Since when something has been so, as far as one look after the other finds it still so.
//!
//! What may be forgotten is looked through in rounds. A key that a round does not meet is no longer
//! what it was and loses its mark, so that the time counts anew.

use std::collections::BTreeMap;

/// The keys that are marked, each with a value and the round that met it last.
#[derive(Debug)]
pub struct Marks<K, V> {
    marks: BTreeMap<K, (V, u64)>,
    round: u64,
    keys_max: usize,
}

impl<K: Ord + Clone, V: Clone> Marks<K, V> {
    /// No marks; at most `keys_max` are kept at once.
    pub fn new(keys_max: usize) -> Self {
        Self { marks: BTreeMap::new(), round: 0, keys_max }
    }

    /// The value of a marked key.
    pub fn get(&self, key: &K) -> Option<&V> {
        self.marks.get(key).map(|(value, _)| value)
    }

    /// Meets a key, and marks it with `value` unless it is marked already. Returns the value it is
    /// marked with; `None` without room for another one, whose turn comes in a later round.
    pub fn note(&mut self, key: K, value: V) -> Option<V> {
        if self.marks.len() >= self.keys_max && !self.marks.contains_key(&key) {
            return None;
        }
        let mark = self.marks.entry(key).or_insert((value, self.round));
        mark.1 = self.round;
        Some(mark.0.clone())
    }

    /// Meets a key if it is marked.
    pub fn meet(&mut self, key: &K) {
        if let Some((_, round)) = self.marks.get_mut(key) {
            *round = self.round;
        }
    }

    /// Takes a key's mark away.
    pub fn clear(&mut self, key: &K) {
        self.marks.remove(key);
    }

    /// Ends a round: takes the marks away from keys that it did not meet.
    pub fn end_round(&mut self) {
        let this = self.round;
        self.marks.retain(|_, (_, round)| *round == this);
        self.round += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_counts_from_the_first_look_while_every_round_meets_it() {
        let mut marks = Marks::new(2);
        assert_eq!(marks.note("a", 1), Some(1));
        marks.end_round();
        assert_eq!(marks.note("a", 2), Some(1));
        marks.end_round();
        marks.meet(&"a");
        marks.end_round();
        assert_eq!(marks.get(&"a"), Some(&1));
        marks.end_round();
        assert_eq!(marks.note("a", 5), Some(5), "a round did not meet it");
    }

    #[test]
    fn without_room_there_is_no_mark() {
        let mut marks = Marks::new(1);
        assert_eq!(marks.note("a", 1), Some(1));
        assert_eq!(marks.note("b", 1), None);
        assert_eq!(marks.note("a", 2), Some(1));
        marks.clear(&"a");
        assert_eq!(marks.note("b", 3), Some(3));
    }
}
