//! Which members should hold each partition: *keep, fill, swap*.
//!
//! Keeps what is where it is, fills holes with the member that is furthest below its share, and
//! swaps single copies until shares are even. Shares follow capacity; copies lie in as many zones
//! as there are, and one of them on an anchor where there are any. Integer arithmetic and no
//! randomness: every node computes the same table from the same input, though only the decided
//! table counts.

mod quota;
mod swap;

use std::collections::{BTreeMap, BTreeSet};

use crate::id::Partition;
use crate::layout::epoch::MemberIdx;

/// What a member may do in a new table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Keeps what it has and may be given more.
    Receives,
    /// Out of reach just now: keeps what it has and is given nothing.
    Keeps,
    /// On its way out: gives up everything.
    Leaves,
}

/// A member, as far as placement asks.
#[derive(Debug, Clone, Copy)]
pub struct Candidate<'a> {
    /// Its number in the rows.
    pub idx: MemberIdx,
    /// Its failure domain.
    pub zone: &'a str,
    /// Bytes it offers. A member that offers none holds nothing, unless none offers any.
    pub capacity: u64,
    /// What it may do.
    pub standing: Standing,
    /// Whether one copy of every partition should be on it or on another of its kind.
    pub is_anchor: bool,
}

/// A partition as it is now.
#[derive(Debug, Clone, Copy)]
pub struct Held<'a> {
    /// Its replica set; of a partition that moves, the set it moves to.
    pub replicas: &'a [MemberIdx],
    /// Whether it moves: then it counts for shares and is left alone.
    pub is_moving: bool,
}

/// Why a planned row differs from the one there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// It does not.
    Unchanged,
    /// Shares become more even, or a surplus copy goes.
    Balance,
    /// A replica leaves, copies are missing, or too few zones have one.
    Repair,
}

/// A partition as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Planned {
    /// Its replica set: those that stay first, in their order.
    pub replicas: Vec<MemberIdx>,
    /// Why it changes.
    pub reason: Reason,
}

/// The table that should be, one row for each of `rows`.
///
/// Every row gets [`copies_possible`] replicas and a zone for each, as far as members that receive
/// allow. A row never becomes shorter for want of a receiver: it then stays as it is. A row that
/// needs repair changes by no more than the repair; its balance comes with a later plan.
///
/// `O(p · c · log m + s · m)` for `p` partitions of `c` copies, `m` members and `s` swaps.
/// Source: the zone rule and weighting of Garage's layout, with bounded movement instead of an
/// optimal flow.
pub fn plan(rows: &[Held<'_>], members: &[Candidate<'_>], copies: usize) -> Vec<Planned> {
    let mut table = Table::new(rows, members, copies);
    table.keep();
    table.fill();
    table.swap();
    rows.iter().zip(&table.lines).map(|(held, line)| table.planned(held, line)).collect()
}

/// How many copies each partition has once nothing moves: `copies`, or one for each member that
/// can hold any.
pub fn copies_possible(members: &[Candidate<'_>], copies: usize) -> usize {
    copies.min(quota::holders(members).len())
}

/// A member that can hold partitions. Lines refer to it by its place in [`Table::nodes`].
#[derive(Debug)]
struct Node {
    idx: MemberIdx,
    zone: usize,
    receives: bool,
    is_anchor: bool,
    /// Its share of all copies, in [`quota::COPY`]ths of one.
    quota: u64,
    /// Copies it has in the table so far.
    count: u64,
}

impl Node {
    /// How full it is against its share; only good for comparing.
    fn load(&self) -> u128 {
        (u128::from(self.count) << 64) / u128::from(self.quota.max(1))
    }
}

/// One row on its way to the new table.
#[derive(Debug)]
struct Line {
    nodes: Vec<usize>,
    /// How many in front were there before.
    kept: usize,
    /// Zones the row must reach.
    spread: usize,
    /// Whether one of its replicas must be an anchor.
    is_anchored: bool,
    reason: Reason,
    is_moving: bool,
}

#[derive(Debug)]
struct Table {
    nodes: Vec<Node>,
    lines: Vec<Line>,
    copies: usize,
    /// For each zone, whether a member there receives.
    open_zones: Vec<bool>,
}

impl Table {
    fn new(rows: &[Held<'_>], members: &[Candidate<'_>], copies: usize) -> Self {
        let copies = copies_possible(members, copies);
        let nodes = quota::nodes(members, rows.len(), copies);
        let zones = nodes.iter().map(|node| node.zone + 1).max().unwrap_or(0);
        let mut open_zones = vec![false; zones];
        for node in nodes.iter().filter(|node| node.receives) {
            open_zones[node.zone] = true;
        }
        let mut table = Self { nodes, lines: Vec::new(), copies, open_zones };
        let places = table.places();
        table.lines = rows.iter().map(|held| table.line(held, &places)).collect();
        for line in &table.lines {
            line.nodes.iter().for_each(|node| table.nodes[*node].count += 1);
        }
        table
    }

    /// From a member's number to its place in `nodes`.
    fn places(&self) -> Vec<Option<usize>> {
        let idx_max = self.nodes.iter().map(|node| usize::from(node.idx)).max();
        let mut places = vec![None; idx_max.map_or(0, |idx| idx + 1)];
        for (place, node) in self.nodes.iter().enumerate() {
            places[usize::from(node.idx)] = Some(place);
        }
        places
    }

    fn line(&self, held: &Held<'_>, places: &[Option<usize>]) -> Line {
        let place = |idx: &MemberIdx| places.get(usize::from(*idx)).copied().flatten();
        let nodes: Vec<usize> = held.replicas.iter().filter_map(place).collect();
        let leaves = nodes.len() < held.replicas.len();
        let mut open = self.open_zones.clone();
        nodes.iter().for_each(|node| open[self.nodes[*node].zone] = true);
        let spread = open.iter().filter(|open| **open).count().min(self.copies);
        Line {
            kept: nodes.len(),
            is_anchored: nodes.iter().any(|node| self.nodes[*node].is_anchor)
                || self.nodes.iter().any(|node| node.is_anchor && node.receives),
            nodes,
            spread,
            reason: if leaves { Reason::Repair } else { Reason::Unchanged },
            is_moving: held.is_moving,
        }
    }

    /// In how many zones these are.
    fn zones(&self, nodes: &[usize]) -> usize {
        let zone = |at: usize| self.nodes[nodes[at]].zone;
        (0..nodes.len()).filter(|at| (0..*at).all(|before| zone(before) != zone(*at))).count()
    }

    /// Whether a row lacks the anchor that it must have.
    fn lacks_anchor(&self, line: &Line, nodes: &[usize]) -> bool {
        line.is_anchored && !nodes.iter().any(|node| self.nodes[*node].is_anchor)
    }

    /// Drops replicas where a row has too many, or where no room is left for a zone or an anchor
    /// that it must have.
    fn keep(&mut self) {
        for at in 0..self.lines.len() {
            while !self.lines[at].is_moving {
                let line = &self.lines[at];
                let is_long = line.nodes.len() > self.copies;
                let room = self.copies.saturating_sub(line.nodes.len());
                let is_narrow = self.zones(&line.nodes) + room < line.spread;
                let is_loose = room == 0 && self.lacks_anchor(line, &line.nodes);
                if !is_long && !is_narrow && !is_loose {
                    break;
                }
                self.drop_one(at, is_long);
            }
        }
    }

    /// Takes the fullest replica out of a row, of those that share a zone if any do; of a row that
    /// is too long, first one that is out of reach. Its last anchor stays.
    fn drop_one(&mut self, at: usize, is_long: bool) {
        let row = &self.lines[at].nodes;
        let zone = |node: usize| self.nodes[node].zone;
        let shares = |node: usize| row.iter().filter(|other| zone(**other) == zone(node)).count();
        let anchors = row.iter().filter(|node| self.nodes[**node].is_anchor).count();
        let all = 0..row.len();
        let worst = all.max_by_key(|pos| {
            let node = &self.nodes[row[*pos]];
            let is_away = is_long && !node.receives;
            let holds = node.is_anchor && anchors == 1;
            (!holds, shares(row[*pos]) > 1, is_away, node.load(), std::cmp::Reverse(*pos))
        });
        let line = &mut self.lines[at];
        if let Some(pos) = worst {
            self.nodes[line.nodes.remove(pos)].count -= 1;
            line.kept -= 1;
            line.reason = match line.reason {
                Reason::Unchanged if is_long => Reason::Balance,
                Reason::Balance if is_long => Reason::Balance,
                _ => Reason::Repair,
            };
        }
    }

    /// Gives every hole to the member that is furthest below its share and keeps the zone rule; the
    /// first to an anchor where the row has none, though a zone has to wait for a later plan.
    fn fill(&mut self) {
        let receivers = (0..self.nodes.len()).filter(|node| self.nodes[*node].receives);
        let mut order: BTreeSet<_> = receivers.map(|node| self.turn(node)).collect();
        for at in 0..self.lines.len() {
            while !self.lines[at].is_moving && self.lines[at].nodes.len() < self.copies {
                let line = &self.lines[at];
                let room = self.copies - line.nodes.len() - 1;
                let needs_zone = self.zones(&line.nodes) + room < line.spread;
                let needs_anchor = self.lacks_anchor(line, &line.nodes);
                let fits = |node: usize, needs_zone: bool| {
                    let Node { zone, is_anchor, .. } = self.nodes[node];
                    let mut there = line.nodes.iter();
                    (is_anchor || !needs_anchor)
                        && !there.any(|n| *n == node || (needs_zone && self.nodes[*n].zone == zone))
                };
                let find = |needs_zone| order.iter().find(|turn| fits(turn.2, needs_zone)).copied();
                let found = find(needs_zone).or_else(|| find(false).filter(|_| needs_anchor));
                let Some(turn) = found else { break };
                order.remove(&turn);
                self.nodes[turn.2].count += 1;
                order.insert(self.turn(turn.2));
                self.lines[at].nodes.push(turn.2);
                self.lines[at].reason = Reason::Repair;
            }
        }
    }

    /// The place of a member among those that wait for a copy: the emptiest is first, and equal
    /// ones come in an order that differs each time, so that all pairs of members share rows.
    fn turn(&self, node: usize) -> (u128, u64, usize) {
        let it = &self.nodes[node];
        (it.load(), mix(it.count, it.idx.into()), node)
    }

    fn planned(&self, held: &Held<'_>, line: &Line) -> Planned {
        let is_starved = line.nodes.len() < held.replicas.len().min(self.copies.max(1));
        let replicas: Vec<_> = line.nodes.iter().map(|node| self.nodes[*node].idx).collect();
        let is_same = replicas.len() == held.replicas.len()
            && replicas.iter().all(|idx| held.replicas.contains(idx));
        if line.is_moving || is_starved || is_same {
            return Planned { replicas: held.replicas.to_vec(), reason: Reason::Unchanged };
        }
        Planned { replicas, reason: line.reason }
    }
}

/// A number that looks random and is the same everywhere: the last steps of SplitMix64 (Steele et
/// al. 2014). Nobody gains by guessing it.
fn mix(a: u64, b: u64) -> u64 {
    let mut z = (a << 32 ^ b).wrapping_add(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// How much may begin to move at once.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Rows in all.
    pub rows: usize,
    /// Rows that move for balance alone.
    pub balance_rows: usize,
    /// Rows that one member is to receive.
    pub rows_per_receiver: usize,
}

/// A partition that begins to move.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Move {
    /// The partition.
    pub partition: Partition,
    /// The whole set it moves to, in one step however many are new.
    pub next: Vec<MemberIdx>,
}

/// The moves to begin now towards `planned`: repairs first, of these the rows with the fewest
/// members in reach, then what balances. `O(p · (log p + m))` for `p` partitions of `m` members.
pub fn next_moves(
    rows: &[Held<'_>],
    planned: &[Planned],
    members: &[Candidate<'_>],
    limits: &Limits,
) -> Vec<Move> {
    let receives = |idx: &&MemberIdx| {
        members.iter().any(|m| m.idx == **idx && m.standing == Standing::Receives)
    };
    let changes = || (0..=Partition::MAX).zip(rows.iter().zip(planned));
    let mut repairs: Vec<_> =
        changes().filter(|(_, (_, to))| to.reason == Reason::Repair).collect();
    repairs.sort_by_cached_key(|(_, (from, _))| from.replicas.iter().filter(receives).count());
    let balance = changes().filter(|(_, (_, to))| to.reason == Reason::Balance);
    let mut batch = Batch { limits, moves: Vec::new(), receiving: BTreeMap::new() };
    for (partition, (from, to)) in repairs {
        batch.take(partition, from, to);
    }
    for (partition, (from, to)) in balance.take(limits.balance_rows) {
        batch.take(partition, from, to);
    }
    batch.moves
}

struct Batch<'a> {
    limits: &'a Limits,
    moves: Vec<Move>,
    /// How many rows each member is to receive.
    receiving: BTreeMap<MemberIdx, usize>,
}

impl Batch<'_> {
    fn take(&mut self, partition: Partition, from: &Held<'_>, to: &Planned) {
        let arriving = to.replicas.iter().filter(|idx| !from.replicas.contains(idx));
        let rows = |idx: &MemberIdx| self.receiving.get(idx).copied().unwrap_or(0);
        let is_busy = arriving.clone().any(|idx| rows(idx) >= self.limits.rows_per_receiver);
        if is_busy || self.moves.len() >= self.limits.rows {
            return;
        }
        arriving.for_each(|idx| *self.receiving.entry(*idx).or_default() += 1);
        self.moves.push(Move { partition, next: to.replicas.clone() });
    }
}
