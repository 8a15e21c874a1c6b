//! What the failure of one more node would cost.

/// Members of a set, and how many of them are in reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InReach {
    /// In reach.
    pub up: usize,
    /// In all.
    pub all: usize,
}

/// What one more failure would cost, little first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cost {
    /// Nothing.
    Nothing,
    /// The layout could not change: nobody joins, and no copies are made elsewhere.
    Layout,
    /// Some files could not be read and written by majority.
    Majority,
    /// Some files would have no copy in reach.
    Files,
}

/// What the failure of the node that would hurt most costs. `replicas` are the sets that hold the
/// partitions; with `missing` pieces some files have a copy less than their set; `by_majority` says
/// whether reading and writing needs one. `O(sets)`.
pub fn one_more(
    replicas: impl IntoIterator<Item = InReach>,
    voters: InReach,
    missing: bool,
    by_majority: bool,
) -> Cost {
    let mut cost = match lacks_majority(voters) {
        true => Cost::Layout,
        false => Cost::Nothing,
    };
    for set in replicas {
        let copies = set.up.saturating_sub(usize::from(missing));
        let of_set = match copies <= 1 {
            true => Cost::Files,
            false if by_majority && lacks_majority(set) => Cost::Majority,
            false => Cost::Nothing,
        };
        cost = cost.max(of_set);
    }
    cost
}

/// Whether a set has no majority after one more failure.
fn lacks_majority(set: InReach) -> bool {
    set.up.saturating_sub(1) < set.all / 2 + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reach((up, all): (usize, usize)) -> InReach {
        InReach { up, all }
    }

    #[track_caller]
    fn check(sets: &[(usize, usize)], voters: (usize, usize), missing: bool, expected: Cost) {
        let cost = one_more(sets.iter().copied().map(reach), reach(voters), missing, true);
        assert_eq!(cost, expected);
    }

    #[test]
    fn the_worst_set_decides() {
        check(&[(3, 3)], (3, 3), false, Cost::Nothing);
        check(&[(3, 3)], (3, 3), true, Cost::Nothing);
        check(&[(3, 3), (2, 3)], (3, 3), false, Cost::Majority);
        check(&[(3, 3), (2, 3)], (3, 3), true, Cost::Files);
        check(&[(3, 3), (1, 3)], (3, 3), false, Cost::Files);
        check(&[(0, 3)], (3, 3), false, Cost::Files);
        check(&[(3, 3)], (3, 5), false, Cost::Layout);
        check(&[(3, 3)], (1, 1), false, Cost::Layout);
        check(&[(1, 1)], (1, 1), false, Cost::Files);
        check(&[(4, 5)], (5, 5), false, Cost::Nothing);
        check(&[], (3, 3), false, Cost::Nothing);
    }

    #[test]
    fn without_majorities_only_copies_count() {
        let cost = |up, missing| one_more([reach((up, 2))], reach((3, 3)), missing, false);
        assert_eq!(cost(2, false), Cost::Nothing);
        assert_eq!(cost(2, true), Cost::Files);
        assert_eq!(cost(1, false), Cost::Files);
    }
}
