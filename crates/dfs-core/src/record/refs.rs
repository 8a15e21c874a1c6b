//! Reference rows: which version uses which blob.
//!
//! A blob is wanted while a row for it lives. A row speaks of one [`Use`]; rows of the same use
//! merge without conflict: the later `hold_until` counts. The record is part of what names a use,
//! so whoever makes up a row with another record has made another use, and ends no genuine one.
//! Whether a use has ended each replica finds out by itself (see
//! [`crate::replica::purge::may_drop`]) and takes from nobody: so no single member can have others
//! throw blobs away.

use crate::codec::{Canonical, DecodeError, Reader, Writer};
use crate::hlc::Hlc;
use crate::id::{BlobId, RecordKey, Vid};

/// What uses a blob: a version of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Use {
    /// The blob.
    pub blob: BlobId,
    /// The version that uses it.
    pub vid: Vid,
    /// The record of that version.
    pub key: RecordKey,
}

/// One use of one blob, as a replica notes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RefRow {
    /// The blob.
    pub blob: BlobId,
    /// The version that uses it.
    pub vid: Vid,
    /// The record of that version.
    pub key: RecordKey,
    /// When the row was made.
    pub hlc: Hlc,
    /// Whether the replica that holds the row found that the use has ended.
    pub dropped: bool,
    /// Until when the row counts even if no record names the version yet.
    pub hold_until: Hlc,
}

impl RefRow {
    /// What the row speaks of.
    pub fn of(&self) -> Use {
        Use { blob: self.blob, vid: self.vid, key: self.key }
    }

    /// What a replica that holds `self` should hold once it hears of `other`, a row of the same
    /// use. Commutative, associative and idempotent but for `dropped`, which stays as it is here.
    #[must_use]
    pub fn merged(self, other: Self) -> Self {
        Self {
            hold_until: self.hold_until.max(other.hold_until),
            hlc: self.hlc.max(other.hlc),
            ..self
        }
    }

    /// The row as a use that counts: what others say of its end is not taken over.
    #[must_use]
    pub fn live(self) -> Self {
        Self { dropped: false, ..self }
    }

    /// What replicas compare. It leaves out what may differ for a while without harm.
    pub fn state_hash(&self) -> [u8; 32] {
        let mut out = Writer::default();
        out.fixed(b"dfs-ref-v1\0");
        self.of().encode(&mut out);
        *blake3::hash(out.as_slice()).as_bytes()
    }
}

impl Canonical for Use {
    fn encode(&self, out: &mut Writer) {
        self.blob.encode(out);
        self.vid.encode(out);
        self.key.encode(out);
    }

    fn decode(input: &mut Reader) -> Result<Self, DecodeError> {
        Ok(Self {
            blob: BlobId::decode(input)?,
            vid: Vid::decode(input)?,
            key: RecordKey::decode(input)?,
        })
    }
}

impl Canonical for RefRow {
    fn encode(&self, out: &mut Writer) {
        self.of().encode(out);
        out.u64(self.hlc.0);
        out.u8(u8::from(self.dropped));
        out.u64(self.hold_until.0);
    }

    fn decode(input: &mut Reader) -> Result<Self, DecodeError> {
        let Use { blob, vid, key } = Use::decode(input)?;
        Ok(Self {
            blob,
            vid,
            key,
            hlc: Hlc(input.u64()?),
            dropped: match input.u8()? {
                0 => false,
                1 => true,
                _ => return Err(DecodeError::Invalid("dropped")),
            },
            hold_until: Hlc(input.u64()?),
        })
    }
}
