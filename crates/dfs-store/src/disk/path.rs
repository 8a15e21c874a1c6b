//! The SHA-1 path transform: spreads files over directories, and proves nothing about content.
//!
//! The digest of a key is cut into path segments, so that no directory grows large. A file's name
//! inside them is the whole id, so two ids whose digests collide are two files in one directory.

use std::path::PathBuf;

use dfs_core::id::{BlobId, hex};
use sha1::{Digest, Sha1};

/// How digests become directories.
///
/// ```
/// use dfs_store::disk::path::PathTransform;
///
/// let classic = PathTransform { segment_len: 5, depth: 8 };
/// assert_eq!(
///     classic.segments(b"momsbestpicture").join("/"),
///     "68044/29f74/181a6/3c50c/3d81d/733a1/2f14a/353ff",
/// );
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PathTransform {
    /// Hex digits in one segment.
    pub segment_len: usize,
    /// Segments, as far as the forty digits last.
    pub depth: usize,
}

impl Default for PathTransform {
    /// Two segments of two digits: 65,536 directories, 15 files each at a million blobs.
    fn default() -> Self {
        Self { segment_len: 2, depth: 2 }
    }
}

impl PathTransform {
    /// The directories of a key, outermost first.
    pub fn segments(&self, key: &[u8]) -> Vec<String> {
        self.cut(&Sha1::digest(key))
    }

    fn cut(&self, digest: &[u8]) -> Vec<String> {
        let digits: Vec<char> = hex(digest).chars().collect();
        let segments = digits.chunks_exact(self.segment_len.max(1)).take(self.depth);
        segments.map(|segment| segment.iter().collect()).collect()
    }

    /// The directories of a blob, outermost first.
    pub fn blob_dirs(&self, id: &BlobId) -> Vec<String> {
        self.cut(&digest(id))
    }

    /// Where a blob lies in the order of the directories, whatever their number: in a cycle through
    /// all blobs, the share that lies before it.
    pub fn place(id: &BlobId) -> u64 {
        digest(id).first_chunk().map_or(0, |first| u64::from_be_bytes(*first))
    }

    /// The path of a blob's file, relative to the directory of all blobs.
    pub fn blob_path(&self, id: &BlobId) -> PathBuf {
        let mut path: PathBuf = self.blob_dirs(id).iter().collect();
        path.push(format!("{id}.blob"));
        path
    }
}

fn digest(id: &BlobId) -> [u8; 20] {
    Sha1::new_with_prefix(b"dfs-path-v1\0").chain_update(id.as_bytes()).finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reproduces_the_classic_layout() {
        let classic = PathTransform { segment_len: 5, depth: 8 };
        assert_eq!(
            classic.segments(b"momsbestpicture"),
            ["68044", "29f74", "181a6", "3c50c", "3d81d", "733a1", "2f14a", "353ff"]
        );
    }

    #[test]
    fn ids_with_colliding_digests_are_two_files() {
        let transform = PathTransform::default();
        let dirs = transform.cut(&[0xab; 20]);
        assert_eq!(dirs, ["ab", "ab"]);
        let name = |byte| transform.blob_path(&BlobId::new([byte; 32]));
        assert_ne!(name(1).file_name(), name(2).file_name());
    }

    #[test]
    fn places_are_in_the_order_of_the_directories() {
        let mut ids: Vec<_> = (0..=255).map(|byte| BlobId::new([byte; 32])).collect();
        ids.sort_by_key(PathTransform::place);
        let dirs: Vec<_> = ids.iter().map(|id| PathTransform::default().blob_dirs(id)).collect();
        assert!(dirs.is_sorted());
    }

    #[test]
    fn a_blob_lies_two_directories_deep_under_its_whole_id() {
        let path = PathTransform::default().blob_path(&BlobId::new([0; 32]));
        let parts: Vec<_> = path.iter().map(|part| part.to_str().unwrap().len()).collect();
        assert_eq!(parts, [2, 2, 64 + ".blob".len()]);
    }
}
