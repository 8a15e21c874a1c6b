//! Directories: from paths to records and back.
//!
//! A path is walked from the root; each component is the record of a directory. Ids of directories
//! are remembered, so that all records of a path are asked for at once, and every remembered id is
//! checked against what the quorum answers.

use dfs_core::id::{DirId, RecordKey};
use dfs_core::name::FilePath;
use dfs_core::record::version::{Kind, Record};

use quick_cache::sync::Cache;

use super::Names;
use super::history::NewVersion;
use super::open::open_entry;
use crate::config::Mode;
use crate::error::Error;

use dfs_store::vault::entry::{Entry, EntryNode};

/// Directories seen lately.
pub(super) struct DirCache(Cache<(DirId, String), DirId>);

impl Default for DirCache {
    fn default() -> Self {
        Self(Cache::new(DIRS_CACHED_MAX))
    }
}

impl DirCache {
    fn get(&self, parent: DirId, name: &str) -> Option<DirId> {
        self.0.get(&(parent, name.to_owned()))
    }

    fn set(&self, parent: DirId, name: &str, dir: Option<DirId>) {
        let place = (parent, name.to_owned());
        match dir {
            Some(dir) => self.0.insert(place, dir),
            None => {
                self.0.remove(&place);
            }
        }
    }
}

/// What a path leads to.
pub(crate) struct PathFound {
    /// The directory that holds the last component; `None` when a directory above is missing.
    pub(crate) dir: Option<DirId>,
    /// The record of the last component.
    pub(crate) record: Record,
    /// Whether the gateways among the replicas answered for the whole path.
    pub(crate) guarded: bool,
}

impl Names {
    /// Walks a path that is not the root.
    pub(crate) async fn walk(&self, path: &FilePath, mode: Mode) -> Result<PathFound, Error> {
        let keys = &self.keys;
        let names: Vec<&str> = path.components().collect();
        let mut dir = keys.root_dir();
        let (mut at, mut guarded) = (0, true);
        loop {
            // Guess the directories below, and ask for the whole path at once.
            let mut dirs = vec![dir];
            for name in &names[at..names.len() - 1] {
                match dirs.last().and_then(|parent| self.dirs.get(*parent, name)) {
                    Some(child) => dirs.push(child),
                    None => break,
                }
            }
            let places = dirs.iter().zip(&names[at..]);
            let asked: Vec<_> = places.map(|(dir, name)| keys.record_key(dir, name)).collect();
            let read = self.records.read_records(&asked, mode).await?;
            guarded &= read.guarded;
            for (guess, record) in dirs.iter().copied().zip(read.records) {
                if guess != dir {
                    break; // The guess was wrong; ask again from here.
                }
                if at == names.len() - 1 {
                    return Ok(PathFound { dir: Some(dir), record, guarded });
                }
                let Some(child) = self.child_dir(dir, names[at], path, &record)? else {
                    let record = Record::default();
                    return Ok(PathFound { dir: None, record, guarded });
                };
                dir = child;
                at += 1;
            }
        }
    }

    /// The directory that a record says `name` is; `None` when there is none.
    fn child_dir(
        &self,
        parent: DirId,
        name: &str,
        path: &FilePath,
        record: &Record,
    ) -> Result<Option<DirId>, Error> {
        let key = self.keys.record_key(&parent, name);
        let entry = match record.winner() {
            Some(version) if version.kind == Kind::Live => {
                Some(open_entry(&self.keys, &key, version)?)
            }
            _ => None,
        };
        let child = match &entry {
            None => None,
            Some(entry) => Some(entry.dir().ok_or_else(|| Error::NotDirectory(path.to_string()))?),
        };
        self.dirs.set(parent, name, child);
        Ok(child)
    }

    /// The directory of a path, the root included; `None` when it does not exist. Also returns
    /// whether the gateways among the replicas answered for the whole path.
    pub(crate) async fn find_dir(
        &self,
        path: &FilePath,
        mode: Mode,
    ) -> Result<(Option<DirId>, bool), Error> {
        let keys = &self.keys;
        if path.is_root() {
            return Ok((Some(keys.root_dir()), true));
        }
        let PathFound { dir, record, guarded } = self.walk(path, mode).await?;
        let dir = match (dir, path.base()) {
            (Some(parent), Some(name)) => self.child_dir(parent, name, path, &record)?,
            _ => None,
        };
        Ok((dir, guarded))
    }

    /// The directory of a path; what is missing of it is made.
    pub(crate) async fn make_dirs(&self, names: &[&str], mode: Mode) -> Result<DirId, Error> {
        let keys = &self.keys;
        let mut dir = keys.root_dir();
        for (at, name) in names.iter().enumerate() {
            let path = FilePath::parse(&names[..=at].join("/"))?;
            let key = keys.record_key(&dir, name);
            let _one = self.writer.lock(&key).await;
            let (record, quorum) = self.records.read_record(key, mode).await?;
            dir = match self.child_dir(dir, name, &path, &record)? {
                Some(child) => child,
                None => {
                    let replaces = record.winner().map(|tombstone| tombstone.vid);
                    let child = keys.child_dir(&dir, name, replaces);
                    self.write_dir(key, name, child, &record, quorum, mode).await?;
                    self.dirs.set(dir, name, Some(child));
                    child
                }
            };
        }
        Ok(dir)
    }

    async fn write_dir(
        &self,
        key: RecordKey,
        name: &str,
        child: DirId,
        read: &Record,
        quorum: bool,
        mode: Mode,
    ) -> Result<(), Error> {
        let entry = Entry {
            name: name.to_owned(),
            modified_ms: self.replica.unix_ms(),
            node: EntryNode::Dir(child),
        };
        let new = NewVersion::entry(self.new_vid(), entry);
        let draft = self.draft(key, read, new, mode).await?;
        self.write_version(key, read, quorum, draft, mode).await?;
        Ok(())
    }

    /// Checks, after a write into `dir`, that its path still leads there. A directory that was
    /// deleted meanwhile is brought back, since an edit beats a delete; `false` says that the path
    /// leads elsewhere now and the write must be repeated there.
    pub(crate) async fn keep_reachable(
        &self,
        names: &[&str],
        dir: DirId,
        mode: Mode,
    ) -> Result<bool, Error> {
        let keys = &self.keys;
        let mut parents = vec![keys.root_dir()];
        for name in names {
            match parents.last().and_then(|parent| self.dirs.get(*parent, name)) {
                Some(child) => parents.push(child),
                None => return Ok(self.make_dirs(names, mode).await? == dir),
            }
        }
        if parents.last() != Some(&dir) {
            return Ok(false);
        }
        let asked: Vec<_> =
            parents.iter().zip(names).map(|(dir, name)| keys.record_key(dir, name)).collect();
        let read = self.records.read_records(&asked, mode).await?;
        for (at, record) in read.records.iter().enumerate() {
            let path = FilePath::parse(&names[..=at].join("/"))?;
            match self.child_dir(parents[at], names[at], &path, record)? {
                Some(child) if child == parents[at + 1] => {}
                Some(_) => return Ok(false),
                None => {
                    let (key, child) = (asked[at], parents[at + 1]);
                    let name = names[at];
                    let _one = self.writer.lock(&key).await;
                    let (record, quorum) = self.records.read_record(key, mode).await?;
                    match self.child_dir(parents[at], name, &path, &record)? {
                        Some(found) if found == child => continue,
                        Some(_) => return Ok(false),
                        None => {}
                    }
                    self.write_dir(key, name, child, &record, quorum, mode).await?;
                    self.dirs.set(parents[at], name, Some(child));
                }
            }
        }
        Ok(true)
    }
}

/// Directories remembered: 2 MiB. Those not seen for long are found again.
const DIRS_CACHED_MAX: usize = 16_384;
