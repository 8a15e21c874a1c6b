//! What a name is: a file, a directory, or both.
//!
//! Nobody may make one where the other is, so a name is both only where two sides of a split, or
//! writers that did not wait for a majority, made one each. Then neither hides the other: a path
//! that ends at the name leads to the file, one that goes on leads through the directory, and a
//! write supersedes only what is of its own sort.

use std::borrow::Cow;

use dfs_core::id::RecordKey;
use dfs_core::name::FilePath;
use dfs_core::record::conditional::Condition;
use dfs_core::record::version::{Kind, Record, Version};
use dfs_store::vault::entry::Entry;
use dfs_store::vault::keys::VaultKeys;

use super::open::open_entry;
use crate::error::Error;

/// One of the two things that a name can be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    File,
    Dir,
}

impl Part {
    /// What an entry is.
    pub(crate) fn of(entry: &Entry) -> Self {
        if entry.dir().is_some() { Self::Dir } else { Self::File }
    }
}

/// What a name is now: of each sort the live head that users see.
#[derive(Debug, Default)]
pub(crate) struct Parts<'a> {
    pub(crate) file: Option<(&'a Version, Entry)>,
    pub(crate) dir: Option<(&'a Version, Entry)>,
    /// How many live heads are files: of several, nobody has chosen one.
    pub(crate) files: usize,
}

impl<'a> Parts<'a> {
    /// Opens the live heads of a record.
    pub(crate) fn of(keys: &VaultKeys, key: &RecordKey, record: &'a Record) -> Result<Self, Error> {
        let mut parts = Self::default();
        for head in record.heads().filter(|head| head.kind == Kind::Live) {
            let entry = open_entry(keys, key, head)?;
            let slot = match Part::of(&entry) {
                Part::File => {
                    parts.files += 1;
                    &mut parts.file
                }
                Part::Dir => &mut parts.dir,
            };
            if slot.as_ref().is_none_or(|(shown, _)| head.beats(shown)) {
                *slot = Some((head, entry));
            }
        }
        Ok(parts)
    }

    /// What a path that ends here leads to: the file, if the name is both.
    pub(crate) fn shown(self) -> Option<(&'a Version, Entry)> {
        self.file.or(self.dir)
    }

    pub(crate) fn is_both(&self) -> bool {
        self.file.is_some() && self.dir.is_some()
    }
}

/// Refuses to put a file in place of a directory. A file beside one may be replaced.
pub(crate) fn refuse_directory(
    keys: &VaultKeys,
    key: &RecordKey,
    read: &Record,
    path: &FilePath,
) -> Result<(), Error> {
    let parts = Parts::of(keys, key, read)?;
    match (&parts.file, &parts.dir) {
        (None, Some(_)) => Err(Error::IsDirectory(path.to_string())),
        _ => Ok(()),
    }
}

/// Whether a condition of a file's write holds. A version is compared with the file that is shown,
/// also where the name is a directory as well.
pub(crate) fn holds(
    keys: &VaultKeys,
    key: &RecordKey,
    read: &Record,
    condition: Condition,
) -> Result<bool, Error> {
    Ok(match condition {
        Condition::Absent => condition.holds(read),
        Condition::Version(_) => condition.holds(&*superseded(keys, key, read, Part::File)?),
    })
}

/// What a write of one sort supersedes: the record without the live heads of the other. Borrowed
/// when that is all of it.
pub(crate) fn superseded<'a>(
    keys: &VaultKeys,
    key: &RecordKey,
    read: &'a Record,
    part: Part,
) -> Result<Cow<'a, Record>, Error> {
    let mut kept = Vec::new();
    for head in read.heads() {
        if head.kind == Kind::Dead || Part::of(&open_entry(keys, key, head)?) == part {
            kept.push(head.clone());
        }
    }
    if kept.len() == read.heads().count() {
        return Ok(Cow::Borrowed(read));
    }
    Ok(Cow::Owned(Record::of_all(kept)))
}
