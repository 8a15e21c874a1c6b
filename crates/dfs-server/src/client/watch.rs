//! What changes in a directory, told as it happens.

use std::sync::Arc;
use std::time::Duration;

use dfs_core::id::DirId;
use dfs_core::name::FilePath;
use dfs_core::replica::listing::ListedName;
use dfs_core::replica::listing_log::{ListingMark, NameChange};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::Client;
use super::types::Listed;
use crate::config::Mode;
use crate::error::Error;
use crate::names::Names;

/// A point in what was told of a directory: what came after it can be told again, for a while.
pub type WatchMark = ListingMark;

/// What became of a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Change {
    /// It was not there before.
    Created,
    /// It has another version.
    Changed,
    /// It is gone.
    Removed,
}

/// A name that changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Changed {
    /// The whole path.
    pub path: String,
    /// What became of it.
    pub change: Change,
    /// What is listed now; `None` where it is gone.
    pub entry: Option<Listed>,
}

/// What happened in a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Happened {
    /// What changes from now on will be told: whoever keeps a list of the names makes it now. Also
    /// told where so much changed that it is not known one by one.
    Listed,
    /// These names changed, in this order. A name that changed twice in a moment may be told once.
    Changed(Vec<Changed>),
}

/// Watches the names right below a directory. What was acknowledged anywhere in the cluster is told
/// within a second, while a quorum of the directory's replicas is in reach.
///
/// Costs a round trip to these replicas twice a second, which those who watch the same directory on
/// this node share, and memory for the names of the directory, as any listing does.
pub struct Watch {
    names: Arc<Names>,
    path: FilePath,
    dir: DirId,
    mode: Mode,
    mark: Option<WatchMark>,
    /// When to ask again.
    ask_at: Instant,
    /// Whether the whole directory had to be read the last time.
    was_listed: bool,
    /// When the path was last seen to lead here.
    found: Instant,
}

impl std::fmt::Debug for Watch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watch").field("path", &self.path).finish_non_exhaustive()
    }
}

/// Begins to watch a directory, or goes on where somebody was.
pub(super) async fn watch(
    client: &Client,
    path: &FilePath,
    since: Option<WatchMark>,
    mode: Mode,
) -> Result<Watch, Error> {
    let names = client.0.names()?.clone();
    let Some(dir) = names.find_dir(path, mode).await?.0 else {
        return Err(Error::NotFound(path.to_string()));
    };
    let found = names.replica.env.mono();
    let (path, mark, was_listed) = (path.clone(), since, false);
    Ok(Watch { names, path, dir, mode, mark, ask_at: found, was_listed, found })
}

impl Watch {
    /// Up to where everything was told.
    pub fn mark(&self) -> Option<WatchMark> {
        self.mark
    }

    /// Waits for what happens next.
    ///
    /// # Errors
    /// [`Error::NotFound`] once the path leads to another directory or none,
    /// [`Error::ShuttingDown`], and what listing it can fail with: the same may be asked again.
    ///
    /// # Cancel safety
    /// Nothing is lost: what was not returned is told by the next call.
    pub async fn next(&mut self) -> Result<Happened, Error> {
        let names = self.names.clone();
        let replica = &names.replica;
        loop {
            tokio::select! {
                biased;
                () = replica.shutdown.cancelled() => return Err(Error::ShuttingDown),
                () = replica.env.sleep_until(self.ask_at) => {}
            }
            self.look_where_it_leads().await?;
            let told = names.listings.changes(self.dir, self.mark, self.mode).await?;
            self.mark = Some(told.mark);
            let was_listed = std::mem::replace(&mut self.was_listed, told.names.is_none());
            // A directory that memory has no place for is read whole each time.
            let pause = if was_listed && self.was_listed { LISTED_APART } else { EVERY };
            self.ask_at = replica.env.mono() + pause;
            let Some(changed) = told.names else { return Ok(Happened::Listed) };
            let changed: Vec<_> =
                changed.into_iter().filter_map(|name| self.changed(name)).collect();
            if !changed.is_empty() {
                return Ok(Happened::Changed(changed));
            }
        }
    }

    async fn look_where_it_leads(&mut self) -> Result<(), Error> {
        let now = self.names.replica.env.mono();
        if now < self.found + FOUND_AGAIN_AFTER {
            return Ok(());
        }
        if self.names.find_dir(&self.path, self.mode).await?.0 != Some(self.dir) {
            return Err(Error::NotFound(self.path.to_string()));
        }
        self.found = now;
        Ok(())
    }

    fn changed(&self, NameChange { before, now }: NameChange) -> Option<Changed> {
        let change = match (&before, &now) {
            (None, Some(_)) => Change::Created,
            (Some(_), Some(_)) => Change::Changed,
            (Some(_), None) => Change::Removed,
            (None, None) => return None,
        };
        let of =
            |listed: &ListedName| self.path.join(&listed.name).ok().map(|path| path.to_string());
        let path = now.as_ref().or(before.as_ref()).and_then(of)?;
        let entry = now.map(|now| Listed::of(path.clone(), &now));
        Some(Changed { path, change, entry })
    }
}

/// How often it is asked what has changed: a change is told within a second.
const EVERY: Duration = Duration::from_millis(500);
/// The same where the whole directory had to be read.
const LISTED_APART: Duration = Duration::from_secs(10);
/// How often it is looked whether the path still leads to the directory.
const FOUND_AGAIN_AFTER: Duration = Duration::from_secs(5);
