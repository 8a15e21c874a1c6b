//! Conditional writes: what a condition asks, and what replicas remember of a write that a majority
//! is deciding.
//!
//! A record carries the [`Register`] of a Paxos decision. A version is first accepted into it by a
//! majority of every write set, and only then becomes a head. Whoever comes next finds it in the
//! register and completes it before looking at its own condition: so of two writers that both want
//! a name to be absent exactly one succeeds.

use crate::id::Vid;
use crate::paxos::{Ballot, Register};
use crate::record::version::{Candidate, Kind, Record, Version};

/// What must hold for a write to take place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Condition {
    /// Nothing has this name.
    Absent,
    /// This version is the one that users see.
    Version(Vid),
}

impl Condition {
    /// Whether the record meets the condition.
    pub fn holds(&self, record: &Record) -> bool {
        let shown = record.winner().filter(|version| version.kind == Kind::Live);
        match self {
            Self::Absent => shown.is_none(),
            Self::Version(vid) => shown.is_some_and(|version| version.vid == *vid),
        }
    }
}

impl Record {
    /// What this replica promised and accepted.
    pub fn register(&self) -> &Register<Candidate> {
        &self.register
    }

    /// The version in the register that may have been chosen and is not reflected in the heads.
    pub fn candidate(&self) -> Option<&Version> {
        match self.register.accepted() {
            Some((_, Candidate::Open(version))) => Some(version),
            _ => None,
        }
    }

    /// Phase one at a replica: promises, unless a higher ballot was promised.
    pub fn prepare(&mut self, ballot: Ballot) {
        // Refused or not: the proposer sees it in the register.
        let _ = self.register.prepare(ballot);
    }

    /// Phase two at a replica: accepts a version, or that there is none, unless a higher ballot was
    /// promised.
    pub fn accept(&mut self, ballot: Ballot, version: Option<Version>) {
        let _ = self.register.accept(ballot, Candidate::of(version));
        self.settle();
    }

    /// Takes the higher of two replicas' registers.
    pub(crate) fn join_registers(&mut self, ours: &Self, theirs: &Self) {
        self.register.clone_from(&ours.register);
        self.register.merge(&theirs.register);
        let settled = |record: &Self| match record.register.accepted() {
            Some((ballot, Candidate::Settled)) => Some(*ballot),
            _ => None,
        };
        let accepted = self.register.accepted().map(|(ballot, _)| *ballot);
        if accepted.is_some() && (settled(ours) == accepted || settled(theirs) == accepted) {
            let settled = accepted.map(|ballot| (ballot, Candidate::Settled));
            self.register = Register::of(self.register.promised(), settled);
        }
        self.settle();
    }

    /// Forgets the content of an accepted version once the heads reflect it.
    pub(crate) fn settle(&mut self) {
        let Some((ballot, Candidate::Open(version))) = self.register.accepted() else { return };
        // Conditional writes of one actor and name come one after the other, each after the one
        // before was completed or can no longer be: a stamp that was seen settles it.
        if self.reflects(version) {
            let settled = Some((*ballot, Candidate::Settled));
            self.register = Register::of(self.register.promised(), settled);
        }
    }
}
