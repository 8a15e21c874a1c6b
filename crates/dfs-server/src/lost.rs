//! Which files cannot be read now, by name: for whoever holds the vault's key.

use std::sync::Arc;

use dfs_core::id::BlobId;
use dfs_core::layout::epoch::EpochState;
use dfs_core::name::FilePath;
use futures_util::StreamExt;
use futures_util::stream::FuturesOrdered;

use crate::client::Client;
use crate::config::Mode;
use crate::error::Error;
use crate::history::{Known, live_heads};
use crate::node::Node;
use crate::versions::log_line;
use crate::views::{Fate, Unreadable, UnreadablePage};
use crate::walk::{Met, Walk};

impl Client {
    /// The versions of files below a directory, old ones included, of which a piece has no copy in
    /// reach, in byte order of their names, after `after`.
    ///
    /// Walks the whole tree and asks the replicas of every piece whether they hold it; what nobody
    /// holds is asked for once more. Rot that nobody has come upon yet is not found: that is what the
    /// scrub does. A page covers some hundreds of names, so it may be empty and not the last.
    ///
    /// # Errors
    /// [`Error::NotFound`] when there is no such directory.
    pub async fn unreadable(
        &self,
        dir: &FilePath,
        after: &str,
        mode: Mode,
    ) -> Result<UnreadablePage, Error> {
        let mut walk = Walk::new(self.0.clone(), dir, after, mode).await?;
        let mut page = UnreadablePage::default();
        let mut checking = FuturesOrdered::new();
        for _ in 0..NAMES_IN_PAGE {
            let Some(met) = walk.next().await? else {
                page.next = None;
                break;
            };
            page.next = Some(met.order.clone());
            checking.push_back(self.0.clone().check_name(met));
            if checking.len() >= CHECKED_AT_ONCE
                && let Some(found) = checking.next().await
            {
                page.unreadable.extend(found?);
            }
        }
        while let Some(found) = checking.next().await {
            page.unreadable.extend(found?);
        }
        Ok(page)
    }
}

impl Node {
    async fn check_name(self: Arc<Self>, met: Met) -> Result<Vec<Unreadable>, Error> {
        let known = met.known(&self.vault()?.keys)?;
        let waiting: Vec<_> = live_heads(&known).iter().map(|head| head.vid).collect();
        let mut found = Vec::new();
        for known in &known {
            if let Some(fate) = self.fate_of(known).await? {
                let version = log_line(known, waiting.contains(&known.vid));
                found.push(Unreadable { path: met.path.to_string(), version, fate });
            }
        }
        Ok(found)
    }

    /// What is the matter with a version; `None` when every piece of it has a copy.
    async fn fate_of(self: &Arc<Self>, known: &Known) -> Result<Option<Fate>, Error> {
        let Some(root) = known.refs_root else { return Ok(None) };
        let state = self.joined()?;
        let missing = match self.copies_of(root, &state).await {
            Ok(copies) => copies.into_iter().filter(|(_, count)| *count == 0).map(|(id, _)| id),
            Err(error) => return self.fate(error, &state).map(Some),
        };
        for id in missing.collect::<Vec<BlobId>>() {
            if let Err(error) = self.fetch_blob(id).await {
                return self.fate(error, &state).map(Some);
            }
        }
        Ok(None)
    }

    /// Whether whoever is away may have what nobody here has.
    fn fate(&self, error: Error, state: &EpochState) -> Result<Fate, Error> {
        let all_here = || {
            let mut others = state.present().filter(|member| member.node_id != self.id);
            others.all(|member| self.is_reachable(&member.node_id))
        };
        match error {
            Error::Lost(_) if all_here() => Ok(Fate::Lost),
            Error::Lost(_) | Error::Unavailable(_) => Ok(Fate::OutOfReach),
            Error::Unverified(_) => Ok(Fate::Lost),
            other => Err(other),
        }
    }
}

/// Names looked at in one page: some seconds.
const NAMES_IN_PAGE: usize = 500;
/// Names looked at together.
const CHECKED_AT_ONCE: usize = 8;
