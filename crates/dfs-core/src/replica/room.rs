//! Whether a content can fit at all, before any of it is taken.

/// How a node stands that should hold copies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stand {
    /// Bytes of new blobs that it takes.
    pub free: u64,
    /// Of how many partitions it holds copies.
    pub partitions: u64,
}

impl Stand {
    /// Whether it has no room for its part of so many bytes. Blobs are spread evenly, but a few of
    /// them may fall anyhow: where a node does not hold everything it gets the benefit of the
    /// doubt.
    fn is_too_full(self, bytes: u64, partitions: u64) -> bool {
        let part = u128::from(bytes) * u128::from(self.partitions) / u128::from(partitions.max(1));
        let part = if self.partitions < partitions { part / 2 } else { part };
        u128::from(self.free) < part.max(1)
    }
}

/// Whether so many bytes, in so many blobs, surely find no room. `partitions` has the nodes of each
/// write set of each partition, and how many of a set must take a blob.
pub fn cannot_fit<N>(
    bytes: u64,
    blobs: u64,
    partitions: &[Vec<Vec<N>>],
    needed: impl Fn(usize) -> usize,
    stand: impl Fn(&N) -> Stand,
) -> bool {
    let all = partitions.len() as u64;
    let takes = |node: &&N| !stand(node).is_too_full(bytes, all);
    let refuses = |set: &Vec<N>| set.iter().filter(takes).count() < needed(set.len());
    let full = partitions.iter().filter(|sets| sets.iter().any(refuses)).count() as u64;
    // Few blobs may miss all of the full partitions; of many it is out of the question.
    full > 0 && (full == all || full.saturating_mul(blobs) >= all.saturating_mul(SURE))
}

/// How many blobs should fall into full partitions before one surely does: with eight expected,
/// none does once in three thousand times.
const SURE: u64 = 8;

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    /// Two partitions, of the first three and of the last three nodes, which have so many MiB free.
    #[track_caller]
    fn check(mib: u64, free: [u64; 4], refused: bool) {
        let partitions = [vec![vec![0, 1, 2]], vec![vec![1, 2, 3]]];
        let stand = |node: &usize| Stand {
            free: free[*node] * MIB,
            partitions: if [1, 2].contains(node) { 2 } else { 1 },
        };
        let needed = |set: usize| set / 2 + 1;
        assert_eq!(cannot_fit(mib * MIB, mib, &partitions, needed, stand), refused, "{mib}");
    }

    #[test]
    fn what_cannot_fit_is_known_and_what_may_fit_is_let_in() {
        check(10, [90; 4], false);
        check(100, [90; 4], true);
        check(100, [90, 100, 100, 90], false);
        // One of three may be full, but not two.
        check(10, [90, 90, 0, 90], false);
        check(10, [0, 90, 0, 90], false);
        check(20, [0, 90, 0, 90], true);
        check(1, [0, 0, 0, 0], true);
        // Half of a content, and some luck.
        check(100, [30, 200, 0, 30], false);
        check(100, [20, 200, 0, 20], true);
    }

    #[test]
    fn a_cluster_without_partitions_refuses_nothing() {
        let stand = |_: &u8| Stand { free: 0, partitions: 0 };
        assert!(!cannot_fit(9, 1, &[], |set| set, stand));
    }
}
