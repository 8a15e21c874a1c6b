//! Manifests: the sealed lists of a file's chunks.
//!
//! A manifest is sealed and fixes the order of a file's chunks, so a swapped, repeated or missing
//! chunk changes the list. A file with more chunks than one page holds has a page of level 1 that
//! lists pages of level 0. What peers see of a version is a [`crate::pages::ReferencePage`].

use bytes::{Buf, Bytes};
use dfs_core::id::BlobId;

use crate::pages::{PageError, put_ids, take_ids};

/// A page of the list of a file's chunks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// 0: `ids` are chunks. 1: `ids` are pages of level 0.
    pub level: u8,
    /// Random, one for each stored file: keeps equal files from sharing a page.
    pub file_id: [u8; 16],
    /// Plaintext bytes in every chunk but the last.
    pub chunk_bytes: u32,
    /// Plaintext bytes the page covers.
    pub total_bytes: u64,
    /// Keyed hash of the whole plaintext; zero in a page below another.
    pub content: [u8; 32],
    /// The listed blobs, in order.
    pub ids: Vec<BlobId>,
}

impl Manifest {
    /// The page's plaintext.
    ///
    /// # Panics
    /// When there are more ids than [`MANIFEST_IDS_MAX`]: writers start a new page before.
    pub fn encode(&self) -> Vec<u8> {
        assert!(self.ids.len() <= MANIFEST_IDS_MAX, "a full page is followed by another");
        let mut out = Vec::with_capacity(MANIFEST_HEAD + self.ids.len() * BlobId::LEN);
        out.extend_from_slice(b"DFSM");
        out.extend_from_slice(&[MANIFEST_VERSION, self.level, 0, 0]);
        out.extend_from_slice(&self.file_id);
        out.extend_from_slice(&self.chunk_bytes.to_le_bytes());
        out.extend_from_slice(&self.total_bytes.to_le_bytes());
        out.extend_from_slice(&self.content);
        put_ids(&self.ids, &mut out);
        out
    }

    /// Reads a page's plaintext. The number of ids must fit the bytes it covers.
    ///
    /// # Errors
    /// [`PageError`] when it is something else.
    pub fn decode(mut page: Bytes) -> Result<Self, PageError> {
        if page.len() < MANIFEST_HEAD || page.split_to(4) != b"DFSM"[..] {
            return Err(PageError::Malformed);
        }
        let version = page.get_u8();
        if version != MANIFEST_VERSION {
            return Err(PageError::UnknownVersion(version));
        }
        let level = page.get_u8();
        let flags = page.get_u16_le();
        let mut file_id = [0; 16];
        page.copy_to_slice(&mut file_id);
        let chunk_bytes = page.get_u32_le();
        let total_bytes = page.get_u64_le();
        let mut content = [0; 32];
        page.copy_to_slice(&mut content);
        let ids = take_ids(page, MANIFEST_IDS_MAX)?;
        let page = Self { level, file_id, chunk_bytes, total_bytes, content, ids };
        let chunk_ok = chunk_bytes > 0 && chunk_bytes <= CHUNK_BYTES_MAX;
        let count_ok = chunk_ok && page.ids.len() as u64 == page.expected_ids();
        if flags != 0 || level > 1 || !count_ok {
            return Err(PageError::Malformed);
        }
        Ok(page)
    }

    /// Plaintext bytes under one id of this page, except perhaps the last.
    pub fn bytes_per_id(&self) -> u64 {
        match self.level {
            0 => u64::from(self.chunk_bytes),
            _ => u64::from(self.chunk_bytes) * MANIFEST_IDS_MAX as u64,
        }
    }

    fn expected_ids(&self) -> u64 {
        self.total_bytes.div_ceil(self.bytes_per_id())
    }
}

const MANIFEST_VERSION: u8 = 1;
const MANIFEST_HEAD: usize = 4 + 4 + 16 + 4 + 8 + 32 + 4;
/// Ids on one manifest page: just under 1 MiB.
pub const MANIFEST_IDS_MAX: usize = 32_000;
/// The largest chunk a manifest may speak of.
const CHUNK_BYTES_MAX: u32 = 8 * 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest(ids: usize, total_bytes: u64) -> Manifest {
        let ids = (0..ids).map(|at| BlobId::of(&at.to_le_bytes())).collect();
        Manifest {
            level: 0,
            file_id: [1; 16],
            chunk_bytes: 1024,
            total_bytes,
            content: [2; 32],
            ids,
        }
    }

    #[test]
    fn pages_come_back() {
        for (ids, total) in [(0, 0), (1, 1), (1, 1024), (3, 2049)] {
            let page = manifest(ids, total);
            assert_eq!(Manifest::decode(page.encode().into()), Ok(page));
        }
    }

    #[test]
    fn a_list_that_does_not_fit_its_size_is_refused() {
        for (ids, total) in [(1, 0), (0, 1), (2, 1024), (3, 3073)] {
            let page = manifest(ids, total).encode();
            assert_eq!(Manifest::decode(page.into()), Err(PageError::Malformed), "{ids} {total}");
        }
    }

    #[test]
    fn cut_pages_are_refused() {
        let page = manifest(2, 2000).encode();
        for len in 0..page.len() {
            assert!(Manifest::decode(page[..len].to_vec().into()).is_err(), "cut at {len}");
        }
    }
}
