//! Whole trees: listing, removing, copying, moving, and looking for versions that need a person.

use dfs_core::name::FilePath;
use dfs_core::record::attributes::Attributes;
use futures_util::StreamExt;
use futures_util::stream::FuturesOrdered;

use super::Client;
use super::attributes::{make_link, set_attributes, set_of_dir};
use super::moving::{Moved, Onto, Transfer, Verb, link};
use super::removing::Removal;
use super::types::{
    Conflict, ConflictPage, Depth, Listed, ListedKind, Page, Stored, UnreadablePage,
};
use super::unreadable::check_name;
use super::usage::{UsagePage, usage};
use super::versions::log_line;
use super::walk::{Walk, WalkEntry, WalkOptions};
use super::watch::{Watch, WatchMark, watch};
use crate::config::Mode;
use crate::error::Error;
use crate::names::Names;
use crate::names::open::{KnownVersion, known_versions, live_heads};
use crate::names::parts::{Part, Parts};
use crate::names::paths::Arrival;

impl Client {
    /// Lists what begins with `prefix`, in byte order, after `after`, at most `limit` entries.
    /// `depth` says whether what is below directories is listed, and they themselves.
    ///
    /// # Errors
    /// [`Error::Name`] when the directory part of the prefix is no path.
    pub async fn list(
        &self,
        prefix: &str,
        depth: Depth,
        after: &str,
        limit: usize,
        mode: Mode,
    ) -> Result<Page, Error> {
        let prefix = prefix.strip_prefix('/').unwrap_or(prefix);
        let (dir, prefix) = match prefix.rsplit_once('/') {
            Some((dir, rest)) => (FilePath::parse_dir(dir)?, rest),
            None => (FilePath::root(), prefix),
        };
        let mut page = Page::default();
        // One more than is shown says whether more follow.
        let at_once = limit.saturating_add(1);
        let recursive = depth != Depth::Names;
        let options = WalkOptions { after, prefix, recursive, only_dirs: false, at_once, mode };
        let mut walk = match Walk::new(self.0.names()?.clone(), &dir, options).await {
            Ok(walk) => walk,
            // Nothing begins with a name that does not exist, or with a file and a slash.
            Err(Error::NotFound(_) | Error::NotDirectory(_)) => {
                // What is there was signed; that nothing is there others can make believe.
                let found = self.0.names()?.find_dir(&dir, mode).await;
                page.guarded = !found.is_ok_and(|(_, guarded)| !guarded);
                return Ok(page);
            }
            Err(error) => return Err(error),
        };
        while let Some(entry) = walk.next().await? {
            let kind = ListedKind::of_name(&entry.listed);
            if depth == Depth::Files && kind == ListedKind::Dir {
                continue;
            }
            if page.entries.len() == limit {
                page.more = true;
                break;
            }
            page.entries.push(Listed::of(entry.path.to_string(), &entry.listed));
        }
        page.guarded = walk.is_guarded();
        Ok(page)
    }

    /// Watches the names right below a directory, from now on or from where somebody was told of
    /// them up to a mark.
    ///
    /// # Errors
    /// [`Error::NotFound`] when there is no such directory.
    pub async fn watch(
        &self,
        dir: &FilePath,
        since: Option<WatchMark>,
        mode: Mode,
    ) -> Result<Watch, Error> {
        watch(self, dir, since, mode).await
    }

    /// What a directory holds and, after it, each one below it, after `after`, at most `limit` of
    /// them, or two. Costs a round trip for each directory, whatever it holds.
    ///
    /// # Errors
    /// [`Error::NotFound`] when there is no such directory.
    pub async fn usage(
        &self,
        dir: &FilePath,
        after: &str,
        limit: usize,
        mode: Mode,
    ) -> Result<UsagePage, Error> {
        usage(self, dir, after, limit, mode).await
    }

    /// Deletes an empty directory.
    ///
    /// # Errors
    /// [`Error::NotDirectory`], [`Error::NotFound`]; [`Error::NotEmpty`].
    pub async fn remove_dir(&self, path: &FilePath, mode: Mode) -> Result<(), Error> {
        match self.remove_part(path, Some(Part::Dir), mode).await {
            Err(Error::NotFound(_)) if self.find(path, None, mode).await.is_ok() => {
                Err(Error::NotDirectory(path.to_string()))
            }
            removed => removed,
        }
    }

    /// Deletes a file, or a directory with everything below it. Returns how many entries went.
    /// Some pages of names are in memory at a time.
    ///
    /// # Errors
    /// [`Error`]; what was deleted before stays deleted.
    pub async fn remove_all(&self, path: &FilePath, mode: Mode) -> Result<u64, Error> {
        Removal::new(self, mode).run(path).await
    }

    /// Writes a version of one file as a new version of another name. The content is not sent
    /// again: its pieces get references under the new name. `version` picks another version than
    /// the one shown, as [`Client::find`] does.
    ///
    /// # Errors
    /// [`Error::IsDirectory`] when one of the two is a directory, [`Error::Condition`] when
    /// something is there that is not to be replaced, [`Error::Lost`] when no replica has the
    /// content.
    pub async fn copy(
        &self,
        from: &FilePath,
        version: Option<&str>,
        to: &FilePath,
        onto: Onto,
    ) -> Result<Stored, Error> {
        let old = self.find(from, version, onto.mode).await?;
        let now = self.0.replica.unix_ms();
        Ok(link(self, &old, (from, to), now, onto, None).await?.stored)
    }

    /// Copies a file, or a directory with everything below it.
    ///
    /// # Errors
    /// As [`Client::copy`] and [`Client::rename`]; what was copied before stays.
    pub async fn copy_all(
        &self,
        from: &FilePath,
        to: &FilePath,
        onto: Onto,
    ) -> Result<Moved, Error> {
        Transfer { client: self, verb: Verb::Copy, from, to, onto }.run().await
    }

    /// Gives a file another name, or a directory with everything below it. A file costs some round
    /// trips, whatever its size; a directory costs as much for each name below it. Whoever looks
    /// meanwhile may see a file under both names.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::IntoItself`]; [`Error::Exists`] when a directory is to be
    /// merged into one that has entries, and was not said to; [`Error::InConflict`] when a file has
    /// several versions that nobody has chosen between. What was moved before stays moved.
    pub async fn rename(&self, from: &FilePath, to: &FilePath, onto: Onto) -> Result<Moved, Error> {
        Transfer { client: self, verb: Verb::Move, from, to, onto }.run().await
    }

    /// Makes a directory; with `parents` also those above that are missing, and one that is there
    /// already is fine.
    ///
    /// # Errors
    /// [`Error::Exists`]; [`Error::NotFound`] of the directory above.
    pub async fn make_dir(&self, path: &FilePath, parents: bool, mode: Mode) -> Result<(), Error> {
        let names = self.0.names()?;
        let above: Vec<&str> = path.components().collect();
        if above.is_empty() {
            return if parents { Ok(()) } else { Err(Error::Exists(path.to_string())) };
        }
        let found = names.walk(path, mode).await?;
        let is_below_file = found.is_below_file;
        if let Some(parent) = found.dir {
            let key = names.keys.record_key(&parent, above[above.len() - 1]);
            let is = Parts::of(&names.keys, &key, &found.record)?;
            match (is.dir, is.file) {
                (Some(_), _) if parents => return Ok(()),
                (None, None) => {}
                _ => return Err(Error::Exists(path.to_string())),
            }
        } else if !parents {
            return Err(Error::NotFound(above[..above.len() - 1].join("/")));
        }
        let dir = names.make_dirs(&above, mode).await?;
        let arrival = Arrival { path, parents: &above, dir, new: None, is_below_file };
        match names.keep_reachable(&arrival, mode).await {
            Ok(true) => Ok(()),
            Ok(false) => Err(Error::Moving),
            Err(error @ Error::NotDirectory(_)) => {
                self.give_way_above(&above, mode).await?;
                Err(error)
            }
            Err(error) => Err(error.once_written(&self.0.replica.id)),
        }
    }

    /// Stores a symbolic link that says `says`, which nobody here follows. Without `replace`
    /// nothing may have the name.
    ///
    /// # Errors
    /// [`Error::BadLink`] for what no link can say; [`Error::Exists`]; [`Error::IsDirectory`],
    /// which is never replaced.
    pub async fn make_link(
        &self,
        path: &FilePath,
        says: &str,
        attributes: Attributes,
        replace: bool,
        mode: Mode,
    ) -> Result<Stored, Error> {
        make_link(self, path, says, attributes, replace, mode).await
    }

    /// The same as [`Client::make_dir`], and says this of the directory then.
    ///
    /// # Errors
    /// As [`Client::make_dir`]; after another one the directory may be there.
    pub async fn make_dir_as(
        &self,
        path: &FilePath,
        parents: bool,
        attributes: &Attributes,
        mode: Mode,
    ) -> Result<(), Error> {
        self.make_dir(path, parents, mode).await?;
        if attributes.is_empty() {
            return Ok(());
        }
        set_of_dir(self, path, attributes, mode).await
    }

    /// Says something else of a file, directory or link, in a new version with the same content;
    /// what `attributes` leave out stays. Of a file that needs a majority in every mode.
    ///
    /// # Errors
    /// [`Error::NotFound`], or [`Error::Contended`] when others keep changing it.
    pub async fn set_attributes(
        &self,
        path: &FilePath,
        attributes: &Attributes,
        mode: Mode,
    ) -> Result<(), Error> {
        set_attributes(self, path, attributes, mode).await
    }

    /// The names below a directory with several versions that nobody has chosen between, in byte
    /// order, after `after`, at most `limit`. Goes through the listings of all directories.
    ///
    /// # Errors
    /// [`Error::NotFound`] when there is no such directory.
    pub async fn conflicts(
        &self,
        dir: &FilePath,
        after: &str,
        limit: usize,
        mode: Mode,
    ) -> Result<ConflictPage, Error> {
        let names = self.0.names()?;
        let options = WalkOptions { after, ..WalkOptions::all(mode) };
        let mut walk = Walk::new(names.clone(), dir, options).await?;
        let mut page = ConflictPage::default();
        let mut last = String::new();
        while let Some(entry) = walk.next().await? {
            if !entry.listed.in_conflict {
                continue;
            }
            let known = known_of(names, &entry, mode).await?;
            let heads = live_heads(&known);
            if heads.len() > 1 {
                if page.conflicts.len() == limit {
                    page.next = Some(last);
                    break;
                }
                let versions = heads.into_iter().map(|head| log_line(head, true)).collect();
                page.conflicts.push(Conflict { path: entry.path.to_string(), versions });
                last = entry.order;
            }
        }
        Ok(page)
    }

    /// The versions of files below a directory, old ones included, of which a piece has no copy in
    /// reach, in byte order of their names, after `after`.
    ///
    /// Walks the whole tree and asks the replicas of every piece whether they hold it; what nobody
    /// holds is asked for once more. Rot that nobody has come upon yet is not found: that is what
    /// the scrub does. A page covers some hundreds of names, so it may be empty and not the last.
    ///
    /// # Errors
    /// [`Error::NotFound`] when there is no such directory.
    pub async fn unreadable(
        &self,
        dir: &FilePath,
        after: &str,
        mode: Mode,
    ) -> Result<UnreadablePage, Error> {
        let names = self.0.names()?;
        let options = WalkOptions { after, ..WalkOptions::all(mode) };
        let mut walk = Walk::new(names.clone(), dir, options).await?;
        let mut page = UnreadablePage::default();
        let mut checking = FuturesOrdered::new();
        for _ in 0..NAMES_IN_PAGE {
            let Some(entry) = walk.next().await? else {
                page.next = None;
                break;
            };
            page.next = Some(entry.order.clone());
            checking.push_back(check_name(self.0.clone(), entry, mode));
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

/// Every version of a name that can still be had.
pub(super) async fn known_of(
    names: &Names,
    entry: &WalkEntry,
    mode: Mode,
) -> Result<Vec<KnownVersion>, Error> {
    let key = names.keys.record_key(&entry.parent, &entry.listed.name);
    let (record, _) = names.records.read_record(key, mode).await?;
    known_versions(&names.keys, &key, &record)
}

/// Names looked at in one page: some seconds.
const NAMES_IN_PAGE: usize = 500;
/// Names looked at together.
const CHECKED_AT_ONCE: usize = 8;
