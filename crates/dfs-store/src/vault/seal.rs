//! Sealing: a keyed BLAKE3 tag over header and plaintext serves as synthetic IV, and AES-256-CTR
//! under a key derived from the tag encrypts (the SIV construction of Rogaway and Shrimpton, 2006).
//!
//! Equal plaintexts under a zero salt give equal blobs, which is how a vault deduplicates; a
//! failing random generator costs nothing more than that. The tag commits to the key.

use aes::Aes256;
use bytes::{Bytes, BytesMut};
use ctr::cipher::{KeyIvInit, StreamCipher};
use dfs_core::id::{BlobId, VaultId};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::blob::{BODY_AT, BODY_BYTES_MAX, Blob, Header, Kind, Suite, TAG_AT};

/// Whether equal plaintexts may be seen to be equal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Salt {
    /// Equal plaintexts of one vault give equal blobs.
    Deduplicating,
    /// These random bytes make the blob unlike any other.
    Random([u8; 16]),
}

/// Why a blob did not open. Peers learn only that it did not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// Not a blob of the expected kind and vault.
    #[error("not a sealed blob of this kind and vault")]
    Foreign,
    /// The stored bytes are not the ones this id names.
    #[error("the stored bytes do not match their id")]
    WrongId,
    /// The tag or the padding is wrong: another key, or tampering by someone who could rename.
    #[error("the blob does not verify under this key")]
    Unverified,
}

/// Seals and opens blobs of one kind under one pair of keys.
pub struct Sealer {
    kind: Kind,
    vault: VaultId,
    key_epoch: u32,
    siv: Zeroizing<[u8; 32]>,
    enc: Zeroizing<[u8; 32]>,
}

impl Sealer {
    pub(crate) fn new(
        kind: Kind,
        vault: VaultId,
        key_epoch: u32,
        siv: Zeroizing<[u8; 32]>,
        enc: Zeroizing<[u8; 32]>,
    ) -> Self {
        Self { kind, vault, key_epoch, siv, enc }
    }

    /// Seals `plain`, padded to hide its exact length if asked. `O(n)`, one allocation.
    ///
    /// # Panics
    /// When `plain` is longer than a body may be: callers cut content into chunks first.
    pub fn seal(&self, plain: &[u8], salt: Salt, padded: bool) -> Blob {
        let inner_len = padded_len(self.kind, LENGTH_LEN + plain.len(), padded);
        assert!(inner_len <= BODY_BYTES_MAX, "content is cut into chunks before it is sealed");
        let header = Header {
            suite: Suite::Sealed,
            kind: self.kind,
            padded,
            key_epoch: self.key_epoch,
            body_len: len_u32(inner_len),
            vault: self.vault,
            salt: match salt {
                Salt::Deduplicating => [0; 16],
                Salt::Random(salt) => salt,
            },
        };
        let mut bytes = Vec::with_capacity(BODY_AT + inner_len);
        header.write(&mut bytes);
        bytes.extend_from_slice(&len_u32(plain.len()).to_le_bytes());
        bytes.extend_from_slice(plain);
        bytes.resize(BODY_AT + inner_len, 0);

        let tag = self.tag(&bytes[..TAG_AT], &bytes[BODY_AT..]);
        bytes[TAG_AT..BODY_AT].copy_from_slice(&tag);
        self.apply_keystream(&tag, &mut bytes[BODY_AT..]);
        Blob::of(bytes)
    }

    /// Verifies a blob in full, then releases its plaintext. `O(n)`.
    ///
    /// # Errors
    /// [`OpenError`]; nothing of the plaintext is released then.
    pub fn open(&self, id: &BlobId, blob: &[u8]) -> Result<Bytes, OpenError> {
        let header = Header::parse(blob).map_err(|_| OpenError::Foreign)?;
        let ours = header.suite == Suite::Sealed
            && header.kind == self.kind
            && header.key_epoch == self.key_epoch
            && header.vault == self.vault;
        if !ours {
            return Err(OpenError::Foreign);
        }
        if BlobId::of(blob) != *id {
            return Err(OpenError::WrongId);
        }
        let (_, rest) = blob.split_at(TAG_AT);
        let tag: [u8; 32] = *rest.first_chunk().ok_or(OpenError::Foreign)?;
        let mut inner = BytesMut::from(&blob[BODY_AT..]);
        self.apply_keystream(&tag, &mut inner);
        let expected = self.tag(&blob[..TAG_AT], &inner);
        if !bool::from(expected.ct_eq(&tag)) {
            return Err(OpenError::Unverified);
        }
        self.unpad(inner.freeze(), header.padded)
    }

    pub(crate) fn unpad(&self, mut inner: Bytes, padded: bool) -> Result<Bytes, OpenError> {
        let length = inner.first_chunk::<LENGTH_LEN>().ok_or(OpenError::Unverified)?;
        let plain_len = u32::from_le_bytes(*length) as usize;
        let end = LENGTH_LEN.checked_add(plain_len).filter(|end| *end <= inner.len());
        let end = end.ok_or(OpenError::Unverified)?;
        let canonical = padded_len(self.kind, end, padded) == inner.len();
        if !canonical || inner[end..].iter().any(|byte| *byte != 0) {
            return Err(OpenError::Unverified);
        }
        inner.truncate(end);
        Ok(inner.slice(LENGTH_LEN..))
    }

    fn tag(&self, header: &[u8], inner: &[u8]) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new_keyed(&self.siv);
        hasher.update(header).update(inner);
        *hasher.finalize().as_bytes()
    }

    fn apply_keystream(&self, tag: &[u8; 32], inner: &mut [u8]) {
        let mut okm = Zeroizing::new([0; 40]);
        blake3::Hasher::new_keyed(&self.enc).update(tag).finalize_xof().fill(okm.as_mut());
        let key: [u8; 32] = okm[..32].try_into().expect("a key is 32 bytes");
        let mut iv = [0; 16];
        iv[..8].copy_from_slice(&okm[32..]);
        // The counter is the last 8 bytes, big-endian.
        ctr::Ctr64BE::<Aes256>::new(&key.into(), &iv.into()).apply_keystream(inner);
    }
}

impl std::fmt::Debug for Sealer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sealer").field("kind", &self.kind).field("vault", &self.vault).finish()
    }
}

/// The body length for `len` bytes of length field and plaintext.
///
/// Payloads grow to multiples of 64 bytes, everything else to Padmé buckets (Nikitin et al. 2019,
/// at most 12 % more) of at least 256 bytes.
fn padded_len(kind: Kind, len: usize, padded: bool) -> usize {
    match (padded, kind) {
        (false, _) => len,
        (true, Kind::Payload) => len.next_multiple_of(PAYLOAD_STEP),
        (true, _) => padme(len.max(PADDED_MIN)),
    }
}

fn padme(len: usize) -> usize {
    let exponent = len.ilog2();
    let kept_bits = exponent.ilog2() + 1;
    let mask = (1 << exponent.saturating_sub(kept_bits)) - 1;
    (len + mask) & !mask
}

fn len_u32(len: usize) -> u32 {
    u32::try_from(len).expect("a body is far below 4 GiB")
}

const LENGTH_LEN: usize = 4;
const PADDED_MIN: usize = 256;
const PAYLOAD_STEP: usize = 64;

#[cfg(test)]
mod tests;
