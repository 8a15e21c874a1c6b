//! The last step of a plan: single copies go from members above their share to members below it.

use std::collections::BTreeMap;

use super::quota::COPY;
use super::{Line, Node, Reason, Table, mix};

/// Rows that a member could give to another, best last.
type Lists = BTreeMap<(usize, usize), Vec<usize>>;

impl Node {
    /// Below this it is given more: 97 % of its share, counted in whole copies.
    fn low(&self) -> u64 {
        (self.quota / COPY * 97).div_ceil(100)
    }

    /// Above this it gives away: its share, rounded up.
    fn high(&self) -> u64 {
        self.quota.div_ceil(COPY)
    }

    /// By how much it is above its share, in units of a quota.
    fn surplus(&self) -> i128 {
        i128::from(self.count) * i128::from(COPY) - i128::from(self.quota)
    }
}

impl Table {
    /// Evens out what keeping and filling left uneven, and moves nothing that is within bounds.
    pub(super) fn swap(&mut self) {
        let mut held = vec![Vec::new(); self.nodes.len()];
        for (at, line) in self.lines.iter().enumerate().filter(|(_, line)| !line.is_moving) {
            line.nodes.iter().for_each(|node| held[*node].push(at));
        }
        // Every swap brings two members closer to their shares, so this comes to an end.
        while self.pass(&mut held) {}
    }

    /// Takes each member outside its bounds in turn; whether a copy was moved.
    fn pass(&mut self, held: &mut [Vec<usize>]) -> bool {
        let mut is_changed = false;
        let mut open = vec![true; self.nodes.len()];
        while let Some(to) = self.emptiest(&open, |node| node.count < node.low()) {
            open[to] = false;
            is_changed |= self.feed(to, held);
        }
        open.fill(true);
        while let Some(from) = self.fullest(&open, |node| node.count > node.high()) {
            open[from] = false;
            is_changed |= self.relieve(from, held);
        }
        is_changed
    }

    /// Brings a member up to its lower bound, from whoever is fullest.
    fn feed(&mut self, to: usize, held: &mut [Vec<usize>]) -> bool {
        let before = self.nodes[to].count;
        let mut lists = Lists::new();
        let mut open = vec![true; self.nodes.len()];
        while self.nodes[to].count < self.nodes[to].low() {
            let least = self.nodes[to].surplus() + i128::from(COPY);
            let Some(from) = self.fullest(&open, |node| node.surplus() > least) else { break };
            open[from] = self.give(from, to, &mut lists, held);
        }
        self.nodes[to].count > before
    }

    /// Brings a member down to its upper bound, towards whoever is emptiest.
    fn relieve(&mut self, from: usize, held: &mut [Vec<usize>]) -> bool {
        let before = self.nodes[from].count;
        let mut lists = Lists::new();
        let mut open = vec![true; self.nodes.len()];
        while self.nodes[from].count > self.nodes[from].high() {
            let most = self.nodes[from].surplus() - i128::from(COPY);
            let Some(to) = self.emptiest(&open, |node| node.surplus() < most) else { break };
            open[to] = self.give(from, to, &mut lists, held);
        }
        self.nodes[from].count < before
    }

    fn fullest(&self, open: &[bool], meets: impl Fn(&Node) -> bool) -> Option<usize> {
        self.of_interest(open, meets).max_by_key(|at| (self.nodes[*at].load(), *at))
    }

    fn emptiest(&self, open: &[bool], meets: impl Fn(&Node) -> bool) -> Option<usize> {
        self.of_interest(open, meets).min_by_key(|at| (self.nodes[*at].load(), *at))
    }

    /// Members out of reach neither give nor take.
    fn of_interest(
        &self,
        open: &[bool],
        meets: impl Fn(&Node) -> bool,
    ) -> impl Iterator<Item = usize> {
        let all = self.nodes.iter().enumerate();
        let of_interest = all.filter(move |(at, node)| open[*at] && node.receives && meets(node));
        of_interest.map(|(at, _)| at)
    }

    /// Moves one copy; false when no row is left in which it could.
    fn give(&mut self, from: usize, to: usize, lists: &mut Lists, held: &mut [Vec<usize>]) -> bool {
        let list = lists.entry((from, to)).or_insert_with(|| self.candidates(from, to, held));
        while let Some(at) = list.pop() {
            let Some(pos) = self.fits(&self.lines[at], from, to) else { continue };
            let line = &mut self.lines[at];
            line.nodes[pos] = to;
            if line.reason == Reason::Unchanged {
                line.reason = Reason::Balance;
            }
            self.nodes[from].count -= 1;
            self.nodes[to].count += 1;
            held[to].push(at);
            return true;
        }
        false
    }

    /// The rows of `from`: last those where it is new itself, so that nothing more moves, and
    /// within these in an order that differs for each receiver.
    fn candidates(&self, from: usize, to: usize, held: &[Vec<usize>]) -> Vec<usize> {
        let mut list = held[from].clone();
        let receiver = u64::from(self.nodes[to].idx);
        list.sort_by_cached_key(|at| {
            let line = &self.lines[*at];
            let is_new = line.nodes.iter().skip(line.kept).any(|node| *node == from);
            (is_new, mix(*at as u64, receiver), *at)
        });
        list
    }

    /// Where `to` may take the place of `from`: not beside itself, not where a zone or an anchor
    /// would be missing, and not for a kept replica of a row that is being repaired.
    fn fits(&self, line: &Line, from: usize, to: usize) -> Option<usize> {
        let pos = line.nodes.iter().position(|node| *node == from)?;
        if line.nodes.contains(&to) || (line.reason == Reason::Repair && pos < line.kept) {
            return None;
        }
        let mut after = line.nodes.clone();
        after[pos] = to;
        let is_wide = self.zones(&after) >= line.spread.min(after.len());
        (is_wide && !self.lacks_anchor(line, &after)).then_some(pos)
    }
}
