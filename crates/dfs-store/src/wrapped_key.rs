//! A key file under a passphrase: Argon2id (RFC 9106) makes 64 bytes of it, of which half hides the
//! key and half proves that the passphrase is the right one.
//!
//! ```text
//! offset len
//!   0     8  as in every key file; wrap: 1
//!   8     4  memory in KiB, little-endian
//!  12     4  passes
//!  16     4  lanes
//!  20    16  salt
//!  36    32  the key XOR the first 32 bytes
//!  68    32  BLAKE3 of everything before, keyed with the last 32 bytes
//! 100    32  BLAKE3 of everything before
//! ```

use argon2::{Algorithm, Argon2, Params, Version};
use zeroize::Zeroizing;

/// What it costs to try one passphrase.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cost {
    /// KiB of memory.
    pub memory_kib: u32,
    /// Passes over it.
    pub passes: u32,
    /// Lanes, which may be worked on side by side.
    pub lanes: u32,
}

impl Cost {
    /// What RFC 9106 recommends where memory is scarce: 64 MiB, 3 passes, 4 lanes.
    pub const NOW: Self = Self { memory_kib: 64 * 1024, passes: 3, lanes: 4 };

    /// Whether a file may ask for it: whoever can write the file must not make its reader take all
    /// memory, or forever.
    fn is_bearable(self) -> bool {
        let memory = 8 * self.lanes.max(1)..=MEMORY_KIB_MAX;
        memory.contains(&self.memory_kib)
            && (1..=PASSES_MAX).contains(&self.passes)
            && (1..=LANES_MAX).contains(&self.lanes)
    }

    /// Some tenths of a second, on purpose.
    fn derive(self, passphrase: &[u8], salt: &[u8; SALT_LEN]) -> Option<Zeroizing<[u8; 64]>> {
        let params = Params::new(self.memory_kib, self.passes, self.lanes, Some(64)).ok()?;
        let mut out = Zeroizing::new([0; 64]);
        let argon = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
        argon.hash_password_into(passphrase, salt, &mut out[..]).ok()?;
        Some(out)
    }
}

/// Why a key does not come out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stays {
    /// Not what this writes.
    Damaged,
    /// Another passphrase.
    WrongPassphrase,
    /// There is not as much memory as it takes.
    NoMemory,
}

/// The content of a key file that only a passphrase opens, from its first eight bytes on, without
/// the checksum. `salt` is random. `None` where the cost is out of bounds, or the memory.
pub(crate) fn encode(
    mut bytes: Zeroizing<Vec<u8>>,
    key: &[u8; 32],
    passphrase: &[u8],
    salt: &[u8; SALT_LEN],
    cost: Cost,
) -> Option<Zeroizing<Vec<u8>>> {
    let derived = cost.is_bearable().then(|| cost.derive(passphrase, salt))??;
    let (hides, proves) = halves(&derived);
    for number in [cost.memory_kib, cost.passes, cost.lanes] {
        bytes.extend_from_slice(&number.to_le_bytes());
    }
    bytes.extend_from_slice(salt);
    bytes.extend(key.iter().zip(hides).map(|(key, hides)| key ^ hides));
    let proof = blake3::keyed_hash(proves, &bytes);
    bytes.extend_from_slice(proof.as_bytes());
    Some(bytes)
}

/// Takes the key out of a file whose checksum holds.
pub(crate) fn decode(bytes: &[u8], passphrase: &[u8]) -> Result<Zeroizing<[u8; 32]>, Stays> {
    let bytes: &[u8; LEN] = bytes.try_into().map_err(|_| Stays::Damaged)?;
    let number = |at: usize| bytes[at..].first_chunk().map_or(0, |b| u32::from_le_bytes(*b));
    let cost = Cost { memory_kib: number(8), passes: number(12), lanes: number(16) };
    let salt = bytes[20..].first_chunk().filter(|_| cost.is_bearable()).ok_or(Stays::Damaged)?;
    let derived = cost.derive(passphrase, salt).ok_or(Stays::NoMemory)?;
    let (hides, proves) = halves(&derived);
    // Hashes are compared in constant time.
    let proof: [u8; 32] = *bytes[68..].first_chunk().ok_or(Stays::Damaged)?;
    if blake3::keyed_hash(proves, &bytes[..68]) != blake3::Hash::from_bytes(proof) {
        return Err(Stays::WrongPassphrase);
    }
    let mut key = Zeroizing::new([0; 32]);
    for (key, (hidden, hides)) in key.iter_mut().zip(bytes[36..68].iter().zip(hides)) {
        *key = hidden ^ hides;
    }
    Ok(key)
}

fn halves(derived: &[u8; 64]) -> (&[u8], &[u8; 32]) {
    let (hides, proves) = derived.split_at(32);
    (hides, proves.first_chunk().expect("64 bytes have two halves of 32"))
}

/// In the place of the wrap method.
pub(crate) const WRAP: u8 = 1;
pub(crate) const LEN: usize = 132;
/// Bytes of salt.
pub const SALT_LEN: usize = 16;
/// 1 GiB.
const MEMORY_KIB_MAX: u32 = 1 << 20;
const PASSES_MAX: u32 = 16;
const LANES_MAX: u32 = 16;
