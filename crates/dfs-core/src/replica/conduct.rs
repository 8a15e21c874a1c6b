//! What members do that no honest one does, counted, and when it is enough to distrust one.
//!
//! Only what this node saw itself counts, nobody else's word.

use std::collections::BTreeSet;

/// What a member did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// It sent a version that its writer did not sign.
    ForgedRecord,
    /// It sent other bytes than those of the blob that was asked for.
    WrongBytes,
    /// It answered something that is no answer to what was asked.
    Nonsense,
    /// It called the layout old and showed no newer one.
    StaleClaim,
}

impl Fault {
    /// All of them.
    pub const ALL: [Self; 4] =
        [Self::ForgedRecord, Self::WrongBytes, Self::Nonsense, Self::StaleClaim];

    /// The name in metrics and logs.
    pub fn name(self) -> &'static str {
        match self {
            Self::ForgedRecord => "forged_record",
            Self::WrongBytes => "wrong_bytes",
            Self::Nonsense => "nonsense",
            Self::StaleClaim => "stale_claim",
        }
    }

    /// Whether an honest member on a working machine never does it. Nonsense may come from another
    /// version, and a stale claim from a layout on its way.
    fn is_a_lie(self) -> bool {
        matches!(self, Self::ForgedRecord | Self::WrongBytes)
    }
}

/// What one member did since this node started.
#[derive(Debug, Clone, Default)]
pub struct Score([Count; 4]);

#[derive(Debug, Clone, Default)]
struct Count {
    times: u64,
    /// The first few things that it was about.
    about: BTreeSet<[u8; 32]>,
}

impl Score {
    /// Counts a fault, and the record, blob or layout that it was about. Returns how often it was
    /// seen.
    pub fn note(&mut self, fault: Fault, about: [u8; 32]) -> u64 {
        let count = &mut self.0[fault as usize];
        count.times = count.times.saturating_add(1);
        if count.about.len() < LIES_MAX {
            count.about.insert(about);
        }
        count.times
    }

    /// How often it did this.
    pub fn times(&self, fault: Fault) -> u64 {
        self.0[fault as usize].times
    }

    /// What it is distrusted for. The same thing again counts once: it may be one bad sector.
    pub fn distrusted(&self) -> Option<Fault> {
        let is_enough =
            |fault: &Fault| fault.is_a_lie() && self.0[*fault as usize].about.len() >= LIES_MAX;
        Fault::ALL.into_iter().find(is_enough)
    }
}

/// Lies about so many different things are no accident.
pub const LIES_MAX: usize = 3;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lies_about_three_things_are_no_accident() {
        let cases: [(Fault, &[u8], bool); 6] = [
            (Fault::WrongBytes, &[1, 2], false),
            (Fault::WrongBytes, &[1, 1, 1, 1, 2], false),
            (Fault::WrongBytes, &[1, 2, 3], true),
            (Fault::ForgedRecord, &[1, 1, 2, 2, 3, 4, 5], true),
            (Fault::Nonsense, &[1, 2, 3, 4, 5], false),
            (Fault::StaleClaim, &[1, 2, 3, 4, 5], false),
        ];
        for (fault, about, expected) in cases {
            let mut score = Score::default();
            about.iter().for_each(|at| {
                score.note(fault, [*at; 32]);
            });
            assert_eq!(score.distrusted(), expected.then_some(fault), "{fault:?} {about:?}");
            assert_eq!(score.times(fault), about.len() as u64);
        }
    }

    #[test]
    fn different_faults_do_not_add_up() {
        let mut score = Score::default();
        for (fault, about) in [(Fault::WrongBytes, 1), (Fault::ForgedRecord, 2)] {
            score.note(fault, [about; 32]);
            score.note(fault, [about + 9; 32]);
        }
        assert_eq!(score.distrusted(), None);
    }
}
