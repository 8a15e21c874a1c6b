//! The versions of a name: listed, found, brought back.

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::time::Duration;

use dfs_core::id::{DirId, RecordKey, Vid, from_hex, hex};
use dfs_core::name::{FilePath, NameError};
use dfs_core::record::retention::UNKNOWN_MS;

use dfs_store::vault::entry::EntryNode;

use super::Client;
use super::files::FileRef;
use super::past::{HistoryCursor, HistoryPage, dir_history};
use super::publish::{NewContent, stored};
use super::purge::{Purged, purge};
use super::types::{ListedKind, Logged, Stored, VersionState};
use crate::blobs::reuse;
use crate::config::Mode;
use crate::content::Uploaded;
use crate::error::Error;
use crate::names::history::NewVersion;
use crate::names::open::{KnownVersion, Role, known_versions, live_heads};
use crate::names::parts::Parts;

/// A record that a path leads to, or led to.
pub(super) struct PathPlace {
    pub(super) key: RecordKey,
    pub(super) known: Vec<KnownVersion>,
    /// Whether the path leads here now.
    pub(super) is_current: bool,
}

impl Client {
    /// Every record that a path leads to: the one it leads to now first, then those in directories
    /// that were there before, so that a file can be found after its directory was deleted.
    pub(super) async fn places(
        &self,
        path: &FilePath,
        mode: Mode,
    ) -> Result<Vec<PathPlace>, Error> {
        let mut dirs = vec![(self.0.names()?.keys.root_dir(), true)];
        let mut places = Vec::new();
        for name in path.components() {
            places = self.places_in(&dirs, name, mode).await?;
            dirs = directories(&places);
        }
        Ok(places)
    }

    /// The records of one name in several directories.
    pub(super) async fn places_in(
        &self,
        dirs: &[(DirId, bool)],
        name: &str,
        mode: Mode,
    ) -> Result<Vec<PathPlace>, Error> {
        let keys = &self.0.names()?.keys;
        let asked: Vec<_> = dirs.iter().map(|(dir, _)| keys.record_key(dir, name)).collect();
        let read = self.0.records.read_records(&asked, mode).await?;
        let found = asked.into_iter().zip(read.records).zip(dirs);
        let place = |((key, record), (_, is_current)): ((RecordKey, _), &(DirId, bool))| {
            let known = known_versions(keys, &key, &record)?;
            Ok(PathPlace { key, known, is_current: *is_current })
        };
        found.map(place).collect()
    }

    /// The directories that a path leads to or has led to, the one it leads to now first.
    pub(super) async fn dirs_of(
        &self,
        path: &FilePath,
        mode: Mode,
    ) -> Result<Vec<(DirId, bool)>, Error> {
        if path.is_root() {
            return Ok(vec![(self.0.names()?.keys.root_dir(), true)]);
        }
        Ok(directories(&self.places(path, mode).await?))
    }
}

/// The directories that records speak of, each once, the newest places first.
fn directories(places: &[PathPlace]) -> Vec<(DirId, bool)> {
    let mut dirs: Vec<(DirId, bool)> = Vec::new();
    for place in places {
        for known in &place.known {
            let Some(dir) = known.node.as_ref().and_then(EntryNode::dir) else { continue };
            if dirs.iter().all(|(other, _)| *other != dir) {
                dirs.push((dir, place.is_current && !matches!(known.standing, Role::Replaced(_))));
            }
        }
    }
    dirs.truncate(DIRS_SEARCHED_MAX);
    dirs
}

impl Client {
    /// The versions of a name that can still be had, and its deletions, newest first. Finds those
    /// of a deleted name too, also below a directory that was deleted or made anew.
    ///
    /// # Errors
    /// [`Error::NotFound`] when nothing is known of the name.
    pub async fn log(&self, path: &FilePath, mode: Mode) -> Result<Vec<Logged>, Error> {
        let logged = logged(&self.places(path, mode).await?);
        if logged.is_empty() {
            return Err(Error::NotFound(path.to_string()));
        }
        Ok(logged)
    }

    /// The names right below a directory with the versions of each, deleted names too as long as
    /// something is kept of them, also where the directory itself was deleted. In pages of some
    /// hundreds of names; the first begins at the default cursor.
    ///
    /// # Errors
    /// [`Error::NotFound`] when the path never led to a directory, as far as is known.
    pub async fn dir_history(
        &self,
        dir: &FilePath,
        from: HistoryCursor,
        mode: Mode,
    ) -> Result<HistoryPage, Error> {
        dir_history(self, dir, from, mode).await
    }

    /// Forgets the versions of a name, deleted or not, that were replaced or deleted that long ago;
    /// what it is now stays, in a new version where it has content. Their space comes back as soon
    /// as nobody can be reading them any more. Needs a majority in every mode.
    ///
    /// # Errors
    /// [`Error::InConflict`] where several versions wait for a decision; [`Error::Contended`] when
    /// others keep changing it. A name that nothing is kept of is no error.
    pub async fn purge(
        &self,
        path: &FilePath,
        older_than: Duration,
        mode: Mode,
    ) -> Result<Purged, Error> {
        purge(self, path, older_than, mode).await
    }

    /// The version of a name with this id, if it can still be had.
    pub(crate) async fn find_version(
        &self,
        path: &FilePath,
        version: &str,
        mode: Mode,
    ) -> Result<FileRef, Error> {
        let missing = || Error::NotFound(format!("{path} in version {version}"));
        let vid = from_hex(version).map(Vid::new).ok_or_else(missing)?;
        let name = path.base().ok_or(NameError::Empty)?;
        for place in self.places(path, mode).await? {
            let waiting = if place.is_current { live_heads(&place.known).len() } else { 0 };
            let known = place.known.into_iter().find(|known| known.vid == vid);
            let found = known.and_then(|known| FileRef::of_known(known, place.key, name));
            if let Some(found) = found {
                return Ok(FileRef { conflicts: waiting.saturating_sub(1), ..found });
            }
        }
        Err(missing())
    }

    /// Makes the content of `old` content of the version `vid`, which it then outlives.
    pub(super) async fn reuse(
        &self,
        key: RecordKey,
        vid: Vid,
        old: &FileRef,
        mode: Mode,
    ) -> Result<Uploaded, Error> {
        let mut reused = Uploaded {
            node: old.entry.node.clone(),
            bytes: old.bytes(),
            refs_root: None,
            blobs: old.blobs,
            bytes_stored: old.bytes_stored,
            copies: None,
            held_until: None,
        };
        if let EntryNode::Chunked { .. } = old.entry.node {
            let unlisted = || Error::Unverified("a version without a reference page".to_owned());
            let root = old.refs_root.ok_or_else(unlisted)?;
            let uses = reuse(&self.0.blobs, key, vid, root, mode).await?;
            (reused.refs_root, reused.copies) = (Some(root), uses.copies);
            reused.held_until = Some(uses.held_until);
        }
        Ok(reused)
    }

    /// Writes a new version with the content of an earlier one, which replaces what is there and
    /// settles a conflict, as [`Client::store`] does. The content is not sent again. Of a name that
    /// is a file and a directory, the version of the directory replaces the file, which is kept as
    /// an earlier version.
    ///
    /// # Errors
    /// [`Error::NotFound`] when the version is not kept any more, [`Error::IsDirectory`] when it
    /// or what is there now is a directory and no file, [`Error::Lost`] when no replica has its
    /// content.
    pub async fn restore(
        &self,
        path: &FilePath,
        version: &str,
        mode: Mode,
    ) -> Result<Stored, Error> {
        let (parts, names) = (&self.0, self.0.names()?);
        parts.replica.need_right_clock().await?;
        let old = self.find_version(path, version, mode).await?;
        if old.kind() == ListedKind::Dir {
            return self.choose_dir(path, mode).await;
        }
        let target = self.target(path, mode).await?;
        let (vid, modified_ms) = (names.new_vid(), parts.replica.unix_ms());
        let uploaded = self.reuse(target.key, vid, &old, mode).await?;
        let attributes = old.attributes().clone();
        let content = NewContent { vid, modified_ms, attributes, uploaded };
        Ok(self.publish(target, content, None, mode).await?.stored)
    }
}

impl Client {
    /// Makes a directory only of a name that is a file as well.
    async fn choose_dir(&self, path: &FilePath, mode: Mode) -> Result<Stored, Error> {
        let (parts, names) = (&self.0, self.0.names()?);
        let quorum = parts.replica.is_quorum(mode, &*parts.replica.joined()?);
        let is_directory = || Error::IsDirectory(path.to_string());
        let parent = names.walk(path, mode).await?.dir.ok_or_else(is_directory)?;
        let key = names.keys.record_key(&parent, path.base().ok_or(NameError::Empty)?);
        let _one = names.lock(&key).await;
        let (read, quorum_read) = parts.records.read_record(key, mode).await?;
        let found = Parts::of(&names.keys, &key, &read)?;
        let both = found.file.is_some().then_some(found.dir).flatten();
        let (_, entry) = both.ok_or_else(is_directory)?;
        let vid = names.new_vid();
        let draft = names.draft(key, &read, NewVersion::entry(vid, entry), mode).await?;
        let written = names.write_version(key, &read, quorum_read, draft, mode).await?;
        Ok(stored(vid.to_string(), 0, written, None, quorum))
    }
}

/// The versions that records know of, each once, newest first.
pub(super) fn logged(places: &[PathPlace]) -> Vec<Logged> {
    let (mut seen, mut logged) = (BTreeSet::new(), Vec::new());
    for place in places {
        let waiting: Vec<Vid> = live_heads(&place.known).iter().map(|head| head.vid).collect();
        for known in place.known.iter().filter(|known| seen.insert(known.vid)) {
            let is_waiting = place.is_current && waiting.contains(&known.vid);
            logged.push((Reverse((known.hlc, known.vid)), log_line(known, is_waiting)));
        }
    }
    logged.sort_by_key(|(newest_first, _)| *newest_first);
    logged.into_iter().map(|(_, line)| line).collect()
}

pub(super) fn log_line(known: &KnownVersion, is_waiting: bool) -> Logged {
    let state = match (&known.node, known.standing) {
        (None, _) => VersionState::Deleted,
        (Some(_), Role::Shown) if is_waiting => VersionState::Current,
        (Some(_), Role::Beside) if is_waiting => VersionState::Conflict,
        (Some(_), _) => VersionState::Old,
    };
    Logged {
        version: known.vid.to_string(),
        state,
        kind: known.node.as_ref().map(ListedKind::of),
        bytes: known.node.as_ref().map_or(0, EntryNode::bytes),
        digest: known.content_digest(),
        modified_ms: known.modified_ms,
        written_ms: known.hlc.unix_ms(),
        replaced_ms: match known.standing {
            Role::Replaced(ms) => Some(ms).filter(|ms| *ms != UNKNOWN_MS),
            Role::Shown | Role::Beside => None,
        },
        writer: hex(known.writer.as_bytes()),
    }
}

/// Directories of one path that are searched: those it led to lately. Each costs a record to read
/// at every level below.
const DIRS_SEARCHED_MAX: usize = 16;
