//! Which of many missing blobs is fetched first.

use std::collections::BTreeSet;

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

/// The `count` most urgent blobs, most urgent first, those that are equally so by their ids.
/// `O(n log count)`.
pub fn most_urgent(
    waiting: impl IntoIterator<Item = (Urgency, BlobId)>,
    count: usize,
) -> Vec<BlobId> {
    let mut first = BTreeSet::new();
    for one in waiting {
        first.insert(one);
        if first.len() > count {
            first.pop_last();
        }
    }
    first.into_iter().map(|(_, id)| id).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(copies: &[Option<usize>], count: usize, expected: &[u8]) {
        let waiting = copies.iter().zip(0u8..);
        let waiting = waiting.map(|(copies, byte)| (Urgency::of(*copies), BlobId::new([byte; 32])));
        let expected: Vec<_> = expected.iter().map(|byte| BlobId::new([*byte; 32])).collect();
        assert_eq!(most_urgent(waiting, count), expected);
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
}
