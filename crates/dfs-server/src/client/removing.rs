//! Deleting trees: the files of a directory many at a time, each directory once it is empty.

use dfs_core::id::RecordKey;
use dfs_core::name::FilePath;
use dfs_env::{Bug, bug};

use super::Client;
use super::together::unless_gone;
use super::types::ListedKind;
use super::walk::{Walk, WalkEntry, WalkOptions};
use crate::config::Mode;
use crate::error::Error;
use crate::names::history::NewVersion;
use crate::names::parts::{Part, Parts};

/// One deletion of a tree.
pub(super) struct Removal<'a> {
    client: &'a Client,
    mode: Mode,
    /// How many entries went.
    removed: u64,
    /// Whether any may have gone.
    may_have_removed: bool,
    /// Files of one directory that go next.
    batch: Vec<WalkEntry>,
}

impl<'a> Removal<'a> {
    pub(super) fn new(client: &'a Client, mode: Mode) -> Self {
        Self { client, mode, removed: 0, may_have_removed: false, batch: Vec::new() }
    }

    /// Deletes what is at a path. Returns how many entries went.
    pub(super) async fn run(mut self, path: &FilePath) -> Result<u64, Error> {
        let (client, mode) = (self.client, self.mode);
        if client.find(path, None, mode).await?.kind() != ListedKind::Dir {
            client.remove(path, mode).await?;
            (self.removed, self.may_have_removed) = (1, true);
            // A split may have left a directory of the same name.
            if client.0.names()?.find_dir(path, mode).await?.0.is_none() {
                return Ok(self.removed);
            }
        }
        let mut tried = self.tree(path).await;
        for _ in 1..NOT_EMPTY_TRIES {
            // What a minority had is known to all by now, and is listed.
            if matches!(tried, Err(Error::NotEmpty(_))) {
                tried = self.tree(path).await;
            }
        }
        let own = client.0.replica.id;
        tried.map(|()| self.removed).map_err(|error| match self.may_have_removed {
            false => error,
            true => error.once_written(&own),
        })
    }

    async fn tree(&mut self, path: &FilePath) -> Result<(), Error> {
        let (client, mode) = (self.client, self.mode);
        let names = client.0.names()?;
        let mut walk = Walk::new(names.clone(), path, WalkOptions::all(mode)).await?;
        // The directories that are being emptied, each in the one before.
        let mut open = vec![(path.clone(), format!("{path}/"))];
        loop {
            let entry = walk.next().await?;
            let is_left = |below: &str| entry.as_ref().is_none_or(|e| !e.order.starts_with(below));
            while let Some((dir, _)) = open.pop_if(|(_, below)| is_left(below)) {
                self.flush().await?;
                let gone = client.remove_part(&dir, Some(Part::Dir), mode).await;
                self.note(u64::from(unless_gone(gone)?));
            }
            let Some(entry) = entry else { return Ok(()) };
            if entry.listed.dir.is_some() {
                open.push((entry.path, entry.order));
                continue;
            }
            let is_same_dir = |first: &WalkEntry| first.parent == entry.parent;
            if self.batch.len() == FILES_IN_BATCH || !self.batch.first().is_none_or(is_same_dir) {
                self.flush().await?;
            }
            self.batch.push(entry);
        }
    }

    /// Deletes the files of the batch: together, or one by one where one of them keeps the others.
    async fn flush(&mut self) -> Result<(), Error> {
        let batch = std::mem::take(&mut self.batch);
        if batch.is_empty() {
            return Ok(());
        }
        match remove_files(self.client, &batch, self.mode).await {
            Ok(removed) => {
                self.note(removed);
                return Ok(());
            }
            // Nothing was stored.
            Err(error @ Error::ClockSkew(_)) => return Err(error),
            Err(_) => self.may_have_removed = true,
        }
        for entry in batch {
            let key = self.client.0.names()?.keys.record_key(&entry.parent, &entry.listed.name);
            let gone = self.client.remove_at(key, entry.path, Some(Part::File), self.mode).await;
            self.note(u64::from(unless_gone(gone)?));
        }
        Ok(())
    }

    fn note(&mut self, removed: u64) {
        self.removed += removed;
        self.may_have_removed = true;
    }
}

/// Deletes those files of one directory that are there still: one read and one write for all of
/// them. Returns how many.
async fn remove_files(client: &Client, files: &[WalkEntry], mode: Mode) -> Result<u64, Error> {
    let (parts, names) = (&client.0, client.0.names()?);
    let key = |file: &WalkEntry| names.keys.record_key(&file.parent, &file.listed.name);
    let keys: Vec<RecordKey> = files.iter().map(key).collect();
    let _all = names.lock_all(keys.iter()).await;
    let read = parts.records.read_records(&keys, mode).await?;
    let mut gone = Vec::with_capacity(keys.len());
    for ((key, file), record) in keys.iter().zip(files).zip(&read.records) {
        if Parts::of(&names.keys, key, record)?.file.is_none() {
            continue;
        }
        let (vid, now_ms) = (names.new_vid(), parts.replica.unix_ms());
        let new = NewVersion::tombstone(vid, &file.listed.name, now_ms);
        let read = (record, read.quorum);
        gone.push((*key, names.part_version(*key, read, Part::File, new, mode).await?));
    }
    let count = gone.len() as u64;
    if count > 0 && !bug(Bug::DeleteNotWritten) {
        names.write_versions(gone, mode).await?;
    }
    Ok(count)
}

/// How often a tree is gone through whose directories turn out to have names that were not listed.
const NOT_EMPTY_TRIES: usize = 3;
/// Files deleted with one read and one write: enough that their commit costs little beside them,
/// few enough that whoever else writes through this node waits some hundredths of a second.
const FILES_IN_BATCH: usize = 128;
