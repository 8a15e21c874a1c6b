//! Blob format v1: header, tag, ciphertext. All integers little-endian.
//!
//! ```text
//! offset len
//!   0     4  magic "DFSB"
//!   4     1  format version, 1
//!   5     1  suite: 0 not encrypted, 1 B3SIV-256 with AES-256-CTR
//!   6     1  kind
//!   7     1  flags: bit 0 padded, the others 0
//!   8     4  key epoch
//!  12     4  body length in bytes
//!  16    16  vault id
//!  32    16  salt
//!  48    32  tag; all zero in suite 0
//!  80        body
//! ```
//! A blob's id is the BLAKE3 hash of all of it, so a peer without keys can check what it holds.

use bytes::Bytes;
use dfs_core::id::{BlobId, VaultId};

/// What a blob holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A chunk of a file.
    Chunk = 1,
    /// A page of the list of a file's chunks.
    Manifest = 2,
    /// A page that lists, in clear, which blobs belong to one version.
    References = 3,
    /// The payload of a record.
    Payload = 5,
}

/// How the body is protected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Suite {
    /// Not at all: only for what peers without keys must read.
    Clear = 0,
    /// A keyed BLAKE3 tag as synthetic IV, then AES-256-CTR.
    Sealed = 1,
}

/// The first 48 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// How the body is protected.
    pub suite: Suite,
    /// What it holds.
    pub kind: Kind,
    /// Whether the plaintext was padded.
    pub padded: bool,
    /// Which generation of the vault's read keys.
    pub key_epoch: u32,
    /// Bytes after the tag.
    pub body_len: u32,
    /// Whose it is.
    pub vault: VaultId,
    /// Zero, or random to hide that two blobs are equal.
    pub salt: [u8; 16],
}

/// Why bytes are not a blob of format v1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FormatError {
    /// Shorter than a header and tag, or not as long as the header says.
    #[error("the blob's length is wrong")]
    Length,
    /// Something else than a blob.
    #[error("the bytes do not begin like a blob")]
    Magic,
    /// Written by a newer program.
    #[error("the blob has unknown format version {0}")]
    UnknownVersion(u8),
    /// An unknown suite or kind, or a reserved bit that is set.
    #[error("the blob's header is not valid")]
    Header,
}

impl Header {
    /// Writes the header in front of an empty tag.
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(&[VERSION, self.suite as u8, self.kind as u8, u8::from(self.padded)]);
        out.extend_from_slice(&self.key_epoch.to_le_bytes());
        out.extend_from_slice(&self.body_len.to_le_bytes());
        out.extend_from_slice(self.vault.as_bytes());
        out.extend_from_slice(&self.salt);
        out.extend_from_slice(&[0; TAG_LEN]);
    }

    /// Reads the header of a whole blob and checks that its length is what it says.
    ///
    /// # Errors
    /// [`FormatError`] for anything that is not exactly one blob of format v1.
    pub fn parse(blob: &[u8]) -> Result<Self, FormatError> {
        let head: &[u8; BODY_AT] = blob.first_chunk().ok_or(FormatError::Length)?;
        if &head[..4] != MAGIC {
            return Err(FormatError::Magic);
        }
        if head[4] != VERSION {
            return Err(FormatError::UnknownVersion(head[4]));
        }
        let suite = match head[5] {
            0 => Suite::Clear,
            1 => Suite::Sealed,
            _ => return Err(FormatError::Header),
        };
        let kind = match head[6] {
            1 => Kind::Chunk,
            2 => Kind::Manifest,
            3 => Kind::References,
            5 => Kind::Payload,
            _ => return Err(FormatError::Header),
        };
        if head[7] > 1 || (suite == Suite::Clear) != (kind == Kind::References) {
            return Err(FormatError::Header);
        }
        let body_len = u32::from_le_bytes(array(&head[12..16]));
        let whole = blob.len() == BODY_AT + body_len as usize;
        if !whole || body_len as usize > BODY_BYTES_MAX {
            return Err(FormatError::Length);
        }
        Ok(Self {
            suite,
            kind,
            padded: head[7] == 1,
            key_epoch: u32::from_le_bytes(array(&head[8..12])),
            body_len,
            vault: VaultId::new(array(&head[16..32])),
            salt: array(&head[32..48]),
        })
    }
}

fn array<const N: usize>(bytes: &[u8]) -> [u8; N] {
    bytes.try_into().expect("the caller cut N bytes")
}

/// A blob and its id. It need not be checked again: one is only made by
/// hashing the bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Blob {
    /// The hash of `bytes`.
    pub id: BlobId,
    /// Header, tag and body.
    pub bytes: Bytes,
}

impl Blob {
    /// Names finished bytes. `O(n)`.
    pub fn of(bytes: impl Into<Bytes>) -> Self {
        let bytes = bytes.into();
        Self { id: BlobId::of(&bytes), bytes }
    }

    /// Returns a blob if the bytes match the id. `O(n)`.
    pub fn checked(id: BlobId, bytes: Bytes) -> Option<Self> {
        Some(Self::of(bytes)).filter(|blob| blob.id == id)
    }
}

pub(crate) const MAGIC: &[u8; 4] = b"DFSB";
pub(crate) const VERSION: u8 = 1;
pub(crate) const TAG_AT: usize = 48;
pub(crate) const TAG_LEN: usize = 32;
pub(crate) const BODY_AT: usize = TAG_AT + TAG_LEN;
/// The longest body: a chunk of 8 MiB, its length field, and the padding of the next bucket.
pub const BODY_BYTES_MAX: usize = 8 * 1024 * 1024 + 1024 * 1024;
/// The longest blob.
pub const BLOB_BYTES_MAX: usize = BODY_AT + BODY_BYTES_MAX;
