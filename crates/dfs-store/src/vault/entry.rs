//! What a version says of its name: the plaintext inside its sealed payload, and in it what the
//! versions before it said.

use bytes::Bytes;
use dfs_core::codec::{Canonical, DecodeError, Reader, Writer};
use dfs_core::hlc::Hlc;
use dfs_core::id::{BlobId, CertId, DirId, Vid};
use dfs_core::name::COMPONENT_BYTES_MAX;
use dfs_core::record::attributes::Attributes;
use dfs_core::record::version::RETAINED_MAX;

/// One entry of a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The name, so that a listing can show it.
    pub name: String,
    /// When it was written, in milliseconds since 1970.
    pub modified_ms: u64,
    /// What else is said of it.
    pub attributes: Attributes,
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
    /// A symbolic link: what it says, which is a path nobody here follows.
    Link(LinkTarget),
}

/// What a symbolic link says: text of 1 to 4,095 bytes without NUL, as symlink(2) takes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkTarget(String);

impl LinkTarget {
    /// Checks a text; `None` where no link can say it.
    pub fn new(text: impl Into<String>) -> Option<Self> {
        let text = text.into();
        let fits = (1..=LINK_BYTES_MAX).contains(&text.len()) && !text.contains('\0');
        fits.then_some(Self(text))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Everything in a sealed payload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Payload {
    /// The name.
    pub name: String,
    /// When it was written, in milliseconds since 1970.
    pub modified_ms: u64,
    /// What else is said of it; nothing in a tombstone.
    pub attributes: Attributes,
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
    /// What else was said of it.
    pub attributes: Attributes,
    /// What it was.
    pub node: EntryNode,
}

impl EntryNode {
    /// Bytes of content; 0 for a directory, and of a link what it says.
    pub fn bytes(&self) -> u64 {
        match self {
            Self::Dir(_) => 0,
            Self::Inline(content) => content.len() as u64,
            Self::Chunked { bytes, .. } => *bytes,
            Self::Link(target) => target.0.len() as u64,
        }
    }

    /// Bytes of content that lie in the payload itself.
    pub fn inline_bytes(&self) -> usize {
        match self {
            Self::Inline(content) => content.len(),
            Self::Link(target) => target.0.len(),
            Self::Dir(_) | Self::Chunked { .. } => 0,
        }
    }

    /// The directory's id, if it is one.
    pub fn dir(&self) -> Option<DirId> {
        match self {
            Self::Dir(dir) => Some(*dir),
            Self::Inline(_) | Self::Chunked { .. } | Self::Link(_) => None,
        }
    }

    /// What the link says, if it is one.
    pub fn link(&self) -> Option<&LinkTarget> {
        match self {
            Self::Link(target) => Some(target),
            Self::Dir(_) | Self::Inline(_) | Self::Chunked { .. } => None,
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
            Self::Link(target) => {
                out.u8(4);
                out.bytes(target.0.as_bytes());
            }
        }
    }

    /// Reads what follows a tag; `None` after that of a tombstone.
    fn decode(input: &mut Reader, format: u8) -> Result<Option<Self>, DecodeError> {
        Ok(Some(match input.u8()? {
            NOTHING => return Ok(None),
            1 => Self::Dir(DirId::decode(input)?),
            2 => Self::Inline(input.bytes("content", INLINE_BYTES_MAX)?),
            3 => Self::Chunked { bytes: input.u64()?, manifest: BlobId::decode(input)? },
            4 if format == WITH_ATTRIBUTES => {
                let target = LinkTarget::new(input.string("link", LINK_BYTES_MAX)?);
                Self::Link(target.ok_or(DecodeError::Invalid("link"))?)
            }
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
        let Self { name, modified_ms, attributes, node, .. } = self;
        node.map(|node| Entry { name, modified_ms, attributes, node })
    }

    /// The first format that has room for all of it, so that what could always be said keeps its
    /// bytes.
    fn format(&self) -> u8 {
        let needs = |attributes: &Attributes, node: &EntryNode| {
            !attributes.is_empty() || node.link().is_some()
        };
        let here = self.node.as_ref().is_some_and(|node| needs(&self.attributes, node));
        if here || self.history.iter().any(|past| needs(&past.attributes, &past.node)) {
            return WITH_ATTRIBUTES;
        }
        if self.history.is_empty() { WITHOUT_HISTORY } else { WITH_HISTORY }
    }
}

impl Past {
    fn encode(&self, out: &mut Writer, format: u8) {
        self.vid.encode(out);
        out.u64(self.hlc.0);
        self.writer.encode(out);
        out.u64(self.modified_ms);
        out.u64(self.replaced_ms);
        out.u64(self.bytes_stored);
        self.ref_id.encode(out);
        if format == WITH_ATTRIBUTES {
            self.attributes.encode(out);
        }
        self.node.encode(out);
    }

    fn decode(input: &mut Reader, format: u8) -> Result<Self, DecodeError> {
        Ok(Self {
            vid: Vid::decode(input)?,
            hlc: Hlc(input.u64()?),
            writer: CertId::decode(input)?,
            modified_ms: input.u64()?,
            replaced_ms: input.u64()?,
            bytes_stored: input.u64()?,
            ref_id: Vid::decode(input)?,
            attributes: decode_attributes(input, format)?,
            // A deletion has nothing that could be had again.
            node: EntryNode::decode(input, format)?.ok_or(DecodeError::Invalid("history"))?,
        })
    }
}

fn decode_attributes(input: &mut Reader, format: u8) -> Result<Attributes, DecodeError> {
    match format {
        WITH_ATTRIBUTES => Attributes::decode(input),
        _ => Ok(Attributes::default()),
    }
}

fn decode_history(input: &mut Reader, format: u8) -> Result<Vec<Past>, DecodeError> {
    let count = match format {
        WITHOUT_HISTORY => 0,
        _ => input.count("history", RETAINED_MAX)?,
    };
    let history = (0..count).map(|_| Past::decode(input, format)).collect::<Result<Vec<_>, _>>()?;
    match history.is_sorted_by(|a, b| (a.hlc, a.vid) > (b.hlc, b.vid)) {
        true => Ok(history),
        false => Err(DecodeError::Invalid("history")),
    }
}

impl Canonical for Payload {
    /// Each in the first format that has room for it.
    fn encode(&self, out: &mut Writer) {
        let format = self.format();
        out.u8(format);
        out.bytes(self.name.as_bytes());
        out.u64(self.modified_ms);
        if format == WITH_ATTRIBUTES {
            self.attributes.encode(out);
        }
        match &self.node {
            None => out.u8(NOTHING),
            Some(node) => node.encode(out),
        }
        if format != WITHOUT_HISTORY {
            out.count(self.history.len());
            self.history.iter().for_each(|past| past.encode(out, format));
        }
    }

    fn decode(input: &mut Reader) -> Result<Self, DecodeError> {
        let format = input.u8()?;
        if !(WITHOUT_HISTORY..=WITH_ATTRIBUTES).contains(&format) {
            return Err(DecodeError::UnknownVersion(format));
        }
        let payload = Self {
            name: input.string("name", COMPONENT_BYTES_MAX)?,
            modified_ms: input.u64()?,
            attributes: decode_attributes(input, format)?,
            node: EntryNode::decode(input, format)?,
            history: decode_history(input, format)?,
        };
        if payload.node.is_none() && !payload.attributes.is_empty() {
            return Err(DecodeError::Invalid("attributes"));
        }
        if format == WITH_HISTORY && payload.history.is_empty() {
            return Err(DecodeError::Invalid("history"));
        }
        // A tombstone without history has no payload at all.
        if payload.node.is_none() && payload.history.is_empty() {
            return Err(DecodeError::Invalid("entry"));
        }
        match payload.format() == format {
            true => Ok(payload),
            false => Err(DecodeError::Invalid("attributes")),
        }
    }
}

const WITHOUT_HISTORY: u8 = 1;
const WITH_HISTORY: u8 = 2;
/// With attributes and links, here or in the history, which may be empty.
const WITH_ATTRIBUTES: u8 = 3;
/// The tag of a tombstone.
const NOTHING: u8 = 0;
/// Content up to this size lives in the record: one write, no chunk.
pub const INLINE_BYTES_MAX: usize = 16 * 1024;
/// What symlink(2) takes.
const LINK_BYTES_MAX: usize = 4095;

#[cfg(test)]
mod tests {
    use dfs_core::record::attributes::{Mtime, OTHER_BYTES_MAX, Permissions};

    use super::*;

    fn payload(node: Option<EntryNode>, history: Vec<Past>) -> Payload {
        let attributes = Attributes::default();
        Payload { name: "文件".to_owned(), modified_ms: 7, attributes, node, history }
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
            attributes: Attributes::default(),
            node,
        }
    }

    fn said() -> Attributes {
        let permissions = Some(Permissions::of_mode(0o755));
        let other = [(9, vec![1; OTHER_BYTES_MAX - 5].into())].into();
        Attributes { permissions, mtime: Mtime::new(-1, 1), other }
    }

    fn nodes() -> [EntryNode; 5] {
        let manifest = BlobId::new([2; 32]);
        [
            EntryNode::Dir(DirId::new([1; 16])),
            inline(0),
            inline(INLINE_BYTES_MAX),
            EntryNode::Chunked { bytes: 1 << 40, manifest },
            EntryNode::Link(LinkTarget::new("x".repeat(LINK_BYTES_MAX)).unwrap()),
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
            check(payload(Some(inline(3)), vec![past(1, node.clone())]), None);
            let old = Past { attributes: said(), ..past(1, node.clone()) };
            check(payload(Some(inline(3)), vec![old.clone()]), None);
            check(payload(None, vec![old.clone()]), None);
            let new = Payload { attributes: said(), ..payload(Some(node), Vec::new()) };
            check(Payload { history: vec![old], ..new.clone() }, None);
            check(new, None);
        }
        let long = || inline(INLINE_BYTES_MAX + 1);
        check(payload(Some(long()), Vec::new()), Some(DecodeError::TooLong("content")));
        check(payload(None, vec![past(1, long())]), Some(DecodeError::TooLong("content")));
    }

    #[test]
    fn what_could_always_be_said_keeps_its_bytes() {
        let format = |payload: Payload| payload.to_canonical()[0];
        assert_eq!(format(payload(Some(inline(1)), Vec::new())), WITHOUT_HISTORY);
        assert_eq!(format(payload(None, vec![past(1, inline(1))])), WITH_HISTORY);
        let plain = payload(Some(inline(1)), vec![past(1, inline(1))]);
        let mut later = plain.to_canonical();
        later[0] = WITH_ATTRIBUTES;
        assert!(Payload::from_canonical(later).is_err());
    }

    #[test]
    fn a_link_says_what_a_file_system_takes() {
        for bad in ["", "a\0b", &"x".repeat(LINK_BYTES_MAX + 1)] {
            assert_eq!(LinkTarget::new(bad), None);
        }
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
        let old = |at| Past { attributes: said(), ..past(at, chunked.clone()) };
        let mut history: Vec<_> = (0..RETAINED_MAX as u64).rev().map(old).collect();
        // A link that was replaced is kept even where there is no room.
        history[0].node = EntryNode::Link(LinkTarget::new("x".repeat(LINK_BYTES_MAX)).unwrap());
        let largest = Payload {
            attributes: said(),
            name: "x".repeat(COMPONENT_BYTES_MAX),
            ..payload(Some(inline(INLINE_BYTES_MAX)), history)
        };
        // With the header, the length and the padding of a sealed payload.
        let sealed = largest.to_canonical().len() + 80 + 4 + 64;
        assert!(sealed < dfs_core::record::version::SEALED_BYTES_MAX, "{sealed} bytes");
    }
}
