//! Conditional writes: what a condition asks, and what replicas remember of a write that a majority
//! is deciding.
//!
//! A record carries the [`Register`] of a Paxos decision. A version is first accepted into it by a
//! majority of every write set, and only then becomes a head. Whoever comes next finds it in the
//! register and completes it before looking at its own condition: so of two writers that both want
//! a name to be absent exactly one succeeds.

use crate::id::{RecordKey, Vid};
use crate::paxos::Register;
use crate::record::ballot::{Candidate, SignedBallot, Value};
use crate::record::version::{CONTEXT_MAX, Kind, Record, Version};
use crate::record::writer::ForgedError;

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
    pub fn register(&self) -> &Register<Candidate, SignedBallot> {
        &self.register
    }

    /// The version in the register that may have been chosen and is not reflected in the heads.
    pub fn candidate(&self) -> Option<&Version> {
        match self.register.accepted() {
            Some((_, Candidate { value: Value::Open(version), .. })) => Some(version),
            _ => None,
        }
    }

    /// Checks that the name's vault opened every ballot of the register and put forward what was
    /// accepted, and that what is called settled is there: whoever has the open version could call
    /// it settled, and have others forget it. At most three signature checks; that of the accepted
    /// version is not among them.
    ///
    /// # Errors
    /// [`ForgedError`] says what is not so.
    pub fn verify_register(&self, key: &RecordKey) -> Result<(), ForgedError> {
        let accepted = self.register.accepted();
        if self.hides() {
            return Err(ForgedError::Hidden);
        }
        if let Some((ballot, candidate)) = accepted {
            candidate.verify(key, ballot)?;
        }
        match self.register.promised() {
            Some(promised) if accepted.is_none_or(|(ballot, _)| *ballot != promised) => {
                promised.verify(key)
            }
            _ => Ok(()),
        }
    }

    /// Whether it says of a version that it is settled, and does not reflect it. A context that is
    /// full may have dropped it, if it was older than all that are left.
    fn hides(&self) -> bool {
        let Some((_, Candidate { value: Value::Settled(Some(dot)), .. })) =
            self.register.accepted()
        else {
            return false;
        };
        let may_have_dropped = |head: &Version| {
            head.context.len() >= CONTEXT_MAX && head.context.values().all(|hlc| *hlc > dot.hlc)
        };
        !self.reflects_dot(*dot) && !self.heads().any(may_have_dropped)
    }

    /// Phase one at a replica: promises, unless a higher ballot was promised.
    pub fn prepare(&mut self, ballot: SignedBallot) {
        // Refused or not: the proposer sees it in the register.
        let _ = self.register.prepare(ballot);
    }

    /// Phase two at a replica: accepts a version, or that there is none, unless a higher ballot was
    /// promised.
    pub fn accept(&mut self, ballot: SignedBallot, candidate: Candidate) {
        let _ = self.register.accept(ballot, candidate);
        self.settle();
    }

    /// Takes the higher of two replicas' registers.
    pub(crate) fn join_registers(&mut self, ours: &Self, theirs: &Self) {
        self.register.clone_from(&ours.register);
        self.register.merge(&theirs.register);
        let is_settled_in = |record: &Self| match (record.register.accepted(), &self.register) {
            (Some((at, candidate)), joined) => {
                candidate.is_settled() && joined.accepted().is_some_and(|(of, _)| of == at)
            }
            (None, _) => false,
        };
        if is_settled_in(ours) || is_settled_in(theirs) {
            self.settle_register();
        }
        self.settle();
    }

    /// Forgets the content of an accepted version once the heads reflect it.
    pub(crate) fn settle(&mut self) {
        // Conditional writes of one actor and name come one after the other, each after the one
        // before was completed or can no longer be: a stamp that was seen settles it.
        if self.candidate().is_some_and(|version| self.reflects(version)) {
            self.settle_register();
        }
    }

    fn settle_register(&mut self) {
        let settled = self.register.accepted().map(|(ballot, open)| (*ballot, open.settled()));
        self.register = Register::of(self.register.promised(), settled);
    }
}
