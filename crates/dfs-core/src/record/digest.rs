//! Which live versions a record has, in eight bytes: what listings are compared by.

use std::fmt;

use super::version::{Kind, Record};

/// Equal where the live record of one name has the same heads: a hash of their ids.
///
/// It decides nothing but whether two replicas need be read, and whoever may write a version has
/// the vault's key, so that eight bytes are enough.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HeadsDigest([u8; Self::LEN]);

impl HeadsDigest {
    /// Bytes of one.
    pub const LEN: usize = 8;

    /// One as it came from a peer.
    pub const fn new(bytes: [u8; Self::LEN]) -> Self {
        Self(bytes)
    }

    /// Of a record; `None` where nothing is listed under its name: it was deleted, or never
    /// written. `O(heads)`.
    pub fn of(record: &Record) -> Option<Self> {
        record.winner().filter(|winner| winner.kind == Kind::Live)?;
        let mut hasher = blake3::Hasher::new();
        record.heads().for_each(|head| {
            hasher.update(head.vid.as_bytes());
        });
        hasher.finalize().as_bytes().first_chunk().copied().map(Self)
    }

    /// Its bytes.
    pub fn as_bytes(&self) -> &[u8; Self::LEN] {
        &self.0
    }
}

impl fmt::Debug for HeadsDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&crate::id::hex(&self.0))
    }
}
