//! A walk through a tree, name by name in byte order.

use std::collections::VecDeque;
use std::ops::Bound;
use std::sync::Arc;

use dfs_core::id::DirId;
use dfs_core::name::FilePath;
use dfs_core::replica::listing::{ListedName, Totals};

use crate::config::Mode;
use crate::error::Error;
use crate::names::Names;

/// A name that a walk came to.
pub(super) struct WalkEntry {
    pub(super) path: FilePath,
    /// What the walk is ordered by; where to go on after.
    pub(super) order: String,
    /// The directory that it is in.
    pub(super) parent: DirId,
    /// What is shown under the name.
    pub(super) listed: ListedName,
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
    /// Comes to directories alone; `prefix` does not count then.
    pub(super) only_dirs: bool,
    /// Names that are asked for at once in each directory.
    pub(super) at_once: usize,
    pub(super) mode: Mode,
}

impl WalkOptions<'_> {
    /// Everything, as many replicas asked as `mode` needs.
    pub(super) fn all(mode: Mode) -> Self {
        let (recursive, only_dirs) = (true, false);
        Self { after: "", prefix: "", recursive, only_dirs, at_once: AT_ONCE, mode }
    }
}

/// Goes through what is below a directory, depth first, one page in memory at each level.
pub(super) struct Walk {
    names: Arc<Names>,
    mode: Mode,
    recursive: bool,
    only_dirs: bool,
    at_once: usize,
    after: String,
    /// The directories that the walk is in, each in the one before.
    levels: Vec<Level>,
    guarded: bool,
}

/// A directory that a walk is in.
struct Level {
    dir: DirId,
    path: FilePath,
    prefix: String,
    /// What comes next.
    page: VecDeque<ListedName>,
    /// Where the page after it begins; `None` when there is none.
    next: Option<Bound<String>>,
    /// What all its names add up to; known where only directories are gone through.
    totals: Totals,
}

impl Walk {
    /// # Errors
    /// [`Error::NotFound`] when there is no such directory.
    pub(super) async fn new(
        names: Arc<Names>,
        dir: &FilePath,
        options: WalkOptions<'_>,
    ) -> Result<Self, Error> {
        let WalkOptions { after, prefix, recursive, only_dirs, at_once, mode } = options;
        let (top, guarded) = names.find_dir(dir, mode).await?;
        let top = top.ok_or_else(|| Error::NotFound(dir.to_string()))?;
        let (after, levels) = (after.to_owned(), Vec::new());
        let mut walk = Self { names, mode, recursive, only_dirs, at_once, after, levels, guarded };
        walk.enter(top, dir.clone(), prefix.to_owned());
        Ok(walk)
    }

    /// Whether no listing so far could hide what others have.
    pub(super) fn is_guarded(&self) -> bool {
        self.guarded
    }

    /// What the names of the directory add up to that the walk has come to last, those below its
    /// directories not counted. Of a walk through directories alone.
    pub(super) async fn totals(&mut self) -> Result<Totals, Error> {
        self.turn_page().await?;
        Ok(self.levels.last().map(|level| level.totals).unwrap_or_default())
    }

    /// The next name; `None` at the end.
    pub(super) async fn next(&mut self) -> Result<Option<WalkEntry>, Error> {
        while let Some(level) = self.levels.last_mut() {
            let Some(listed) = level.page.pop_front() else {
                if !self.turn_page().await? {
                    self.levels.pop();
                }
                continue;
            };
            let (parent, path) = (level.dir, level.path.join(&listed.name)?);
            let order = if listed.dir.is_some() { format!("{path}/") } else { path.to_string() };
            let is_ahead = order > self.after;
            let enters = self.recursive && (is_ahead || self.after.starts_with(&order));
            // Depth first, as listings go, so that the order stays that of the bytes.
            if let Some(dir) = listed.dir.filter(|_| enters) {
                self.enter(dir, path.clone(), String::new());
            }
            if is_ahead {
                return Ok(Some(WalkEntry { path, order, parent, listed }));
            }
        }
        Ok(None)
    }

    /// Goes on in a directory, at the name that leads on from where this walk begins.
    fn enter(&mut self, dir: DirId, path: FilePath, prefix: String) {
        let below = match path.is_root() {
            true => Some(self.after.as_str()),
            false => self.after.strip_prefix(path.as_str()).and_then(|at| at.strip_prefix('/')),
        };
        let next = match below.filter(|below| !below.is_empty()) {
            None => Bound::Unbounded,
            // The directory that the walk was in is entered once more.
            Some(below) => match below.split_once('/') {
                Some((name, _)) => Bound::Included(format!("{name}/")),
                None => Bound::Excluded(below.to_owned()),
            },
        };
        let (page, next) = (VecDeque::new(), Some(next));
        self.levels.push(Level { dir, path, prefix, page, next, totals: Totals::default() });
    }

    /// Reads the next page of the directory that the walk is in. Returns whether there is one.
    async fn turn_page(&mut self) -> Result<bool, Error> {
        let Some(level) = self.levels.last_mut() else { return Ok(false) };
        let Some(from) = level.next.take() else { return Ok(false) };
        let from = from.as_ref().map(String::as_str);
        let (listings, dir) = (&self.names.listings, level.dir);
        let (guarded, (page, more)) = if self.only_dirs {
            let shown = listings.dirs_page(dir, from, self.at_once, self.mode).await?;
            level.totals = shown.what.0;
            (shown.guarded, shown.what.1)
        } else {
            let shown = listings.page(dir, from, &level.prefix, self.at_once, self.mode).await?;
            (shown.guarded, shown.what)
        };
        self.guarded &= guarded;
        level.next = page.last().filter(|_| more).map(|last| Bound::Excluded(last.order()));
        level.page = page.into();
        Ok(true)
    }
}

/// Names in one page, where a walk goes through all of them.
const AT_ONCE: usize = 1_024;
