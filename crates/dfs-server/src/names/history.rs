//! What a new version keeps of those before it.
//!
//! A head names in clear the versions it retains, so that peers keep their blobs, and says in its
//! sealed payload what each was. Content that lies in payloads shares one bound, old and new
//! together: a record with history is no larger than one without. What does not fit moves into
//! blobs under an id of their own: were it that of the version, which is referred to already, an
//! upload cut short would look like a loss.

use std::collections::BTreeMap;

use bytes::Bytes;
use dfs_core::codec::Canonical;
use dfs_core::id::{BlobId, RecordKey, Vid};
use dfs_core::record::attributes::Attributes;
use dfs_core::record::retention::{Earlier, UNKNOWN_MS, kept};
use dfs_core::record::version::{Kind, RETAINED_MAX, Record, Retained};
use dfs_store::vault::entry::{Entry, EntryNode, INLINE_BYTES_MAX, Payload};
use dfs_store::vault::seal::Salt;
use tracing::warn;

use super::Names;
use super::open::{KnownVersion, Role, known_versions};
use crate::config::Mode;
use crate::content::Uploaded;
use crate::error::Error;
use crate::replica::millis;

/// What a new version says.
pub(crate) struct Draft {
    pub(crate) vid: Vid,
    pub(crate) kind: Kind,
    pub(crate) sealed: Bytes,
    pub(crate) refs_root: Option<BlobId>,
    pub(crate) chunks: u32,
    pub(crate) bytes_stored: u64,
    pub(crate) retained: Vec<Retained>,
}

/// What a new version says, before it is known what it retains.
#[derive(Debug, Clone)]
pub(crate) struct NewVersion {
    vid: Vid,
    name: String,
    modified_ms: u64,
    attributes: Attributes,
    /// `None` deletes the name.
    node: Option<EntryNode>,
    refs_root: Option<BlobId>,
    blobs: u32,
    bytes_stored: u64,
    /// Keeps nothing that was replaced by then, nor what this replaces.
    forgets_before_ms: Option<u64>,
}

/// Whether a version is among what is to be forgotten that was replaced by then. When it was
/// replaced may not be known: it was made before. Never a directory: it takes no space, and what
/// was in it is found through it.
pub(crate) fn is_purged(known: &KnownVersion, before_ms: u64) -> bool {
    if known.node.as_ref().is_none_or(|node| node.dir().is_some()) {
        return false;
    }
    match known.standing {
        Role::Replaced(UNKNOWN_MS) => known.hlc.unix_ms() <= before_ms,
        Role::Replaced(ms) => ms <= before_ms,
        Role::Shown | Role::Beside => false,
    }
}

impl NewVersion {
    /// The same without what was replaced by then. For a version that says of its name what the one
    /// before it says, which is not kept either.
    pub(crate) fn forgetting(self, before_ms: u64) -> Self {
        Self { forgets_before_ms: Some(before_ms), ..self }
    }

    fn keeps(&self, known: &KnownVersion) -> bool {
        let Some(before_ms) = self.forgets_before_ms else { return true };
        matches!(known.standing, Role::Replaced(_)) && !is_purged(known, before_ms)
    }

    /// An entry without blobs.
    pub(crate) fn entry(vid: Vid, entry: Entry) -> Self {
        let Entry { name, modified_ms, attributes, node } = entry;
        Self { attributes, node: Some(node), ..Self::tombstone(vid, &name, modified_ms) }
    }

    /// A file whose content is stored.
    pub(crate) fn file(
        vid: Vid,
        name: &str,
        modified_ms: u64,
        attributes: Attributes,
        uploaded: &Uploaded,
    ) -> Self {
        Self {
            vid,
            name: name.to_owned(),
            modified_ms,
            attributes,
            node: Some(uploaded.node.clone()),
            refs_root: uploaded.refs_root,
            blobs: uploaded.blobs,
            bytes_stored: uploaded.bytes_stored,
            forgets_before_ms: None,
        }
    }

    /// A deletion.
    pub(crate) fn tombstone(vid: Vid, name: &str, modified_ms: u64) -> Self {
        Self {
            vid,
            name: name.to_owned(),
            modified_ms,
            attributes: Attributes::default(),
            node: None,
            refs_root: None,
            blobs: 0,
            bytes_stored: 0,
            forgets_before_ms: None,
        }
    }
}

impl Names {
    /// Seals a new version together with what it keeps of those in `read`, which it will supersede.
    pub(crate) async fn draft(
        &self,
        key: RecordKey,
        read: &Record,
        new: NewVersion,
        mode: Mode,
    ) -> Result<Draft, Error> {
        // Before anything of it is stored.
        self.replica.need_right_clock().await?;
        let keys = &self.keys;
        let now_ms = self.replica.borne_out_ms();
        let known = known_versions(keys, &key, read)?;
        let heads = known.iter().filter(|known| !matches!(known.standing, Role::Replaced(_)));
        if heads.count() > RETAINED_MAX {
            warn!(?key, "more versions lose at once than a record retains: the oldest go");
        }
        let mut room = INLINE_BYTES_MAX - new.node.as_ref().map_or(0, EntryNode::inline_bytes);
        let mut keep = Vec::new();
        let keep_for = millis(self.replica.grace.history);
        let earlier = to_keep(known, &new.vid, now_ms, keep_for);
        for mut known in earlier.into_iter().filter(|known| new.keeps(known)) {
            let inline = known.node.as_ref().map_or(0, EntryNode::inline_bytes);
            match room.checked_sub(inline) {
                Some(left) => room = left,
                // It has no blobs to go to. The newest, which may have to come back, finds room.
                None if known.node.as_ref().is_some_and(|node| node.link().is_some()) => {
                    if !keep.is_empty() {
                        continue;
                    }
                }
                None => self.move_out(key, &mut known, mode).await?,
            }
            keep.push(known);
        }
        let retained = keep.iter().map(KnownVersion::retained).collect::<Vec<_>>();
        let history = keep.into_iter().filter_map(|known| known.past(now_ms)).collect::<Vec<_>>();
        let kind = if new.node.is_some() { Kind::Live } else { Kind::Dead };
        let sealed = if kind == Kind::Dead && history.is_empty() {
            Bytes::new()
        } else {
            let NewVersion { name, modified_ms, attributes, node, .. } = new;
            let payload = Payload { name, modified_ms, attributes, node, history }.to_canonical();
            keys.payloads.seal(&payload, Salt::Random(self.replica.env.random()), true).bytes
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
        &self,
        key: RecordKey,
        known: &mut KnownVersion,
        mode: Mode,
    ) -> Result<(), Error> {
        let Some(EntryNode::Inline(content)) = &known.node else { return Ok(()) };
        let ref_id = self.new_vid();
        let moved = self.content.upload_small(key, ref_id, mode, content.clone()).await?;
        known.ref_id = ref_id;
        known.node = Some(moved.node);
        known.refs_root = moved.refs_root;
        known.blobs = moved.blobs;
        known.bytes_stored = moved.bytes_stored;
        Ok(())
    }
}

/// What a new version with this id keeps of those known. Deletions are not kept: there is nothing
/// in them to have again.
fn to_keep(
    known: Vec<KnownVersion>,
    new: &Vid,
    now_ms: Option<u64>,
    kept_for_ms: u64,
) -> Vec<KnownVersion> {
    let mut by_id: BTreeMap<Vid, KnownVersion> = known
        .into_iter()
        .filter(|known| known.node.is_some() && known.vid != *new)
        .map(|known| (known.vid, known))
        .collect();
    let earlier = by_id.values().map(|known| Earlier {
        vid: known.vid,
        hlc: known.hlc,
        replaced_ms: match known.standing {
            Role::Replaced(ms) => Some(ms),
            Role::Shown | Role::Beside => None,
        },
    });
    let keep = kept(earlier.collect(), now_ms, kept_for_ms);
    keep.into_iter().filter_map(|earlier| by_id.remove(&earlier.vid)).collect()
}
