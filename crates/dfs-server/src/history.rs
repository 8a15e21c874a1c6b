//! What a name was before: the versions that a new one keeps reachable.
//!
//! A head names in clear the versions it retains, so that peers keep their blobs, and says in its
//! sealed payload what each was. Content that lies in payloads shares one bound, old and new
//! together: a record with history is no larger than one without. What does not fit moves into
//! blobs under an id of their own: were it that of the version, which is referred to already, an
//! upload cut short would look like a loss.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use dfs_core::codec::Canonical;
use dfs_core::hlc::Hlc;
use dfs_core::id::{BlobId, CertId, RecordKey, Vid};
use dfs_core::record::retention::{Earlier, kept};
use dfs_core::record::version::{Kind, RETAINED_MAX, Record, Retained, Version};
use dfs_store::vault::keys::VaultKeys;
use dfs_store::vault::seal::Salt;
use tracing::warn;

use crate::config::Mode;
use crate::error::Error;
use crate::node::{Node, millis};
use crate::records::Draft;
use crate::upload::Uploaded;
use dfs_store::vault::entry::{Entry, EntryNode, INLINE_BYTES_MAX, Past, Payload};

/// Where a version stands among those of its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    /// The head that users see.
    Shown,
    /// Another head.
    Beside,
    /// Replaced then, in milliseconds since 1970, and retained.
    Replaced(u64),
}

/// A version that a record knows of.
#[derive(Debug, Clone)]
pub(crate) struct Known {
    pub(crate) vid: Vid,
    pub(crate) hlc: Hlc,
    pub(crate) standing: Standing,
    /// The certificate of whoever wrote it.
    pub(crate) writer: CertId,
    /// When it was written, in milliseconds since 1970.
    pub(crate) modified_ms: u64,
    /// What it is; `None` says that the name was deleted.
    pub(crate) node: Option<EntryNode>,
    /// The id its blobs are referenced under.
    pub(crate) held_as: Vid,
    /// Its top reference page, when it has blobs.
    pub(crate) refs_root: Option<BlobId>,
    /// How many blobs it references.
    pub(crate) blobs: u32,
    /// Their size as stored.
    pub(crate) bytes_stored: u64,
}

/// What a new version says, before it is known what it retains.
#[derive(Debug, Clone)]
pub(crate) struct NewVersion {
    vid: Vid,
    name: String,
    modified_ms: u64,
    /// `None` deletes the name.
    node: Option<EntryNode>,
    refs_root: Option<BlobId>,
    blobs: u32,
    bytes_stored: u64,
}

impl NewVersion {
    /// An entry without blobs.
    pub(crate) fn entry(vid: Vid, entry: Entry) -> Self {
        let Entry { name, modified_ms, node } = entry;
        let (refs_root, blobs, bytes_stored) = (None, 0, 0);
        Self { vid, name, modified_ms, node: Some(node), refs_root, blobs, bytes_stored }
    }

    /// A file whose content is stored.
    pub(crate) fn file(vid: Vid, name: &str, modified_ms: u64, uploaded: &Uploaded) -> Self {
        Self {
            vid,
            name: name.to_owned(),
            modified_ms,
            node: Some(uploaded.node.clone()),
            refs_root: uploaded.refs_root,
            blobs: uploaded.blobs,
            bytes_stored: uploaded.bytes_stored,
        }
    }

    /// A deletion.
    pub(crate) fn tombstone(vid: Vid, name: &str, modified_ms: u64) -> Self {
        let (refs_root, blobs, bytes_stored) = (None, 0, 0);
        let name = name.to_owned();
        Self { vid, name, modified_ms, node: None, refs_root, blobs, bytes_stored }
    }
}

impl Node {
    /// Seals a new version together with what it keeps of those in `read`, which it will supersede.
    pub(crate) async fn draft(
        self: &Arc<Self>,
        key: RecordKey,
        read: &Record,
        new: NewVersion,
        mode: Mode,
    ) -> Result<Draft, Error> {
        let keys = self.vault()?.keys.clone();
        let now_ms = self.env.wall_ms();
        let known = known_versions(&keys, &key, read)?;
        let heads = known.iter().filter(|known| !matches!(known.standing, Standing::Replaced(_)));
        if heads.count() > RETAINED_MAX {
            warn!(?key, "more versions lose at once than a record retains: the oldest go");
        }
        let mut keep = to_keep(known, &new.vid, now_ms, millis(self.grace.history));
        let mut room = INLINE_BYTES_MAX - new.node.as_ref().map_or(0, EntryNode::inline_bytes);
        for known in &mut keep {
            let inline = known.node.as_ref().map_or(0, EntryNode::inline_bytes);
            match room.checked_sub(inline) {
                Some(left) => room = left,
                None => self.move_out(key, known, mode).await?,
            }
        }
        let retained = keep.iter().map(Known::retained).collect::<Vec<_>>();
        let history = keep.into_iter().filter_map(|known| known.past(now_ms)).collect::<Vec<_>>();
        let kind = if new.node.is_some() { Kind::Live } else { Kind::Dead };
        let sealed = if kind == Kind::Dead && history.is_empty() {
            Bytes::new()
        } else {
            let NewVersion { name, modified_ms, node, .. } = new;
            let payload = Payload { name, modified_ms, node, history }.to_canonical();
            keys.payloads.seal(&payload, Salt::Random(self.env.random()), true).bytes
        };
        Ok(Draft {
            vid: new.vid,
            kind,
            sealed,
            refs_root: new.refs_root,
            chunks: new.blobs,
            bytes_stored: new.bytes_stored,
            retained,
        })
    }

    /// Moves content out of the payload into blobs, under a new id.
    async fn move_out(
        self: &Arc<Self>,
        key: RecordKey,
        known: &mut Known,
        mode: Mode,
    ) -> Result<(), Error> {
        let Some(EntryNode::Inline(content)) = &known.node else { return Ok(()) };
        let held_as = self.new_vid();
        let moved = self.upload_small(key, held_as, mode, content.clone()).await?;
        known.held_as = held_as;
        known.node = Some(moved.node);
        known.refs_root = moved.refs_root;
        known.blobs = moved.blobs;
        known.bytes_stored = moved.bytes_stored;
        Ok(())
    }

    /// A new version's id.
    pub(crate) fn new_vid(&self) -> Vid {
        Vid::new(self.env.random())
    }
}

impl Known {
    /// The entry it was, under the name it has; `None` for a deletion.
    pub(crate) fn entry(&self, name: &str) -> Option<Entry> {
        let node = self.node.clone()?;
        Some(Entry { name: name.to_owned(), modified_ms: self.modified_ms, node })
    }

    fn retained(&self) -> Retained {
        Retained { vid: self.held_as, refs_root: self.refs_root, chunks: self.blobs, hlc: self.hlc }
    }

    fn past(self, now_ms: u64) -> Option<Past> {
        Some(Past {
            vid: self.vid,
            hlc: self.hlc,
            writer: self.writer,
            modified_ms: self.modified_ms,
            replaced_ms: match self.standing {
                Standing::Replaced(ms) => ms,
                Standing::Shown | Standing::Beside => now_ms,
            },
            bytes_stored: self.bytes_stored,
            held_as: self.held_as,
            node: self.node?,
        })
    }

    fn of_head(version: &Version, payload: Option<&Payload>, standing: Standing) -> Self {
        Self {
            vid: version.vid,
            hlc: version.hlc,
            standing,
            writer: version.writer,
            modified_ms: payload.map_or(version.hlc.unix_ms(), |payload| payload.modified_ms),
            node: payload.and_then(|payload| payload.node.clone()),
            held_as: version.vid,
            refs_root: version.refs_root,
            blobs: version.chunks,
            bytes_stored: version.bytes_stored,
        }
    }

    fn of_past(past: Past, retained: &Retained) -> Self {
        Self {
            vid: past.vid,
            hlc: past.hlc,
            standing: Standing::Replaced(past.replaced_ms),
            writer: past.writer,
            modified_ms: past.modified_ms,
            node: Some(past.node),
            held_as: past.held_as,
            refs_root: retained.refs_root,
            blobs: retained.chunks,
            bytes_stored: past.bytes_stored,
        }
    }

    /// Takes in what another head says of the same version. Content that still lies in a payload
    /// needs no replica to be read.
    fn take_in(&mut self, other: Self) {
        let standing = match (self.standing, other.standing) {
            (Standing::Replaced(ours), Standing::Replaced(theirs)) => {
                Standing::Replaced(ours.max(theirs))
            }
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
) -> Result<Vec<Known>, Error> {
    let mut heads = Vec::new();
    let mut old: BTreeMap<Vid, Known> = BTreeMap::new();
    let shown = record.winner().map(|winner| winner.vid);
    for head in record.heads() {
        let payload = open_payload(keys, key, head)?;
        let is_shown = shown == Some(head.vid);
        let standing = if is_shown { Standing::Shown } else { Standing::Beside };
        heads.push(Known::of_head(head, payload.as_ref(), standing));
        let history = payload.map(|payload| payload.history).unwrap_or_default();
        for (past, retained) in history.into_iter().zip(&head.retained) {
            if record.head(&past.vid).is_some() {
                continue;
            }
            let past = Known::of_past(past, retained);
            match old.get_mut(&past.vid) {
                Some(known) => known.take_in(past),
                None => {
                    old.insert(past.vid, past);
                }
            }
        }
    }
    let newest_first = |known: &Known| Reverse((known.hlc, known.vid));
    heads.sort_by_key(|known| (known.standing != Standing::Shown, newest_first(known)));
    let mut old: Vec<_> = old.into_values().collect();
    old.sort_by_key(newest_first);
    heads.extend(old);
    Ok(heads)
}

/// The live heads, the one shown first. Heads that are one directory are one.
pub(crate) fn live_heads(known: &[Known]) -> Vec<&Known> {
    let mut heads: Vec<&Known> = Vec::new();
    for head in known.iter().filter(|known| !matches!(known.standing, Standing::Replaced(_))) {
        let Some(node) = &head.node else { continue };
        let dir = node.dir();
        let same = |other: &&Known| other.node.as_ref().and_then(EntryNode::dir) == dir;
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

/// What a new version with this id keeps of those known. Deletions are not kept: there is nothing
/// in them to have again.
fn to_keep(known: Vec<Known>, new: &Vid, now_ms: u64, kept_for_ms: u64) -> Vec<Known> {
    let mut by_id: BTreeMap<Vid, Known> = known
        .into_iter()
        .filter(|known| known.node.is_some() && known.vid != *new)
        .map(|known| (known.vid, known))
        .collect();
    let earlier = by_id.values().map(|known| Earlier {
        vid: known.vid,
        hlc: known.hlc,
        replaced_ms: match known.standing {
            Standing::Replaced(ms) => Some(ms),
            Standing::Shown | Standing::Beside => None,
        },
    });
    let keep = kept(earlier.collect(), now_ms, kept_for_ms);
    keep.into_iter().filter_map(|earlier| by_id.remove(&earlier.vid)).collect()
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
        let said = payload.history.iter().map(|past| (past.held_as, past.hlc));
        let is_live = payload.node.is_some();
        keys.record_key(&key.dir, &payload.name) == *key
            && is_live == (version.kind == Kind::Live)
            && said.eq(version.retained.iter().map(|old| (old.vid, old.hlc)))
    };
    let unverified = || Error::Unverified("a directory entry".to_owned());
    payload.filter(is_genuine).map(Some).ok_or_else(unverified)
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
