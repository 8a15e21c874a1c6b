//! Whether two replicas of a partition hold the same rows.

use crate::id::Partition;

/// A table that replicas compare.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Table {
    /// Records of names.
    Records = 0,
    /// Reference rows.
    Refs = 1,
}

/// A fingerprint of one partition of one table: equal when the rows are.
///
/// The sum of the rows' hashes modulo 2^256, so that it changes with a row in constant time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Root {
    /// The sum, little-endian.
    pub sum: [u8; 32],
    /// How many rows.
    pub count: u64,
}

impl Root {
    /// Counts a row in.
    pub fn add(&mut self, hash: &[u8; 32]) {
        let mut carry = 0;
        for (byte, other) in self.sum.iter_mut().zip(hash) {
            let total = u16::from(*byte) + u16::from(*other) + carry;
            *byte = total.to_le_bytes()[0];
            carry = total >> 8;
        }
        self.count = self.count.wrapping_add(1);
    }

    /// Counts in all rows of another root.
    pub fn join(&mut self, other: &Root) {
        let count = self.count.wrapping_add(other.count);
        self.add(&other.sum);
        self.count = count;
    }

    /// Counts a row out.
    pub fn subtract(&mut self, hash: &[u8; 32]) {
        let mut borrow = 0;
        for (byte, other) in self.sum.iter_mut().zip(hash) {
            let total = 256 + u16::from(*byte) - u16::from(*other) - borrow;
            *byte = total.to_le_bytes()[0];
            borrow = 1 - (total >> 8);
        }
        self.count = self.count.wrapping_sub(1);
    }
}

/// The partitions whose roots differ, among those that both sides should hold.
pub fn differing(ours: &[Root], theirs: &[(Partition, Root)]) -> Vec<Partition> {
    let differs = |(partition, root): &&(Partition, Root)| {
        ours.get(usize::from(*partition)).is_some_and(|ours| ours != root)
    };
    theirs.iter().filter(differs).map(|(partition, _)| *partition).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_root_does_not_depend_on_order_and_forgets_what_left() {
        let (a, b) = ([0xff; 32], [3; 32]);
        let mut one = Root::default();
        one.add(&a);
        one.add(&b);
        let mut other = Root::default();
        other.add(&b);
        other.add(&a);
        assert_eq!(one, other);
        let mut joined = Root::default();
        [&one, &other].into_iter().for_each(|root| joined.join(root));
        assert_eq!(joined.count, 4);
        [&a, &a, &b].into_iter().for_each(|hash| joined.subtract(hash));
        joined.subtract(&b);
        assert_eq!(joined, Root::default());
        one.subtract(&a);
        one.subtract(&b);
        assert_eq!(one, Root::default());
    }
}
