//! A walk through a tree, name by name in byte order.

use std::sync::Arc;

use dfs_core::id::{DirId, RecordKey};
use dfs_core::name::FilePath;
use dfs_core::record::version::{Kind, Record};
use dfs_store::vault::keys::VaultKeys;

use crate::config::Mode;
use crate::error::Error;
use crate::history::{Known, known_versions, open_entry};
use crate::node::Node;
use crate::scan::Whom;

/// A name that a walk met.
pub(crate) struct Met {
    pub(crate) path: FilePath,
    /// What the walk is ordered by; where to go on after.
    pub(crate) order: String,
    pub(crate) record: Record,
    key: RecordKey,
    dir: Option<DirId>,
}

impl Met {
    /// Every version that can still be had.
    pub(crate) fn known(&self, keys: &VaultKeys) -> Result<Vec<Known>, Error> {
        known_versions(keys, &self.key, &self.record)
    }
}

/// Goes through everything below a directory, depth first, one directory in memory at each level.
pub(crate) struct Walk {
    node: Arc<Node>,
    mode: Mode,
    after: String,
    /// What is still to be met, the next last.
    pending: Vec<Met>,
}

impl Walk {
    /// Begins after a name that an earlier walk came to; at the beginning after an empty one.
    pub(crate) async fn new(
        node: Arc<Node>,
        dir: &FilePath,
        after: &str,
        mode: Mode,
    ) -> Result<Self, Error> {
        let top = node.find_dir(dir, mode).await?;
        let top = top.ok_or_else(|| Error::NotFound(dir.to_string()))?;
        let mut walk = Self { node, mode, after: after.to_owned(), pending: Vec::new() };
        walk.enter(top, dir).await?;
        Ok(walk)
    }

    /// The next name; `None` at the end.
    pub(crate) async fn next(&mut self) -> Result<Option<Met>, Error> {
        while let Some(met) = self.pending.pop() {
            let is_ahead = met.order > self.after;
            // Depth first, as listings go, so that the order stays that of the bytes.
            if let Some(dir) = met.dir.filter(|_| is_ahead || self.after.starts_with(&met.order)) {
                self.enter(dir, &met.path).await?;
            }
            if is_ahead {
                return Ok(Some(met));
            }
        }
        Ok(None)
    }

    async fn enter(&mut self, dir: DirId, path: &FilePath) -> Result<(), Error> {
        let keys = self.node.vault()?.keys.clone();
        let records = self.node.scan_dir(keys.vault, dir, self.mode, Whom::Enough).await?;
        let path = path.clone();
        let open = move || {
            let met = records
                .into_iter()
                .filter_map(|(key, record)| meet(&keys, key, record, &path).transpose());
            let mut met = met.collect::<Result<Vec<_>, Error>>()?;
            met.sort_by(|a, b| b.order.cmp(&a.order));
            Ok::<_, Error>(met)
        };
        let met = self.node.env.offload(open).await?;
        self.pending.extend(met);
        Ok(())
    }
}

fn meet(
    keys: &VaultKeys,
    key: RecordKey,
    record: Record,
    parent: &FilePath,
) -> Result<Option<Met>, Error> {
    let winner = record.winner().filter(|version| version.kind == Kind::Live);
    let Some(winner) = winner else { return Ok(None) };
    let entry = open_entry(keys, &key, winner)?;
    let (path, dir) = (parent.join(&entry.name)?, entry.dir());
    let order = if dir.is_some() { format!("{path}/") } else { path.to_string() };
    Ok(Some(Met { path, order, record, key, dir }))
}
