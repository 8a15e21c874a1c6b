//! What a directory was: its names with their versions, those that were deleted too.

use std::fmt;
use std::str::FromStr;

use dfs_core::id::{RecordKey, from_hex, hex};
use dfs_core::name::FilePath;
use serde::{Deserialize, Serialize};

use super::Client;
use super::types::Logged;
use super::versions::{PathPlace, logged};
use crate::config::Mode;
use crate::error::Error;
use crate::names::open::{known_versions, name_of};

/// A name, and what is kept of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NameHistory {
    /// The whole path.
    pub path: String,
    /// Its versions and its last deletion, newest first.
    pub versions: Vec<Logged>,
}

/// A page of the names of a directory, in no order that means anything.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HistoryPage {
    /// The names.
    pub names: Vec<NameHistory>,
    /// What to go on after, when more may follow.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub next: Option<String>,
}

/// Where a page begins: in which of the directories that the path has led to, and after which row.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct HistoryCursor {
    dir: usize,
    after: Option<[u8; 16]>,
}

/// This is no [`HistoryCursor`] that a page ended with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it is not where a page ended")]
pub struct CursorError;

impl FromStr for HistoryCursor {
    type Err = CursorError;

    fn from_str(text: &str) -> Result<Self, CursorError> {
        let (dir, after) = text.split_once('.').ok_or(CursorError)?;
        let is_number = !dir.is_empty() && dir.bytes().all(|byte| byte.is_ascii_digit());
        let dir = dir.parse().ok().filter(|_| is_number).ok_or(CursorError)?;
        let after = match after {
            "" => None,
            after => Some(from_hex(after).ok_or(CursorError)?),
        };
        Ok(Self { dir, after })
    }
}

impl fmt::Display for HistoryCursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let after = self.after.map(|after| hex(&after)).unwrap_or_default();
        write!(f, "{}.{after}", self.dir)
    }
}

/// See [`Client::dir_history`].
pub(super) async fn dir_history(
    client: &Client,
    path: &FilePath,
    from: HistoryCursor,
    mode: Mode,
) -> Result<HistoryPage, Error> {
    let dirs = client.dirs_of(path, mode).await?;
    let Some((dir, _)) = dirs.get(from.dir).copied() else {
        return Err(Error::NotFound(path.to_string()));
    };
    let (names, records) = (client.0.names()?, &client.0.records);
    let vault = names.keys.vault;
    let (tags, next) = records.all_tags((vault, dir), from.after, mode).await?;
    let keys: Vec<_> = tags.into_iter().map(|tag| RecordKey { vault, dir, tag }).collect();
    let read = records.read_records(&keys, mode).await?;
    let mut page = HistoryPage::default();
    for (key, record) in keys.into_iter().zip(read.records) {
        let Some(name) = name_of(&names.keys, &key, &record)? else { continue };
        let places = match &dirs[..] {
            [(_, is_current)] => {
                let known = known_versions(&names.keys, &key, &record)?;
                vec![PathPlace { key, known, is_current: *is_current }]
            }
            several => {
                let places = client.places_in(several, &name, mode).await?;
                // An earlier page has shown it.
                let is_shown = |place: &PathPlace| place.known.iter().any(|it| it.node.is_some());
                if places[..from.dir].iter().any(is_shown) {
                    continue;
                }
                places
            }
        };
        page.names
            .push(NameHistory { path: path.join(&name)?.to_string(), versions: logged(&places) });
    }
    page.names.sort_unstable_by(|a, b| a.path.cmp(&b.path));
    let next = match next {
        Some(after) => HistoryCursor { dir: from.dir, after: Some(after) },
        None => HistoryCursor { dir: from.dir + 1, after: None },
    };
    page.next = Some(next).filter(|next| next.dir < dirs.len()).map(|next| next.to_string());
    Ok(page)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_a_page_begins_is_text_and_back() {
        for cursor in [
            HistoryCursor::default(),
            HistoryCursor { dir: 3, after: None },
            HistoryCursor { dir: 0, after: Some([0xab; 16]) },
        ] {
            assert_eq!(cursor.to_string().parse(), Ok(cursor));
        }
        for bad in ["", "x", "1", "+1.", ".", "1.ab", "-1.", "99999999999999999999999."] {
            assert_eq!(bad.parse::<HistoryCursor>(), Err(CursorError), "{bad}");
        }
    }
}
