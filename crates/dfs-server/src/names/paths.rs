//! Directories: from paths to records and back.
//!
//! A path is walked from the root; each component is the record of a directory. Ids of directories
//! are remembered, so that all records of a path are asked for at once, and every remembered id is
//! checked against what the quorum answers.
//!
//! The replicas of a directory's record and those of what is in it differ, so a split may leave a
//! majority of the latter on a side where none of the former is. Then what is in reach says where
//! the directory is, and whoever writes into it names it once more: should the other side delete
//! it meanwhile, an edit beats a delete.

use std::time::Duration;

use dfs_core::id::{DirId, RecordKey, Vid};
use dfs_core::name::FilePath;
use dfs_core::record::version::Record;

use quick_cache::sync::Cache;
use tokio::time::Instant;

use super::Names;
use super::history::NewVersion;
use super::open::{dir_attributes, last_dir};
use super::parts::{Part, Parts};
use crate::config::Mode;
use crate::error::Error;

use dfs_core::record::attributes::Attributes;
use dfs_store::vault::entry::{Entry, EntryNode};

/// Directories seen lately.
pub(super) struct DirCache {
    known: Cache<(DirId, String), DirId>,
    /// Those that were named once more; see [`Names::link_again`].
    linked: Cache<RecordKey, (Vid, Instant)>,
}

impl Default for DirCache {
    fn default() -> Self {
        Self { known: Cache::new(DIRS_CACHED_MAX), linked: Cache::new(DIRS_LINKED_MAX) }
    }
}

impl DirCache {
    fn get(&self, parent: DirId, name: &str) -> Option<DirId> {
        self.known.get(&(parent, name.to_owned()))
    }

    fn set(&self, parent: DirId, name: &str, dir: Option<DirId>) {
        let place = (parent, name.to_owned());
        match dir {
            Some(dir) => self.known.insert(place, dir),
            None => {
                self.known.remove(&place);
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
    /// Whether a directory above is a file as well: then that is nobody's race of now.
    pub(crate) is_below_file: bool,
    /// Whether a majority answered for every directory above, if the mode needs one.
    whole: bool,
}

/// Where a walk ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// At a name, of which the mode says how many replicas must answer.
    Name,
    /// At a directory, whose contents are what counts.
    Dir,
}

/// Records of a path.
struct PathRead {
    records: Vec<Record>,
    guarded: bool,
    whole: bool,
}

/// What a name is as a directory.
#[derive(Debug, Clone, Copy, Default)]
struct Child {
    dir: Option<DirId>,
    /// Whether it is a file as well.
    is_both: bool,
}

/// A file that was written or a directory that was made, and the way to it.
pub(crate) struct Arrival<'a> {
    pub(crate) path: &'a FilePath,
    pub(crate) parents: &'a [&'a str],
    /// The last of them, where it was written.
    pub(crate) dir: DirId,
    /// The record of a file where there was none before.
    pub(crate) new: Option<RecordKey>,
    /// As the walk found it; see [`PathFound::is_below_file`].
    pub(crate) is_below_file: bool,
}

/// What a look at the path of something that was written shows.
enum Look {
    Fine,
    /// A directory above was deleted meanwhile, and is there again.
    BroughtBack,
    /// Someone has just made a file of this directory above.
    Both(String),
    /// The path leads elsewhere now.
    Elsewhere,
}

impl Look {
    /// What weighs more: a file beside a directory is to be waited for.
    fn or(self, other: Self) -> Self {
        match (self, other) {
            (Self::Fine, other) | (Self::BroughtBack, other @ Self::Both(_)) => other,
            (own, _) => own,
        }
    }
}

impl Names {
    /// Walks a path that is not the root.
    pub(crate) async fn walk(&self, path: &FilePath, mode: Mode) -> Result<PathFound, Error> {
        self.walk_to(path, End::Name, mode).await
    }

    async fn walk_to(&self, path: &FilePath, end: End, mode: Mode) -> Result<PathFound, Error> {
        let found = self.walk_as(path, end, true, mode).await?;
        if found.dir.is_none() && !found.whole {
            // What is out of reach may know of it: that it is missing a majority must say.
            return self.walk_as(path, End::Name, false, mode).await;
        }
        Ok(found)
    }

    /// Walks a path; where it may be `lenient`, as [`Names::read_path`] does.
    async fn walk_as(
        &self,
        path: &FilePath,
        end: End,
        lenient: bool,
        mode: Mode,
    ) -> Result<PathFound, Error> {
        let keys = &self.keys;
        let names: Vec<&str> = path.components().collect();
        let mut dir = keys.root_dir();
        let (mut at, mut guarded, mut is_below_file, mut whole) = (0, true, false, true);
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
            let reaches_end = end == End::Name && at + asked.len() == names.len();
            let read = self.read_path(&asked, reaches_end, lenient, mode).await?;
            guarded &= read.guarded;
            whole &= read.whole;
            for (guess, record) in dirs.iter().copied().zip(read.records) {
                if guess != dir {
                    break; // The guess was wrong; ask again from here.
                }
                if at == names.len() - 1 {
                    let dir = Some(dir);
                    return Ok(PathFound { dir, record, guarded, is_below_file, whole });
                }
                let child = match self.child(dir, &names[..=at], &record) {
                    Err(Error::NotDirectory(_)) if !whole => Child::default(),
                    child => child?,
                };
                is_below_file |= child.is_both;
                let Some(child) = child.dir else {
                    let (dir, record) = (None, Record::default());
                    return Ok(PathFound { dir, record, guarded, is_below_file, whole });
                };
                dir = child;
                at += 1;
            }
        }
    }

    /// Reads the records of a path; the last is that of a name if `ends` says so. Where no majority
    /// answers for a directory above it and this may be `lenient`, what is in reach does, unless
    /// that is older than what was seen here.
    async fn read_path(
        &self,
        asked: &[RecordKey],
        ends: bool,
        lenient: bool,
        mode: Mode,
    ) -> Result<PathRead, Error> {
        let above = asked.len() - usize::from(ends);
        let unavailable = match self.records.read_records(asked, mode).await {
            Err(error @ Error::Unavailable(_)) if above > 0 && lenient => error,
            read => {
                let read = read?;
                let (records, guarded) = (read.records, read.guarded);
                return Ok(PathRead { records, guarded, whole: true });
            }
        };
        // The name first: where that is out of reach nothing is known.
        let last = self.records.read_records(&asked[above..], mode).await?;
        let found = self.records.read_records(&asked[..above], Mode::Available).await?;
        if self.records.show_less(&asked[..above], &found.records) {
            return Err(unavailable);
        }
        let mut records = found.records;
        records.extend(last.records);
        Ok(PathRead { records, guarded: false, whole: false })
    }

    /// The directory that a record says the last of `path` is; none where there is nothing.
    fn child(&self, parent: DirId, path: &[&str], record: &Record) -> Result<Child, Error> {
        let Some(name) = path.last() else { return Ok(Child::default()) };
        let key = self.keys.record_key(&parent, name);
        let parts = Parts::of(&self.keys, &key, record)?;
        let is_both = parts.is_both();
        let dir = match (&parts.dir, &parts.file) {
            (Some((_, entry)), _) => entry.dir(),
            (None, Some(_)) => return Err(Error::NotDirectory(path.join("/"))),
            (None, None) => None,
        };
        self.dirs.set(parent, name, dir);
        Ok(Child { dir, is_both })
    }

    /// The directory of a path, the root included; `None` when it does not exist. Also returns
    /// whether the gateways among the replicas answered for the whole path.
    pub(crate) async fn find_dir(
        &self,
        path: &FilePath,
        mode: Mode,
    ) -> Result<(Option<DirId>, bool), Error> {
        if path.is_root() {
            return Ok((Some(self.keys.root_dir()), true));
        }
        let found = self.walk_to(path, End::Dir, mode).await?;
        let PathFound { dir, record, guarded, whole, .. } = found;
        let names: Vec<&str> = path.components().collect();
        let of = |parent: Option<DirId>, record: &Record| match parent {
            Some(parent) => self.child(parent, &names, record).map(|child| child.dir),
            None => Ok(None),
        };
        let found = of(dir, &record);
        if !whole && !matches!(found, Ok(Some(_))) {
            // As in a walk: that it is missing, or a file, a majority must say.
            let PathFound { dir, record, guarded, .. } =
                self.walk_as(path, End::Name, false, mode).await?;
            return Ok((of(dir, &record)?, guarded));
        }
        Ok((found?, guarded))
    }

    /// The directory of a path; what is missing of it is made.
    pub(crate) async fn make_dirs(&self, names: &[&str], mode: Mode) -> Result<DirId, Error> {
        let mut dir = self.keys.root_dir();
        for at in 0..names.len() {
            dir = self.make_dir(dir, &names[..=at], None, mode).await?;
        }
        Ok(dir)
    }

    /// The directory that the last of `path` is in `parent`. One that is missing is made: as the
    /// one that is wanted, or as the one that was there before.
    async fn make_dir(
        &self,
        parent: DirId,
        path: &[&str],
        wanted: Option<DirId>,
        mode: Mode,
    ) -> Result<DirId, Error> {
        let name = path.last().copied().unwrap_or_default();
        let key = self.keys.record_key(&parent, name);
        let _one = self.writer.lock(&key).await;
        let (record, quorum) = self.records.read_record(key, mode).await?;
        if let Some(child) = self.child(parent, path, &record)?.dir {
            return Ok(child);
        }
        let known = match wanted {
            Some(dir) => Some(dir),
            None => last_dir(&self.keys, &key, &record)?,
        };
        let child = known.unwrap_or_else(|| self.keys.child_dir(&parent, name));
        self.link_dir(key, name, child, (&record, quorum), mode).await?;
        self.dirs.set(parent, name, Some(child));
        Ok(child)
    }

    /// Names a directory, of which the same is said as before. The name's lock is held.
    pub(crate) async fn link_dir(
        &self,
        key: RecordKey,
        name: &str,
        dir: DirId,
        read: (&Record, bool),
        mode: Mode,
    ) -> Result<Vid, Error> {
        let attributes = dir_attributes(&self.keys, &key, read.0, dir)?;
        self.link_dir_as(key, name, (dir, attributes), read, mode).await
    }

    /// The same, and says this of it.
    pub(crate) async fn link_dir_as(
        &self,
        key: RecordKey,
        name: &str,
        (dir, attributes): (DirId, Attributes),
        read: (&Record, bool),
        mode: Mode,
    ) -> Result<Vid, Error> {
        let (name, modified_ms) = (name.to_owned(), self.replica.unix_ms());
        let entry = Entry { name, modified_ms, attributes, node: EntryNode::Dir(dir) };
        let vid = self.new_vid();
        self.write_part(key, read, Part::Dir, NewVersion::entry(vid, entry), mode).await?;
        Ok(vid)
    }

    /// Names a directory once more where no majority answers for its name: a deletion on the other
    /// side of a split has not seen that, and gives way to it.
    async fn link_again(&self, key: RecordKey, path: &[&str], dir: DirId) -> Result<(), Error> {
        let name = path.last().copied().unwrap_or_default();
        let _one = self.writer.lock(&key).await;
        let (record, _) = self.records.read_record(key, Mode::Available).await?;
        let now = self.replica.env.mono();
        let is_own = |(vid, at): (Vid, Instant)| {
            now - at < LINKED_AGAIN_AFTER && record.head(&vid).is_some()
        };
        if self.dirs.linked.get(&key).is_some_and(is_own) {
            return Ok(());
        }
        let vid = self.link_dir(key, name, dir, (&record, false), Mode::Available).await?;
        self.dirs.linked.insert(key, (vid, now));
        Ok(())
    }

    /// Checks, after a write, that the path leads to it. A directory that was deleted meanwhile is
    /// brought back, since an edit beats a delete; `false` says that the path leads elsewhere now
    /// and the write must be repeated there.
    ///
    /// # Errors
    /// [`Error::IsDirectory`] or [`Error::NotDirectory`] when someone made a directory where this
    /// write made a file, or the other way round: of two that race each one either is seen by the
    /// other's check, or sees the other. Who sees a directory gives way at once, so who sees a file
    /// waits a little for it to go.
    pub(crate) async fn keep_reachable(
        &self,
        arrival: &Arrival<'_>,
        mode: Mode,
    ) -> Result<bool, Error> {
        let names = arrival.parents;
        let mut dirs = vec![self.keys.root_dir()];
        for (at, name) in names.iter().enumerate() {
            let child = match self.dirs.get(dirs[at], name) {
                Some(child) => child,
                None => self.make_dir(dirs[at], &names[..=at], None, mode).await?,
            };
            dirs.push(child);
        }
        if dirs.last() != Some(&arrival.dir) {
            return Ok(false);
        }
        let places = dirs.iter().zip(names);
        let mut asked: Vec<_> = places.map(|(dir, name)| self.keys.record_key(dir, name)).collect();
        asked.extend(arrival.new);
        if asked.is_empty() {
            return Ok(true);
        }
        let mut tries = 0;
        loop {
            tries += 1;
            match self.look_at(arrival, &dirs, &asked, mode).await? {
                Look::Fine => return Ok(true),
                Look::Elsewhere => return Ok(false),
                // Whoever made a file of what was brought back may not have seen that.
                Look::BroughtBack if tries < BOTH_TRIES => {}
                Look::BroughtBack => return Ok(true),
                Look::Both(path) if tries == BOTH_TRIES => return Err(Error::NotDirectory(path)),
                Look::Both(_) => {
                    let wait = self.replica.jitter(BOTH_WAIT * tries);
                    self.replica.env.sleep(wait).await;
                }
            }
        }
    }

    /// Looks once whether a path leads to what was written, and brings back what was deleted of it.
    async fn look_at(
        &self,
        arrival: &Arrival<'_>,
        dirs: &[DirId],
        asked: &[RecordKey],
        mode: Mode,
    ) -> Result<Look, Error> {
        let names = arrival.parents;
        let read = self.read_path(asked, arrival.new.is_some(), true, mode).await?;
        if let Some((key, record)) = arrival.new.zip(read.records.get(names.len()))
            && Parts::of(&self.keys, &key, record)?.dir.is_some()
        {
            return Err(Error::IsDirectory(arrival.path.to_string()));
        }
        let mut look = Look::Fine;
        for (at, record) in read.records.iter().take(names.len()).enumerate() {
            let path = &names[..=at];
            let child = match self.child(dirs[at], path, record) {
                // Nobody gives way to what a majority does not say.
                Err(Error::NotDirectory(_)) if !read.whole => {
                    self.records.read_records(asked, mode).await?;
                    return Ok(Look::Elsewhere);
                }
                child => child?,
            };
            let found = match child.dir {
                Some(found) => found,
                None => {
                    look = look.or(Look::BroughtBack);
                    self.make_dir(dirs[at], path, Some(dirs[at + 1]), mode).await?
                }
            };
            if found != dirs[at + 1] {
                return Ok(Look::Elsewhere);
            }
            if !read.whole {
                self.link_again(asked[at], path, found).await?;
            } else if child.is_both && !arrival.is_below_file {
                look = look.or(Look::Both(path.join("/")));
            }
        }
        Ok(look)
    }
}

/// Directories remembered: 2 MiB. Those not seen for long are found again.
const DIRS_CACHED_MAX: usize = 16_384;
/// Directories of which it is remembered that they were named once more: some hundred KiB.
const DIRS_LINKED_MAX: usize = 4_096;
/// How long that holds: a split that ends, a deletion that sees it, and the next split take longer.
const LINKED_AGAIN_AFTER: Duration = Duration::from_secs(60);
/// How often a path is looked at on which someone made a file at the same time.
const BOTH_TRIES: u32 = 5;
/// The first wait between: about one write.
const BOTH_WAIT: Duration = Duration::from_millis(50);
