//! The names of things: nodes, blobs, vaults, directories, records, versions, partitions.

use std::fmt;
use std::str::FromStr;

use bech32::{Bech32m, Hrp};

use crate::codec::{Canonical, DecodeError, Reader, Writer};

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $len:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name([u8; $len]);

        impl $name {
            /// Bytes in the id.
            pub const LEN: usize = $len;

            /// Wraps raw bytes.
            pub const fn new(bytes: [u8; $len]) -> Self {
                Self(bytes)
            }

            /// The raw bytes.
            pub const fn as_bytes(&self) -> &[u8; $len] {
                &self.0
            }

            /// Reads an id that must have exactly its length.
            ///
            /// # Errors
            /// [`DecodeError::Invalid`] for any other length.
            pub fn from_slice(bytes: &[u8]) -> Result<Self, DecodeError> {
                bytes.try_into().map(Self).map_err(|_| DecodeError::Invalid(stringify!($name)))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                short_hex(&self.0, f)
            }
        }

        impl Canonical for $name {
            fn encode(&self, out: &mut Writer) {
                out.fixed(&self.0);
            }

            fn decode(input: &mut Reader) -> Result<Self, DecodeError> {
                Ok(Self(input.array()?))
            }
        }
    };
}

id! {
    /// A node: its Ed25519 public key.
    NodeId, 32
}
id! {
    /// An admin: the Ed25519 public key that whoever governs a cluster signs its layouts with.
    AdminId, 32
}
id! {
    /// An invite of one machine into a cluster: random bytes.
    InviteId, 16
}
id! {
    /// A sealed chunk or page: the BLAKE3 hash of its stored bytes.
    BlobId, 32
}
id! {
    /// A cluster: the hash of its first epoch.
    ClusterId, 32
}
id! {
    /// A vault: a hash of its signing key.
    VaultId, 16
}
id! {
    /// A directory, opaque to anyone without the vault key.
    DirId, 16
}
id! {
    /// A name inside a directory, opaque to anyone without the vault key.
    Tag, 16
}
id! {
    /// One version of one record, and the id its chunks are referenced under.
    Vid, 16
}
id! {
    /// A writer certificate: the BLAKE3 hash of its canonical encoding.
    CertId, 32
}

/// The first eight hex digits, enough to tell things apart in a log.
impl NodeId {
    /// The beginning of the id in hex, for messages.
    pub fn short(&self) -> String {
        hex(&self.as_bytes()[..4])
    }
}

fn short_hex(bytes: &[u8], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    bytes.iter().take(4).try_for_each(|byte| write!(f, "{byte:02x}"))
}

/// All bytes as lower-case hex digits.
pub fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    bytes
        .iter()
        .flat_map(|byte| [DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]])
        .map(char::from)
        .collect()
}

/// Reads `2 N` lower- or upper-case hex digits; `None` for anything else.
pub fn from_hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digits = text.as_bytes();
    if digits.len() != 2 * N {
        return None;
    }
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        let high = char::from(pair[0]).to_digit(16)?;
        let low = char::from(pair[1]).to_digit(16)?;
        *byte = u8::try_from(high * 16 + low).ok()?;
    }
    Some(bytes)
}

/// Why a text is not the id or key it should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TextError {
    /// A character or the checksum is wrong: mistyped or cut off.
    #[error("is mistyped or cut off (its checksum does not match)")]
    Checksum,
    /// Some other kind of id or key.
    #[error("begins with another prefix than expected")]
    Prefix,
    /// Not the length of this kind of id or key.
    #[error("has the wrong length")]
    Length,
}

/// Writes `bytes` as `<prefix>1<base32 with checksum>` (Bech32m, BIP 350).
///
/// # Panics
/// Never for the fixed prefixes and 32-byte values of this project.
pub fn to_text(prefix: &'static str, bytes: &[u8; 32]) -> String {
    let prefix = Hrp::parse_unchecked(prefix);
    bech32::encode::<Bech32m>(prefix, bytes).expect("32 bytes fit the code length")
}

/// Reads what [`to_text`] wrote.
///
/// # Errors
/// [`TextError`] when it is something else.
pub fn from_text(prefix: &'static str, text: &str) -> Result<[u8; 32], TextError> {
    let text = text.trim();
    let parsed = bech32::primitives::decode::CheckedHrpstring::new::<Bech32m>(text)
        .map_err(|_| TextError::Checksum)?;
    if parsed.hrp().to_lowercase() != prefix {
        return Err(TextError::Prefix);
    }
    // The last digit has four bits more than 32 bytes need: set, one value had sixteen texts.
    let last = parsed.data_part_ascii_no_checksum().last().map(|digit| char::from(*digit));
    if !last.is_some_and(|digit| matches!(digit.to_ascii_lowercase(), 'q' | 's')) {
        return Err(TextError::Length);
    }
    let mut bytes = [0; 32];
    let mut count = 0;
    for byte in parsed.byte_iter() {
        *bytes.get_mut(count).ok_or(TextError::Length)? = byte;
        count += 1;
    }
    if count == bytes.len() { Ok(bytes) } else { Err(TextError::Length) }
}

/// The prefix of a node id's text form, `dn1...`.
pub const NODE_TEXT_PREFIX: &str = "dn";

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&to_text(NODE_TEXT_PREFIX, &self.0))
    }
}

impl FromStr for NodeId {
    type Err = TextError;

    fn from_str(text: &str) -> Result<Self, TextError> {
        from_text(NODE_TEXT_PREFIX, text).map(Self)
    }
}

impl fmt::Display for BlobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(&self.0))
    }
}

impl fmt::Display for Vid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(&self.0))
    }
}

impl BlobId {
    /// The id of stored bytes. `O(n)`.
    pub fn of(stored: &[u8]) -> Self {
        Self(*blake3::hash(stored).as_bytes())
    }

    /// The partition that holds this blob and its reference rows.
    pub fn partition(&self, bits: PartitionBits) -> Partition {
        bits.top_of(&self.0)
    }
}

/// The key of one directory entry: which vault, which directory, which name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RecordKey {
    /// The vault that owns the entry.
    pub vault: VaultId,
    /// The directory that holds the entry.
    pub dir: DirId,
    /// The name of the entry.
    pub tag: Tag,
}

impl RecordKey {
    /// Bytes in the canonical encoding.
    pub const LEN: usize = VaultId::LEN + DirId::LEN + Tag::LEN;

    /// The partition that holds this record: all entries of one directory share it, so that a
    /// listing is one scan on one replica set.
    pub fn partition(&self, bits: PartitionBits) -> Partition {
        dir_partition(&self.vault, &self.dir, bits)
    }
}

/// The partition that holds the entries of a directory.
pub fn dir_partition(vault: &VaultId, dir: &DirId, bits: PartitionBits) -> Partition {
    let mut hasher = blake3::Hasher::new();
    hasher.update(b"dfs-loc-v1").update(vault.as_bytes()).update(dir.as_bytes());
    bits.top_of(hasher.finalize().as_bytes())
}

impl Canonical for RecordKey {
    fn encode(&self, out: &mut Writer) {
        self.vault.encode(out);
        self.dir.encode(out);
        self.tag.encode(out);
    }

    fn decode(input: &mut Reader) -> Result<Self, DecodeError> {
        Ok(Self {
            vault: VaultId::decode(input)?,
            dir: DirId::decode(input)?,
            tag: Tag::decode(input)?,
        })
    }
}

/// A slice of the id space: everything whose hash begins with these bits.
pub type Partition = u16;

/// How many leading bits select a partition, 1 to 16.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PartitionBits(u8);

impl PartitionBits {
    /// What a new cluster starts with: 1,024 partitions, enough to balance 100 nodes within 10 %.
    pub const GENESIS: Self = Self(10);

    /// Accepts 1 to 16 bits.
    ///
    /// # Errors
    /// [`DecodeError::Invalid`] outside that range.
    pub const fn new(bits: u8) -> Result<Self, DecodeError> {
        match bits {
            1..=16 => Ok(Self(bits)),
            _ => Err(DecodeError::Invalid("partition_bits")),
        }
    }

    /// The number of bits.
    pub fn get(self) -> u8 {
        self.0
    }

    /// How many partitions there are.
    pub fn count(self) -> usize {
        1 << self.0
    }

    /// The lowest hash of a partition; `None` where there are fewer partitions.
    pub fn first_of(self, partition: Partition) -> Option<[u8; 32]> {
        let mut first = [0; 32];
        let is_one = usize::from(partition) < self.count();
        first[..2].copy_from_slice(&(partition << (16 - self.0)).to_be_bytes());
        is_one.then_some(first)
    }

    fn top_of(self, hash: &[u8; 32]) -> Partition {
        u16::from_be_bytes([hash[0], hash[1]]) >> (16 - self.0)
    }
}
