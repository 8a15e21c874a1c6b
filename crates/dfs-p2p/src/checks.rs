//! How many signatures one peer may make this node check.

use std::time::Duration;

use tokio::time::Instant;

/// What one peer has used of its checks: a bucket that holds those of a second.
#[derive(Debug, Default)]
pub(crate) struct Checks {
    /// When the bucket is full again.
    full_at: Option<Instant>,
}

impl Checks {
    /// Takes one check, if there is one left.
    pub(crate) fn take(&mut self, now: Instant) -> bool {
        let full_at = self.full_at.map_or(now, |at| at.max(now)) + CHECK_EVERY;
        let is_left = full_at - now <= BUCKET;
        if is_left {
            self.full_at = Some(full_at);
        }
        is_left
    }
}

/// A check takes some 50 microseconds, so one peer costs a quarter of a core at the very most; what
/// all members of the largest cluster say fits five times into a second.
const CHECKS_PER_SECOND: u32 = 5_000;
const BUCKET: Duration = Duration::from_secs(1);
const CHECK_EVERY: Duration = Duration::from_nanos(1_000_000_000 / CHECKS_PER_SECOND as u64);

#[cfg(test)]
mod tests {
    use dfs_env::{Env, MemoryNet};

    use super::*;

    #[tokio::test]
    async fn a_peer_has_the_checks_of_a_second_and_gets_them_back_in_one() {
        let start = Env::in_memory(0, MemoryNet::default()).mono();
        let mut checks = Checks::default();
        let mut takes = |after: Duration| {
            let now = start + after;
            (0..2 * CHECKS_PER_SECOND).filter(|_| checks.take(now)).count()
        };
        assert_eq!(takes(Duration::ZERO), 5_000);
        assert_eq!(takes(Duration::ZERO), 0);
        assert_eq!(takes(Duration::from_millis(100)), 500);
        assert_eq!(takes(Duration::from_millis(1_100)), 5_000);
        assert_eq!(takes(Duration::from_secs(100)), 5_000);
    }
}
