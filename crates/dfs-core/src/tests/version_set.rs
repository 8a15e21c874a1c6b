//! Random schedules of reads, writes, merges, restarts and clock jumps on three replicas: no
//! acknowledged version is lost unless someone read it and went on; merging is a lattice. The
//! weakened rules at the end must fail, or the schedules would prove nothing.

use std::collections::{BTreeMap, BTreeSet};

use super::random::Random;
use super::versions::version;
use crate::hlc::Hlc;
use crate::id::Vid;
use crate::version::{Kind, Place, Record, merge, place_after};

#[derive(Clone, Copy, PartialEq)]
enum Rule {
    AsBuilt,
    /// A write without a quorum read keeps the actor of its process.
    SameActorInAvailable,
    /// A lifted stamp keeps the actor of its process.
    LiftedSameActor,
    /// Replicas take a write instead of merging it.
    Overwrite,
}

struct World {
    random: Random,
    rule: Rule,
    replicas: Vec<Record>,
    actors: Vec<u64>,
    clocks: Vec<u64>,
    next_actor: u64,
    next_vid: u8,
    /// What each version's writer had seen, and what those had seen.
    truth: BTreeMap<Vid, BTreeSet<Vid>>,
    acked: BTreeSet<Vid>,
    states: Vec<Record>,
}

impl World {
    fn new(seed: u64, rule: Rule) -> Self {
        let mut random = Random::new(seed);
        let clocks = (0..3).map(|_| random.below(50)).collect();
        Self {
            random,
            rule,
            replicas: vec![Record::default(); 3],
            actors: vec![1, 2, 3],
            clocks,
            next_actor: 100,
            next_vid: 0,
            truth: BTreeMap::new(),
            acked: BTreeSet::new(),
            states: Vec::new(),
        }
    }

    fn fresh(&mut self) -> u64 {
        self.next_actor += 1;
        self.next_actor
    }

    fn step(&mut self) {
        match self.random.below(100) {
            0..55 => self.write(),
            55..70 => {
                let (a, b) = (self.random.index(3), self.random.index(3));
                let both = merge(&self.replicas[a], &self.replicas[b]);
                self.replicas[a] = both.clone();
                self.replicas[b] = both;
            }
            70..80 => {
                // A restart: a new actor, and a clock that may have gone back.
                let k = self.random.index(3);
                self.actors[k] = self.fresh();
                self.clocks[k] = self.random.below(5);
            }
            _ => {}
        }
        let at = self.random.index(3);
        self.states.push(self.replicas[at].clone());
    }

    fn write(&mut self) {
        let k = self.random.index(3);
        let mut reach: Vec<usize> = (0..3).filter(|_| self.random.chance(70)).collect();
        let quorum = reach.len() >= 2;
        if reach.is_empty() || (!quorum && self.random.chance(30)) {
            return;
        }
        let read_from: Vec<usize> =
            reach.iter().copied().take(if quorum { 2 } else { 1 }).collect();
        let read = read_from.iter().fold(Record::default(), |r, at| merge(&r, &self.replicas[*at]));
        if quorum {
            for at in read_from {
                self.replicas[at] = merge(&self.replicas[at], &read);
            }
        }
        self.clocks[k] += 1;
        let tick = Hlc(self.clocks[k]);
        if self.random.chance(10) {
            self.clocks[k] += self.random.below(40);
        }
        let fresh = self.fresh();
        let mut place = place_after(&read, tick, self.actors[k], fresh, quorum);
        let lifted = place.hlc != tick;
        match self.rule {
            Rule::SameActorInAvailable if !quorum => place.actor = self.actors[k],
            Rule::LiftedSameActor if lifted && quorum => place.actor = self.actors[k],
            _ => {}
        }
        self.next_vid += 1;
        let written = Record::of(version(self.next_vid, place, Kind::Live));
        let vid = Vid::new([self.next_vid; 16]);
        let mut seen: BTreeSet<Vid> = read.heads().map(|head| head.vid).collect();
        for head in read.heads() {
            seen.extend(self.truth[&head.vid].clone());
        }
        self.truth.insert(vid, seen);
        reach.retain(|_| self.random.chance(90));
        for at in &reach {
            self.replicas[*at] = match self.rule {
                Rule::Overwrite => written.clone(),
                _ => merge(&self.replicas[*at], &written),
            };
        }
        if (quorum && reach.len() >= 2) || (!quorum && !reach.is_empty()) {
            self.acked.insert(vid);
        }
        self.states.push(written);
    }

    fn lost(&self) -> usize {
        let all = self.replicas.iter().fold(Record::default(), |all, one| merge(&all, one));
        let mut covered: BTreeSet<Vid> = all.heads().map(|head| head.vid).collect();
        for head in all.heads() {
            covered.extend(self.truth[&head.vid].clone());
        }
        self.acked.difference(&covered).count()
    }

    fn check_lattice(&mut self) {
        for _ in 0..3 {
            let n = self.states.len();
            let [x, y, z] = [0; 3].map(|_| self.states[self.random.index(n)].clone());
            assert_eq!(merge(&x, &y), merge(&y, &x));
            assert_eq!(merge(&x, &x), x);
            assert_eq!(merge(&merge(&x, &y), &z), merge(&x, &merge(&y, &z)));
        }
    }
}

fn losses(rule: Rule, seeds: u64) -> usize {
    let mut losses = 0;
    for seed in 0..seeds {
        let mut world = World::new(seed, rule);
        (0..30).for_each(|_| world.step());
        losses += usize::from(world.lost() > 0);
        if rule != Rule::AsBuilt && losses > 0 {
            break; // One is enough to show that the rule matters.
        }
        if rule == Rule::AsBuilt {
            assert_eq!(world.lost(), 0, "seed {seed} loses an acknowledged version");
            world.check_lattice();
        }
    }
    losses
}

#[test]
fn no_acknowledged_version_is_lost() {
    assert_eq!(losses(Rule::AsBuilt, 3000), 0);
}

#[test]
fn one_actor_for_offline_writes_would_lose_versions() {
    assert!(losses(Rule::SameActorInAvailable, 2000) > 0);
}

#[test]
fn one_actor_for_lifted_stamps_would_lose_versions() {
    assert!(losses(Rule::LiftedSameActor, 20_000) > 0);
}

#[test]
fn overwriting_instead_of_merging_would_lose_versions() {
    assert!(losses(Rule::Overwrite, 500) > 0);
}

#[test]
fn a_place_names_everything_that_was_read() {
    let first = Place { actor: 1, hlc: Hlc(5), context: BTreeMap::new() };
    let record = Record::of(version(1, first, Kind::Live));
    let place = place_after(&record, Hlc(9), 2, 3, true);
    assert_eq!(place.context, BTreeMap::from([(1, Hlc(5))]));
}
