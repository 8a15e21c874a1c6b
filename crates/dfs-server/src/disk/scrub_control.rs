//! Telling the scrub to begin, to rest or to go on, and how far it is.

use dfs_core::replica::scrub::Scrub;
use dfs_store::WriteError;
use dfs_store::disk::path::PathTransform;
use serde::{Deserialize, Serialize};

use super::Scrubber;
use super::scrub::State;

/// What a node's scrub is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ScrubState {
    /// The next pass is not due yet.
    Idle,
    /// A pass is under way.
    Running,
    /// Someone asked it to rest.
    Paused,
}

/// How far a node is with reading its disk back. Counts are those of the pass under way, or of the
/// last one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScrubView {
    /// What it is doing.
    pub state: ScrubState,
    /// How much of the disk it went through, in thousandths.
    #[serde(rename = "percent", with = "crate::json::percent")]
    pub permille: u16,
    /// Bytes of blobs that were read and are as they should be.
    pub bytes_verified: u64,
    /// Bytes of blobs that are held.
    pub bytes_total: u64,
    /// Blobs that were gone or not what they should be.
    pub bad: u64,
    /// Blobs that the disk could not read at the time.
    pub unread: u64,
    /// Sums of the index that were not those of their rows.
    pub sums_mended: u64,
    /// Rows of the index that do not decode.
    pub rows_damaged: u64,
    /// Bytes a second, measured over the last seconds.
    pub bytes_per_second: u64,
    /// When the pass under way began, in milliseconds since 1970.
    #[serde(rename = "began", with = "crate::json::optional_moment")]
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub began_ms: Option<u64>,
    /// When the last pass came to its end, in milliseconds since 1970.
    #[serde(rename = "last_complete", with = "crate::json::optional_moment")]
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub last_complete_ms: Option<u64>,
    /// When the next one begins by itself, in milliseconds since 1970.
    #[serde(rename = "next", with = "crate::json::optional_moment")]
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub next_ms: Option<u64>,
}

impl Scrubber {
    /// How far it is.
    pub(crate) fn view(&self) -> ScrubView {
        let (bytes_total, now) = (self.replica.store.used(), self.replica.env.mono());
        let State { scrub, meter, .. } = &mut *self.state();
        let (pass, last) = (scrub.pass.as_ref(), scrub.last.as_ref());
        let ended = last.map(|last| last.found);
        let found = pass.map(|pass| pass.found).or(ended).unwrap_or_default();
        let permille = match pass {
            Some(pass) => permille(pass.after.as_ref().map_or(0, PathTransform::place)),
            None => last.map_or(0, |_| 1000),
        };
        let state = match (scrub.paused, pass) {
            (true, _) => ScrubState::Paused,
            (false, Some(_)) => ScrubState::Running,
            (false, None) => ScrubState::Idle,
        };
        ScrubView {
            state,
            permille,
            bytes_verified: found.bytes,
            bytes_total,
            bad: found.bad,
            unread: found.unread,
            sums_mended: found.sums,
            rows_damaged: found.rows,
            bytes_per_second: meter.bytes_per_second(now - self.origin),
            began_ms: pass.map(|pass| pass.began_ms),
            last_complete_ms: last.map(|last| last.at_ms),
            next_ms: (state == ScrubState::Idle).then_some(scrub.due_ms),
        }
    }

    /// Begins to read the whole disk back now.
    pub(crate) async fn start(&self) -> Result<ScrubView, WriteError> {
        let now = self.replica.unix_ms();
        self.tell(|scrub| scrub.begin(now, true)).await
    }

    /// Lets the scrub rest, or go on where it was.
    pub(crate) async fn pause(&self, paused: bool) -> Result<ScrubView, WriteError> {
        self.tell(|scrub| scrub.paused = paused).await
    }

    async fn tell(&self, change: impl Fn(&mut Scrub)) -> Result<ScrubView, WriteError> {
        self.change(change).await?;
        self.wake.notify_one();
        Ok(self.view())
    }
}

fn permille(place: u64) -> u16 {
    u16::try_from((u128::from(place) * 1000) >> 64).unwrap_or(1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_share_rises_with_the_place() {
        for (place, share) in [(0, 0), (u64::MAX / 4, 249), (u64::MAX, 999)] {
            assert_eq!(permille(place), share);
        }
    }
}
