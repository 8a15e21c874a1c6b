//! Keys: the two that people handle, and those derived from them.

use dfs_core::id::{DirId, RecordKey, Tag, TextError, VaultId, from_text, to_text};
use dfs_core::node::invite::InviteKey;
use dfs_core::record::writer::vault_id;
use ed25519_dalek::SigningKey;
use hkdf::Hkdf;
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::blob::Kind;
use crate::vault::seal::Sealer;

/// Lets a node join a cluster. Opens no file.
#[derive(Clone)]
pub struct ClusterKey(Zeroizing<[u8; 32]>);

/// Opens, names and signs the files of a vault.
#[derive(Clone)]
pub struct VaultKey(Zeroizing<[u8; 32]>);

macro_rules! shared_key {
    ($name:ident, $prefix:literal) => {
        impl $name {
            /// The prefix of the key's text form.
            pub const TEXT_PREFIX: &'static str = $prefix;

            /// Wraps 32 random bytes.
            pub fn from_bytes(bytes: [u8; 32]) -> Self {
                Self(Zeroizing::new(bytes))
            }

            /// The raw bytes. Keep them out of logs, arguments and environments.
            pub fn expose(&self) -> &[u8; 32] {
                &self.0
            }

            /// The key as text with a checksum, to be written down.
            pub fn to_text(&self) -> Zeroizing<String> {
                Zeroizing::new(to_text($prefix, &self.0))
            }

            /// Reads the text form.
            ///
            /// # Errors
            /// [`TextError`] when it is mistyped or another kind of key.
            pub fn from_text(text: &str) -> Result<Self, TextError> {
                from_text($prefix, text).map(Self::from_bytes)
            }
        }

        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(concat!(stringify!($name), "(secret)"))
            }
        }
    };
}

shared_key!(ClusterKey, "dfsc");
shared_key!(VaultKey, "dfsw");

/// Why 24 words are not a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WordsError {
    /// A word is not on the list, the count is wrong, or the checksum does not match.
    #[error("these are not the 24 words of a key (a word is mistyped, missing or out of order)")]
    NotWords,
}

impl VaultKey {
    /// The key as 24 English words with a checksum (BIP 39).
    ///
    /// # Panics
    /// Never: 32 bytes are an allowed length.
    pub fn to_words(&self) -> Zeroizing<String> {
        let words = bip39::Mnemonic::from_entropy(self.0.as_ref()).expect("32 bytes make 24 words");
        // A text that grows leaves copies behind that nothing wipes.
        let mut text = Zeroizing::new(String::with_capacity(WORDS_BYTES_MAX));
        for word in words.words() {
            if !text.is_empty() {
                text.push(' ');
            }
            text.push_str(word);
        }
        text
    }

    /// Reads 24 words, in any case and spacing.
    ///
    /// # Errors
    /// [`WordsError`] when they are not the words of a key.
    pub fn from_words(words: &str) -> Result<Self, WordsError> {
        let words = words.split_whitespace().map(str::to_lowercase).collect();
        let words = Zeroizing::<Vec<String>>::new(words);
        let words = Zeroizing::new(words.join(" "));
        let parsed = bip39::Mnemonic::parse_in_normalized(bip39::Language::English, &words)
            .map_err(|_| WordsError::NotWords)?;
        let entropy = Zeroizing::new(parsed.to_entropy());
        let entropy: &[u8; 32] = entropy.as_slice().try_into().map_err(|_| WordsError::NotWords)?;
        let mut key = Zeroizing::new([0; 32]);
        key.copy_from_slice(entropy);
        Ok(Self(key))
    }

    /// Signs the layouts of the cluster that the vault governs. One hash.
    pub fn admin(&self) -> SigningKey {
        SigningKey::from_bytes(&hkdf(&self.0, b"cluster admin"))
    }

    /// Makes the secrets of invites into that cluster. One hash.
    pub fn invites(&self) -> InviteKey {
        InviteKey::new(hkdf(&self.0, b"cluster invites"))
    }

    /// The vault's id: what the cluster names that is for its files. One hash, one multiplication.
    pub fn vault(&self) -> VaultId {
        vault_id(&self.signing().verifying_key().to_bytes())
    }

    fn signing(&self) -> SigningKey {
        SigningKey::from_bytes(&hkdf(&self.0, b"sign"))
    }

    /// The keys that do the work. A handful of hashes.
    pub fn derive(&self) -> VaultKeys {
        let (signing, vault) = (self.signing(), self.vault());
        let read_root = hkdf(&self.0, b"read");
        let purpose = |name: &str| {
            let mut info = b"dfs/v1/".to_vec();
            info.extend_from_slice(name.as_bytes());
            info.push(0);
            info.extend_from_slice(vault.as_bytes());
            info.extend_from_slice(&KEY_EPOCH.to_be_bytes());
            hkdf(&read_root, &info)
        };
        let meta =
            |kind| Sealer::new(kind, vault, KEY_EPOCH, purpose("meta-siv"), purpose("meta-enc"));
        VaultKeys {
            vault,
            chunks: Sealer::new(
                Kind::Chunk,
                vault,
                KEY_EPOCH,
                purpose("chunk-siv"),
                purpose("chunk-enc"),
            ),
            manifests: meta(Kind::Manifest),
            payloads: meta(Kind::Payload),
            signing,
            names: purpose("names"),
            dirs: purpose("dirs"),
            content: purpose("content"),
        }
    }
}

/// Everything derived from a vault key.
pub struct VaultKeys {
    /// The vault's id.
    pub vault: VaultId,
    /// Seals chunks of files.
    pub chunks: Sealer,
    /// Seals manifest pages.
    pub manifests: Sealer,
    /// Seals the payloads of records.
    pub payloads: Sealer,
    /// Certifies writers.
    pub signing: SigningKey,
    names: Zeroizing<[u8; 32]>,
    dirs: Zeroizing<[u8; 32]>,
    content: Zeroizing<[u8; 32]>,
}

impl VaultKeys {
    /// The directory at the top.
    pub fn root_dir(&self) -> DirId {
        DirId::new(first16(blake3::keyed_hash(&self.dirs, b"root")))
    }

    /// The record of a name in a directory.
    pub fn record_key(&self, dir: &DirId, name: &str) -> RecordKey {
        let mut hasher = blake3::Hasher::new_keyed(&self.names);
        hasher.update(dir.as_bytes()).update(name.as_bytes());
        RecordKey { vault: self.vault, dir: *dir, tag: Tag::new(first16(hasher.finalize())) }
    }

    /// The id of a directory that is made in `parent`: whoever makes it, on whatever side of a
    /// split, makes the same one, and so does who makes it again after it was deleted.
    pub fn child_dir(&self, parent: &DirId, name: &str) -> DirId {
        let mut hasher = blake3::Hasher::new_keyed(&self.dirs);
        hasher.update(parent.as_bytes()).update(name.as_bytes()).update(&[0; 16]);
        DirId::new(first16(hasher.finalize()))
    }

    /// Starts the keyed hash of a file's whole plaintext.
    pub fn content_hasher(&self) -> blake3::Hasher {
        blake3::Hasher::new_keyed(&self.content)
    }
}

impl std::fmt::Debug for VaultKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("VaultKeys").field("vault", &self.vault).finish_non_exhaustive()
    }
}

fn hkdf(secret: &[u8; 32], info: &[u8]) -> Zeroizing<[u8; 32]> {
    let mut okm = Zeroizing::new([0; 32]);
    Hkdf::<Sha256>::new(None, secret)
        .expand(info, okm.as_mut())
        .expect("32 bytes are within what HKDF gives");
    okm
}

fn first16(hash: blake3::Hash) -> [u8; 16] {
    hash.as_bytes()[..16].try_into().expect("a hash has 32 bytes")
}

/// Room for 24 words of at most 8 letters, each followed by a space.
const WORDS_BYTES_MAX: usize = 24 * 9;
/// The first generation of read keys, derived from the vault key itself.
const KEY_EPOCH: u32 = 1;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_and_text_come_back() {
        let key = VaultKey::from_bytes([9; 32]);
        let words = key.to_words();
        assert_eq!(words.split(' ').count(), 24);
        assert!(words.len() <= WORDS_BYTES_MAX);
        assert_eq!(VaultKey::from_words(&words.to_uppercase()).unwrap().expose(), &[9; 32]);
        assert!(key.to_text().starts_with("dfsw1"));
        assert_eq!(VaultKey::from_text(&key.to_text()).unwrap().expose(), &[9; 32]);
        assert_eq!(ClusterKey::from_text(&key.to_text()).unwrap_err(), TextError::Prefix);
    }

    #[test]
    fn the_words_bring_back_the_admin_and_no_other_key_does() {
        let key = VaultKey::from_bytes([9; 32]);
        let admin = VaultKey::from_words(&key.to_words()).unwrap().admin();
        assert_eq!(admin.to_bytes(), key.admin().to_bytes());
        assert_ne!(admin.to_bytes(), key.derive().signing.to_bytes());
        assert_ne!(admin.to_bytes(), VaultKey::from_bytes([8; 32]).admin().to_bytes());
    }

    #[test]
    fn swapped_words_are_refused() {
        let words = VaultKey::from_bytes([9; 32]).to_words();
        let mut words: Vec<_> = words.split(' ').collect();
        words[23] = if words[23] == "zoo" { "abandon" } else { "zoo" };
        assert!(VaultKey::from_words(&words.join(" ")).is_err());
        assert!(VaultKey::from_words("abandon").is_err());
    }

    #[test]
    fn names_hide_and_directories_converge() {
        let keys = VaultKey::from_bytes([1; 32]).derive();
        let other = VaultKey::from_bytes([2; 32]).derive();
        let root = keys.root_dir();
        assert_ne!(keys.record_key(&root, "a").tag, other.record_key(&root, "a").tag);
        let dir = keys.child_dir(&root, "a");
        assert_eq!(dir, keys.child_dir(&root, "a"));
        assert_ne!(dir, keys.child_dir(&root, "b"));
        assert_ne!(dir, other.child_dir(&root, "a"));
        // Directories of before are found under this id.
        assert_eq!(dfs_core::id::hex(dir.as_bytes()), "fe00766a298e8f819ec1015b316a6b5c");
    }
}
