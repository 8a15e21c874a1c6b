//! When enough replicas have answered.
//!
//! A write counts when a majority of *each* write set has it durably; a read when so many of the
//! read set answered that they meet every such majority. During a move there are two write sets.

use std::collections::BTreeSet;

/// What a tally says after an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// More answers are needed and possible.
    Pending,
    /// Enough in every set.
    Reached,
    /// Too many failed: the rest cannot make it.
    Impossible,
}

/// Counts answers against the sets that must each reach their number.
#[derive(Debug, Clone)]
pub struct Tally<N> {
    sets: Vec<Vec<N>>,
    needed: fn(usize) -> usize,
    acks: BTreeSet<N>,
    fails: BTreeSet<N>,
}

impl<N: Ord + Clone> Tally<N> {
    /// `needed` maps the size of a set to the answers it needs.
    pub fn new(sets: Vec<Vec<N>>, needed: fn(usize) -> usize) -> Self {
        Self { sets, needed, acks: BTreeSet::new(), fails: BTreeSet::new() }
    }

    /// Answers that make a write count in a set of `n`: a majority.
    pub fn write_majority(n: usize) -> usize {
        n / 2 + 1
    }

    /// Answers that make a read count in a set of `n`: enough to meet every write majority.
    pub fn read_majority(n: usize) -> usize {
        n - Self::write_majority(n) + 1
    }

    /// One answer anywhere: what `available` mode asks of a write.
    pub fn any(n: usize) -> usize {
        n.min(1)
    }

    /// Everyone who may answer, each once.
    pub fn nodes(&self) -> BTreeSet<N> {
        self.sets.iter().flatten().cloned().collect()
    }

    /// Notes a success.
    pub fn ack(&mut self, node: &N) -> Verdict {
        self.acks.insert(node.clone());
        self.verdict()
    }

    /// Notes a failure. A later success of the same node still counts.
    pub fn fail(&mut self, node: &N) -> Verdict {
        self.fails.insert(node.clone());
        self.verdict()
    }

    /// Where the count stands.
    pub fn verdict(&self) -> Verdict {
        let mut verdict = Verdict::Reached;
        for set in &self.sets {
            let acked = set.iter().filter(|node| self.acks.contains(node)).count();
            let lost = set
                .iter()
                .filter(|node| self.fails.contains(node) && !self.acks.contains(node))
                .count();
            let needed = (self.needed)(set.len());
            if set.len() - lost < needed {
                return Verdict::Impossible;
            }
            if acked < needed {
                verdict = Verdict::Pending;
            }
        }
        verdict
    }

    /// Who has succeeded.
    pub fn acked(&self) -> &BTreeSet<N> {
        &self.acks
    }

    /// The size of the longest set.
    pub fn wanted(&self) -> usize {
        self.sets.iter().map(Vec::len).max().unwrap_or(0)
    }
}
