//! Forming a cluster: tables, and nodes that lose, delay, repeat and forget what they can.

use std::collections::{BTreeMap, BTreeSet};

use crate::id::NodeId;
use crate::layout::forming::{
    Declined, FOUNDERS_MAX, Forming, FormingStep, ListUnknown, Listed, TooLate, Waiting, closure,
};

fn node(of: u8) -> NodeId {
    NodeId::new([of; 32])
}

fn set(of: &[u8]) -> BTreeSet<NodeId> {
    of.iter().copied().map(node).collect()
}

/// All of them gateways.
fn all(of: &[u8]) -> Option<Listed> {
    Some(Listed::new(set(of), |_| true))
}

fn forming(me: u8, listed: &[u8]) -> Forming {
    let mut forming = Forming::new(node(me), None, 7);
    forming.see(all(listed));
    forming
}

#[test]
fn the_lowest_of_a_set_founds_when_all_have_promised() {
    let mut lowest = forming(1, &[1, 2, 3]);
    let FormingStep::Offer { attempt, nodes, whom } = lowest.step() else { panic!("{lowest:?}") };
    assert_eq!((nodes, whom), (set(&[1, 2, 3]), vec![node(2), node(3)]));
    assert!(!lowest.begin_founding());
    lowest.promised(node(2), attempt);
    lowest.promised(node(2), attempt);
    assert!(matches!(lowest.step(), FormingStep::Offer { whom, .. } if whom == [node(3)]));
    lowest.promised(node(3), attempt);
    assert_eq!(lowest.step(), FormingStep::Found);
    assert!(lowest.begin_founding() && !lowest.begin_founding());
}

#[test]
fn whoever_is_not_the_lowest_waits() {
    assert_eq!(forming(2, &[1, 2]).step(), FormingStep::Wait(Waiting::Founder(node(1))));
    assert_eq!(Forming::new(node(1), None, 0).step(), FormingStep::Wait(Waiting::Peers));
    let many: Vec<u8> = (1..=u8::try_from(FOUNDERS_MAX).unwrap() + 1).collect();
    assert_eq!(forming(1, &many).step(), FormingStep::Wait(Waiting::TooMany));
    // A list of only oneself is no list.
    assert_eq!(forming(1, &[1]).step(), FormingStep::Found);
}

#[test]
fn only_a_gateway_founds_or_is_promised_to() {
    let seen = |me, gateways: &'static [u8]| {
        let mut forming = Forming::new(node(me), None, 7);
        let is_gateway = |node: &NodeId| set(gateways).contains(node);
        forming.see(Some(Listed::new(set(&[1, 2, 3]), is_gateway)));
        forming
    };
    assert_eq!(seen(1, &[2, 3]).step(), FormingStep::Wait(Waiting::Founder(node(2))));
    assert!(matches!(seen(2, &[2, 3]).step(), FormingStep::Offer { .. }));
    assert_eq!(seen(1, &[]).step(), FormingStep::Wait(Waiting::Gateway));
    offer(&mut seen(3, &[2, 3]), 2, &[1, 2, 3], Ok(()));
    offer(&mut seen(3, &[2, 3]), 1, &[1, 2, 3], Err(Declined::NotForMe));
    offer(&mut seen(2, &[]), 1, &[1, 2, 3], Err(Declined::NotForMe));
}

#[track_caller]
fn offer(to: &mut Forming, from: u8, nodes: &[u8], expected: Result<(), Declined>) {
    assert_eq!(to.offered(node(from), &set(nodes)), expected);
}

#[test]
fn an_offer_is_taken_only_for_the_same_set_from_its_lowest() {
    offer(&mut forming(2, &[1, 2, 3]), 1, &[1, 2, 3], Ok(()));
    offer(&mut forming(2, &[1, 2]), 1, &[1, 2, 3], Err(Declined::OtherSet));
    offer(&mut forming(2, &[1, 2, 3]), 3, &[1, 2, 3], Err(Declined::NotForMe));
    offer(&mut forming(4, &[1, 4]), 1, &[1, 2, 3], Err(Declined::NotForMe));
    offer(&mut Forming::new(node(2), None, 0), 1, &[1, 2], Err(Declined::NotReady));
    let mut done = forming(2, &[1, 2]);
    done.done();
    offer(&mut done, 1, &[1, 2], Err(Declined::InCluster));
}

#[test]
fn a_promise_binds_until_the_founder_gives_it_back() {
    let mut bound = forming(3, &[1, 3]);
    offer(&mut bound, 1, &[1, 3], Ok(()));
    bound.see(all(&[2, 3]));
    offer(&mut bound, 2, &[2, 3], Err(Declined::Bound(node(1))));
    let FormingStep::AskRelease { founder, promise } = bound.step() else { panic!("{bound:?}") };
    assert_eq!(founder, node(1));
    // Promised again meanwhile: the consent to the first is too old.
    bound.see(all(&[1, 3]));
    offer(&mut bound, 1, &[1, 3], Ok(()));
    assert!(!bound.released(promise));
    bound.see(all(&[2, 3]));
    assert!(bound.released(promise + 1));
    offer(&mut bound, 2, &[2, 3], Ok(()));
}

#[test]
fn a_promise_outlives_a_restart() {
    let mut bound = Forming::new(node(3), Some(node(1)), 0);
    assert_eq!(bound.step(), FormingStep::Wait(Waiting::Peers));
    bound.see(all(&[3]));
    assert!(matches!(bound.step(), FormingStep::AskRelease { .. }), "it may not found alone");
    assert!(!bound.begin_founding());
    assert!(!bound.may_join(|member| *member == node(2)));
    assert!(bound.may_join(|member| *member == node(1)));
}

#[test]
fn what_was_withdrawn_or_said_to_an_earlier_set_does_not_count() {
    let mut lowest = forming(1, &[1, 2]);
    let FormingStep::Offer { attempt, .. } = lowest.step() else { panic!("{lowest:?}") };
    assert_eq!(lowest.withdrawn(), Ok(()));
    lowest.promised(node(2), attempt);
    let FormingStep::Offer { attempt, .. } = lowest.step() else { panic!("{lowest:?}") };
    lowest.see(None);
    lowest.see(all(&[1, 2]));
    lowest.promised(node(2), attempt);
    let FormingStep::Offer { attempt, .. } = lowest.step() else { panic!("{lowest:?}") };
    lowest.promised(node(2), attempt);
    assert!(lowest.begin_founding());
    assert_eq!(lowest.withdrawn(), Err(TooLate));
}

#[test]
fn lists_that_close_over_the_same_nodes_are_one_list() {
    type Lists = &'static [(u8, &'static [u8])];
    let ring: Lists = &[(1, &[2]), (2, &[3]), (3, &[1])];
    let star: Lists = &[(1, &[2, 3]), (2, &[1]), (3, &[1])];
    let tail: Lists = &[(1, &[2]), (2, &[3]), (3, &[2])];
    let unknown: Lists = &[(1, &[2]), (2, &[3])];
    for (me, own, lists, expected) in [
        (1, &[2][..], ring, Ok(set(&[1, 2, 3]))),
        (2, &[3], ring, Ok(set(&[1, 2, 3]))),
        (3, &[1, 3], ring, Ok(set(&[1, 2, 3]))),
        (1, &[2, 3], star, Ok(set(&[1, 2, 3]))),
        (3, &[1], star, Ok(set(&[1, 2, 3]))),
        // Nobody lists the first: the others found without it, and it joins them.
        (1, &[2], tail, Ok(set(&[1, 2, 3]))),
        (2, &[3], tail, Ok(set(&[2, 3]))),
        (1, &[2], unknown, Err(ListUnknown { of: node(3), by: node(2) })),
        (9, &[], unknown, Ok(set(&[9]))),
    ] {
        let list_of = |of: &NodeId| {
            let found = lists.iter().find(|(by, _)| node(*by) == *of);
            found.map(|(_, listed)| set(listed))
        };
        assert_eq!(closure(node(me), &set(own), list_of), expected, "{me} {own:?}");
    }
    let endless = |of: &NodeId| Some(set(&[of.as_bytes()[0].wrapping_add(1)]));
    assert!(closure(node(1), &set(&[2]), endless).unwrap().len() > FOUNDERS_MAX);
}

/// SplitMix64 (Steele et al. 2014).
struct Rng(u64);

impl Rng {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        usize::try_from((z ^ (z >> 31)) % end as u64).unwrap()
    }
}

#[derive(Debug, Clone)]
enum Message {
    Offer { attempt: u64, nodes: BTreeSet<NodeId> },
    Promise { attempt: u64 },
    Withdraw { promise: u64 },
    Released { promise: u64 },
    TooLate,
}

struct Host {
    list: BTreeSet<NodeId>,
    /// What others list, as this one was told.
    told: BTreeMap<NodeId, BTreeSet<NodeId>>,
    /// What its list stood for when it looked last.
    seen: BTreeSet<NodeId>,
    forming: Forming,
    // What survives a restart.
    bound: Option<NodeId>,
    /// The founder of the cluster it is in.
    cluster: Option<NodeId>,
    life: u64,
}

impl Host {
    fn new(list: BTreeSet<NodeId>, forming: Forming, cluster: Option<NodeId>) -> Self {
        let (told, seen) = (BTreeMap::new(), BTreeSet::new());
        Self { list, told, seen, forming, bound: None, cluster, life: 0 }
    }
}

/// A world of nodes; the highest founded a cluster before, and takes in whoever wants to come.
struct World {
    rng: Rng,
    hosts: BTreeMap<NodeId, Host>,
    flying: Vec<(NodeId, NodeId, Message)>,
    founded: Vec<(NodeId, BTreeSet<NodeId>)>,
    releases: usize,
}

impl World {
    fn new(seed: u64, count: u8, outsider: bool) -> Self {
        let all: Vec<u8> = (1..=count).collect();
        // All list all, or each the next one, or one more that chance picks besides.
        let mut chance = Rng(!seed);
        let mut lists = |me: u8| match seed / 4 % 4 {
            0 | 1 => set(&all),
            2 => set(&[me % count + 1]),
            _ => set(&[me % count + 1, all[chance.below(all.len())]]),
        };
        let host = |me: &u8| {
            let forming = Forming::new(node(*me), None, 0);
            (node(*me), Host::new(lists(*me), forming, None))
        };
        let mut hosts: BTreeMap<_, _> = all.iter().map(host).collect();
        if outsider {
            let forming = Forming::new(node(200), None, 0);
            let cluster = Some(node(200));
            let mut outsider = Host::new(set(&[]), forming, cluster);
            outsider.forming.done();
            hosts.insert(node(200), outsider);
        }
        Self { rng: Rng(seed), hosts, flying: Vec::new(), founded: Vec::new(), releases: 0 }
    }

    fn pick(&mut self) -> NodeId {
        let at = self.rng.below(self.hosts.len());
        *self.hosts.keys().nth(at).unwrap()
    }

    fn host(&mut self, of: NodeId) -> &mut Host {
        self.hosts.get_mut(&of).unwrap()
    }

    /// Something happens; `hostile` allows losses, restarts and other lists.
    fn act(&mut self, hostile: bool) {
        let me = self.pick();
        match self.rng.below(if hostile { 40 } else { 34 }) {
            0..6 => self.look(me, hostile),
            6..14 => self.step(me, hostile),
            14..33 => self.deliver(hostile),
            33 => self.meet(me),
            34..37 => {
                let lost = self.rng.below(self.flying.len() + 1);
                self.flying.retain({
                    let mut at = 0;
                    move |_| {
                        at += 1;
                        at != lost
                    }
                });
            }
            37 => self.restart(me),
            _ => {
                let other = self.pick();
                let host = self.host(me);
                if !host.list.remove(&other) {
                    host.list.insert(other);
                }
                self.restart(me);
            }
        }
    }

    fn look(&mut self, me: NodeId, hostile: bool) {
        let blind = hostile && self.rng.below(8) == 0;
        // What others list is told when they are met, and may have changed since.
        for other in self.hosts.keys().copied().collect::<Vec<_>>() {
            if !hostile || self.rng.below(3) > 0 {
                let told = self.hosts[&other].list.clone();
                self.host(me).told.insert(other, told);
            }
        }
        let Host { list, told, .. } = self.host(me);
        let Ok(listed) = closure(me, list, |of| told.get(of).cloned()) else {
            return self.host(me).forming.see(None);
        };
        let in_cluster = listed.iter().any(|n| self.hosts[n].cluster.is_some());
        self.host(me).seen = listed.clone();
        self.host(me).forming.see((!blind && !in_cluster).then(|| Listed::new(listed, |_| true)));
    }

    fn step(&mut self, me: NodeId, hostile: bool) {
        let cut_short = hostile && self.rng.below(4) == 0;
        let host = self.host(me);
        match host.forming.step() {
            FormingStep::Wait(_) => {}
            FormingStep::Offer { attempt, nodes, whom } => {
                for to in whom {
                    self.flying.push((me, to, Message::Offer { attempt, nodes: nodes.clone() }));
                }
            }
            FormingStep::AskRelease { founder, promise } => {
                self.flying.push((me, founder, Message::Withdraw { promise }));
            }
            FormingStep::Found => {
                let nodes = host.seen.clone();
                assert!(host.forming.begin_founding());
                if cut_short {
                    // Ended before the first epoch was durable.
                    return self.restart(me);
                }
                host.cluster = Some(me);
                host.forming.done();
                self.founded.push((me, nodes));
            }
        }
    }

    fn deliver(&mut self, hostile: bool) {
        if self.flying.is_empty() {
            return;
        }
        let at = self.rng.below(self.flying.len());
        let (from, me, message) = self.flying[at].clone();
        if !hostile || self.rng.below(5) > 0 {
            self.flying.remove(at);
        }
        let cut_short = hostile && self.rng.below(8) == 0;
        let host = self.host(me);
        let answer = match message {
            Message::Offer { attempt, nodes } => match host.forming.offered(from, &nodes) {
                Err(_) => None,
                Ok(()) if cut_short => return self.restart(me),
                Ok(()) => {
                    host.bound = Some(from);
                    Some(Message::Promise { attempt })
                }
            },
            Message::Promise { attempt } => {
                host.forming.promised(from, attempt);
                None
            }
            Message::Withdraw { promise } => match host.forming.withdrawn() {
                Ok(()) => Some(Message::Released { promise }),
                Err(TooLate) => Some(Message::TooLate),
            },
            Message::Released { promise } => {
                if host.forming.released(promise) {
                    if cut_short {
                        return self.restart(me);
                    }
                    host.bound = None;
                    self.releases += 1;
                }
                None
            }
            Message::TooLate => {
                host.forming.refused_release();
                None
            }
        };
        self.flying.extend(answer.map(|answer| (me, from, answer)));
    }

    /// Meets a node of some cluster, and joins if it may.
    fn meet(&mut self, me: NodeId) {
        let other = self.pick();
        let (Some(theirs), None) = (self.hosts[&other].cluster, self.hosts[&me].cluster) else {
            return;
        };
        let members: BTreeSet<NodeId> = self
            .hosts
            .iter()
            .filter(|(_, host)| host.cluster == Some(theirs))
            .map(|(node, _)| *node)
            .collect();
        let host = self.host(me);
        if host.forming.may_join(|node| members.contains(node)) {
            host.cluster = Some(theirs);
            host.forming.done();
        }
    }

    fn restart(&mut self, me: NodeId) {
        let host = self.host(me);
        host.life += 1;
        host.forming = Forming::new(me, host.bound, host.life << 32);
        if host.cluster.is_some() {
            host.forming.done();
        }
    }

    /// What was founded together is never in two clusters.
    fn check(&self, seed: u64) {
        for (founder, nodes) in &self.founded {
            for node in nodes {
                let host = &self.hosts[node];
                let apart = host.cluster.is_some_and(|cluster| cluster != *founder);
                assert!(!apart, "seed {seed}: {node:?} of {nodes:?} is in {:?}", host.cluster);
                let free = host.cluster.is_none() && host.bound != Some(*founder);
                assert!(!free, "seed {seed}: {node:?} of {nodes:?} is not bound");
            }
        }
    }
}

#[test]
fn no_set_of_nodes_ever_ends_up_in_two_clusters() {
    let (mut founded, mut releases, mut joined_others) = (0, 0, 0);
    for seed in 0..3000 {
        let mut world = World::new(seed, 2 + u8::try_from(seed % 4).unwrap(), seed % 3 == 0);
        for _ in 0..400 {
            world.act(true);
            world.check(seed);
        }
        founded += world.founded.len();
        releases += world.releases;
        let others = |host: &&Host| host.cluster == Some(node(200));
        joined_others += world.hosts.values().filter(others).count();
    }
    assert!(founded > 250 && releases > 250 && joined_others > 250, "it tries what it should");
}

#[test]
fn nodes_that_list_each_other_form_one_cluster_once_the_faults_end() {
    for seed in 0..400 {
        let count = 2 + u8::try_from(seed % 4).unwrap();
        let mut world = World::new(seed, count, false);
        for _ in 0..100 {
            match world.rng.below(10) {
                0 => {
                    let me = world.pick();
                    world.restart(me);
                }
                _ => world.act(false),
            }
            if world.rng.below(3) == 0 {
                world.flying.clear();
            }
        }
        for _ in 0..4000 {
            world.act(false);
        }
        world.check(seed);
        assert_eq!(world.founded.len(), 1, "seed {seed}");
        let founder = world.founded[0].0;
        assert!(world.hosts.values().all(|host| host.cluster == Some(founder)), "seed {seed}");
    }
}
