//! Reference rows: which version uses which blob.
//!
//! A blob is wanted while a row for it lives. Rows merge without conflict: `dropped` stays set
//! once it is, and the later `hold_until` counts. A version's id is never used again, so a dropped
//! row never comes back to life.

use crate::codec::{Canonical, DecodeError, Reader, Writer};
use crate::hlc::Hlc;
use crate::id::{BlobId, RecordKey, Vid};

/// One use of one blob.
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
    /// Whether the use has ended.
    pub dropped: bool,
    /// Until when the row counts even if no record names the version yet.
    pub hold_until: Hlc,
}

impl RefRow {
    /// What two replicas that hold `self` and `other` should both hold.
    #[must_use]
    pub fn merged(self, other: Self) -> Self {
        Self {
            dropped: self.dropped || other.dropped,
            hold_until: self.hold_until.max(other.hold_until),
            hlc: self.hlc.max(other.hlc),
            // One version belongs to one record; should a writer claim two, all keep the same.
            key: self.key.min(other.key),
            ..self
        }
    }

    /// What replicas compare. It leaves out what may differ for a while without harm.
    pub fn state_hash(&self) -> [u8; 32] {
        let mut out = Writer::default();
        out.fixed(b"dfs-ref-v1\0");
        self.blob.encode(&mut out);
        self.vid.encode(&mut out);
        self.key.encode(&mut out);
        *blake3::hash(out.as_slice()).as_bytes()
    }
}

impl Canonical for RefRow {
    fn encode(&self, out: &mut Writer) {
        self.blob.encode(out);
        self.vid.encode(out);
        self.key.encode(out);
        out.u64(self.hlc.0);
        out.u8(u8::from(self.dropped));
        out.u64(self.hold_until.0);
    }

    fn decode(input: &mut Reader) -> Result<Self, DecodeError> {
        Ok(Self {
            blob: BlobId::decode(input)?,
            vid: Vid::decode(input)?,
            key: RecordKey::decode(input)?,
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
