//! What a record says, opened: its versions, those that wait for a decision, and those it retains.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use dfs_core::codec::Canonical;
use dfs_core::hlc::Hlc;
use dfs_core::id::{BlobId, CertId, DirId, RecordKey, Vid, hex};
use dfs_core::record::attributes::Attributes;
use dfs_core::record::retention::{noted_again, replaced_at};
use dfs_core::record::version::{Kind, Record, Retained, Version};
use dfs_store::vault::entry::{Entry, EntryNode, Past, Payload};
use dfs_store::vault::keys::VaultKeys;

use super::parts::Parts;
use crate::error::Error;

/// Where a version stands among those of its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// The head that users see.
    Shown,
    /// Another head.
    Beside,
    /// Replaced then, in milliseconds since 1970 if that is known, and retained.
    Replaced(u64),
}

/// A version that a record knows of.
#[derive(Debug, Clone)]
pub(crate) struct KnownVersion {
    pub(crate) vid: Vid,
    pub(crate) hlc: Hlc,
    pub(crate) standing: Role,
    /// The certificate of whoever wrote it.
    pub(crate) writer: CertId,
    /// When it was written, in milliseconds since 1970.
    pub(crate) modified_ms: u64,
    /// What else is said of it.
    pub(crate) attributes: Attributes,
    /// What it is; `None` says that the name was deleted.
    pub(crate) node: Option<EntryNode>,
    /// The id its blobs are referenced under.
    pub(crate) ref_id: Vid,
    /// Its top reference page, when it has blobs.
    pub(crate) refs_root: Option<BlobId>,
    /// How many blobs it references.
    pub(crate) blobs: u32,
    /// Their size as stored.
    pub(crate) bytes_stored: u64,
}

impl KnownVersion {
    /// The entry it was, under the name it has; `None` for a deletion.
    pub(crate) fn entry(&self, name: &str) -> Option<Entry> {
        let node = self.node.clone()?;
        let (name, attributes) = (name.to_owned(), self.attributes.clone());
        Some(Entry { name, modified_ms: self.modified_ms, attributes, node })
    }

    /// Equal for versions with the same content and attributes; `None` for a deletion. Content that
    /// has moved out of the payload differs from what it was.
    pub(crate) fn content_digest(&self) -> Option<String> {
        let node = Some(self.node.clone()?);
        let attributes = self.attributes.clone();
        let (name, history) = (String::new(), Vec::new());
        let payload = Payload { name, modified_ms: 0, attributes, node, history };
        let hash = blake3::hash(&payload.to_canonical());
        Some(hex(hash.as_bytes().first_chunk::<DIGEST_BYTES>()?))
    }

    pub(super) fn retained(&self) -> Retained {
        Retained { vid: self.ref_id, refs_root: self.refs_root, chunks: self.blobs, hlc: self.hlc }
    }

    /// What a version says of it that retains it; `now_ms` is by a clock that others bear out.
    pub(super) fn past(self, now_ms: Option<u64>) -> Option<Past> {
        Some(Past {
            vid: self.vid,
            hlc: self.hlc,
            writer: self.writer,
            modified_ms: self.modified_ms,
            replaced_ms: match self.standing {
                Role::Replaced(ms) => noted_again(ms, now_ms),
                Role::Shown | Role::Beside => replaced_at(now_ms),
            },
            bytes_stored: self.bytes_stored,
            ref_id: self.ref_id,
            attributes: self.attributes,
            node: self.node?,
        })
    }

    fn of_head(version: &Version, payload: Option<&Payload>, standing: Role) -> Self {
        Self {
            vid: version.vid,
            hlc: version.hlc,
            standing,
            writer: version.writer,
            modified_ms: payload
                .map_or_else(|| version.hlc.unix_ms(), |payload| payload.modified_ms),
            attributes: payload.map(|payload| payload.attributes.clone()).unwrap_or_default(),
            node: payload.and_then(|payload| payload.node.clone()),
            ref_id: version.vid,
            refs_root: version.refs_root,
            blobs: version.chunks,
            bytes_stored: version.bytes_stored,
        }
    }

    fn of_past(past: Past, retained: &Retained) -> Self {
        Self {
            vid: past.vid,
            hlc: past.hlc,
            standing: Role::Replaced(past.replaced_ms),
            writer: past.writer,
            modified_ms: past.modified_ms,
            attributes: past.attributes,
            node: Some(past.node),
            ref_id: past.ref_id,
            refs_root: retained.refs_root,
            blobs: retained.chunks,
            bytes_stored: past.bytes_stored,
        }
    }

    /// Takes in what another head says of the same version. Content that still lies in a payload
    /// needs no replica to be read.
    fn take_in(&mut self, other: Self) {
        let standing = match (self.standing, other.standing) {
            (Role::Replaced(ours), Role::Replaced(theirs)) => Role::Replaced(ours.max(theirs)),
            (ours, _) => ours,
        };
        if matches!(other.node, Some(EntryNode::Inline(_))) {
            *self = other;
        }
        self.standing = standing;
    }
}

/// Every version a record knows of, each once: the head that is shown, then the other heads, then
/// what they retain, newest first.
pub(crate) fn known_versions(
    keys: &VaultKeys,
    key: &RecordKey,
    record: &Record,
) -> Result<Vec<KnownVersion>, Error> {
    let mut heads = Vec::new();
    let mut old: BTreeMap<Vid, KnownVersion> = BTreeMap::new();
    let shown = match Parts::of(keys, key, record)?.shown() {
        Some((version, _)) => Some(version.vid),
        None => record.winner().map(|tombstone| tombstone.vid),
    };
    for head in record.heads() {
        let payload = open_payload(keys, key, head)?;
        let is_shown = shown == Some(head.vid);
        let standing = if is_shown { Role::Shown } else { Role::Beside };
        heads.push(KnownVersion::of_head(head, payload.as_ref(), standing));
        let history = payload.map(|payload| payload.history).unwrap_or_default();
        for (past, retained) in history.into_iter().zip(&head.retained) {
            if record.head(&past.vid).is_some() {
                continue;
            }
            let past = KnownVersion::of_past(past, retained);
            match old.get_mut(&past.vid) {
                Some(known) => known.take_in(past),
                None => {
                    old.insert(past.vid, past);
                }
            }
        }
    }
    let newest_first = |known: &KnownVersion| Reverse((known.hlc, known.vid));
    heads.sort_by_key(|known| (known.standing != Role::Shown, newest_first(known)));
    let mut old: Vec<_> = old.into_values().collect();
    old.sort_by_key(newest_first);
    heads.extend(old);
    Ok(heads)
}

/// The name that a record is of; `None` of a deletion that keeps nothing, which does not say it.
pub(crate) fn name_of(
    keys: &VaultKeys,
    key: &RecordKey,
    record: &Record,
) -> Result<Option<String>, Error> {
    for head in record.heads() {
        if let Some(payload) = open_payload(keys, key, head)? {
            return Ok(Some(payload.name));
        }
    }
    Ok(None)
}

/// The live heads, the one shown first. Heads that are one directory are one.
pub(crate) fn live_heads(known: &[KnownVersion]) -> Vec<&KnownVersion> {
    let mut heads: Vec<&KnownVersion> = Vec::new();
    for head in known.iter().filter(|known| !matches!(known.standing, Role::Replaced(_))) {
        let Some(node) = &head.node else { continue };
        let dir = node.dir();
        let same = |other: &&KnownVersion| other.node.as_ref().and_then(EntryNode::dir) == dir;
        if dir.is_none() || !heads.iter().any(same) {
            heads.push(head);
        }
    }
    heads
}

/// How many heads of a record wait for a decision beside the one shown.
pub(crate) fn count_conflicts(
    keys: &VaultKeys,
    key: &RecordKey,
    record: &Record,
) -> Result<usize, Error> {
    if record.conflicts() == 0 {
        return Ok(0);
    }
    Ok(live_heads(&known_versions(keys, key, record)?).len().saturating_sub(1))
}

/// Opens a version's payload and checks that it is the one of this key, and that it speaks of the
/// same history as the version does in clear. `None` for a tombstone without any.
fn open_payload(
    keys: &VaultKeys,
    key: &RecordKey,
    version: &Version,
) -> Result<Option<Payload>, Error> {
    if version.kind == Kind::Dead && version.sealed.is_empty() {
        return Ok(None);
    }
    let plain = keys.payloads.open(&BlobId::of(&version.sealed), &version.sealed);
    let payload = plain.ok().and_then(|plain| Payload::from_canonical(plain).ok());
    let is_genuine = |payload: &Payload| {
        let said = payload.history.iter().map(|past| (past.ref_id, past.hlc));
        let is_live = payload.node.is_some();
        keys.record_key(&key.dir, &payload.name) == *key
            && is_live == (version.kind == Kind::Live)
            && said.eq(version.retained.iter().map(|old| (old.vid, old.hlc)))
    };
    let unverified = || Error::Unverified("a directory entry".to_owned());
    payload.filter(is_genuine).map(Some).ok_or_else(unverified)
}

/// The directory that a name was last, deleted or not, as far as that is still known.
pub(super) fn last_dir(
    keys: &VaultKeys,
    key: &RecordKey,
    record: &Record,
) -> Result<Option<DirId>, Error> {
    let known = known_versions(keys, key, record)?;
    Ok(known.iter().find_map(|known| known.node.as_ref()?.dir()))
}

/// What was last said of a directory of this name.
pub(super) fn dir_attributes(
    keys: &VaultKeys,
    key: &RecordKey,
    record: &Record,
    dir: DirId,
) -> Result<Attributes, Error> {
    let known = known_versions(keys, key, record)?;
    let of_dir = |known: &KnownVersion| known.node.as_ref()?.dir();
    let last = known.into_iter().find(|known| of_dir(known) == Some(dir));
    Ok(last.map(|known| known.attributes).unwrap_or_default())
}

/// Opens the payload of a live version and checks that it is the one of this key.
pub(crate) fn open_entry(
    keys: &VaultKeys,
    key: &RecordKey,
    version: &Version,
) -> Result<Entry, Error> {
    let entry = open_payload(keys, key, version)?.and_then(Payload::entry);
    entry.ok_or_else(|| Error::Unverified("a directory entry".to_owned()))
}

/// As many as the id of a version has.
const DIGEST_BYTES: usize = 16;
