//! A walk through a tree, name by name in byte order.

use std::sync::Arc;

use dfs_core::id::{DirId, RecordKey};
use dfs_core::name::FilePath;
use dfs_core::record::version::{Kind, Record};
use dfs_store::vault::entry::Entry;
use dfs_store::vault::keys::VaultKeys;

use crate::config::Mode;
use crate::error::Error;
use crate::names::Names;
use crate::names::open::{KnownVersion, known_versions, open_entry};
use crate::records::ScanReach;

/// A name that a walk came to.
pub(super) struct WalkEntry {
    pub(super) path: FilePath,
    /// What the walk is ordered by; where to go on after.
    pub(super) order: String,
    /// What is shown under the name.
    pub(super) entry: Entry,
    /// The id of the version that is shown.
    pub(super) version: String,
    pub(super) record: Record,
    key: RecordKey,
}

impl WalkEntry {
    /// Every version that can still be had.
    pub(super) fn known(&self, keys: &VaultKeys) -> Result<Vec<KnownVersion>, Error> {
        known_versions(keys, &self.key, &self.record)
    }
}

/// What a walk goes through.
#[derive(Debug, Clone, Copy)]
pub(super) struct WalkOptions<'a> {
    /// Begins after a name that an earlier walk came to; at the beginning when it is empty.
    pub(super) after: &'a str,
    /// Only names right below the directory that begin so, and what is below them.
    pub(super) prefix: &'a str,
    /// Enters directories.
    pub(super) recursive: bool,
    pub(super) mode: Mode,
    pub(super) reach: ScanReach,
}

impl WalkOptions<'_> {
    /// Everything, as many replicas asked as `mode` needs.
    pub(super) fn all(mode: Mode) -> Self {
        let (after, prefix, recursive, reach) = ("", "", true, ScanReach::Enough);
        Self { after, prefix, recursive, mode, reach }
    }
}

/// Goes through what is below a directory, depth first, one directory in memory at each level.
pub(super) struct Walk {
    names: Arc<Names>,
    mode: Mode,
    reach: ScanReach,
    recursive: bool,
    after: String,
    /// What is still to come, the next last.
    pending: Vec<WalkEntry>,
}

impl Walk {
    /// # Errors
    /// [`Error::NotFound`] when there is no such directory.
    pub(super) async fn new(
        names: Arc<Names>,
        dir: &FilePath,
        options: WalkOptions<'_>,
    ) -> Result<Self, Error> {
        let WalkOptions { after, prefix, recursive, mode, reach } = options;
        let top = names.find_dir(dir, mode).await?;
        let top = top.ok_or_else(|| Error::NotFound(dir.to_string()))?;
        let (after, pending) = (after.to_owned(), Vec::new());
        let mut walk = Self { names, mode, reach, recursive, after, pending };
        walk.enter(top, dir).await?;
        walk.pending.retain(|entry| entry.entry.name.starts_with(prefix));
        Ok(walk)
    }

    /// The next name; `None` at the end.
    pub(super) async fn next(&mut self) -> Result<Option<WalkEntry>, Error> {
        while let Some(next) = self.pending.pop() {
            let is_ahead = next.order > self.after;
            let enters = self.recursive && (is_ahead || self.after.starts_with(&next.order));
            // Depth first, as listings go, so that the order stays that of the bytes.
            if let Some(dir) = next.entry.dir().filter(|_| enters) {
                self.enter(dir, &next.path).await?;
            }
            if is_ahead {
                return Ok(Some(next));
            }
        }
        Ok(None)
    }

    async fn enter(&mut self, dir: DirId, path: &FilePath) -> Result<(), Error> {
        let keys = self.names.keys.clone();
        let records = &self.names.records;
        let records = records.scan_dir(keys.vault, dir, self.mode, self.reach).await?;
        let path = path.clone();
        let open = move || {
            let opened = records
                .into_iter()
                .filter_map(|(key, record)| open(&keys, key, record, &path).transpose());
            let mut entries = opened.collect::<Result<Vec<_>, Error>>()?;
            entries.sort_by(|a, b| b.order.cmp(&a.order));
            Ok::<_, Error>(entries)
        };
        let entries = self.names.replica.env.offload(open).await?;
        self.pending.extend(entries);
        Ok(())
    }
}

fn open(
    keys: &VaultKeys,
    key: RecordKey,
    record: Record,
    parent: &FilePath,
) -> Result<Option<WalkEntry>, Error> {
    let winner = record.winner().filter(|version| version.kind == Kind::Live);
    let Some(winner) = winner else { return Ok(None) };
    let (entry, version) = (open_entry(keys, &key, winner)?, winner.vid.to_string());
    // A name was checked before it was stored; its place here cannot make it longer.
    let path = parent.join(&entry.name)?;
    let order = if entry.dir().is_some() { format!("{path}/") } else { path.to_string() };
    Ok(Some(WalkEntry { path, order, entry, version, record, key }))
}
