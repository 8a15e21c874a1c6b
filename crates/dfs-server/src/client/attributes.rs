//! What is said of a name beside its content, and symbolic links.

use dfs_core::name::{FilePath, NameError};
use dfs_core::record::attributes::{Attributes, Mtime, Permissions};
use dfs_core::record::conditional::Condition;
use dfs_core::replica::listing::ListedName;
use dfs_store::vault::entry::{Entry, EntryNode, LinkTarget};
use serde::{Deserialize, Serialize};

use super::Client;
use super::moving::need_one_version;
use super::publish::NewContent;
use super::types::{ListedKind, Stored};
use crate::config::Mode;
use crate::content::Uploaded;
use crate::error::Error;
use crate::names::parts::Parts;

/// What is shown of the attributes of a name, and what a link says.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Said {
    /// The lower twelve bits of its mode, as four octal digits.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "crate::json::optional_text")]
    pub permissions: Option<Permissions>,
    /// When its content was last changed where it came from, in seconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "crate::json::optional_text")]
    pub mtime: Option<Mtime>,
    /// What a symbolic link says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
}

impl Said {
    pub(super) fn of(entry: &Entry) -> Self {
        let Attributes { permissions, mtime, .. } = entry.attributes;
        let target = entry.node.link().map(|target| target.as_str().to_owned());
        Self { permissions, mtime, target }
    }

    pub(super) fn of_name(name: &ListedName) -> Self {
        let ListedName { permissions, mtime, ref link, .. } = *name;
        Self { permissions, mtime, target: link.as_deref().map(ToOwned::to_owned) }
    }
}

/// Stores a symbolic link. See [`Client::make_link`].
pub(super) async fn make_link(
    client: &Client,
    path: &FilePath,
    says: &str,
    attributes: Attributes,
    replace: bool,
    mode: Mode,
) -> Result<Stored, Error> {
    let (replica, names) = (&client.0.replica, client.0.names()?);
    replica.joined()?;
    replica.need_right_clock().await?;
    let says = LinkTarget::new(says).ok_or(Error::BadLink)?;
    let mode = if replace { mode } else { Mode::Quorum };
    let taken = |error| if replace { error } else { exists(error, path) };
    let target = client.target(path, mode).await.map_err(taken)?;
    let (vid, modified_ms) = (names.new_vid(), replica.unix_ms());
    let uploaded = Uploaded::without_blobs(EntryNode::Link(says));
    let content = NewContent { vid, modified_ms, attributes, uploaded };
    let condition = (!replace).then_some(Condition::Absent);
    Ok(client.publish(target, content, condition, mode).await.map_err(taken)?.stored)
}

fn exists(error: Error, path: &FilePath) -> Error {
    match error {
        Error::Condition | Error::IsDirectory(_) => Error::Exists(path.to_string()),
        other => other,
    }
}

/// Says something else of a file, directory or link. See [`Client::set_attributes`].
pub(super) async fn set_attributes(
    client: &Client,
    path: &FilePath,
    attributes: &Attributes,
    mode: Mode,
) -> Result<(), Error> {
    client.0.replica.need_right_clock().await?;
    for _ in 0..CHANGED_TRIES {
        let old = client.find(path, None, mode).await?;
        let said = attributes.over(old.attributes());
        if said == *old.attributes() {
            return Ok(());
        }
        if old.kind() == ListedKind::Dir {
            return set_of_dir(client, path, attributes, mode).await;
        }
        // What is written under a condition is written by a majority.
        let mode = Mode::Quorum;
        // A new version would decide what nobody has chosen.
        need_one_version(client, &old, path, mode).await?;
        let vid = client.0.names()?.new_vid();
        let target = client.target(path, mode).await?;
        let uploaded = client.reuse(target.key, vid, &old, mode).await?;
        let modified_ms = old.modified_ms();
        let content = NewContent { vid, modified_ms, attributes: said, uploaded };
        // Else the content could go back to what it was before another write.
        let unchanged = Some(Condition::Version(old.vid));
        match client.publish(target, content, unchanged, mode).await {
            Err(Error::Condition) => {}
            published => return published.map(|_| ()),
        }
    }
    Err(Error::Contended)
}

/// What is said of a directory, if it is one, or one as well as a file.
pub(super) async fn said_of_dir(
    client: &Client,
    path: &FilePath,
    mode: Mode,
) -> Result<Option<Attributes>, Error> {
    let names = client.0.names()?;
    let found = names.walk(path, mode).await?;
    let (Some(parent), Some(name)) = (found.dir, path.base()) else { return Ok(None) };
    let key = names.keys.record_key(&parent, name);
    let dir = Parts::of(&names.keys, &key, &found.record)?.dir;
    Ok(dir.map(|(_, entry)| entry.attributes))
}

/// Says something else of a directory, also where a file has the same name.
pub(super) async fn set_of_dir(
    client: &Client,
    path: &FilePath,
    attributes: &Attributes,
    mode: Mode,
) -> Result<(), Error> {
    let (parts, names) = (&client.0, client.0.names()?);
    let missing = || Error::NotFound(path.to_string());
    let parent = names.walk(path, mode).await?.dir.ok_or_else(missing)?;
    let name = path.base().ok_or(NameError::Empty)?;
    let key = names.keys.record_key(&parent, name);
    let _one = names.lock(&key).await;
    let (read, quorum) = parts.records.read_record(key, mode).await?;
    let (_, entry) = Parts::of(&names.keys, &key, &read)?.dir.ok_or_else(missing)?;
    let said = attributes.over(&entry.attributes);
    if said == entry.attributes {
        return Ok(());
    }
    let dir = entry.dir().ok_or_else(missing)?;
    names.link_dir_as(key, name, (dir, said), (&read, quorum), mode).await.map(|_| ())
}

/// How often what is said of a file is written that others change.
const CHANGED_TRIES: usize = 5;
