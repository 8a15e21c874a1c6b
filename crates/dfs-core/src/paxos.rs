//! Single-decree Paxos: how several nodes agree on one value, however many propose.
//!
//! Used for each link of the epoch chain (acceptors are the voters of epoch `e`, the slot is
//! `e + 1`) and for conditional puts on a record (acceptors are its replicas, a majority of each
//! write set). Both sides are pure: the caller carries messages and keeps the [`Register`] on disk.
//! Source: Lamport, "Paxos Made Simple" (2001).
//!
//! A [`Proposer`] belongs to one layout. When the voters or the replica sets change, the caller
//! drops it and begins again with a higher ballot; acceptors refuse requests of an older layout.

use std::collections::BTreeSet;

use crate::codec::{Canonical, DecodeError, Reader, Writer};
use crate::id::NodeId;
use crate::quorum::{Tally, Verdict};

/// The number of an attempt: a round, and the node that opened it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ballot {
    /// The round.
    pub round: u32,
    /// Who opened it.
    pub node: NodeId,
}

impl Ballot {
    /// The ballot of `node` in the round after `seen`, or in round 1.
    ///
    /// After the last round there is no higher one: every acceptor refuses what this returns then.
    pub fn above(seen: Option<Self>, node: NodeId) -> Self {
        let round = seen.map_or(0, |ballot| ballot.round).saturating_add(1);
        Self { round, node }
    }
}

/// What one acceptor remembers of one decision.
///
/// **The caller makes the register durable before it sends the reply**, and never loses it: an
/// acceptor that forgets lets two values be decided.
/// `B` is what it knows ballots by: as they are, or with what proves who opened them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Register<V, B = Ballot> {
    /// Never below the ballot of `accepted`.
    promised: Option<B>,
    accepted: Option<(B, V)>,
}

impl<V, B> Default for Register<V, B> {
    fn default() -> Self {
        Self { promised: None, accepted: None }
    }
}

impl<V: Clone + Eq, B: Copy + Ord> Register<V, B> {
    /// A register as another node tells of it.
    pub fn of(promised: Option<B>, accepted: Option<(B, V)>) -> Self {
        let promised = promised.max(accepted.as_ref().map(|(ballot, _)| *ballot));
        Self { promised, accepted }
    }

    /// The highest ballot promised: lower ones are refused.
    pub fn promised(&self) -> Option<B> {
        self.promised
    }

    /// The value accepted under the highest ballot so far. Whether it was chosen, one acceptor
    /// cannot know.
    pub fn accepted(&self) -> Option<&(B, V)> {
        self.accepted.as_ref()
    }

    /// Whether this very value was accepted under `ballot`, and nothing higher was promised: only
    /// then may an acceptor sign that it accepted it.
    pub fn stands_by(&self, ballot: B, value: &V) -> bool {
        let accepted = self.accepted.as_ref();
        self.promised == Some(ballot)
            && accepted.is_some_and(|(at, held)| *at == ballot && held == value)
    }

    /// Phase 1: promises to take part in nothing below `ballot`, and tells what was accepted.
    ///
    /// A ballot that was promised before is refused too: so a proposer that restarts and has
    /// forgotten its rounds cannot bring a second value under one ballot.
    ///
    /// # Errors
    /// The ballot already promised, when `ballot` is not above it.
    pub fn prepare(&mut self, ballot: B) -> Result<Option<(B, V)>, B> {
        match self.promised {
            Some(promised) if promised >= ballot => Err(promised),
            _ => {
                self.promised = Some(ballot);
                Ok(self.accepted.clone())
            }
        }
    }

    /// Phase 2: accepts `value`, unless a higher ballot was promised. The same request again is
    /// accepted again.
    ///
    /// # Errors
    /// The ballot promised, when it is above `ballot`, or when this very ballot carried another
    /// value, which no honest proposer does.
    pub fn accept(&mut self, ballot: B, value: V) -> Result<(), B> {
        if let Some(promised) = self.promised.filter(|promised| *promised > ballot) {
            return Err(promised);
        }
        if self.accepted.as_ref().is_some_and(|(at, other)| *at == ballot && *other != value) {
            return Err(ballot);
        }
        self.promised = Some(ballot);
        self.accepted = Some((ballot, value));
        Ok(())
    }

    /// Takes over what another acceptor of the same decision remembers: the higher ballots win.
    ///
    /// This keeps a decision when a record moves to other nodes. It is no answer to any proposer
    /// and counts as none.
    pub fn merge(&mut self, other: &Self) {
        self.promised = self.promised.max(other.promised);
        let ballot = |accepted: &Option<(B, V)>| accepted.as_ref().map(|(at, _)| *at);
        if ballot(&other.accepted) > ballot(&self.accepted) {
            self.accepted.clone_from(&other.accepted);
        }
    }
}

/// What an acceptor's answer means to a proposer. It answers with its register as it is after the
/// request, which says it all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Heard<V, B = Ballot> {
    /// It promised, and had accepted this before.
    Promised(Option<(B, V)>),
    /// It accepted.
    Accepted,
    /// It promised a higher ballot.
    Refused(B),
    /// It said something else.
    Failed,
}

/// An acceptor's answer to a prepare, from what its register says then.
///
/// A promise that it took over from another acceptor binds it as its own does, and what it accepted
/// before it tells of: so either is one.
pub fn promise_of<V: Clone, B: Copy + Ord>(register: &Register<V, B>, ballot: B) -> Heard<V, B> {
    match register.promised {
        // Ballots are unique, so this one was promised to this attempt, maybe to a call repeated.
        Some(promised) if promised == ballot => Heard::Promised(register.accepted.clone()),
        Some(promised) if promised > ballot => Heard::Refused(promised),
        _ => Heard::Failed,
    }
}

/// An acceptor's answer to an accept, from what its register says then.
///
/// A register that was merged may show a value that its acceptor refused, and whoever was promised
/// the higher ballot was not told of it. So the promise is looked at first; one that accepted
/// before it promised more, and is asked once more, then counts as refusing, which is safe. While
/// nothing higher is promised, what was taken over binds as if it had been accepted here.
pub fn acceptance_of<V, B: Copy + Ord>(register: &Register<V, B>, ballot: B) -> Heard<V, B> {
    match (register.promised, &register.accepted) {
        (Some(promised), _) if promised > ballot => Heard::Refused(promised),
        (_, Some((accepted, _))) if *accepted == ballot => Heard::Accepted,
        _ => Heard::Failed,
    }
}

/// What a proposer does next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next<V, B = Ballot> {
    /// Nothing: more answers are needed, or this one came late.
    Wait,
    /// Call [`Proposer::choose`]. With a value found: it may have been decided already, so it is
    /// the one to choose, unless the caller knows that it took effect before. With none: any.
    Choose(Option<V>),
    /// The value is decided, for ever.
    Chosen(V),
    /// This attempt cannot succeed: begin again after a random wait, above `higher` if that is
    /// known. A value that was already sent out may still be decided by somebody else's attempt.
    Lost {
        /// The highest ballot that an acceptor named.
        higher: Option<B>,
    },
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Phase<V> {
    Preparing,
    Choosing,
    Accepting(V),
    Over,
}

/// One attempt to have a value decided. Begins by sending `prepare(ballot)` to
/// [`Proposer::acceptors`].
///
/// The caller feeds it the answers to *its own* requests, each once or several times, in any
/// order; a connection that breaks or a deadline is [`Proposer::failed`].
#[derive(Debug)]
pub struct Proposer<V, B = Ballot> {
    ballot: B,
    sets: Vec<Vec<NodeId>>,
    phase: Phase<V>,
    answers: Tally<NodeId>,
    found: Option<(B, V)>,
    higher: Option<B>,
}

impl<V: Clone + Eq, B: Copy + Ord> Proposer<V, B> {
    /// An attempt under `ballot`, which its node has not used before in this process, that needs
    /// a majority of each of `sets`.
    pub fn new(ballot: B, sets: Vec<Vec<NodeId>>) -> Self {
        let answers = Tally::new(sets.clone(), Tally::<NodeId>::write_majority);
        Self { ballot, sets, phase: Phase::Preparing, answers, found: None, higher: None }
    }

    /// The ballot of this attempt.
    pub fn ballot(&self) -> B {
        self.ballot
    }

    /// Everyone to send each request to.
    pub fn acceptors(&self) -> BTreeSet<NodeId> {
        self.answers.nodes()
    }

    /// `from` answered what it was asked last.
    pub fn heard(&mut self, from: NodeId, heard: Heard<V, B>) -> Next<V, B> {
        match heard {
            Heard::Promised(accepted) => self.promised(from, accepted),
            Heard::Accepted => self.accepted(from),
            Heard::Refused(higher) => self.refused(from, higher),
            Heard::Failed => self.failed(from),
        }
    }

    /// `from` promised, and had accepted this before.
    pub fn promised(&mut self, from: NodeId, accepted: Option<(B, V)>) -> Next<V, B> {
        if self.phase != Phase::Preparing {
            return Next::Wait;
        }
        let ballot = |value: &Option<(B, V)>| value.as_ref().map(|(at, _)| *at);
        if ballot(&accepted) > ballot(&self.found) {
            self.found = accepted;
        }
        let verdict = self.answers.ack(&from);
        self.after(verdict)
    }

    /// Settles what is proposed; the caller then sends `accept(ballot, value)` to
    /// [`Proposer::acceptors`]. Does nothing unless [`Next::Choose`] was the last answer.
    pub fn choose(&mut self, value: V) {
        if self.phase == Phase::Choosing {
            self.answers = Tally::new(self.sets.clone(), Tally::<NodeId>::write_majority);
            self.phase = Phase::Accepting(value);
        }
    }

    /// `from` accepted the value.
    pub fn accepted(&mut self, from: NodeId) -> Next<V, B> {
        if !matches!(self.phase, Phase::Accepting(_)) {
            return Next::Wait;
        }
        let verdict = self.answers.ack(&from);
        self.after(verdict)
    }

    /// `from` refused, because it promised `higher`.
    pub fn refused(&mut self, from: NodeId, higher: B) -> Next<V, B> {
        self.higher = self.higher.max(Some(higher));
        self.failed(from)
    }

    /// `from` did not answer, or not in a way that helps.
    pub fn failed(&mut self, from: NodeId) -> Next<V, B> {
        if matches!(self.phase, Phase::Choosing | Phase::Over) {
            return Next::Wait;
        }
        let verdict = self.answers.fail(&from);
        self.after(verdict)
    }

    fn after(&mut self, verdict: Verdict) -> Next<V, B> {
        match (verdict, &self.phase) {
            (Verdict::Reached, Phase::Preparing) => {
                self.phase = Phase::Choosing;
                Next::Choose(self.found.as_ref().map(|(_, value)| value.clone()))
            }
            (Verdict::Reached, Phase::Accepting(value)) => {
                let chosen = Next::Chosen(value.clone());
                self.phase = Phase::Over;
                chosen
            }
            (Verdict::Impossible, Phase::Preparing | Phase::Accepting(_)) => {
                self.phase = Phase::Over;
                Next::Lost { higher: self.higher }
            }
            _ => Next::Wait,
        }
    }
}

impl Canonical for Ballot {
    fn encode(&self, out: &mut Writer) {
        out.u32(self.round);
        self.node.encode(out);
    }

    fn decode(input: &mut Reader) -> Result<Self, DecodeError> {
        Ok(Self { round: input.u32()?, node: NodeId::decode(input)? })
    }
}

impl<V: Canonical, B: Canonical + Ord> Canonical for Register<V, B> {
    fn encode(&self, out: &mut Writer) {
        out.u8(u8::from(self.promised.is_some()));
        if let Some(ballot) = &self.promised {
            ballot.encode(out);
        }
        out.u8(u8::from(self.accepted.is_some()));
        if let Some((ballot, value)) = &self.accepted {
            ballot.encode(out);
            value.encode(out);
        }
    }

    fn decode(input: &mut Reader) -> Result<Self, DecodeError> {
        let promised = flag(input)?.then(|| B::decode(input)).transpose()?;
        let accepted =
            if flag(input)? { Some((B::decode(input)?, V::decode(input)?)) } else { None };
        if accepted.as_ref().is_some_and(|(ballot, _)| promised.as_ref() < Some(ballot)) {
            return Err(DecodeError::Invalid("promised"));
        }
        Ok(Self { promised, accepted })
    }
}

fn flag(input: &mut Reader) -> Result<bool, DecodeError> {
    match input.u8()? {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(DecodeError::Invalid("flag")),
    }
}
