//! What directories hold, added up from their listings.

use dfs_core::name::FilePath;
use dfs_core::replica::listing::Totals;
use serde::{Deserialize, Serialize};

use super::Client;
use super::walk::{Walk, WalkOptions};
use crate::config::Mode;
use crate::error::Error;

/// What one directory holds, that below its directories not counted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DirUsage {
    /// The whole path; of the root an empty one.
    pub path: String,
    /// Files and links.
    pub files: u64,
    /// Bytes of their content.
    pub bytes: u64,
    /// Names with versions that wait for a decision.
    pub conflicts: u64,
}

/// A page of directories and what they hold.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UsagePage {
    /// Each directory before those in it, else in byte order.
    pub dirs: Vec<DirUsage>,
    /// What to go on after, when more may follow.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub next: Option<String>,
    /// Whether enough of the gateways that hold these directories answered: otherwise other
    /// machines can have hidden something.
    pub guarded: bool,
}

/// What a directory and those below it hold. See [`Client::usage`].
pub(super) async fn usage(
    client: &Client,
    dir: &FilePath,
    after: &str,
    limit: usize,
    mode: Mode,
) -> Result<UsagePage, Error> {
    let options = WalkOptions { after, only_dirs: true, ..WalkOptions::all(mode) };
    let mut walk = Walk::new(client.0.names()?.clone(), dir, options).await?;
    let mut page = UsagePage::default();
    if after.is_empty() {
        page.dirs.push(dir_usage(dir, walk.totals().await?));
    }
    let mut last = after.to_owned();
    while let Some(entry) = walk.next().await? {
        // A page ends after one that has a name.
        if page.dirs.len() >= limit && !last.is_empty() {
            page.next = Some(last);
            break;
        }
        page.dirs.push(dir_usage(&entry.path, walk.totals().await?));
        last = entry.order;
    }
    page.guarded = walk.is_guarded();
    Ok(page)
}

fn dir_usage(path: &FilePath, totals: Totals) -> DirUsage {
    let Totals { files, bytes, conflicts } = totals;
    DirUsage { path: path.to_string(), files, bytes, conflicts }
}
