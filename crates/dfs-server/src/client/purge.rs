//! Forgetting earlier versions before their time, so that their space comes back sooner.

use std::time::Duration;

use dfs_core::id::RecordKey;
use dfs_core::name::{FilePath, NameError};
use dfs_core::record::conditional::Condition;
use dfs_store::vault::entry::EntryNode;
use serde::{Deserialize, Serialize};

use super::Client;
use super::files::FileRef;
use crate::config::Mode;
use crate::error::Error;
use crate::names::conditional::WriteIf;
use crate::names::history::{NewVersion, is_purged};
use crate::names::open::{KnownVersion, Role, known_versions};
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
    fn of(known: &[KnownVersion], before_ms: u64) -> Self {
        let gone = known.iter().filter(|known| is_purged(known, before_ms));
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
        if Purged::of(&place.known, before_ms).versions > 0 {
            let Purged { versions, bytes } = purge_name(client, path, place.key, before_ms).await?;
            all = Purged { versions: all.versions + versions, bytes: all.bytes + bytes };
        }
    }
    Ok(all)
}

/// Writes what a name is once more, without what is to be forgotten.
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
        let purged = Purged::of(&known, before_ms);
        if purged.versions == 0 {
            return Ok(purged);
        }
        let mut heads = known.iter().filter(|known| !matches!(known.standing, Role::Replaced(_)));
        // Of several nobody has chosen one, and this must not.
        let (Some(head), None) = (heads.next(), heads.next()) else {
            return Err(Error::InConflict(path.to_string()));
        };
        let vid = names.new_vid();
        let entry = head.entry(name);
        let new = match entry {
            None => NewVersion::tombstone(vid, name, head.modified_ms),
            Some(entry) if entry.dir().is_some() => NewVersion::entry(vid, entry),
            Some(_) => {
                let file = FileRef::of_known(head.clone(), key, name);
                let file = file.ok_or_else(|| Error::NotFound(path.to_string()))?;
                let uploaded = client.reuse(key, vid, &file, mode).await?;
                let said = file.attributes().clone();
                let new = NewVersion::file(vid, name, file.modified_ms(), said, &uploaded);
                let (new, condition) = (new.forgetting(before_ms), Condition::Version(head.vid));
                // Else the content could go back to what it was before another write.
                match names.write_if(&WriteIf { key, path, condition, vid, new, mode }).await {
                    Err(Error::Condition) => continue,
                    written => return written.map(|_| purged),
                }
            }
        };
        let draft = names.draft(key, &read, new.forgetting(before_ms), mode).await?;
        names.write_version(key, &read, quorum, draft, mode).await?;
        return Ok(purged);
    }
    Err(Error::Contended)
}

/// How often a name is written that others change.
const CHANGED_TRIES: usize = 5;
