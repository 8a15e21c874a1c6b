//! Files by path: storing, finding, reading, removing.

use std::ops::{Bound, Range};
use std::sync::Arc;

use dfs_core::id::{BlobId, DirId, RecordKey, Vid};
use dfs_core::layout::epoch::EpochState;
use dfs_core::name::FilePath;
use dfs_core::record::attributes::Attributes;
use dfs_core::record::conditional::Condition;
use dfs_core::record::version::Record;
use dfs_env::{Bug, bug};
use dfs_store::vault::entry::{Entry, EntryNode, INLINE_BYTES_MAX, LinkTarget};
use tokio::io::AsyncRead;

use super::Client;
use super::attributes::Said;
use super::publish::NewContent;
use super::types::{ListedKind, Stat, Stored};
use crate::config::Mode;
use crate::content::CHUNK_BYTES;
use crate::content::download::Download;
use crate::error::Error;
use crate::names::history::NewVersion;
use crate::names::open::{KnownVersion, count_conflicts};
use crate::names::parts::{Part, Parts, holds};
use crate::records::copies_wanted;

/// A file or directory, as a quorum knows it.
#[derive(Debug, Clone)]
pub struct FileRef {
    pub(crate) entry: Entry,
    pub(crate) key: RecordKey,
    pub(crate) vid: Vid,
    /// The id its blobs are referenced under.
    pub(crate) ref_id: Vid,
    /// The top reference page, when there are blobs.
    pub(crate) refs_root: Option<BlobId>,
    /// How many blobs the version references, and their size as stored.
    pub(crate) blobs: u32,
    pub(crate) bytes_stored: u64,
    pub(crate) conflicts: usize,
    pub(crate) guarded: bool,
}

impl FileRef {
    /// A version that a record knows of, under the name it has; `None` for a deletion.
    pub(crate) fn of_known(known: KnownVersion, key: RecordKey, name: &str) -> Option<Self> {
        Some(Self {
            entry: known.entry(name)?,
            key,
            vid: known.vid,
            ref_id: known.ref_id,
            refs_root: known.refs_root,
            blobs: known.blobs,
            bytes_stored: known.bytes_stored,
            conflicts: 0,
            // Nobody can show an older one in its place.
            guarded: true,
        })
    }

    /// Bytes of content.
    pub fn bytes(&self) -> u64 {
        self.entry.bytes()
    }

    /// The version's id.
    pub fn version(&self) -> String {
        self.vid.to_string()
    }

    /// When it was written, in milliseconds since 1970.
    pub fn modified_ms(&self) -> u64 {
        self.entry.modified_ms
    }

    /// Whether enough of the gateways that hold its name answered: then no storage node can have
    /// hidden a newer version.
    pub fn is_guarded(&self) -> bool {
        self.guarded
    }

    /// File, directory or link.
    pub fn kind(&self) -> ListedKind {
        ListedKind::of(&self.entry.node)
    }

    /// What is said of it beside its content.
    pub fn attributes(&self) -> &Attributes {
        &self.entry.attributes
    }

    /// What it says, if it is a link.
    pub fn link_target(&self) -> Option<&str> {
        self.entry.node.link().map(LinkTarget::as_str)
    }
}

impl Client {
    /// Stores what `source` gives under a path; missing directories are made. On return it is
    /// durable on a majority of its replicas, or, in available mode, on as many as it says.
    ///
    /// # Errors
    /// [`Error`]. After `Unavailable` the write may or may not have taken effect.
    pub async fn store(
        &self,
        path: &FilePath,
        source: impl AsyncRead + Unpin,
        mode: Mode,
    ) -> Result<Stored, Error> {
        self.store_with(path, source, Attributes::default(), None, mode).await
    }

    /// Refuses a content of so many bytes that surely finds no room, before any of it is taken.
    ///
    /// # Errors
    /// [`Error::NoSpace`], or that this node is no member.
    pub fn need_room(&self, bytes: u64, mode: Mode) -> Result<(), Error> {
        if bytes <= INLINE_BYTES_MAX as u64 {
            return Ok(());
        }
        let replica = &self.0.replica;
        let blobs = bytes.div_ceil(CHUNK_BYTES as u64);
        match replica.has_no_room(bytes, blobs, mode, &*replica.joined()?) {
            true => Err(Error::NoSpace),
            false => Ok(()),
        }
    }

    /// Stores what `source` gives if the condition holds when the write's turn comes: of writers
    /// that race with conditions on one name, one after the other is looked at. Needs a majority
    /// of the replicas in every mode.
    ///
    /// # Errors
    /// [`Error::Condition`] when it does not hold. After `Unavailable` the write may or may not
    /// have taken effect, or may yet.
    pub async fn store_if(
        &self,
        path: &FilePath,
        source: impl AsyncRead + Unpin,
        condition: Condition,
    ) -> Result<Stored, Error> {
        let said = Attributes::default();
        self.store_with(path, source, said, Some(condition), Mode::Quorum).await
    }

    /// The same with attributes, and with a condition or without. With one it needs a majority in
    /// every mode.
    ///
    /// # Errors
    /// As [`Client::store`] and [`Client::store_if`].
    pub async fn store_with(
        &self,
        path: &FilePath,
        source: impl AsyncRead + Unpin,
        attributes: Attributes,
        condition: Option<Condition>,
        mode: Mode,
    ) -> Result<Stored, Error> {
        // What a majority decides on must be at a majority.
        let mode = if condition.is_some() { Mode::Quorum } else { mode };
        let (parts, names) = (&self.0, self.0.names()?);
        parts.replica.joined()?;
        parts.replica.need_right_clock().await?;
        // Before anything of the content is taken: whoever sends it hears of a refusal at once.
        let target = self.target(path, mode).await?;
        if bug(Bug::NameInLog) {
            tracing::info!(%path, "storing");
        }
        if let Some(condition) = condition
            && !holds(&names.keys, &target.key, &target.record, condition)?
        {
            return Err(Error::Condition);
        }
        let (vid, modified_ms) = (names.new_vid(), parts.replica.unix_ms());
        let uploaded = names.content.upload(target.key, vid, mode, source).await?;
        let content = NewContent { vid, modified_ms, attributes, uploaded };
        Ok(self.publish(target, content, condition, mode).await?.stored)
    }

    /// Finds a file or directory. `version` picks another version than the one shown: any that
    /// waits for a decision or is still kept.
    ///
    /// # Errors
    /// [`Error::NotFound`] when there is none.
    pub async fn find(
        &self,
        path: &FilePath,
        version: Option<&str>,
        mode: Mode,
    ) -> Result<FileRef, Error> {
        if let Some(version) = version {
            return self.find_version(path, version, mode).await;
        }
        let missing = || Error::NotFound(path.to_string());
        let names = self.0.names()?;
        let keys = &names.keys;
        let found = names.walk(path, mode).await?;
        let (Some(dir), Some(name)) = (found.dir, path.base()) else { return Err(missing()) };
        let key = keys.record_key(&dir, name);
        let shown = Parts::of(keys, &key, &found.record)?.shown();
        let (version, entry) = shown.ok_or_else(missing)?;
        Ok(FileRef {
            entry,
            key,
            vid: version.vid,
            ref_id: version.vid,
            refs_root: version.refs_root,
            blobs: version.chunks,
            bytes_stored: version.bytes_stored,
            conflicts: count_conflicts(keys, &key, &found.record)?,
            guarded: found.guarded,
        })
    }

    /// Reads a part of a file; every byte is verified before it is released.
    ///
    /// # Errors
    /// [`Error::Lost`] when no replica has a good copy of the first chunk.
    pub async fn read(&self, file: &FileRef, range: Range<u64>) -> Result<Download, Error> {
        let bytes = file.bytes();
        let end = range.end.min(bytes);
        let range = range.start.min(end)..end;
        Ok(Download {
            bytes,
            version: file.version(),
            modified_ms: file.modified_ms(),
            content: self.0.names()?.content.download(&file.entry, range.clone()).await?,
            range,
        })
    }

    /// Everything about a file; its copies are counted now, by asking the replicas.
    ///
    /// # Errors
    /// [`Error::NotFound`] when there is none.
    pub async fn stat(&self, path: &FilePath, mode: Mode) -> Result<Stat, Error> {
        self.stat_version(path, None, mode).await
    }

    /// As [`Client::stat`], of a version as [`Client::find`] picks it.
    ///
    /// # Errors
    /// [`Error::NotFound`] when there is none.
    pub async fn stat_version(
        &self,
        path: &FilePath,
        version: Option<&str>,
        mode: Mode,
    ) -> Result<Stat, Error> {
        let file = self.find(path, version, mode).await?;
        let state = self.0.replica.joined()?;
        let (copies, wanted) = self.count_copies(&file, &state).await?;
        let bytes = file.bytes();
        let chunks = match &file.entry.node {
            EntryNode::Chunked { .. } => bytes.div_ceil(CHUNK_BYTES as u64),
            EntryNode::Inline(_) | EntryNode::Dir(_) | EntryNode::Link(_) => 0,
        };
        Ok(Stat {
            kind: file.kind(),
            version: file.version(),
            said: Said::of(&file.entry),
            bytes,
            modified_ms: file.modified_ms(),
            chunks,
            copies,
            wanted,
            conflicts: file.conflicts,
            guarded: file.guarded,
        })
    }

    async fn count_copies(
        &self,
        file: &FileRef,
        state: &Arc<EpochState>,
    ) -> Result<(usize, usize), Error> {
        let partition = file.key.partition(state.bits);
        let wanted = copies_wanted(state, &file.key);
        let mut copies = 0;
        for node in state.holders(partition) {
            let is_replica = state.is_replica(partition, &node);
            if !is_replica || !self.0.replica.is_reachable(&node) {
                continue;
            }
            let held = self.0.records.fetch_records(&node, &[file.key], state.epoch).await;
            let has = |records: Vec<Record>| {
                records.first().is_some_and(|record| record.refers_to(&file.ref_id))
            };
            copies += usize::from(held.is_ok_and(has));
        }
        if let Some(root) = file.refs_root {
            let counts = self.0.blobs.copies_of(root, state).await?;
            copies = counts.into_iter().map(|(_, count)| count).fold(copies, usize::min);
        }
        Ok((copies, wanted))
    }

    /// Deletes a file, or an empty directory.
    ///
    /// # Errors
    /// [`Error::NotFound`], or [`Error::NotEmpty`] for a directory with entries.
    pub async fn remove(&self, path: &FilePath, mode: Mode) -> Result<(), Error> {
        self.remove_part(path, None, mode).await
    }

    /// The same of what is of this sort; of what is shown otherwise.
    pub(super) async fn remove_part(
        &self,
        path: &FilePath,
        part: Option<Part>,
        mode: Mode,
    ) -> Result<(), Error> {
        let names = self.0.names()?;
        let found = names.walk(path, mode).await?;
        let (Some(parent), Some(name)) = (found.dir, path.base()) else {
            return Err(Error::NotFound(path.to_string()));
        };
        self.remove_at(names.keys.record_key(&parent, name), path.clone(), part, mode).await
    }

    /// The same where it is known which record the path leads to.
    pub(super) async fn remove_at(
        &self,
        key: RecordKey,
        path: FilePath,
        part: Option<Part>,
        mode: Mode,
    ) -> Result<(), Error> {
        let (parts, names) = (&self.0, self.0.names()?);
        let (keys, path) = (&names.keys, &path);
        let missing = || Error::NotFound(path.to_string());
        let name = path.base().ok_or_else(missing)?;
        let _one = names.lock(&key).await;
        let (record, quorum) = parts.records.read_record(key, mode).await?;
        let found = Parts::of(keys, &key, &record)?;
        let live = match part {
            Some(Part::File) => found.file,
            Some(Part::Dir) => found.dir,
            None => found.shown(),
        };
        let (_, entry) = live.ok_or_else(missing)?;
        let (part, dir) = (Part::of(&entry), entry.dir());
        if let Some(dir) = dir {
            self.need_empty(dir, path, mode).await?;
        }
        if !bug(Bug::DeleteNotWritten) {
            let new = NewVersion::tombstone(names.new_vid(), name, parts.replica.unix_ms());
            names.write_part(key, (&record, quorum), part, new, mode).await?;
        }
        let Some(dir) = dir else { return Ok(()) };
        // Someone may have stored into it meanwhile; one of the two notices.
        if let Err(not_empty) = self.need_empty(dir, path, mode).await {
            let own = &parts.replica.id;
            let (read, quorum) = parts.records.read_record(key, mode).await?;
            // Unless someone else brought it back.
            if Parts::of(keys, &key, &read)?.dir.is_none() {
                let back = names.link_dir(key, name, dir, (&read, quorum), mode).await;
                back.map_err(|error| error.once_written(own))?;
            }
            return Err(not_empty);
        }
        Ok(())
    }

    /// Refuses a directory that has live entries, as everyone in reach knows them.
    pub(super) async fn need_empty(
        &self,
        dir: DirId,
        path: &FilePath,
        mode: Mode,
    ) -> Result<(), Error> {
        let names = self.0.names()?;
        // What a quorum lists is enough to refuse it; else the others are asked as well.
        let listed = names.listings.page(dir, Bound::Unbounded, "", 1, mode).await?;
        if !listed.what.0.is_empty() {
            return Err(Error::NotEmpty(path.to_string()));
        }
        let dir = (names.keys.vault, dir);
        match self.0.records.has_names(dir, mode).await? {
            false => Ok(()),
            true => Err(Error::NotEmpty(path.to_string())),
        }
    }
}
