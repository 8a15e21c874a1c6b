//! Telling this node's repair to rest or to go on, and how far it is.

use tracing::warn;

use crate::client::Client;
use crate::error::Error;
use crate::node::Node;
use crate::views::{RepairState, RepairView};
use dfs_store::ReadError;

impl Node {
    /// Takes up a pause that an earlier start was told of.
    pub(crate) async fn load_repair(&self) -> Result<(), ReadError> {
        match self.store.state(REPAIR).await?.as_deref() {
            None | Some([0]) => {}
            Some([1]) => self.repair.pause(true),
            Some(_) => warn!("what was kept of the repair is not used"),
        }
        Ok(())
    }

    async fn pause_repair(&self, paused: bool) -> Result<(), Error> {
        self.store.put_state(REPAIR, vec![u8::from(paused)]).await?;
        self.repair.pause(paused);
        Ok(())
    }
}

impl Client {
    /// How far this node is with fetching what it should hold and does not.
    pub fn repair(&self) -> RepairView {
        let (node, now) = (&self.0, self.0.env.mono());
        let missing = node.missing_here();
        let (bytes_per_second, left) = node.repair.outlook(now, missing);
        let looked_through = node.repair.knows_all();
        let state = match (node.repair.is_paused(), missing > 0 || !looked_through) {
            (true, _) => RepairState::Paused,
            (false, true) => RepairState::Running,
            (false, false) => RepairState::Idle,
        };
        RepairView {
            state,
            missing,
            lost: node.repair.lost_len(),
            away: node.repair.away_len(),
            looked_through,
            bytes_per_second,
            bytes_left: left.bytes,
            time_left: left.time,
        }
    }

    /// Looks through every reference again, tries everything at once that waits for its turn, and
    /// ends a pause.
    ///
    /// # Errors
    /// [`Error::Store`] when the disk refuses; nothing has changed then.
    pub async fn start_repair(&self) -> Result<RepairView, Error> {
        self.0.pause_repair(false).await?;
        self.0.repair.look_again();
        self.0.repair.retry_all();
        Ok(self.repair())
    }

    /// Fetches nothing that is missing until [`Client::resume_repair`] or [`Client::start_repair`],
    /// also over restarts. Fetches under way come to their end. Partitions do not move to this node
    /// meanwhile, and files have fewer copies than they should.
    ///
    /// # Errors
    /// [`Error::Store`] when the disk refuses; nothing has changed then.
    pub async fn pause_repair(&self) -> Result<RepairView, Error> {
        self.0.pause_repair(true).await?;
        Ok(self.repair())
    }

    /// Lets the repair go on.
    ///
    /// # Errors
    /// [`Error::Store`] when the disk refuses; nothing has changed then.
    pub async fn resume_repair(&self) -> Result<RepairView, Error> {
        self.0.pause_repair(false).await?;
        Ok(self.repair())
    }
}

/// What a pause is kept under.
const REPAIR: &str = "repair";
