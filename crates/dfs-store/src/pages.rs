//! Reference pages: in clear, all blobs of one version, for peers that must know what belongs
//! together without a key.

use std::collections::BTreeSet;

use bytes::{Buf, Bytes};
use dfs_core::id::{BlobId, VaultId};

use crate::blob::{BODY_AT, Blob, Header, Kind, Suite};

/// A page that lists, in clear, blobs of one version, or further such pages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReferencePage {
    /// 0: `ids` are blobs of the version. Above: pages of the level below.
    pub level: u8,
    /// The listed blobs.
    pub ids: Vec<BlobId>,
}

impl ReferencePage {
    /// The page as a stored blob.
    ///
    /// # Panics
    /// When there are more ids than [`REFERENCE_IDS_MAX`]: writers start a new page before.
    pub fn to_blob(&self, vault: VaultId) -> Blob {
        assert!(self.ids.len() <= REFERENCE_IDS_MAX, "a full page is followed by another");
        let body_len = REFERENCE_HEAD + self.ids.len() * BlobId::LEN;
        let header = Header {
            suite: Suite::Clear,
            kind: Kind::References,
            padded: false,
            key_epoch: 0,
            body_len: u32::try_from(body_len).expect("a page is small"),
            vault,
            salt: [0; 16],
        };
        let mut bytes = Vec::with_capacity(BODY_AT + body_len);
        header.write(&mut bytes);
        bytes.push(self.level);
        put_ids(&self.ids, &mut bytes);
        Blob::of(bytes)
    }

    /// Reads a stored page.
    ///
    /// # Errors
    /// [`PageError`] when the blob is something else.
    pub fn from_blob(blob: &Bytes) -> Result<Self, PageError> {
        let header = Header::parse(blob).map_err(|_| PageError::Malformed)?;
        if header.kind != Kind::References || blob.len() < BODY_AT + REFERENCE_HEAD {
            return Err(PageError::Malformed);
        }
        let mut body = blob.slice(BODY_AT..);
        let level = body.get_u8();
        Ok(Self { level, ids: take_ids(body, REFERENCE_IDS_MAX)? })
    }
}

/// A walk through the reference pages of one version, from the top page down.
///
/// It enters each page once, however many others name it, and only on the level below theirs: it
/// ends whatever a peer made of the pages.
#[derive(Debug)]
pub struct PageWalk {
    left: Vec<PageAt>,
    seen: BTreeSet<BlobId>,
}

/// A page to enter, and its level if the page above implies it.
#[derive(Debug, Clone, Copy)]
pub struct PageAt {
    /// The blob that is the page.
    pub id: BlobId,
    level: Option<u8>,
}

impl PageWalk {
    /// Begins at the top page.
    pub fn from(root: BlobId) -> Self {
        Self { left: vec![PageAt { id: root, level: None }], seen: BTreeSet::from([root]) }
    }

    /// The page to read and enter next.
    pub fn next_page(&mut self) -> Option<PageAt> {
        self.left.pop()
    }

    /// Takes in what was read. Returns all ids on the page, each once, including those of further
    /// pages.
    ///
    /// # Errors
    /// [`PageError`] when it is no page, or one of another level.
    pub fn enter(&mut self, at: PageAt, blob: &Bytes) -> Result<Vec<BlobId>, PageError> {
        let page = ReferencePage::from_blob(blob)?;
        if at.level.is_some_and(|level| page.level != level) {
            return Err(PageError::Malformed);
        }
        let ids: BTreeSet<BlobId> = page.ids.into_iter().collect();
        if let Some(below) = page.level.checked_sub(1) {
            let new = ids.iter().filter(|id| self.seen.insert(**id));
            self.left.extend(new.map(|id| PageAt { id: *id, level: Some(below) }));
        }
        Ok(ids.into_iter().collect())
    }
}

/// Why bytes are not such a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PageError {
    /// Not the format.
    #[error("the page is not valid")]
    Malformed,
    /// Written by a newer program.
    #[error("the page has unknown format version {0}")]
    UnknownVersion(u8),
}

pub(crate) fn put_ids(ids: &[BlobId], out: &mut Vec<u8>) {
    out.extend_from_slice(&u32::try_from(ids.len()).expect("a page is small").to_le_bytes());
    ids.iter().for_each(|id| out.extend_from_slice(id.as_bytes()));
}

pub(crate) fn take_ids(mut bytes: Bytes, max: usize) -> Result<Vec<BlobId>, PageError> {
    let count = bytes.try_get_u32_le().map_err(|_| PageError::Malformed)? as usize;
    if count > max || bytes.len() != count * BlobId::LEN {
        return Err(PageError::Malformed);
    }
    let id = |raw: &[u8]| BlobId::from_slice(raw).map_err(|_| PageError::Malformed);
    bytes.chunks_exact(BlobId::LEN).map(id).collect()
}

const REFERENCE_HEAD: usize = 1 + 4;
/// Ids on one reference page.
pub const REFERENCE_IDS_MAX: usize = 1024;

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn pages_come_back() {
        let ids = (0..5u8).map(|byte| BlobId::new([byte; 32])).collect();
        let page = ReferencePage { level: 1, ids };
        let blob = page.to_blob(VaultId::new([3; 16]));
        assert_eq!(ReferencePage::from_blob(&blob.bytes), Ok(page));
    }

    fn stored(level: u8, ids: &[BlobId], pages: &mut BTreeMap<BlobId, Bytes>) -> BlobId {
        let blob = ReferencePage { level, ids: ids.to_vec() }.to_blob(VaultId::new([1; 16]));
        pages.insert(blob.id, blob.bytes);
        blob.id
    }

    fn walk(root: BlobId, pages: &BTreeMap<BlobId, Bytes>) -> Result<Vec<BlobId>, PageError> {
        let (mut walk, mut seen) = (PageWalk::from(root), Vec::new());
        while let Some(at) = walk.next_page() {
            seen.extend(walk.enter(at, &pages[&at.id])?);
        }
        seen.sort_unstable();
        Ok(seen)
    }

    #[test]
    fn a_walk_gives_what_is_on_every_page() {
        let mut pages = BTreeMap::new();
        let [a, b, c] = [1, 2, 3].map(|byte| BlobId::new([byte; 32]));
        let (one, other) = (stored(0, &[a, b, a], &mut pages), stored(0, &[c], &mut pages));
        let root = stored(1, &[one, other], &mut pages);
        let mut all = vec![a, b, c, one, other];
        all.sort_unstable();
        assert_eq!(walk(root, &pages).unwrap(), all);
    }

    #[test]
    fn pages_that_name_the_same_ones_do_not_double_with_every_level() {
        let mut pages = BTreeMap::new();
        let mut below = [1, 2].map(|byte| stored(0, &[BlobId::new([byte; 32])], &mut pages));
        for level in 1..=u8::MAX {
            let [one, other] = below;
            below = [
                stored(level, &[one, other], &mut pages),
                stored(level, &[one, other, one], &mut pages),
            ];
        }
        assert_eq!(walk(below[0], &pages).unwrap().len(), 254 * 4 + 2 + 2);
    }

    #[test]
    fn a_page_of_another_level_than_the_one_above_says_is_refused() {
        let mut pages = BTreeMap::new();
        let leaf = stored(0, &[BlobId::new([1; 32])], &mut pages);
        let root = stored(2, &[leaf], &mut pages);
        assert!(matches!(walk(root, &pages), Err(PageError::Malformed)));
    }
}
