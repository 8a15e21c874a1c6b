//! Copies, moves and new directories: names change, and content stays where it is.
//!
//! A file is linked under its new name before the old one goes, so at every moment it has one or
//! both, never neither. A directory is moved name by name: what stops half way has lost nothing,
//! and is gone on with by the same move, told to merge.

use dfs_core::id::Vid;
use dfs_core::name::{FilePath, NameError};
use dfs_core::record::conditional::Condition;
use serde::{Deserialize, Serialize};

use super::Client;
use super::attributes::{said_of_dir, set_of_dir};
use super::files::FileRef;
use super::publish::{NewContent, Published};
use super::together::{Together, unless_gone};
use super::types::ListedKind;
use super::walk::{Walk, WalkOptions};
use crate::config::Mode;
use crate::error::Error;
use crate::names::history::NewVersion;
use crate::names::parts::{Part, Parts};

/// What a copy or a move does where something is already.
#[derive(Debug, Clone, Copy)]
pub struct Onto {
    /// Files are replaced; otherwise the first that is in the way ends it.
    pub replace: bool,
    /// A directory goes into one that has entries already.
    pub merge: bool,
    /// As many replicas as this needs.
    pub mode: Mode,
}

/// What was copied or moved.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Moved {
    /// Files.
    pub files: u64,
    /// Directories, the named one included.
    pub dirs: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verb {
    Copy,
    Move,
}

/// A copy or a move under way.
pub(super) struct Transfer<'a> {
    pub(super) client: &'a Client,
    pub(super) verb: Verb,
    pub(super) from: &'a FilePath,
    pub(super) to: &'a FilePath,
    pub(super) onto: Onto,
}

impl Transfer<'_> {
    /// Copies or moves a file, or a directory with everything below it.
    pub(super) async fn run(&self) -> Result<Moved, Error> {
        let Self { client, from, to, onto, .. } = *self;
        client.0.replica.need_right_clock().await?;
        let found = client.find(from, None, onto.mode).await?;
        let is_inside = to.as_str().strip_prefix(from.as_str());
        if is_inside.is_some_and(|rest| rest.is_empty() || rest.starts_with('/')) {
            return Err(Error::IntoItself(from.to_string()));
        }
        let mut moved = Moved::default();
        if found.kind() != ListedKind::Dir {
            self.file(from, to).await?;
            moved.files = 1;
            return Ok(moved);
        }
        if let (Some(dir), _) = client.0.names()?.find_dir(to, onto.mode).await?
            && !onto.merge
        {
            let empty = client.need_empty(dir, to, onto.mode).await;
            empty.map_err(|error| match error {
                Error::NotEmpty(path) => Error::Exists(path),
                other => other,
            })?;
        }
        let mut tried = self.tree(&mut moved).await;
        for _ in 1..NOT_EMPTY_TRIES {
            // Someone stored into it meanwhile.
            if matches!(tried, Err(Error::NotEmpty(_))) {
                tried = self.tree(&mut moved).await;
            }
        }
        let is_begun = moved != Moved::default();
        let own = client.0.replica.id;
        tried.map(|()| moved).map_err(|error| match is_begun {
            true => error.once_written(&own),
            false => error,
        })
    }

    async fn tree(&self, moved: &mut Moved) -> Result<(), Error> {
        let mut together = Together::default();
        let walked = self.walk_tree(&mut together, &mut moved.dirs).await;
        let ended = together.finish().await;
        moved.files += together.done;
        walked.and(ended)
    }

    async fn walk_tree<'a>(
        &'a self,
        together: &mut Together<'a>,
        dirs: &mut u64,
    ) -> Result<(), Error> {
        let Self { client, from, to, onto, .. } = *self;
        let names = client.0.names()?;
        let mut walk = Walk::new(names.clone(), from, WalkOptions::all(onto.mode)).await?;
        client.make_dir(to, true, onto.mode).await?;
        // The directories that are being emptied, each in the one before.
        let mut open = vec![(from.clone(), format!("{from}/"))];
        loop {
            let entry = walk.next().await?;
            let is_left = |below: &str| entry.as_ref().is_none_or(|e| !e.order.starts_with(below));
            while let Some((dir, _)) = open.pop_if(|(_, below)| is_left(below)) {
                together.finish().await?;
                self.say_of_dir(&dir).await?;
                *dirs += u64::from(self.leave_dir(&dir).await?);
            }
            let Some(entry) = entry else { return Ok(()) };
            let target = destination(from, to, &entry.path)?;
            if entry.listed.dir.is_some() {
                // What is under way stands still meanwhile, perhaps with a lock that this needs.
                together.finish().await?;
                client.make_dir(&target, true, onto.mode).await?;
                open.push((entry.path, entry.order));
                continue;
            }
            let one = async move { unless_gone(self.file(&entry.path, &target).await) };
            together.add(one).await?;
        }
    }

    /// Says of the directory that another becomes what is said of that.
    async fn say_of_dir(&self, dir: &FilePath) -> Result<(), Error> {
        let Self { client, from, to, onto, .. } = *self;
        let said = said_of_dir(client, dir, onto.mode).await?;
        let Some(said) = said.filter(|said| !said.is_empty()) else { return Ok(()) };
        let target = destination(from, to, dir)?;
        set_of_dir(client, &target, &said, onto.mode).await.or_else(gone)
    }

    /// Removes a directory whose names were moved. Returns whether it is done with.
    async fn leave_dir(&self, dir: &FilePath) -> Result<bool, Error> {
        match self.verb {
            Verb::Copy => Ok(true),
            Verb::Move => {
                let part = Some(Part::Dir);
                unless_gone(self.client.remove_part(dir, part, self.onto.mode).await)
            }
        }
    }

    async fn file(&self, from: &FilePath, to: &FilePath) -> Result<(), Error> {
        let Self { client, onto, .. } = *self;
        if self.verb == Verb::Copy {
            let old = client.find(from, None, onto.mode).await?;
            link(client, &old, (from, to), client.0.replica.unix_ms(), onto, None).await?;
            return Ok(());
        }
        let own = &client.0.replica.id;
        let mut linked: Option<Published> = None;
        for _ in 0..CHANGED_TRIES {
            let old = client.find(from, None, onto.mode).await;
            if let (Err(Error::NotFound(_)), Some(linked)) = (&old, &linked) {
                self.unlink(linked, to).await.map_err(|error| error.once_written(own))?;
            }
            let old = old?;
            need_one_version(client, &old, from, onto.mode).await?;
            // What an earlier turn linked may be replaced, and what that replaced is taken back to.
            let last = linked.as_ref().map(|linked| linked.vid);
            let next = link(client, &old, (from, to), old.modified_ms(), onto, last).await;
            let next = next.map_err(|error| match last {
                Some(_) => error.once_written(own),
                None => error,
            })?;
            let replaced = match linked {
                Some(linked) if next.replaced == last => linked.replaced,
                _ => next.replaced,
            };
            let next = Published { replaced, ..next };
            let removed = self.remove_if_still(&old, from).await;
            match removed.map_err(|error| error.once_written(own))? {
                Some(true) => return Ok(()),
                // It was changed meanwhile: the newer version is moved.
                Some(false) => linked = Some(next),
                // Someone else moved it away, or deleted it.
                None => {
                    self.unlink(&next, to).await.map_err(|error| error.once_written(own))?;
                    return Err(Error::NotFound(from.to_string()));
                }
            }
        }
        Err(Error::Contended)
    }

    /// Takes back what was linked.
    async fn unlink(&self, linked: &Published, to: &FilePath) -> Result<(), Error> {
        let name = to.base().ok_or(NameError::Empty)?;
        let Published { key, vid, replaced, .. } = linked;
        self.client.take_back(*key, name, vid, *replaced, self.onto.mode).await
    }

    /// Deletes a file if the version that was found is still the one shown: says whether it was;
    /// `None` when there is no file any more.
    async fn remove_if_still(
        &self,
        found: &FileRef,
        path: &FilePath,
    ) -> Result<Option<bool>, Error> {
        let (parts, mode) = (&self.client.0, self.onto.mode);
        let names = parts.names()?;
        let name = path.base().ok_or(NameError::Empty)?;
        let _one = names.lock(&found.key).await;
        let (read, _) = parts.records.read_record(found.key, mode).await?;
        let now = Parts::of(&names.keys, &found.key, &read)?.file;
        let Some((version, _)) = now else { return Ok(None) };
        if version.vid != found.vid {
            return Ok(Some(false));
        }
        let new = NewVersion::tombstone(names.new_vid(), name, parts.replica.unix_ms());
        // Of several only the one that was linked.
        names.replace_head(found.key, &read, &found.vid, new, mode).await?;
        Ok(Some(true))
    }
}

/// Writes the content of a file as a new version of another name. Where nothing may be replaced,
/// `last` may: what the same move has linked before.
pub(super) async fn link(
    client: &Client,
    old: &FileRef,
    (from, to): (&FilePath, &FilePath),
    modified_ms: u64,
    onto: Onto,
    last: Option<Vid>,
) -> Result<Published, Error> {
    if old.kind() == ListedKind::Dir {
        return Err(Error::IsDirectory(from.to_string()));
    }
    let vid = client.0.names()?.new_vid();
    let target = client.target(to, onto.mode).await?;
    let uploaded = client.reuse(target.key, vid, old, onto.mode).await?;
    let condition = (!onto.replace).then(|| last.map_or(Condition::Absent, Condition::Version));
    let attributes = old.attributes().clone();
    let content = NewContent { vid, modified_ms, attributes, uploaded };
    client.publish(target, content, condition, onto.mode).await
}

/// Refuses a file with several versions that nobody has chosen between: a move or a change of its
/// attributes would be of one only.
pub(super) async fn need_one_version(
    client: &Client,
    file: &FileRef,
    path: &FilePath,
    mode: Mode,
) -> Result<(), Error> {
    if file.conflicts == 0 {
        return Ok(());
    }
    let (names, records) = (client.0.names()?, &client.0.records);
    let (record, _) = records.read_record(file.key, mode).await?;
    match Parts::of(&names.keys, &file.key, &record)?.files {
        0 | 1 => Ok(()),
        _ => Err(Error::InConflict(path.to_string())),
    }
}

/// What is gone meanwhile has nothing that could be said.
fn gone(error: Error) -> Result<(), Error> {
    match error {
        Error::NotFound(_) => Ok(()),
        other => Err(other),
    }
}

/// Where something below `from` belongs below `to`.
fn destination(from: &FilePath, to: &FilePath, path: &FilePath) -> Result<FilePath, Error> {
    let below = path.as_str().strip_prefix(from.as_str()).unwrap_or_default();
    if below.is_empty() {
        return Ok(to.clone());
    }
    Ok(to.join(below.trim_start_matches('/'))?)
}

/// How often a file is moved that others change.
const CHANGED_TRIES: usize = 5;
/// How often a tree is gone through into which others store.
const NOT_EMPTY_TRIES: usize = 3;
