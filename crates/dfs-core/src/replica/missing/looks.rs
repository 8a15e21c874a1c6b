//! How far the references were looked through for missing blobs.
//!
//! A round goes once through all references, in the order of blob ids. The queue takes only so many
//! blobs at once, so a round may need several looks: each begins where the one before was cut off.

use crate::id::BlobId;

#[derive(Debug)]
pub(super) struct Looks {
    /// Missing blobs before this place were told of in this round: they are queued, or were found
    /// to be out of reach.
    told: LookPlace,
    /// The end of the look that is under way: the first blob since it began that found no place.
    cut: LookPlace,
    /// The farthest that `told` was in this round. Unlike that, it never goes back.
    farthest: LookPlace,
    /// The number of this round.
    round: u64,
}

/// A place in the order of blob ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum LookPlace {
    Before(BlobId),
    End,
}

impl LookPlace {
    const START: Self = Self::Before(BlobId::new([0; 32]));

    fn is_after(self, id: BlobId) -> bool {
        self > Self::Before(id)
    }
}

impl Default for Looks {
    fn default() -> Self {
        Self { told: LookPlace::START, cut: LookPlace::START, farthest: LookPlace::START, round: 0 }
    }
}

impl Looks {
    /// Returns whether the round has come to its end.
    pub(super) fn are_done(&self) -> bool {
        self.told == LookPlace::End
    }

    /// Begins a new round. A look that is under way began too early to count.
    pub(super) fn start_over(&mut self) {
        *self = Self { round: self.round + 1, ..Self::default() };
    }

    /// Begins a look. Returns the first blob that it is about.
    pub(super) fn begin(&mut self) -> BlobId {
        self.cut = LookPlace::End;
        match self.told {
            LookPlace::Before(id) => id,
            LookPlace::End => BlobId::new([0; 32]),
        }
    }

    /// Returns whether this look is about a blob: not one before it, nor after its end.
    pub(super) fn take(&self, id: BlobId) -> bool {
        !self.told.is_after(id) && self.goes_beyond(id)
    }

    /// Returns whether the look that is under way was not cut off at this blob or before.
    pub(super) fn goes_beyond(&self, id: BlobId) -> bool {
        self.cut.is_after(id)
    }

    pub(super) fn round(&self) -> u64 {
        self.round
    }

    /// Returns this round if no look of it came to this blob before.
    pub(super) fn first_round(&self, id: BlobId) -> Option<u64> {
        (!self.farthest.is_after(id)).then_some(self.round)
    }

    /// Notes that there was no place for a blob. It is found again by a later look of this round.
    pub(super) fn cut_off(&mut self, id: BlobId) {
        self.told = self.told.min(LookPlace::Before(id));
        self.cut = self.cut.min(LookPlace::Before(id));
    }

    /// Ends a look.
    pub(super) fn end(&mut self) {
        self.told = self.cut;
        self.farthest = self.farthest.max(self.told);
    }
}
