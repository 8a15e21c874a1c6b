//! The face of a node: what the HTTP API, and any gateway to come, asks of it.

use std::ops::Range;
use std::sync::Arc;

use dfs_core::id::{BlobId, DirId, RecordKey, Vid, hex};
use dfs_core::layout::epoch::{EpochState, MemberState};
use dfs_core::name::FilePath;
use dfs_core::record::conditional::Condition;
use dfs_core::record::version::{Kind, Record};
use dfs_env::{Bug, bug};
use dfs_p2p::KeptApart;
use tokio::io::AsyncRead;

use crate::conditional::WriteIf;
use crate::config::Mode;
use crate::download::Download;
use crate::error::Error;
use crate::health::{self, Health};
use crate::history::{self, NewVersion, open_entry};
use crate::node::Node;
use crate::records::Written;
use crate::scan::Whom;
use crate::upload::{CHUNK_BYTES, Uploaded};
use crate::views::{Listed, ListedKind, Page, PeerState, PeerView, Stat, Stored};
use dfs_store::vault::entry::{Entry, EntryNode};

/// A handle on a running node; cheap to clone.
#[derive(Clone)]
pub struct Client(pub(crate) Arc<Node>);

/// A file or directory, as a quorum knows it.
#[derive(Debug, Clone)]
pub struct FileRef {
    pub(crate) entry: Entry,
    pub(crate) key: RecordKey,
    pub(crate) vid: Vid,
    /// The id its blobs are referenced under.
    pub(crate) held_as: Vid,
    /// The top reference page, when there are blobs.
    pub(crate) refs_root: Option<BlobId>,
    /// How many blobs the version references, and their size as stored.
    pub(crate) blobs: u32,
    pub(crate) bytes_stored: u64,
    pub(crate) conflicts: usize,
}

impl FileRef {
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

    /// File or directory.
    pub fn kind(&self) -> ListedKind {
        kind(&self.entry.node)
    }
}

/// What a listing says an entry is.
pub(crate) fn kind(node: &EntryNode) -> ListedKind {
    if node.dir().is_some() { ListedKind::Dir } else { ListedKind::File }
}

/// Stored content that has no name yet.
pub(crate) struct Content {
    pub(crate) vid: Vid,
    pub(crate) modified_ms: u64,
    pub(crate) uploaded: Uploaded,
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
        self.store_when(path, source, None, mode).await
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
        self.store_when(path, source, Some(condition), Mode::Quorum).await
    }

    async fn store_when(
        &self,
        path: &FilePath,
        source: impl AsyncRead + Unpin,
        condition: Option<Condition>,
        mode: Mode,
    ) -> Result<Stored, Error> {
        let node = &self.0;
        node.joined()?;
        let keys = node.vault()?.keys.clone();
        let names: Vec<&str> = path.components().collect();
        let (name, parents) = names.split_last().ok_or(dfs_core::name::NameError::Empty)?;
        // Before anything of the content is taken: whoever sends it hears of a refusal at once.
        let found = node.walk(path, mode).await?;
        if bug(Bug::NameInLog) {
            tracing::info!(%path, "storing");
        }
        let dir = match found.dir {
            Some(dir) => dir,
            None => node.make_dirs(parents, mode).await?,
        };
        let key = keys.record_key(&dir, name);
        refuse_directory(&keys, &key, &found.record, path)?;
        if condition.is_some_and(|condition| !condition.holds(&found.record)) {
            return Err(Error::Condition);
        }
        let (vid, modified_ms) = (node.new_vid(), node.env.wall_ms());
        let uploaded = node.upload(key, vid, mode, source).await?;
        self.publish(path, dir, Content { vid, modified_ms, uploaded }, condition, mode).await
    }

    /// Gives stored content its name: writes a version in `dir`, where the path led.
    pub(crate) async fn publish(
        &self,
        path: &FilePath,
        mut dir: DirId,
        content: Content,
        condition: Option<Condition>,
        mode: Mode,
    ) -> Result<Stored, Error> {
        let node = &self.0;
        let Content { vid, modified_ms, uploaded } = content;
        let quorum = node.is_quorum(mode, &*node.joined()?);
        let keys = node.vault()?.keys.clone();
        let names: Vec<&str> = path.components().collect();
        let (name, parents) = names.split_last().ok_or(dfs_core::name::NameError::Empty)?;
        for _ in 0..MOVED_TRIES {
            let key = keys.record_key(&dir, name);
            let new = NewVersion::file(vid, name, modified_ms, &uploaded);
            let one = node.write_lock(&key).await;
            node.need_held(&uploaded)?;
            let written = match condition {
                Some(condition) => {
                    node.write_if(&WriteIf { key, path, condition, vid, new, mode }).await?
                }
                None => {
                    let (read, quorum_read) = node.read_record(key, mode).await?;
                    refuse_directory(&keys, &key, &read, path)?;
                    let draft = node.draft(key, &read, new, mode).await?;
                    node.write_version(key, &read, quorum_read, draft, mode).await?
                }
            };
            drop(one);
            if parents.is_empty() || node.keep_reachable(parents, dir, mode).await? {
                let (bytes, copies) = (uploaded.bytes, uploaded.copies);
                return Ok(stored(vid.to_string(), bytes, written, copies, quorum));
            }
            // The directory was deleted and made anew meanwhile: the file belongs into the new one.
            dir = node.make_dirs(parents, mode).await?;
        }
        Err(Error::Moving)
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
        let keys = self.0.vault()?.keys.clone();
        let found = self.0.walk(path, mode).await?;
        let (Some(dir), Some(name)) = (found.dir, path.base()) else { return Err(missing()) };
        let live = found.record.winner().filter(|version| version.kind == Kind::Live);
        let version = live.ok_or_else(missing)?;
        let key = keys.record_key(&dir, name);
        Ok(FileRef {
            entry: open_entry(&keys, &key, version)?,
            key,
            vid: version.vid,
            held_as: version.vid,
            refs_root: version.refs_root,
            blobs: version.chunks,
            bytes_stored: version.bytes_stored,
            conflicts: history::count_conflicts(&keys, &key, &found.record)?,
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
            content: self.0.download(&file.entry, range.clone()).await?,
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
        let state = self.0.joined()?;
        let (copies, wanted) = self.count_copies(&file, &state).await?;
        let bytes = file.bytes();
        let chunks = match &file.entry.node {
            EntryNode::Chunked { .. } => bytes.div_ceil(CHUNK_BYTES as u64),
            EntryNode::Inline(_) | EntryNode::Dir(_) => 0,
        };
        Ok(Stat {
            kind: file.kind(),
            version: file.version(),
            bytes,
            modified_ms: file.modified_ms(),
            chunks,
            copies,
            wanted,
            conflicts: file.conflicts,
        })
    }

    async fn count_copies(
        &self,
        file: &FileRef,
        state: &Arc<EpochState>,
    ) -> Result<(usize, usize), Error> {
        let partition = file.key.partition(state.bits);
        let sets = state.write_sets(partition);
        let wanted = sets.iter().map(Vec::len).max().unwrap_or(0);
        let mut copies = 0;
        for node in state.holders(partition) {
            let is_replica = state.is_replica(partition, &node);
            if !is_replica || !self.0.is_reachable(&node) {
                continue;
            }
            let held = self.0.fetch_records(&node, &[file.key], state.epoch).await;
            let has = |records: Vec<Record>| {
                records.first().is_some_and(|record| record.refers_to(&file.held_as))
            };
            copies += usize::from(held.is_ok_and(has));
        }
        if let Some(root) = file.refs_root {
            let counts = self.0.copies_of(root, state).await?;
            copies = counts.into_iter().map(|(_, count)| count).fold(copies, usize::min);
        }
        Ok((copies, wanted))
    }

    /// Deletes a file, or an empty directory.
    ///
    /// # Errors
    /// [`Error::NotFound`], or [`Error::NotEmpty`] for a directory with entries.
    pub async fn remove(&self, path: &FilePath, mode: Mode) -> Result<(), Error> {
        let node = &self.0;
        let missing = || Error::NotFound(path.to_string());
        let keys = node.vault()?.keys.clone();
        let found = node.walk(path, mode).await?;
        let (Some(parent), Some(name)) = (found.dir, path.base()) else { return Err(missing()) };
        let key = keys.record_key(&parent, name);
        let _one = node.write_lock(&key).await;
        let (record, quorum) = node.read_record(key, mode).await?;
        let live = record.winner().filter(|version| version.kind == Kind::Live);
        let entry = open_entry(&keys, &key, live.ok_or_else(missing)?)?;
        if let Some(dir) = entry.dir() {
            self.need_empty(dir, path, mode).await?;
        }
        let tombstone_vid = node.new_vid();
        if !bug(Bug::DeleteNotWritten) {
            let new = NewVersion::tombstone(tombstone_vid, name, node.env.wall_ms());
            let tombstone = node.draft(key, &record, new, mode).await?;
            node.write_version(key, &record, quorum, tombstone, mode).await?;
        }
        let Some(dir) = entry.dir() else { return Ok(()) };
        // Someone may have stored into it meanwhile; one of the two notices.
        if let Err(not_empty) = self.need_empty(dir, path, mode).await {
            let (read, quorum) = node.read_record(key, mode).await?;
            // Unless it was made anew meanwhile: then whoever stored here stores there again.
            if read.winner().is_some_and(|winner| winner.vid == tombstone_vid) {
                let new = NewVersion::entry(node.new_vid(), entry);
                let draft = node.draft(key, &read, new, mode).await?;
                node.write_version(key, &read, quorum, draft, mode).await?;
            }
            return Err(not_empty);
        }
        Ok(())
    }

    /// Deletes a file, or a directory with everything below it. Says how many entries went.
    ///
    /// # Errors
    /// [`Error`]; what was deleted before stays deleted.
    pub async fn remove_all(&self, path: &FilePath, mode: Mode) -> Result<u64, Error> {
        let mut removed = 0;
        let file = self.find(path, None, mode).await?;
        if let Some(dir) = file.entry.dir() {
            let mut below = Vec::new();
            let mut dirs = vec![(path.clone(), dir)];
            while let Some((at, dir)) = dirs.pop() {
                for (entry, _) in self.entries(dir, mode, Whom::Everyone).await? {
                    let child = at.join(&entry.name)?;
                    dirs.extend(entry.dir().map(|dir| (child.clone(), dir)));
                    below.push(child);
                }
            }
            // Children come after their directories: from the end, a directory is empty in time.
            for path in below.iter().rev() {
                self.remove(path, mode).await?;
                removed += 1;
            }
        }
        self.remove(path, mode).await?;
        Ok(removed + 1)
    }

    async fn need_empty(&self, dir: DirId, path: &FilePath, mode: Mode) -> Result<(), Error> {
        match self.entries(dir, mode, Whom::Everyone).await?.is_empty() {
            true => Ok(()),
            false => Err(Error::NotEmpty(path.to_string())),
        }
    }

    /// The live entries of a directory, in byte order of their names.
    async fn entries(
        &self,
        dir: DirId,
        mode: Mode,
        whom: Whom,
    ) -> Result<Vec<(Entry, String)>, Error> {
        let keys = self.0.vault()?.keys.clone();
        let records = self.0.scan_dir(keys.vault, dir, mode, whom).await?;
        let open = move || {
            let mut entries = Vec::new();
            for (key, record) in &records {
                if let Some(version) = record.winner().filter(|v| v.kind == Kind::Live) {
                    entries.push((open_entry(&keys, key, version)?, version.vid.to_string()));
                }
            }
            entries.sort_by_cached_key(|(entry, _)| order(entry));
            Ok(entries)
        };
        self.0.env.offload(open).await
    }

    /// Lists what begins with `prefix`, in byte order, after `after`, at most `limit` entries.
    /// With `recursive` off, a directory is one entry; with it on, only files are listed.
    ///
    /// # Errors
    /// [`Error::Name`] when the directory part of the prefix is no path.
    pub async fn list(
        &self,
        prefix: &str,
        recursive: bool,
        after: &str,
        limit: usize,
        mode: Mode,
    ) -> Result<Page, Error> {
        let prefix = prefix.strip_prefix('/').unwrap_or(prefix);
        let (dir_path, name_prefix) = match prefix.rsplit_once('/') {
            Some((dir, rest)) => (FilePath::parse_dir(dir)?, rest),
            None => (FilePath::root(), prefix),
        };
        let mut page = Page::default();
        let dir = match self.0.find_dir(&dir_path, mode).await {
            Ok(Some(dir)) => dir,
            // Nothing begins with a name that does not exist, or with a file and a slash.
            Ok(None) | Err(Error::NotDirectory(_)) => return Ok(page),
            Err(error) => return Err(error),
        };
        let mut pending = self.listed(dir, &dir_path, mode).await?;
        pending.retain(|(_, entry, _)| entry.name.starts_with(name_prefix));
        pending.reverse();
        // Depth first: a directory's entries take its place, so the order stays that of the bytes.
        while let Some((path, entry, version)) = pending.pop() {
            let listed = Listed {
                path: path.to_string(),
                kind: kind(&entry.node),
                bytes: entry.bytes(),
                modified_ms: entry.modified_ms,
                version,
            };
            let order = listed.order();
            if let (true, Some(dir)) = (recursive, entry.dir()) {
                // Everything below begins with `order`; skip it when `after` is past all of that.
                if order.as_str() > after || after.starts_with(&order) {
                    let mut below = self.listed(dir, &path, mode).await?;
                    below.reverse();
                    pending.extend(below);
                }
                continue;
            }
            if !after.is_empty() && order.as_str() <= after {
                continue;
            }
            if page.entries.len() == limit {
                page.more = true;
                break;
            }
            page.entries.push(listed);
        }
        Ok(page)
    }

    async fn listed(
        &self,
        dir: DirId,
        path: &FilePath,
        mode: Mode,
    ) -> Result<Vec<(FilePath, Entry, String)>, Error> {
        let entries = self.entries(dir, mode, Whom::Enough).await?;
        let placed = entries.into_iter().map(|(entry, version)| {
            // A name was checked before it was stored; its place here cannot make it longer.
            Ok((path.join(&entry.name)?, entry, version))
        });
        placed.collect()
    }

    /// This node and everyone it knows.
    pub fn peers(&self) -> Vec<PeerView> {
        health::peers(&self.0)
    }

    /// How the cluster is, seen from here.
    ///
    /// # Errors
    /// [`Error`] when the node's own store fails.
    pub async fn health(&self) -> Result<Health, Error> {
        health::health(self).await
    }

    /// Why the node does not serve yet; empty when it does.
    pub fn not_ready(&self) -> Vec<String> {
        health::not_ready(&self.0)
    }

    /// A node that this one dials in vain until someone does something, if there is one.
    pub fn kept_apart(&self) -> Option<KeptApart> {
        health::kept_apart(&self.0)
    }

    /// Whether a failed disk made the node refuse writes.
    pub fn has_failed(&self) -> bool {
        self.0.store.has_failed()
    }

    /// Blobs on this node's disk that failed their check since it started.
    pub fn corrupt_blobs(&self) -> u64 {
        self.0.store.corrupt_count()
    }

    /// Notes that the vault's key was written down and read back.
    ///
    /// # Errors
    /// [`Error::Store`] when the disk refuses.
    pub async fn note_key_backup(&self) -> Result<(), Error> {
        Ok(self.0.store.put_state(health::KEY_BACKUP, vec![1]).await?)
    }

    /// How many files there are, their bytes, and the versions that wait for a decision. Walks the
    /// whole tree.
    pub(crate) async fn count_files(&self) -> Result<(u64, u64, u64), Error> {
        let (mut files, mut bytes, mut conflicts) = (0, 0, 0);
        let keys = self.0.vault()?.keys.clone();
        let mut dirs = vec![keys.root_dir()];
        while let Some(dir) = dirs.pop() {
            for (key, record) in
                self.0.scan_dir(keys.vault, dir, Mode::Available, Whom::Enough).await?
            {
                let live = record.winner().filter(|version| version.kind == Kind::Live);
                let Some(version) = live else { continue };
                let entry = open_entry(&keys, &key, version)?;
                let waiting = history::count_conflicts(&keys, &key, &record)?;
                conflicts += u64::from(waiting > 0);
                if let Some(dir) = entry.dir() {
                    dirs.push(dir);
                    continue;
                }
                files += 1;
                bytes = u64::saturating_add(bytes, entry.bytes());
            }
        }
        Ok((files, bytes, conflicts))
    }
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Client").field(&self.0.id).finish()
    }
}

fn order(entry: &Entry) -> String {
    match entry.dir() {
        Some(_) => format!("{}/", entry.name),
        None => entry.name.clone(),
    }
}

/// Refuses to put a file in place of a directory.
pub(crate) fn refuse_directory(
    keys: &dfs_store::vault::keys::VaultKeys,
    key: &RecordKey,
    read: &Record,
    path: &FilePath,
) -> Result<(), Error> {
    let live = read.winner().filter(|version| version.kind == Kind::Live);
    let Some(version) = live else { return Ok(()) };
    match open_entry(keys, key, version)?.dir() {
        Some(_) => Err(Error::IsDirectory(path.to_string())),
        None => Ok(()),
    }
}

fn stored(
    version: String,
    bytes: u64,
    record: Written,
    blobs: Option<crate::blobs::Copies>,
    quorum: bool,
) -> Stored {
    let copies = blobs.map_or(record.copies, |blobs| blobs.durable.min(record.copies));
    let wanted = blobs.map_or(record.wanted, |blobs| blobs.wanted.max(record.wanted));
    Stored { version, bytes, copies, wanted, quorum }
}

pub(crate) fn peer_state(
    state: Option<&EpochState>,
    node: &dfs_core::id::NodeId,
    down_for: Option<std::time::Duration>,
) -> PeerState {
    let member = state.and_then(|state| state.member(node));
    match (member.map(|member| member.state), down_for) {
        (None, _) => PeerState::Joining,
        (Some(MemberState::Left), _) => PeerState::Left,
        (Some(MemberState::Out), _) => PeerState::Out,
        (Some(MemberState::Draining), None) => PeerState::Draining,
        (Some(MemberState::Active), None) => PeerState::Alive,
        (Some(_), Some(down)) if down < SUSPECT_FOR => PeerState::Suspect,
        (Some(_), Some(_)) => PeerState::Down,
    }
}

/// The short form of an id, for messages.
pub(crate) fn short(id: &dfs_core::id::NodeId) -> String {
    hex(&id.as_bytes()[..4])
}

/// A directory that keeps being deleted and made again under a write is left to its user.
const MOVED_TRIES: usize = 5;
/// A peer out of reach for less than this may only have restarted.
const SUSPECT_FOR: std::time::Duration = std::time::Duration::from_secs(5);
