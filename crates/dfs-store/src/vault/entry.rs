//! What a version says of its name: the plaintext inside its sealed payload, and in it what the
//! versions before it said.

use bytes::Bytes;
use dfs_core::codec::{Canonical, DecodeError, Reader, Writer};
use dfs_core::hlc::Hlc;
use dfs_core::id::{BlobId, CertId, DirId, Vid};
use dfs_core::name::PATH_BYTES_MAX;
use dfs_core::record::version::RETAINED_MAX;

/// One entry of a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The name, so that a listing can show it.
    pub name: String,
    /// When it was written, in milliseconds since 1970.
    pub modified_ms: u64,
    /// What it is.
    pub node: EntryNode,
}

/// What an entry is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EntryNode {
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

/// Everything in a sealed payload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Payload {
    /// The name.
    pub name: String,
    /// When it was written, in milliseconds since 1970.
    pub modified_ms: u64,
    /// What it is; `None` in a tombstone.
    pub node: Option<EntryNode>,
    /// What the retained versions said, newest first.
    pub history: Vec<Past>,
}

/// An earlier version of a name; its reference page is in clear beside the payload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Past {
    /// The version.
    pub vid: Vid,
    /// Its stamp.
    pub hlc: Hlc,
    /// The certificate of its writer.
    pub writer: CertId,
    /// When it was written, in milliseconds since 1970.
    pub modified_ms: u64,
    /// When another version took its place, in milliseconds since 1970.
    pub replaced_ms: u64,
    /// The size of its blobs as stored.
    pub bytes_stored: u64,
    /// The id its blobs are referenced under, which is the one in clear: its own, or another when
    /// its content came into blobs later.
    pub ref_id: Vid,
    /// What it was.
    pub node: EntryNode,
}

impl EntryNode {
    /// Bytes of content; 0 for a directory.
    pub fn bytes(&self) -> u64 {
        match self {
            Self::Dir(_) => 0,
            Self::Inline(content) => content.len() as u64,
            Self::Chunked { bytes, .. } => *bytes,
        }
    }

    /// Bytes of content that lie in the payload itself.
    pub fn inline_bytes(&self) -> usize {
        match self {
            Self::Inline(content) => content.len(),
            Self::Dir(_) | Self::Chunked { .. } => 0,
        }
    }

    /// The directory's id, if it is one.
    pub fn dir(&self) -> Option<DirId> {
        match self {
            Self::Dir(dir) => Some(*dir),
            Self::Inline(_) | Self::Chunked { .. } => None,
        }
    }

    fn encode(&self, out: &mut Writer) {
        match self {
            Self::Dir(dir) => {
                out.u8(1);
                dir.encode(out);
            }
            Self::Inline(content) => {
                out.u8(2);
                out.bytes(content);
            }
            Self::Chunked { bytes, manifest } => {
                out.u8(3);
                out.u64(*bytes);
                manifest.encode(out);
            }
        }
    }

    /// Reads what follows a tag; `None` after that of a tombstone.
    fn decode(input: &mut Reader) -> Result<Option<Self>, DecodeError> {
        Ok(Some(match input.u8()? {
            NOTHING => return Ok(None),
            1 => Self::Dir(DirId::decode(input)?),
            2 => Self::Inline(input.bytes("content", INLINE_BYTES_MAX)?),
            3 => Self::Chunked { bytes: input.u64()?, manifest: BlobId::decode(input)? },
            _ => return Err(DecodeError::Invalid("entry")),
        }))
    }
}

impl Entry {
    /// Bytes of content; 0 for a directory.
    pub fn bytes(&self) -> u64 {
        self.node.bytes()
    }

    /// The directory's id, if it is one.
    pub fn dir(&self) -> Option<DirId> {
        self.node.dir()
    }
}

impl Payload {
    /// The entry it speaks of; `None` in a tombstone.
    pub fn entry(self) -> Option<Entry> {
        let Self { name, modified_ms, node, .. } = self;
        node.map(|node| Entry { name, modified_ms, node })
    }
}

impl Canonical for Past {
    fn encode(&self, out: &mut Writer) {
        self.vid.encode(out);
        out.u64(self.hlc.0);
        self.writer.encode(out);
        out.u64(self.modified_ms);
        out.u64(self.replaced_ms);
        out.u64(self.bytes_stored);
        self.ref_id.encode(out);
        self.node.encode(out);
    }

    fn decode(input: &mut Reader) -> Result<Self, DecodeError> {
        Ok(Self {
            vid: Vid::decode(input)?,
            hlc: Hlc(input.u64()?),
            writer: CertId::decode(input)?,
            modified_ms: input.u64()?,
            replaced_ms: input.u64()?,
            bytes_stored: input.u64()?,
            ref_id: Vid::decode(input)?,
            // A deletion has nothing that could be had again.
            node: EntryNode::decode(input)?.ok_or(DecodeError::Invalid("history"))?,
        })
    }
}

impl Canonical for Payload {
    /// Without history in the first format, which has no room for any.
    fn encode(&self, out: &mut Writer) {
        let has_history = !self.history.is_empty();
        out.u8(if has_history { WITH_HISTORY } else { WITHOUT_HISTORY });
        out.bytes(self.name.as_bytes());
        out.u64(self.modified_ms);
        match &self.node {
            None => out.u8(NOTHING),
            Some(node) => node.encode(out),
        }
        if has_history {
            out.list(&self.history);
        }
    }

    fn decode(input: &mut Reader) -> Result<Self, DecodeError> {
        let has_history = match input.u8()? {
            WITHOUT_HISTORY => false,
            WITH_HISTORY => true,
            other => return Err(DecodeError::UnknownVersion(other)),
        };
        let payload = Self {
            name: input.string("name", PATH_BYTES_MAX)?,
            modified_ms: input.u64()?,
            node: EntryNode::decode(input)?,
            history: match has_history {
                false => Vec::new(),
                true => input.list("history", RETAINED_MAX)?,
            },
        };
        let in_order = payload.history.is_sorted_by(|a, b| (a.hlc, a.vid) > (b.hlc, b.vid));
        if has_history == payload.history.is_empty() || !in_order {
            return Err(DecodeError::Invalid("history"));
        }
        // A tombstone without history has no payload at all.
        match payload.node {
            None if !has_history => Err(DecodeError::Invalid("entry")),
            _ => Ok(payload),
        }
    }
}

const WITHOUT_HISTORY: u8 = 1;
const WITH_HISTORY: u8 = 2;
/// The tag of a tombstone.
const NOTHING: u8 = 0;
/// Content up to this size lives in the record: one write, no chunk.
pub const INLINE_BYTES_MAX: usize = 16 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn payload(node: Option<EntryNode>, history: Vec<Past>) -> Payload {
        Payload { name: "文件".to_owned(), modified_ms: 7, node, history }
    }

    fn inline(len: usize) -> EntryNode {
        EntryNode::Inline(vec![1; len].into())
    }

    fn past(stamp: u64, node: EntryNode) -> Past {
        Past {
            vid: Vid::new([3; 16]),
            hlc: Hlc(stamp),
            writer: CertId::new([4; 32]),
            modified_ms: 5,
            replaced_ms: 6,
            bytes_stored: 7,
            ref_id: Vid::new([8; 16]),
            node,
        }
    }

    fn nodes() -> [EntryNode; 4] {
        let manifest = BlobId::new([2; 32]);
        [
            EntryNode::Dir(DirId::new([1; 16])),
            inline(0),
            inline(INLINE_BYTES_MAX),
            EntryNode::Chunked { bytes: 1 << 40, manifest },
        ]
    }

    #[track_caller]
    fn check(payload: Payload, error: Option<DecodeError>) {
        let decoded = Payload::from_canonical(payload.to_canonical());
        assert_eq!(decoded, error.map_or(Ok(payload), Err));
    }

    #[test]
    fn payloads_come_back_and_oversized_content_does_not() {
        for node in nodes() {
            check(payload(Some(node.clone()), Vec::new()), None);
            check(payload(None, vec![past(2, node.clone()), past(1, inline(1))]), None);
            check(payload(Some(inline(3)), vec![past(1, node)]), None);
        }
        let long = || inline(INLINE_BYTES_MAX + 1);
        check(payload(Some(long()), Vec::new()), Some(DecodeError::TooLong("content")));
        check(payload(None, vec![past(1, long())]), Some(DecodeError::TooLong("content")));
    }

    #[test]
    fn history_has_one_order_and_a_bound() {
        let of = |stamps: &[u64]| stamps.iter().map(|stamp| past(*stamp, inline(0))).collect();
        let disorder = Some(DecodeError::Invalid("history"));
        check(payload(None, of(&[1, 2])), disorder);
        check(payload(None, of(&[2, 2])), disorder);
        let most: Vec<_> = (1..=RETAINED_MAX as u64).rev().collect();
        check(payload(None, of(&most)), None);
        let more: Vec<_> = (0..=RETAINED_MAX as u64).rev().collect();
        check(payload(None, of(&more)), Some(DecodeError::TooLong("history")));
    }

    #[test]
    fn the_largest_payload_fits_a_version() {
        let chunked = EntryNode::Chunked { bytes: 1, manifest: BlobId::new([2; 32]) };
        let history = (0..RETAINED_MAX as u64).rev().map(|at| past(at, chunked.clone())).collect();
        let largest = Payload {
            name: "x".repeat(PATH_BYTES_MAX),
            ..payload(Some(inline(INLINE_BYTES_MAX)), history)
        };
        // With the header, the length and the padding of a sealed payload.
        let sealed = largest.to_canonical().len() + 80 + 4 + 64;
        assert!(sealed < dfs_core::record::version::SEALED_BYTES_MAX / 2, "{sealed} bytes");
    }
}
