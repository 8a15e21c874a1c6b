//! Giving stored content its name, and taking that back where someone else was first.

use dfs_core::id::{DirId, RecordKey, Vid};
use dfs_core::name::{FilePath, NameError};
use dfs_core::record::attributes::Attributes;
use dfs_core::record::conditional::Condition;
use dfs_core::record::version::{Kind, Record};

use super::Client;
use super::files::FileRef;
use super::types::Stored;
use crate::blobs::Copies;
use crate::config::Mode;
use crate::content::Uploaded;
use crate::error::Error;
use crate::names::conditional::WriteIf;
use crate::names::history::NewVersion;
use crate::names::open::known_versions;
use crate::names::parts::{Part, Parts, refuse_directory};
use crate::names::paths::{Arrival, PathFound};
use crate::records::Written;

/// Where a file is about to be stored.
pub(crate) struct Target<'a> {
    path: &'a FilePath,
    parents: Vec<&'a str>,
    name: &'a str,
    dir: DirId,
    pub(crate) key: RecordKey,
    /// What is known of the name.
    pub(super) record: Record,
    /// See [`PathFound::is_below_file`].
    is_below_file: bool,
    /// Whether directories above it were missing.
    made_dirs: bool,
}

/// A file that has its name.
pub(crate) struct Published {
    pub(crate) stored: Stored,
    /// Where it was written.
    pub(crate) key: RecordKey,
    pub(crate) vid: Vid,
    /// The version of a file that was shown before.
    pub(crate) replaced: Option<Vid>,
}

/// What a write of a file found.
struct WrittenFile {
    written: Written,
    /// Whether nobody has looked yet whether the name is a directory.
    is_new: bool,
    replaced: Option<Vid>,
}

/// Stored content that has no name yet.
pub(crate) struct NewContent {
    pub(crate) vid: Vid,
    pub(crate) modified_ms: u64,
    pub(crate) attributes: Attributes,
    pub(crate) uploaded: Uploaded,
}

impl Client {
    /// Where a file of this path is to be stored; missing directories are made.
    ///
    /// # Errors
    /// [`Error::IsDirectory`], and [`Error::NotDirectory`] of one above.
    pub(crate) async fn target<'a>(
        &self,
        path: &'a FilePath,
        mode: Mode,
    ) -> Result<Target<'a>, Error> {
        let names = self.0.names()?;
        let mut parents: Vec<&str> = path.components().collect();
        let name = parents.pop().ok_or(NameError::Empty)?;
        let PathFound { dir, record, is_below_file, .. } = names.walk(path, mode).await?;
        let made_dirs = dir.is_none();
        let dir = match dir {
            Some(dir) => dir,
            None => names.make_dirs(&parents, mode).await?,
        };
        let key = names.keys.record_key(&dir, name);
        refuse_directory(&names.keys, &key, &record, path)?;
        Ok(Target { path, parents, name, dir, key, record, is_below_file, made_dirs })
    }

    /// Gives stored content its name.
    pub(crate) async fn publish(
        &self,
        mut target: Target<'_>,
        content: NewContent,
        condition: Option<Condition>,
        mode: Mode,
    ) -> Result<Published, Error> {
        let (parts, names) = (&self.0, self.0.names()?);
        let quorum = parts.replica.is_quorum(mode, &*parts.replica.joined()?);
        let own = &parts.replica.id;
        let mut is_written = false;
        for _ in 0..MOVED_TRIES {
            let WrittenFile { written, is_new, replaced } =
                match self.write_file(&target, &content, condition, mode).await {
                    Ok(written) => written,
                    Err(error) if is_written => return Err(error.once_written(own)),
                    Err(error) => return Err(error),
                };
            is_written = true;
            let Target { path, parents: ref above, dir, key, is_below_file, .. } = target;
            let new = is_new.then_some(key);
            let arrival = Arrival { path, parents: above, dir, new, is_below_file };
            match names.keep_reachable(&arrival, mode).await {
                Ok(true) => {
                    let (vid, Uploaded { bytes, copies, .. }) = (content.vid, content.uploaded);
                    let stored = stored(vid.to_string(), bytes, written, copies, quorum);
                    return Ok(Published { stored, key, vid, replaced });
                }
                // The directory was deleted and made anew meanwhile: the file belongs there.
                Ok(false) => {}
                Err(error @ (Error::IsDirectory(_) | Error::NotDirectory(_))) => {
                    let taken =
                        self.take_back(key, target.name, &content.vid, replaced, mode).await;
                    taken.map_err(|error| error.once_written(own))?;
                    if target.made_dirs {
                        self.give_way_above(&target.parents, mode).await?;
                    }
                    return Err(error);
                }
                Err(error) => return Err(error.once_written(own)),
            }
            let made = names.make_dirs(&target.parents, mode).await;
            target.dir = made.map_err(|error| error.once_written(own))?;
            target.key = names.keys.record_key(&target.dir, target.name);
        }
        Err(Error::Moving)
    }

    /// Writes a version of a file. After an error that is not [`Error::Unavailable`] nothing was
    /// written.
    async fn write_file(
        &self,
        target: &Target<'_>,
        content: &NewContent,
        condition: Option<Condition>,
        mode: Mode,
    ) -> Result<WrittenFile, Error> {
        let names = self.0.names()?;
        let NewContent { vid, modified_ms, attributes, uploaded } = content;
        let (key, path) = (target.key, target.path);
        let attributes = attributes.clone();
        let new = NewVersion::file(*vid, target.name, *modified_ms, attributes, uploaded);
        let _one = names.lock(&key).await;
        names.content.need_held(uploaded)?;
        if let Some(condition) = condition {
            let replaced = match condition {
                Condition::Absent => None,
                Condition::Version(vid) => Some(vid),
            };
            let write = WriteIf { key, path, condition, vid: *vid, new, mode };
            let written = names.write_if(&write).await?;
            return Ok(WrittenFile { written, is_new: replaced.is_none(), replaced });
        }
        let (read, quorum) = self.0.records.read_record(key, mode).await?;
        refuse_directory(&names.keys, &key, &read, path)?;
        let replaced = Parts::of(&names.keys, &key, &read)?.file.map(|(version, _)| version.vid);
        let written = names.write_part(key, (&read, quorum), Part::File, new, mode).await?;
        Ok(WrittenFile { written, is_new: replaced.is_none(), replaced })
    }

    /// Takes back a version of a file that was written a moment ago, unless another has superseded
    /// it: what it replaced is there again, or nothing.
    pub(super) async fn take_back(
        &self,
        key: RecordKey,
        name: &str,
        vid: &Vid,
        replaced: Option<Vid>,
        mode: Mode,
    ) -> Result<(), Error> {
        let names = self.0.names()?;
        let (read, _) = self.0.records.read_record(key, mode).await?;
        let Some(own) = read.head(vid) else { return Ok(()) };
        let known = known_versions(&names.keys, &key, &Record::of(own.clone()))?;
        // Another that is live beside it has replaced that as well, or is shown without it.
        let is_alone = read.heads().filter(|head| head.kind == Kind::Live).count() == 1;
        let before = known.into_iter().find(|known| is_alone && Some(known.vid) == replaced);
        let before = before.and_then(|known| FileRef::of_known(known, key, name));
        let new = match before {
            Some(before) => {
                let again = names.new_vid();
                let uploaded = self.reuse(key, again, &before, mode).await?;
                let attributes = before.attributes().clone();
                NewVersion::file(again, name, before.modified_ms(), attributes, &uploaded)
            }
            None => NewVersion::tombstone(names.new_vid(), name, self.0.replica.unix_ms()),
        };
        let _one = names.lock(&key).await;
        let (read, _) = self.0.records.read_record(key, mode).await?;
        names.replace_head(key, &read, vid, new, mode).await?;
        Ok(())
    }

    /// Removes what is empty of the directories of a path, down to the one that someone made a file
    /// of at the same time.
    pub(super) async fn give_way_above(&self, path: &[&str], mode: Mode) -> Result<(), Error> {
        let names = self.0.names()?;
        for len in (1..=path.len()).rev() {
            let above = FilePath::parse(&path[..len].join("/"))?;
            let found = names.walk(&above, mode).await?;
            let Some(parent) = found.dir else { continue };
            let key = names.keys.record_key(&parent, path[len - 1]);
            let is_both = Parts::of(&names.keys, &key, &found.record)?.is_both();
            if !is_both && !found.is_below_file {
                break;
            }
            if self.remove_at(key, above, Some(Part::Dir), mode).await.is_err() {
                break;
            }
        }
        Ok(())
    }
}

pub(super) fn stored(
    version: String,
    bytes: u64,
    record: Written,
    blobs: Option<Copies>,
    quorum: bool,
) -> Stored {
    let copies = blobs.map_or(record.copies, |blobs| blobs.durable.min(record.copies));
    let wanted = blobs.map_or(record.wanted, |blobs| blobs.wanted.max(record.wanted));
    let guarded = record.guarded;
    Stored { version, bytes, copies, wanted, quorum, guarded }
}

/// A directory that keeps being deleted and made again under a write is left to its user.
const MOVED_TRIES: usize = 5;
