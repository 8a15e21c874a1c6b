//! Brings together what replicas answered to one read: full records of some, hashes of others.
//!
//! Where hashes differ the records are fetched, and everything that another node sent is verified
//! before it is believed. One replica after another; the first that cannot be used ends it, and
//! the read begins again without that one.

use std::collections::VecDeque;

use super::Action;
use super::read::{ReadAnswer, ReadTask};
use super::write::Keyed;
use crate::id::RecordKey;
use crate::record::version::{Record, merge};

/// The merged records in the order of the keys, and for each whether replicas differed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Gathered {
    pub(super) records: Vec<Record>,
    pub(super) differ: Vec<bool>,
}

/// What gathering wants done. It ends with the replica that cannot be used, if there is one.
pub(super) type GatherActions<N> = Vec<Action<N, ReadTask<N>, Result<Gathered, N>>>;

/// Records that one node is about to tell of.
#[derive(Debug)]
struct Telling<N> {
    node: N,
    /// The keys, by their place in the read.
    places: Vec<usize>,
    /// What it has sent, which may be less than was asked for: records fill more than one frame.
    sent: Keyed,
    /// Whether these are its answer to the read, and not asked for because a hash differed.
    is_answer: bool,
}

#[derive(Debug)]
enum Doing<N> {
    Nothing,
    Fetching(Telling<N>),
    Verifying(Telling<N>),
    VerifyingOwn,
}

/// One round of bringing answers together.
#[derive(Debug)]
pub(super) struct Gather<N> {
    me: N,
    keys: Vec<RecordKey>,
    answers: VecDeque<(N, ReadAnswer)>,
    digests: VecDeque<(N, Vec<[u8; 32]>)>,
    gathered: Gathered,
    /// No full answer has been taken in yet.
    is_first: bool,
    /// What is gathered so far is this disk's word alone, and was not verified.
    is_own: bool,
    doing: Doing<N>,
}

impl<N: Ord + Copy> Gather<N> {
    /// With the answers in the order in which they are believed: what a later one says that an
    /// earlier one said is not checked once more.
    pub(super) fn new(me: N, keys: Vec<RecordKey>, answers: Vec<(N, ReadAnswer)>) -> Self {
        let records = vec![Record::default(); keys.len()];
        let differ = vec![false; keys.len()];
        Self {
            me,
            keys,
            answers: answers.into(),
            digests: VecDeque::new(),
            gathered: Gathered { records, differ },
            is_first: true,
            is_own: false,
            doing: Doing::Nothing,
        }
    }

    /// Goes on with the next answer: full ones first, then those whose hashes differ.
    pub(super) fn go_on(&mut self, out: &mut GatherActions<N>) {
        while let Some((node, answer)) = self.answers.pop_front() {
            match answer {
                ReadAnswer::Hashes(hashes) => self.digests.push_back((node, hashes)),
                ReadAnswer::Records(sent) => {
                    let places = (0..self.keys.len()).collect();
                    return self.look_at(Telling { node, places, sent, is_answer: true }, out);
                }
                ReadAnswer::Other => return out.push(Action::Finish(Err(node))),
            }
        }
        while let Some((node, hashes)) = self.digests.pop_front() {
            let places = self.apart(&hashes);
            if places.is_empty() {
                continue;
            }
            if self.is_own {
                // Where others say something else, rot on this disk may be why.
                let own = |at: &usize| (self.keys[*at], self.gathered.records[*at].clone());
                let records = places.iter().map(own).collect();
                self.digests.push_front((node, hashes));
                self.doing = Doing::VerifyingOwn;
                return out.push(Action::Do(ReadTask::Verify { node: self.me, records }));
            }
            return self.fetch(Telling { node, places, sent: Vec::new(), is_answer: false }, out);
        }
        out.push(Action::Finish(Ok(std::mem::take(&mut self.gathered))));
    }

    /// Takes in what a node told of the keys it was asked for; `None` if it failed.
    pub(super) fn on_answer(
        &mut self,
        from: N,
        answer: Option<ReadAnswer>,
        out: &mut GatherActions<N>,
    ) {
        match std::mem::replace(&mut self.doing, Doing::Nothing) {
            Doing::Fetching(mut telling) if telling.node == from => match answer {
                Some(ReadAnswer::Records(more)) if !more.is_empty() => {
                    telling.sent.extend(more);
                    self.look_at(telling, out);
                }
                _ => out.push(Action::Finish(Err(from))),
            },
            other => self.doing = other,
        }
    }

    /// Takes in whether what `of` holds is genuine.
    pub(super) fn on_verified(&mut self, of: N, is_genuine: bool, out: &mut GatherActions<N>) {
        match std::mem::replace(&mut self.doing, Doing::Nothing) {
            Doing::VerifyingOwn | Doing::Verifying(_) if !is_genuine => {
                out.push(Action::Finish(Err(of)));
            }
            Doing::Verifying(telling) => {
                self.take_in(telling);
                self.go_on(out);
            }
            Doing::VerifyingOwn => {
                self.is_own = false;
                self.go_on(out);
            }
            other => self.doing = other,
        }
    }

    /// Places where these hashes are not those of what is gathered.
    fn apart(&self, hashes: &[[u8; 32]]) -> Vec<usize> {
        let empty = Record::default();
        let differs = |at: &usize| {
            // Without any full answer, those that have anything are asked.
            let known = if self.is_first { &empty } else { &self.gathered.records[*at] };
            hashes.get(*at).is_none_or(|hash| *hash != known.state_hash())
        };
        (0..self.keys.len()).filter(differs).collect()
    }

    /// Asks for what is missing, checks what was sent, and takes it in.
    fn look_at(&mut self, mut telling: Telling<N>, out: &mut GatherActions<N>) {
        if telling.sent.len() < telling.places.len() {
            return self.fetch(telling, out);
        }
        telling.sent.truncate(telling.places.len());
        let asked = telling.places.iter().map(|at| &self.keys[*at]);
        if !asked.eq(telling.sent.iter().map(|(key, _)| key)) {
            return out.push(Action::Finish(Err(telling.node)));
        }
        // Our own disk holds what was verified before it was stored.
        if telling.node == self.me {
            self.take_in(telling);
            return self.go_on(out);
        }
        let is_known = !self.is_first && !self.is_own;
        let told = telling.places.iter().zip(&telling.sent);
        let new =
            told.filter(|(at, (_, record))| !is_known || self.gathered.records[**at] != *record);
        let (node, records) = (telling.node, new.map(|(_, told)| told.clone()).collect::<Keyed>());
        if records.is_empty() {
            self.take_in(telling);
            return self.go_on(out);
        }
        self.doing = Doing::Verifying(telling);
        out.push(Action::Do(ReadTask::Verify { node, records }));
    }

    fn fetch(&mut self, telling: Telling<N>, out: &mut GatherActions<N>) {
        let rest = &telling.places[telling.sent.len()..];
        let keys = rest.iter().map(|at| self.keys[*at]).collect();
        out.push(Action::Do(ReadTask::Ask { node: telling.node, keys, digest_only: false }));
        self.doing = Doing::Fetching(telling);
    }

    fn take_in(&mut self, telling: Telling<N>) {
        let Gathered { records, differ } = &mut self.gathered;
        let is_base = telling.is_answer && self.is_first;
        for (at, (_, record)) in telling.places.into_iter().zip(telling.sent) {
            if is_base {
                records[at] = record;
            } else if records[at] != record {
                records[at] = merge(&records[at], &record);
                differ[at] = true;
            }
        }
        if telling.is_answer {
            self.is_own = is_base && telling.node == self.me;
            self.is_first = false;
        }
    }
}
