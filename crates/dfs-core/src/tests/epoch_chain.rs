//! A chain of decisions under random schedules: each link is decided by the voters that the link
//! before names, any node proposes at any time, messages are lost, repeated and reordered, nodes
//! restart. No link is ever decided twice. The weakened rules at the end must split the chain, or
//! the schedules would prove nothing.

use std::collections::BTreeMap;

use super::random::Random;
use crate::id::NodeId;
use crate::paxos::{Ballot, Next, Proposer, Register};

#[derive(Debug, Clone, Copy, PartialEq)]
enum Rule {
    AsBuilt,
    /// Acceptors restart without their register.
    VolatileAcceptor,
    /// One promise fewer than a majority is enough.
    MinorityPromises,
    /// A proposer keeps its own value although it found an accepted one.
    IgnoreAccepted,
}

/// A name, and who votes on what follows.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Link {
    name: u32,
    voters: Vec<usize>,
}

#[derive(Clone)]
enum Body {
    Prepare,
    Accept(Link),
    Promised(Option<(Ballot, Link)>),
    Accepted,
    Refused(Ballot),
}

/// A request, or the answer to it.
#[derive(Clone)]
struct Message {
    from: usize,
    to: usize,
    slot: usize,
    ballot: Ballot,
    /// An answer finds its way back only to the attempt that asked.
    attempt: u32,
    body: Body,
}

struct Attempt {
    number: u32,
    slot: usize,
    own: Link,
    proposer: Proposer<Link>,
}

#[derive(Default)]
struct Node {
    /// Decided links, from the first.
    chain: Vec<Link>,
    registers: BTreeMap<usize, Register<Link>>,
    attempt: Option<Attempt>,
    /// The highest ballot seen; forgotten when the node restarts.
    seen: Option<Ballot>,
}

struct World {
    random: Random,
    rule: Rule,
    nodes: Vec<Node>,
    net: Vec<Message>,
    decided: BTreeMap<usize, Link>,
    attempts: u32,
    is_split: bool,
}

fn id(of: usize) -> NodeId {
    NodeId::new([u8::try_from(of).unwrap(); 32])
}

impl World {
    fn new(seed: u64, rule: Rule) -> Self {
        let first = Link { name: 0, voters: vec![0, 1, 2] };
        let node = || Node { chain: vec![first.clone()], ..Node::default() };
        Self {
            random: Random::new(seed),
            rule,
            nodes: (0..NODES).map(|_| node()).collect(),
            net: Vec::new(),
            decided: BTreeMap::new(),
            attempts: 0,
            is_split: false,
        }
    }

    fn step(&mut self) {
        match self.random.below(100) {
            0..6 => self.propose(),
            6..10 => self.restart(),
            10..16 => self.gossip(),
            _ => self.deliver(),
        }
    }

    fn propose(&mut self) {
        let at = self.random.index(NODES);
        let everyone: Vec<usize> = (0..NODES).collect();
        let count = self.random.pick(&[1, 3, 3, 5]);
        self.attempts += 1;
        let own = Link { name: self.attempts, voters: self.random.sample(&everyone, count) };
        let node = &mut self.nodes[at];
        let ballot = Ballot::above(node.seen, id(at));
        node.seen = Some(ballot);
        let voters = &node.chain[node.chain.len() - 1].voters;
        let set: Vec<NodeId> = voters.iter().map(|voter| id(*voter)).collect();
        let absent = set[0];
        let mut proposer = Proposer::new(ballot, vec![set]);
        if self.rule == Rule::MinorityPromises && voters.len() > 1 {
            proposer.promised(absent, None);
        }
        node.attempt =
            Some(Attempt { number: self.attempts, slot: node.chain.len(), own, proposer });
        self.ask(at, &Body::Prepare);
    }

    /// Sends a request of the node's attempt to its acceptors.
    fn ask(&mut self, from: usize, body: &Body) {
        let Some(Attempt { number, slot, proposer, .. }) = &self.nodes[from].attempt else {
            return;
        };
        let message = |to: NodeId| Message {
            from,
            to: usize::from(to.as_bytes()[0]),
            slot: *slot,
            ballot: proposer.ballot(),
            attempt: *number,
            body: body.clone(),
        };
        self.net.extend(proposer.acceptors().into_iter().map(message));
    }

    fn restart(&mut self) {
        let at = self.random.index(NODES);
        let node = &mut self.nodes[at];
        (node.attempt, node.seen) = (None, None);
        if self.rule == Rule::VolatileAcceptor {
            node.registers.clear();
        }
    }

    fn gossip(&mut self) {
        let (from, to) = (self.random.index(NODES), self.random.index(NODES));
        if self.nodes[from].chain.len() > self.nodes[to].chain.len() {
            self.nodes[to].chain = self.nodes[from].chain.clone();
        }
    }

    fn deliver(&mut self) {
        if self.net.is_empty() {
            return;
        }
        let at = self.random.index(self.net.len());
        let message = self.net.swap_remove(at);
        if self.random.chance(12) {
            return;
        }
        if self.random.chance(5) {
            self.net.push(message.clone());
        }
        match &message.body {
            Body::Prepare | Body::Accept(_) => self.answer(message),
            Body::Promised(_) | Body::Accepted | Body::Refused(_) => self.take(message),
        }
    }

    fn answer(&mut self, message: Message) {
        let Message { from, to, ballot, .. } = message;
        let register = self.nodes[to].registers.entry(message.slot).or_default();
        let body = match &message.body {
            Body::Accept(link) => register.accept(ballot, link.clone()).map(|()| Body::Accepted),
            _ => register.prepare(ballot).map(Body::Promised),
        };
        let body = body.unwrap_or_else(Body::Refused);
        self.net.push(Message { from: to, to: from, body, ..message });
    }

    fn take(&mut self, message: Message) {
        let Message { from, to, .. } = message;
        let node = &mut self.nodes[to];
        let Some(attempt) = &mut node.attempt else { return };
        if attempt.number != message.attempt {
            return;
        }
        let next = match message.body {
            Body::Promised(accepted) => attempt.proposer.promised(id(from), accepted),
            Body::Accepted => attempt.proposer.accepted(id(from)),
            Body::Refused(higher) => attempt.proposer.refused(id(from), higher),
            Body::Prepare | Body::Accept(_) => return,
        };
        match next {
            Next::Wait => {}
            Next::Choose(found) => {
                let found = found.filter(|_| self.rule != Rule::IgnoreAccepted);
                let value = found.unwrap_or_else(|| attempt.own.clone());
                attempt.proposer.choose(value.clone());
                self.ask(to, &Body::Accept(value));
            }
            Next::Chosen(value) => {
                let slot = attempt.slot;
                if node.chain.len() == slot {
                    node.chain.push(value.clone());
                }
                self.is_split |=
                    *self.decided.entry(slot).or_insert_with(|| value.clone()) != value;
            }
            Next::Lost { higher } => {
                node.seen = node.seen.max(higher);
                node.attempt = None;
            }
        }
    }
}

/// How many schedules split the chain, and how many links were decided in all.
fn splits(rule: Rule, seeds: u64) -> (usize, usize) {
    let (mut split, mut decided) = (0, 0);
    for seed in 0..seeds {
        let mut world = World::new(seed, rule);
        (0..STEPS).for_each(|_| world.step());
        split += usize::from(world.is_split);
        decided += world.decided.len();
        if split > 0 {
            break; // One is enough: it must not be, or it shows that the rule matters.
        }
    }
    (split, decided)
}

#[test]
fn no_link_is_decided_twice() {
    let (split, decided) = splits(Rule::AsBuilt, 3000);
    assert_eq!(split, 0);
    assert!(decided > 6000, "only {decided} links were decided");
}

#[test]
fn acceptors_that_forget_would_split_the_chain() {
    assert_eq!(splits(Rule::VolatileAcceptor, 1000).0, 1);
}

#[test]
fn promises_of_a_minority_would_split_the_chain() {
    assert_eq!(splits(Rule::MinorityPromises, 1000).0, 1);
}

#[test]
fn ignoring_an_accepted_value_would_split_the_chain() {
    assert_eq!(splits(Rule::IgnoreAccepted, 1000).0, 1);
}

const NODES: usize = 7;
const STEPS: usize = 400;
