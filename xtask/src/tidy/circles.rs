//! Circles in a graph: nodes that all reach each other.

use std::collections::{BTreeMap, BTreeSet};

/// The strongly connected components of more than one node, each in order.
///
/// Looks from every node: `O(n · m)`, which for some hundred files takes milliseconds.
pub(super) fn circles<N: Ord + Clone>(arrows: &BTreeSet<(N, N)>) -> Vec<BTreeSet<N>> {
    let mut next: BTreeMap<&N, Vec<&N>> = BTreeMap::new();
    for (from, to) in arrows.iter().filter(|(from, to)| from != to) {
        next.entry(from).or_default().push(to);
    }
    let reached: BTreeMap<&N, BTreeSet<&N>> =
        next.keys().map(|&from| (from, reach(from, &next))).collect();
    let mut found: Vec<BTreeSet<N>> = Vec::new();
    for (node, reaches) in &reached {
        if found.iter().any(|circle| circle.contains(*node)) {
            continue;
        }
        let returns = |to: &&&N| reached.get(**to).is_some_and(|back| back.contains(*node));
        let circle: BTreeSet<N> = reaches.iter().filter(returns).map(|to| (*to).clone()).collect();
        if circle.len() > 1 {
            found.push(circle);
        }
    }
    found
}

/// What can be reached from a node, in one step or more.
fn reach<'a, N: Ord>(from: &'a N, next: &BTreeMap<&'a N, Vec<&'a N>>) -> BTreeSet<&'a N> {
    let mut reached = BTreeSet::new();
    let mut open = vec![from];
    while let Some(node) = open.pop() {
        for &to in next.get(node).into_iter().flatten() {
            if reached.insert(to) {
                open.push(to);
            }
        }
    }
    reached
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(arrows: &[&str], expected: &[&str]) {
        let arrows = arrows.iter().map(|arrow| arrow.split_once('>').expect("from>to")).collect();
        let shown = |circle: &BTreeSet<&str>| circle.iter().copied().collect::<String>();
        let found: Vec<_> = circles(&arrows).iter().map(shown).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn nodes_that_reach_each_other_are_a_circle() {
        check(&["a>b", "b>c"], &[]);
        check(&["a>b", "b>a", "b>c"], &["ab"]);
        check(&["a>b", "b>c", "c>a", "c>d", "d>e", "e>d", "f>a"], &["abc", "de"]);
    }

    #[test]
    fn a_node_alone_is_no_circle() {
        check(&["a>a"], &[]);
    }
}
