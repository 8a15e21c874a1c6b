//! What a directory entry says: the plaintext inside a record's sealed payload.

use bytes::Bytes;
use dfs_core::codec::{Canonical, DecodeError, Reader, Writer};
use dfs_core::id::{BlobId, DirId};
use dfs_core::name::PATH_BYTES_MAX;

/// One entry of a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    /// The name, so that a listing can show it.
    pub(crate) name: String,
    /// When it was written, in milliseconds since 1970.
    pub(crate) modified_ms: u64,
    /// What it is.
    pub(crate) node: EntryNode,
}

/// What an entry is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum EntryNode {
    /// A directory.
    Dir(DirId),
    /// A small file, with its content.
    Inline(Bytes),
    /// A file in chunks.
    Chunked {
        /// Bytes of content.
        bytes: u64,
        /// The top page of the list of chunks.
        manifest: BlobId,
    },
}

impl Entry {
    /// Bytes of content; 0 for a directory.
    pub(crate) fn bytes(&self) -> u64 {
        match &self.node {
            EntryNode::Dir(_) => 0,
            EntryNode::Inline(content) => content.len() as u64,
            EntryNode::Chunked { bytes, .. } => *bytes,
        }
    }

    /// The directory's id, if it is one.
    pub(crate) fn dir(&self) -> Option<DirId> {
        match self.node {
            EntryNode::Dir(dir) => Some(dir),
            _ => None,
        }
    }
}

impl Canonical for Entry {
    fn encode(&self, out: &mut Writer) {
        out.u8(ENTRY_FORMAT);
        out.bytes(self.name.as_bytes());
        out.u64(self.modified_ms);
        match &self.node {
            EntryNode::Dir(dir) => {
                out.u8(1);
                dir.encode(out);
            }
            EntryNode::Inline(content) => {
                out.u8(2);
                out.bytes(content);
            }
            EntryNode::Chunked { bytes, manifest } => {
                out.u8(3);
                out.u64(*bytes);
                manifest.encode(out);
            }
        }
    }

    fn decode(input: &mut Reader) -> Result<Self, DecodeError> {
        match input.u8()? {
            ENTRY_FORMAT => {}
            other => return Err(DecodeError::UnknownVersion(other)),
        }
        Ok(Self {
            name: input.string("name", PATH_BYTES_MAX)?,
            modified_ms: input.u64()?,
            node: match input.u8()? {
                1 => EntryNode::Dir(DirId::decode(input)?),
                2 => EntryNode::Inline(input.bytes("content", INLINE_BYTES_MAX)?),
                3 => EntryNode::Chunked { bytes: input.u64()?, manifest: BlobId::decode(input)? },
                _ => return Err(DecodeError::Invalid("entry")),
            },
        })
    }
}

const ENTRY_FORMAT: u8 = 1;
/// Content up to this size lives in the record: one write, no chunk.
pub(crate) const INLINE_BYTES_MAX: usize = 16 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_come_back_and_oversized_content_does_not() {
        let entry = |node| Entry { name: "文件".to_owned(), modified_ms: 7, node };
        let inline = |len| EntryNode::Inline(vec![1; len].into());
        for node in [
            EntryNode::Dir(DirId::new([1; 16])),
            inline(0),
            inline(INLINE_BYTES_MAX),
            EntryNode::Chunked { bytes: 1 << 40, manifest: BlobId::new([2; 32]) },
        ] {
            let entry = entry(node);
            assert_eq!(Entry::from_canonical(entry.to_canonical()), Ok(entry));
        }
        let long = entry(inline(INLINE_BYTES_MAX + 1)).to_canonical();
        assert_eq!(Entry::from_canonical(long), Err(DecodeError::TooLong("content")));
    }
}
