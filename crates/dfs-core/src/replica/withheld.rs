//! Blobs that peers are challenged to show, and that are given to none of them meanwhile: who threw
//! its copy away must not answer with its neighbour's.

use std::time::Duration;

use crate::id::{BlobId, NodeId};

/// The blobs under a challenge, and with them how much each challenger may ask.
#[derive(Debug, Default)]
pub struct Withheld(Vec<Challenged>);

#[derive(Debug)]
struct Challenged {
    blob: BlobId,
    by: NodeId,
    until: Duration,
}

impl Withheld {
    /// Takes a challenge: its blobs are withheld for `time`. `now` counts from any moment that
    /// stays the same.
    ///
    /// # Errors
    /// The challenger asks too much at once, or all do; when to come back.
    pub fn challenge(
        &mut self,
        by: NodeId,
        blobs: &[BlobId],
        now: Duration,
        time: Duration,
    ) -> Result<(), Duration> {
        self.0.retain(|one| one.until > now);
        let own = self.0.iter().filter(|one| one.by == by).count();
        let is_full = self.0.len() + blobs.len() > ALL_MAX;
        if own + blobs.len() > EACH_MAX || is_full {
            let first = self.0.iter().filter(|one| is_full || one.by == by).map(|one| one.until);
            return Err(first.min().unwrap_or(now).saturating_sub(now));
        }
        let until = now.saturating_add(time);
        self.0.extend(blobs.iter().map(|blob| Challenged { blob: *blob, by, until }));
        Ok(())
    }

    /// How much longer a blob is withheld.
    pub fn left(&self, blob: &BlobId, now: Duration) -> Option<Duration> {
        let until = self.0.iter().filter(|one| one.blob == *blob).map(|one| one.until).max();
        until.filter(|until| *until > now).map(|until| until - now)
    }
}

/// Blobs that one challenger may ask for within the time of an answer: 6 MiB a second to read.
pub const EACH_MAX: usize = 64;
/// The same for all challengers together.
pub const ALL_MAX: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    const TEN: Duration = Duration::from_secs(10);

    fn blobs(first: u8, count: u8) -> Vec<BlobId> {
        (first..first + count).map(|at| BlobId::new([at; 32])).collect()
    }

    #[test]
    fn a_blob_is_withheld_as_long_as_an_answer_may_take() {
        let mut withheld = Withheld::default();
        let (one, other) = (BlobId::new([1; 32]), BlobId::new([9; 32]));
        withheld.challenge(NodeId::new([1; 32]), &[one], TEN, TEN).unwrap();
        for (at, left) in [(10, Some(10)), (19, Some(1)), (20, None), (99, None)] {
            let left = left.map(Duration::from_secs);
            assert_eq!(withheld.left(&one, Duration::from_secs(at)), left, "{at}");
        }
        assert_eq!(withheld.left(&other, TEN), None);
        // Another challenger makes it longer.
        let later = Duration::from_secs(15);
        withheld.challenge(NodeId::new([2; 32]), &[one], later, TEN).unwrap();
        assert_eq!(withheld.left(&one, Duration::from_secs(20)), Some(Duration::from_secs(5)));
    }

    #[test]
    fn nobody_asks_for_more_than_its_share_nor_all_for_more_than_theirs() {
        let mut withheld = Withheld::default();
        for by in 0..4 {
            let by = NodeId::new([by; 32]);
            for at in 0..8 {
                withheld.challenge(by, &blobs(at * 8, 8), Duration::ZERO, TEN).unwrap();
            }
            let refused = withheld.challenge(by, &blobs(0, 1), Duration::from_secs(4), TEN);
            assert_eq!(refused, Err(Duration::from_secs(6)));
        }
        let other = NodeId::new([9; 32]);
        let refused = withheld.challenge(other, &blobs(0, 1), Duration::from_secs(9), TEN);
        assert_eq!(refused, Err(Duration::from_secs(1)));
        assert_eq!(withheld.challenge(other, &blobs(0, 1), TEN, TEN), Ok(()));
    }
}
