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
    forgets: Option<Forget>,
}

/// What a version leaves out of the history that says of its name what another says.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Forget {
    /// The version that it says again.
    pub(crate) repeated: Vid,
    /// Nothing is kept that was replaced by then.
    pub(crate) before_ms: u64,
    /// When what is there now was made: what was replaced at a time that is not known was so by
    /// then.
    pub(crate) newest_ms: u64,
}

impl Forget {
    /// Whether it leaves a version out. Never a directory: it takes no space, and what was in it is
    /// found through it.
    pub(crate) fn covers(&self, known: &KnownVersion) -> bool {
        if known.node.as_ref().is_none_or(|node| node.dir().is_some()) {
            return false;
        }
        match known.standing {
            Role::Replaced(UNKNOWN_MS) => self.newest_ms <= self.before_ms,
            Role::Replaced(ms) => ms <= self.before_ms,
            Role::Shown | Role::Beside => false,
        }
    }
}

impl NewVersion {
    /// The same, which keeps neither what is to be forgotten nor what it repeats.
    pub(crate) fn forgetting(self, forget: Forget) -> Self {
        Self { forgets: Some(forget), ..self }
    }

    fn keeps(&self, known: &KnownVersion) -> bool {
        let Some(forget) = &self.forgets else { return true };
        known.vid != forget.repeated && !forget.covers(known)
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
            forgets: None,
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
            forgets: None,
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

#[cfg(test)]
mod tests {
    use dfs_core::hlc::Hlc;
    use dfs_core::id::CertId;

    use super::*;

    fn known(vid: u8, standing: Role, node: Option<EntryNode>) -> KnownVersion {
        KnownVersion {
            vid: Vid::new([vid; 16]),
            hlc: Hlc::from_unix_ms(NOW_MS),
            standing,
            writer: CertId::new([0; 32]),
            modified_ms: 0,
            attributes: Attributes::default(),
            node,
            ref_id: Vid::new([vid; 16]),
            refs_root: None,
            blobs: 0,
            bytes_stored: 0,
        }
    }

    const NOW_MS: u64 = 1_800_000_000_000;

    #[test]
    fn only_what_is_old_and_what_is_said_again_is_forgotten() {
        let file = || Some(EntryNode::Inline(Bytes::from_static(b"x")));
        let dir = || Some(EntryNode::Dir(dfs_core::id::DirId::new([1; 16])));
        let forget =
            Forget { repeated: Vid::new([1; 16]), before_ms: NOW_MS - 1000, newest_ms: NOW_MS };
        let new = NewVersion::tombstone(Vid::new([9; 16]), "f", 0).forgetting(forget);
        for (version, keeps) in [
            (known(1, Role::Shown, file()), false),
            // Somebody wrote these since it was looked: they wait for a decision, or are newer.
            (known(2, Role::Beside, file()), true),
            (known(2, Role::Shown, file()), true),
            (known(3, Role::Replaced(NOW_MS - 1001), file()), false),
            (known(3, Role::Replaced(NOW_MS - 999), file()), true),
            (known(3, Role::Replaced(NOW_MS - 1001), dir()), true),
            // It may have been replaced a moment ago.
            (known(3, Role::Replaced(UNKNOWN_MS), file()), true),
        ] {
            assert_eq!(new.keeps(&version), keeps, "{version:?}");
        }
        let later = Forget { before_ms: NOW_MS, ..forget };
        assert!(later.covers(&known(3, Role::Replaced(UNKNOWN_MS), file())));
    }
}
