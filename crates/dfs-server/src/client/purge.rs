//! Forgetting earlier versions before their time, so that their space comes back sooner.

use std::time::Duration;

use dfs_core::id::RecordKey;
use dfs_core::name::{FilePath, NameError};
use dfs_core::record::conditional::Condition;
use dfs_store::vault::entry::EntryNode;
use serde::{Deserialize, Serialize};

use super::Client;
use super::files::FileRef;
use super::types::ListedKind;
use crate::config::Mode;
use crate::error::Error;
use crate::names::conditional::WriteIf;
use crate::names::history::{Forget, NewVersion};
use crate::names::open::{KnownVersion, known_versions, live_heads};
use crate::replica::millis;

/// What is not kept any more.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Purged {
    /// Versions that cannot be had again.
    pub versions: u64,
    /// Bytes of their content. Some of it may be that of other versions too.
    pub bytes: u64,
}

impl Purged {
    fn of(known: &[KnownVersion], forget: &Forget) -> Self {
        let gone = known.iter().filter(|known| forget.covers(known));
        gone.fold(Self::default(), |Self { versions, bytes }, known| Self {
            versions: versions + 1,
            bytes: bytes + known.node.as_ref().map_or(0, EntryNode::bytes),
        })
    }
}

/// See [`Client::purge`].
pub(super) async fn purge(
    client: &Client,
    path: &FilePath,
    older_than: Duration,
    mode: Mode,
) -> Result<Purged, Error> {
    let replica = &client.0.replica;
    replica.need_right_clock().await?;
    let before_ms = replica.unix_ms().saturating_sub(millis(older_than));
    let mut all = Purged::default();
    for place in client.places(path, mode).await? {
        if place.known.is_empty() {
            continue;
        }
        let Purged { versions, bytes } = purge_name(client, path, place.key, before_ms).await?;
        all = Purged { versions: all.versions + versions, bytes: all.bytes + bytes };
    }
    Ok(all)
}

/// Writes what a name is once more, without what is to be forgotten. A name that is a directory now
/// is left as it is.
async fn purge_name(
    client: &Client,
    path: &FilePath,
    key: RecordKey,
    before_ms: u64,
) -> Result<Purged, Error> {
    let (parts, names) = (&client.0, client.0.names()?);
    let name = path.base().ok_or(NameError::Empty)?;
    let mode = Mode::Quorum;
    let _one = names.lock(&key).await;
    for _ in 0..CHANGED_TRIES {
        let (read, quorum) = parts.records.read_record(key, mode).await?;
        let known = known_versions(&names.keys, &key, &read)?;
        let live = live_heads(&known);
        let Some(head) = live.first().copied().or_else(|| known.first()) else {
            return Ok(Purged::default());
        };
        let newest_ms = head.hlc.unix_ms();
        let forget = Forget { repeated: head.vid, before_ms, newest_ms };
        let purged = Purged::of(&known, &forget);
        if purged.versions == 0 {
            return Ok(purged);
        }
        // Of several nobody has chosen one, and this must not.
        if live.len() > 1 {
            return Err(Error::InConflict(path.to_string()));
        }
        let vid = names.new_vid();
        let Some(file) = FileRef::of_known(head.clone(), key, name) else {
            let new = NewVersion::tombstone(vid, name, head.modified_ms).forgetting(forget);
            let draft = names.draft(key, &read, new, mode).await?;
            names.write_version(key, &read, quorum, draft, mode).await?;
            return Ok(purged);
        };
        if file.kind() == ListedKind::Dir {
            return Ok(Purged::default());
        }
        let uploaded = client.reuse(key, vid, &file, mode).await?;
        let said = file.attributes().clone();
        let new = NewVersion::file(vid, name, file.modified_ms(), said, &uploaded);
        let (new, condition) = (new.forgetting(forget), Condition::Version(head.vid));
        // Else the content could go back to what it was before another write.
        match names.write_if(&WriteIf { key, path, condition, vid, new, mode }).await {
            Err(Error::Condition) => {}
            written => return written.map(|_| purged),
        }
    }
    Err(Error::Contended)
}

/// How often a name is written that others change.
const CHANGED_TRIES: usize = 5;
