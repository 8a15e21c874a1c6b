//! How a network falls apart: who is on which side, and what becomes of what is sent across.

use std::fmt;

use crate::bed::mesh::Mesh;
use crate::bed::random::Random;

/// Two sides of a cluster.
#[derive(Debug)]
pub(super) struct Cut {
    /// The smaller side, then the larger one.
    sides: [Vec<usize>; 2],
    how: How,
}

/// What happens to what is sent across.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum How {
    /// It does not arrive, and nobody says so.
    Silent,
    /// Connections break and new ones are refused.
    Refused,
    /// What the smaller side sends does not arrive.
    Outward,
    /// What is sent to the smaller side does not arrive.
    Inward,
}

impl Cut {
    /// The first three are a zone, two nodes of different zones, and a zone one way; then any two
    /// nodes in any way.
    pub(super) fn draw(number: usize, nodes: usize, random: &mut Random) -> Self {
        let both_ways = [How::Silent, How::Refused];
        let one_way = [How::Outward, How::Inward];
        let (away, how) = match number {
            1 => (vec![0, 1], both_ways[random.below(2)]),
            2 => (vec![0, 2], both_ways[random.below(2)]),
            3 => (vec![0, 1], one_way[random.below(2)]),
            _ => {
                let mut all: Vec<usize> = (0..nodes).collect();
                random.shuffle(&mut all);
                all.truncate((nodes - 1) / 2);
                all.sort_unstable();
                (all, [both_ways, one_way].concat()[random.below(4)])
            }
        };
        let rest = (0..nodes).filter(|at| !away.contains(at)).collect();
        Self { sides: [away, rest], how }
    }

    pub(super) fn sides(&self) -> &[Vec<usize>; 2] {
        &self.sides
    }

    /// Which side a node is on.
    pub(super) fn side_of(&self, at: usize) -> usize {
        usize::from(!self.sides[0].contains(&at))
    }

    /// Whether what one side writes may arrive at the other.
    pub(super) fn is_one_way(&self) -> bool {
        matches!(self.how, How::Outward | How::Inward)
    }

    pub(super) fn make(&self, mesh: &Mesh) {
        for (from, to) in mesh.pairs() {
            if self.side_of(from) == self.side_of(to) {
                continue;
            }
            let from_smaller = self.side_of(from) == 0;
            match self.how {
                How::Silent => mesh.link(from, to).cut(),
                How::Refused => mesh.link(from, to).refuse(),
                How::Outward if from_smaller => mesh.link(from, to).cut(),
                How::Inward if !from_smaller => mesh.link(from, to).cut(),
                How::Outward | How::Inward => {}
            }
        }
    }
}

impl fmt::Display for Cut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = |side: &[usize]| {
            let numbers: Vec<String> = side.iter().map(|at| (at + 1).to_string()).collect();
            numbers.join(" ")
        };
        let how = match self.how {
            How::Silent => "in silence",
            How::Refused => "connections refused",
            How::Outward => "the first send and nothing arrives",
            How::Inward => "nothing arrives at the first",
        };
        write!(f, "{} | {}, {how}", shown(&self.sides[0]), shown(&self.sides[1]))
    }
}
