//! Conditional puts under random schedules: each replaces exactly the version it found, in one
//! order, whoever stops half-way and whatever replicas take over from each other meanwhile. This is
//! how a coordinator uses a proposer more than once on one register, and how it judges the answers.
//! The weakened rules must let two puts replace the same version.

use std::collections::{BTreeMap, BTreeSet};

use super::random::Random;
use crate::id::NodeId;
use crate::paxos::{Ballot, Heard, Next, Proposer, Register, acceptance_of, promise_of};

#[derive(Debug, Clone, Copy, PartialEq)]
enum Rule {
    AsBuilt,
    /// What somebody else left unfinished is not finished first.
    LeaveUnfinished,
    /// A replica that takes over the record gets the versions and not the register.
    RegisterNotMoved,
    /// What a replica took over from another one counts as accepted by it, whatever it promised.
    TakenOverIsAccepted,
    /// The first replica is a gateway and needed by every quorum; the last one lies.
    Guarded,
    /// The last one lies, and any two are a quorum.
    Unguarded,
}

impl Rule {
    fn has_liar(self) -> bool {
        matches!(self, Self::Guarded | Self::Unguarded)
    }

    fn sets(self) -> Vec<Vec<NodeId>> {
        let mut sets = vec![(0..3).map(id).collect()];
        if self == Self::Guarded {
            sets.push(vec![id(0)]);
        }
        sets
    }
}

/// A version: its number, and the one it replaces.
type Version = (u32, u32);

#[derive(Clone, Default)]
struct Replica {
    register: Register<Version>,
    /// Versions that took effect here.
    known: BTreeSet<Version>,
}

struct Put {
    proposer: Proposer<Version>,
    /// What is sent in the second phase.
    value: Option<Version>,
    known: BTreeSet<Version>,
    unasked: Vec<usize>,
}

struct World {
    random: Random,
    rule: Rule,
    replicas: Vec<Replica>,
    puts: Vec<Option<Put>>,
    seen: Option<Ballot>,
    numbers: u32,
    /// For each version, what replaced it.
    replaced: BTreeMap<u32, u32>,
    is_split: bool,
    /// What replicas held at some time and others may take over yet.
    on_the_way: Vec<Replica>,
    /// What the liar was asked to accept: it cannot sign anything else.
    told_liar: Vec<(Ballot, Version)>,
}

fn id(of: usize) -> NodeId {
    NodeId::new([u8::try_from(of).unwrap(); 32])
}

/// The newest version: nothing replaces it.
fn head(known: &BTreeSet<Version>) -> u32 {
    let is_head = |number: &u32| known.iter().all(|(_, base)| base != number);
    known.iter().map(|(number, _)| *number).filter(is_head).max().unwrap_or(0)
}

impl World {
    fn new(seed: u64, rule: Rule) -> Self {
        Self {
            random: Random::new(seed),
            rule,
            replicas: vec![Replica::default(); 3],
            puts: (0..3).map(|_| None).collect(),
            seen: None,
            numbers: 0,
            replaced: BTreeMap::new(),
            is_split: false,
            on_the_way: Vec::new(),
            told_liar: Vec::new(),
        }
    }

    fn step(&mut self) {
        let at = self.random.index(self.puts.len());
        match self.puts[at].take() {
            // A coordinator that stops: what it left behind stays.
            Some(_) if self.random.chance(3) => {}
            Some(put) => self.puts[at] = self.carry_on(put),
            None => self.puts[at] = Some(self.begin(at)),
        }
        if self.random.chance(2) {
            self.move_a_replica();
        }
        if self.random.chance(20) {
            self.take_over();
        }
    }

    fn begin(&mut self, at: usize) -> Put {
        let ballot = Ballot::above(self.seen, id(at));
        self.seen = Some(ballot);
        let proposer = Proposer::new(ballot, self.rule.sets());
        Put { proposer, value: None, known: BTreeSet::new(), unasked: vec![0, 1, 2] }
    }

    /// Asks one more replica; some requests are lost, and some answers: those calls are repeated.
    fn carry_on(&mut self, mut put: Put) -> Option<Put> {
        if put.unasked.is_empty() {
            return None;
        }
        let at = self.random.index(put.unasked.len());
        let (to, ballot) = (put.unasked[at], put.proposer.ballot());
        let is_lost = self.random.chance(20);
        let lies = self.rule.has_liar() && to == LIAR;
        let heard = match put.value {
            _ if is_lost => Heard::Failed,
            _ if lies => self.lie(ballot, put.value),
            None => {
                let register = &mut self.replicas[to].register;
                let _ = register.prepare(ballot);
                promise_of(register, ballot)
            }
            Some(value) => {
                let register = &mut self.replicas[to].register;
                let _ = register.accept(ballot, value);
                match self.rule {
                    Rule::TakenOverIsAccepted => accepted_or_taken_over(register, ballot),
                    _ => acceptance_of(register, ballot),
                }
            }
        };
        if self.random.chance(10) {
            return Some(put);
        }
        put.unasked.swap_remove(at);
        if matches!(heard, Heard::Promised(_)) && !lies {
            put.known.extend(&self.replicas[to].known);
        }
        let next = put.proposer.heard(id(to), heard);
        match next {
            Next::Wait => {}
            Next::Choose(found) => {
                // One that took effect already is finished.
                let unfinished = found.filter(|value| !put.known.contains(value));
                let unfinished = unfinished.filter(|_| self.rule != Rule::LeaveUnfinished);
                self.numbers += 1;
                let value = unfinished.unwrap_or_else(|| (self.numbers, head(&put.known)));
                put.proposer.choose(value);
                (put.value, put.unasked) = (Some(value), vec![0, 1, 2]);
            }
            Next::Chosen(value) => {
                self.take_effect(value, &put.known);
                return None;
            }
            Next::Lost { .. } => return None,
        }
        Some(put)
    }

    /// What a replica answers that does as it likes: yes to everything, and of what it accepted
    /// nothing, or whatever it was once asked to accept.
    fn lie(&mut self, ballot: Ballot, value: Option<Version>) -> Heard<Version> {
        if let Some(value) = value {
            self.told_liar.push((ballot, value));
            return Heard::Accepted;
        }
        let known = self.told_liar.len();
        let shows = known > 0 && self.random.chance(50);
        Heard::Promised(shows.then(|| self.told_liar[self.random.index(known)]))
    }

    fn take_effect(&mut self, value: Version, known: &BTreeSet<Version>) {
        let (number, base) = value;
        self.is_split |= *self.replaced.entry(base).or_insert(number) != number;
        for replica in &mut self.replicas {
            if self.random.chance(50) {
                replica.known.extend(known);
                replica.known.insert(value);
            }
        }
    }

    /// Replicas are brought together, by a read or in the background: what one held, then or long
    /// ago, is joined with what another one holds. Nobody's attempts end for it.
    fn take_over(&mut self) {
        let from = self.replicas[self.random.index(3)].clone();
        self.on_the_way.push(from);
        let late = self.on_the_way.len().min(LATE);
        let at = self.on_the_way.len() - 1 - self.random.index(late);
        let (told, to) = (&self.on_the_way[at], self.random.index(3));
        self.replicas[to].register.merge(&told.register);
        self.replicas[to].known.extend(&told.known);
    }

    /// A new disk takes the place of one replica, with what the two others have.
    fn move_a_replica(&mut self) {
        // What a gateway holds does not come from storage members alone.
        let to = if self.rule.has_liar() { 1 } else { self.random.index(3) };
        let lies = |of: &usize| self.rule.has_liar() && *of == LIAR;
        let mut new = Replica::default();
        for other in (0..3).filter(|other| *other != to && !lies(other)) {
            new.known.extend(&self.replicas[other].known);
            if self.rule != Rule::RegisterNotMoved {
                new.register.merge(&self.replicas[other].register);
            }
        }
        self.replicas[to] = new;
        // Attempts under the old layout are refused from now on.
        self.puts.iter_mut().for_each(|put| *put = None);
    }
}

/// What the weakened rule makes of an answer to an accept.
fn accepted_or_taken_over(register: &Register<Version>, ballot: Ballot) -> Heard<Version> {
    match register.accepted() {
        Some((accepted, _)) if *accepted == ballot => Heard::Accepted,
        _ => acceptance_of(register, ballot),
    }
}

/// How many schedules replaced one version twice, until one did; and the puts in all.
fn splits(rule: Rule, seeds: u64) -> (usize, usize) {
    let (mut split, mut puts) = (0, 0);
    for seed in 0..seeds {
        let mut world = World::new(seed, rule);
        (0..300).for_each(|_| world.step());
        split += usize::from(world.is_split);
        puts += world.replaced.len();
        if split > 0 {
            break;
        }
    }
    (split, puts)
}

#[test]
fn no_version_is_replaced_twice() {
    let (split, puts) = splits(Rule::AsBuilt, 3000);
    assert_eq!(split, 0);
    assert!(puts > 20_000, "{puts} puts");
}

#[test]
fn leaving_an_unfinished_put_would_replace_a_version_twice() {
    assert_eq!(splits(Rule::LeaveUnfinished, 1000).0, 1);
}

#[test]
fn moving_a_record_without_its_register_would_replace_a_version_twice() {
    assert_eq!(splits(Rule::RegisterNotMoved, 3000).0, 1);
}

#[test]
fn counting_what_a_replica_took_over_would_replace_a_version_twice() {
    assert_eq!(splits(Rule::TakenOverIsAccepted, 1000).0, 1);
}

#[test]
fn a_replica_that_lies_splits_no_name_whose_quorums_are_guarded() {
    let (split, puts) = splits(Rule::Guarded, 3000);
    assert_eq!(split, 0);
    assert!(puts > 20_000, "{puts} puts");
}

#[test]
fn a_replica_that_lies_would_split_a_name_without_guards() {
    assert_eq!(splits(Rule::Unguarded, 1000).0, 1);
}

/// The replica that lies, where one does.
const LIAR: usize = 2;
/// How many of the latest states that were on their way may still arrive.
const LATE: usize = 4;
