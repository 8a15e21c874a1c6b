//! Whether the versions of a name can be read now: for whoever holds the vault's key.

use std::sync::Arc;

use dfs_core::id::BlobId;
use dfs_core::layout::epoch::EpochState;

use super::Parts;
use super::tree::known_of;
use super::types::{Fate, Unreadable};
use super::versions::log_line;
use super::walk::WalkEntry;
use crate::config::Mode;
use crate::error::Error;
use crate::names::open::{KnownVersion, live_heads};

/// The versions of a name of which a piece has no copy in reach.
pub(super) async fn check_name(
    parts: Arc<Parts>,
    entry: WalkEntry,
    mode: Mode,
) -> Result<Vec<Unreadable>, Error> {
    let known = known_of(parts.names()?, &entry, mode).await?;
    let waiting: Vec<_> = live_heads(&known).iter().map(|head| head.vid).collect();
    let mut found = Vec::new();
    for known in &known {
        if let Some(fate) = fate_of(&parts, known).await? {
            let version = log_line(known, waiting.contains(&known.vid));
            found.push(Unreadable { path: entry.path.to_string(), version, fate });
        }
    }
    Ok(found)
}

/// What is the matter with a version; `None` when every piece of it has a copy.
async fn fate_of(parts: &Parts, known: &KnownVersion) -> Result<Option<Fate>, Error> {
    let Some(root) = known.refs_root else { return Ok(None) };
    let state = parts.replica.joined()?;
    let missing = match parts.blobs.copies_of(root, &state).await {
        Ok(copies) => copies.into_iter().filter(|(_, count)| *count == 0).map(|(id, _)| id),
        Err(error) => return fate(parts, error, &state).map(Some),
    };
    for id in missing.collect::<Vec<BlobId>>() {
        if let Err(error) = parts.blobs.fetch_blob(id).await {
            return fate(parts, error, &state).map(Some);
        }
    }
    Ok(None)
}

/// Whether a member that is away may have what no one here has.
fn fate(parts: &Parts, error: Error, state: &EpochState) -> Result<Fate, Error> {
    let all_here = || {
        let mut present = state.counted();
        present.all(|member| parts.replica.is_reachable(&member.node_id))
    };
    match error {
        Error::Lost(_) if all_here() => Ok(Fate::Lost),
        Error::Lost(_) | Error::Unavailable(_) => Ok(Fate::OutOfReach),
        Error::Unverified(_) => Ok(Fate::Lost),
        other => Err(other),
    }
}
