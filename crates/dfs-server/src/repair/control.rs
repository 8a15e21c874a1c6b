//! Telling this node's repair to rest or to go on, and how far it is.

use serde::{Deserialize, Serialize};
use std::time::Duration;

use dfs_store::{ReadError, WriteError};
use tracing::warn;

use super::Repair;

/// What a node's repair is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RepairState {
    /// Nothing is missing here.
    Idle,
    /// It looks for what is missing, or fetches it.
    Running,
    /// Someone asked it to rest.
    Paused,
}

/// How far a node is with fetching what it should hold and does not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RepairView {
    /// What it is doing.
    pub state: RepairState,
    /// Blobs that it should hold and does not.
    pub missing: u64,
    /// Of these, blobs of existing files of which no replica has a good copy.
    pub lost: u64,
    /// Of these, blobs that only members may have that are away.
    pub away: u64,
    /// Whether every reference was looked at: else more may be missing.
    pub looked_through: bool,
    /// Bytes a second, measured over the last seconds.
    pub bytes_per_second: u64,
    /// Bytes to fetch, estimated from those that came last.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub bytes_left: Option<u64>,
    /// How long that takes at this speed.
    #[serde(rename = "seconds_left", with = "crate::json::optional_seconds")]
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub time_left: Option<Duration>,
}

impl Repair {
    /// Takes up a pause that an earlier start was told of.
    pub(crate) async fn load(&self) -> Result<(), ReadError> {
        match self.replica.store.state(PAUSED).await?.as_deref() {
            None | Some([0]) => {}
            Some([1]) => self.replica.missing.pause(true),
            Some(_) => warn!("what was kept of the repair is not used"),
        }
        Ok(())
    }

    /// Lets the repair rest or go on, also over restarts.
    pub(crate) async fn pause(&self, paused: bool) -> Result<RepairView, WriteError> {
        self.replica.store.put_state(PAUSED, vec![u8::from(paused)]).await?;
        self.replica.missing.pause(paused);
        Ok(self.view())
    }

    /// Looks through every reference again, and tries everything at once that waits for its turn.
    pub(crate) async fn start(&self) -> Result<RepairView, WriteError> {
        self.pause(false).await?;
        self.replica.missing.look_again();
        self.replica.missing.retry_all();
        Ok(self.view())
    }

    /// How far it is.
    pub(crate) fn view(&self) -> RepairView {
        let (missing_blobs, now) = (&self.replica.missing, self.replica.env.mono());
        let missing = self.replica.missing_here();
        let (bytes_per_second, left) = missing_blobs.outlook(now, missing);
        let looked_through = missing_blobs.knows_all();
        let state = match (missing_blobs.is_paused(), missing > 0 || !looked_through) {
            (true, _) => RepairState::Paused,
            (false, true) => RepairState::Running,
            (false, false) => RepairState::Idle,
        };
        RepairView {
            state,
            missing,
            lost: missing_blobs.lost_len(),
            away: missing_blobs.away_len(),
            looked_through,
            bytes_per_second,
            bytes_left: left.bytes,
            time_left: left.time,
        }
    }
}

/// What a pause is kept under.
const PAUSED: &str = "repair";
