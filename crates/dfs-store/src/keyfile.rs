//! Key files: `DFSK`, format version, kind, wrap method, the key, and a checksum.
//!
//! ```text
//! offset len
//!   0     4  magic "DFSK"
//!   4     1  format version, 1
//!   5     1  kind: 1 cluster key, 2 vault key, 3 node key, 4 writer key
//!   6     1  wrap: 0 none (the file is as secret as its mode 0600), 1 a passphrase
//!   7     1  reserved, 0
//!   8    32  key
//!  40    32  BLAKE3 of everything before
//! ```
//!
//! What follows a wrap of 1 is in `wrapped_key.rs`.

use std::io;
use std::path::{Path, PathBuf};

use dfs_env::{Vfs, write_replacing};
use zeroize::Zeroizing;

use crate::wrapped_key::{self, Stays};
pub use crate::wrapped_key::{Cost, SALT_LEN};

/// What a key file holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyKind {
    /// Lets a node join.
    Cluster = 1,
    /// Opens files.
    Vault = 2,
    /// Identifies a node.
    Node = 3,
    /// Signs what one gateway writes.
    Writer = 4,
}

/// Why a key file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    /// There is none.
    #[error("{0} does not exist")]
    Missing(PathBuf),
    /// Others can read or write it, or own it.
    #[error("{0} belongs to another user or is open to others (it must be yours, mode 0600)")]
    Exposed(PathBuf),
    /// Flipped, cut, or no key file at all.
    #[error("{0} is damaged: its checksum does not match")]
    Damaged(PathBuf),
    /// Holds another kind of key.
    #[error("{0} holds another kind of key")]
    OtherKind(PathBuf),
    /// Written by a newer program.
    #[error("{0} has unknown format version {1}")]
    UnknownVersion(PathBuf, u8),
    /// Only a passphrase opens it, and none was given.
    #[error("{0} is protected by a passphrase")]
    Locked(PathBuf),
    /// Another passphrase opens it.
    #[error("{0} is protected by another passphrase")]
    WrongPassphrase(PathBuf),
    /// Protected in a way this program does not know.
    #[error("{0} is wrapped by unknown method {1}")]
    UnknownWrap(PathBuf, u8),
    /// The disk refused.
    #[error("could not use {0}")]
    Io(PathBuf, #[source] io::Error),
}

/// The content of a key file.
pub fn encode(kind: KeyKind, key: &[u8; 32]) -> Zeroizing<Vec<u8>> {
    let mut bytes = header(kind, WRAP_NONE);
    bytes.extend_from_slice(key);
    seal(&mut bytes);
    bytes
}

fn header(kind: KeyKind, wrap: u8) -> Zeroizing<Vec<u8>> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(FILE_LEN_MAX));
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&[VERSION, kind as u8, wrap, 0]);
    bytes
}

fn seal(bytes: &mut Vec<u8>) {
    let checksum = blake3::hash(bytes);
    bytes.extend_from_slice(checksum.as_bytes());
}

/// Takes a key file apart; `path` is for the error, and `passphrase` opens one that is protected by
/// it, which takes some tenths of a second and 64 MiB.
///
/// # Errors
/// [`KeyFileError`] when the file is damaged, of another kind or version, or needs a passphrase.
pub fn decode(
    path: &Path,
    kind: KeyKind,
    bytes: &[u8],
    passphrase: Option<&[u8]>,
) -> Result<Zeroizing<[u8; 32]>, KeyFileError> {
    let path = || path.to_owned();
    if bytes.len() < 8 || &bytes[..4] != MAGIC {
        return Err(KeyFileError::Damaged(path()));
    }
    if bytes[4] != VERSION {
        return Err(KeyFileError::UnknownVersion(path(), bytes[4]));
    }
    let body = bytes.len().saturating_sub(32);
    let (body, checksum) = bytes.split_at(body);
    if blake3::hash(body).as_bytes() != checksum {
        return Err(KeyFileError::Damaged(path()));
    }
    let wrap = bytes[6];
    if ![WRAP_NONE, wrapped_key::WRAP].contains(&wrap) {
        return Err(KeyFileError::UnknownWrap(path(), wrap));
    }
    if bytes[5] != kind as u8 {
        return Err(KeyFileError::OtherKind(path()));
    }
    if wrap == wrapped_key::WRAP {
        let passphrase = passphrase.ok_or_else(|| KeyFileError::Locked(path()))?;
        return wrapped_key::decode(bytes, passphrase).map_err(|stays| match stays {
            Stays::Damaged => KeyFileError::Damaged(path()),
            Stays::WrongPassphrase => KeyFileError::WrongPassphrase(path()),
            Stays::NoMemory => KeyFileError::Io(path(), io::ErrorKind::OutOfMemory.into()),
        });
    }
    let key = body[8..].try_into().map_err(|_| KeyFileError::Damaged(path()))?;
    Ok(Zeroizing::new(key))
}

/// Reads a key file, refusing one that others could have read or changed.
///
/// # Errors
/// [`KeyFileError`] when the file is missing, exposed, damaged, or of another kind or version.
pub fn read(fs: &dyn Vfs, path: &Path, kind: KeyKind) -> Result<Zeroizing<[u8; 32]>, KeyFileError> {
    open(fs, path, kind, None)
}

/// The same of a file that a passphrase may protect.
///
/// # Errors
/// As [`read`]; [`KeyFileError::Locked`] without the passphrase that it needs.
pub fn open(
    fs: &dyn Vfs,
    path: &Path,
    kind: KeyKind,
    passphrase: Option<&[u8]>,
) -> Result<Zeroizing<[u8; 32]>, KeyFileError> {
    let io = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound => KeyFileError::Missing(path.to_owned()),
        io::ErrorKind::FileTooLarge => KeyFileError::Damaged(path.to_owned()),
        _ => KeyFileError::Io(path.to_owned(), error),
    };
    let found = fs.metadata(path).map_err(io)?;
    if !found.owned || found.mode & 0o077 != 0 {
        return Err(KeyFileError::Exposed(path.to_owned()));
    }
    let bytes = Zeroizing::new(fs.read(path, FILE_LEN_MAX as u64).map_err(io)?);
    decode(path, kind, &bytes, passphrase)
}

/// Writes a key file durably, in place of any other.
///
/// # Errors
/// [`KeyFileError::Io`] when the disk refuses.
pub fn write(fs: &dyn Vfs, path: &Path, kind: KeyKind, key: &[u8; 32]) -> Result<(), KeyFileError> {
    write_replacing(fs, path, &encode(kind, key))
        .map_err(|error| KeyFileError::Io(path.to_owned(), error))
}

/// Writes a key file that only a passphrase opens, durably, in place of any other. `salt` is
/// random. Takes as long as opening it.
///
/// # Errors
/// [`KeyFileError::Io`] when the disk refuses, or there is not enough memory.
pub fn write_wrapped(
    fs: &dyn Vfs,
    path: &Path,
    (kind, key): (KeyKind, &[u8; 32]),
    passphrase: &[u8],
    salt: &[u8; SALT_LEN],
    cost: Cost,
) -> Result<(), KeyFileError> {
    let io = |error| KeyFileError::Io(path.to_owned(), error);
    let bytes = wrapped(kind, key, passphrase, salt, cost);
    let bytes = bytes.ok_or_else(|| io(io::ErrorKind::OutOfMemory.into()))?;
    write_replacing(fs, path, &bytes).map_err(io)
}

fn wrapped(
    kind: KeyKind,
    key: &[u8; 32],
    passphrase: &[u8],
    salt: &[u8; SALT_LEN],
    cost: Cost,
) -> Option<Zeroizing<Vec<u8>>> {
    let head = header(kind, wrapped_key::WRAP);
    let mut bytes = wrapped_key::encode(head, key, passphrase, salt, cost)?;
    seal(&mut bytes);
    Some(bytes)
}

const MAGIC: &[u8; 4] = b"DFSK";
const VERSION: u8 = 1;
const WRAP_NONE: u8 = 0;
const FILE_LEN_MAX: usize = wrapped_key::LEN;

#[cfg(test)]
mod tests {
    use super::*;

    fn check(change: impl FnOnce(&mut Vec<u8>)) -> Result<Zeroizing<[u8; 32]>, KeyFileError> {
        let mut bytes = encode(KeyKind::Vault, &[5; 32]).to_vec();
        change(&mut bytes);
        decode(Path::new("vault.key"), KeyKind::Vault, &bytes, None)
    }

    const CHEAP: Cost = Cost { memory_kib: 32, passes: 1, lanes: 1 };

    fn locked() -> Zeroizing<Vec<u8>> {
        wrapped(KeyKind::Vault, &[5; 32], b"correct horse", &[9; 16], CHEAP).unwrap()
    }

    fn unlock(bytes: &[u8], passphrase: Option<&[u8]>) -> Result<[u8; 32], KeyFileError> {
        decode(Path::new("vault.key"), KeyKind::Vault, bytes, passphrase).map(|key| *key)
    }

    #[test]
    fn a_passphrase_opens_what_it_closed_and_no_other_does() {
        let bytes = locked();
        assert_eq!(unlock(&bytes, Some(b"correct horse")).unwrap(), [5; 32]);
        for wrong in [&b"correct hors"[..], b"", b"correct horse\n"] {
            let refused = unlock(&bytes, Some(wrong));
            assert!(matches!(refused, Err(KeyFileError::WrongPassphrase(_))));
        }
        assert!(matches!(unlock(&bytes, None), Err(KeyFileError::Locked(_))));
        let other = decode(Path::new("k"), KeyKind::Cluster, &bytes, Some(b"correct horse"));
        assert!(matches!(other, Err(KeyFileError::OtherKind(_))));
        // A file without one needs none.
        let plain = encode(KeyKind::Vault, &[5; 32]);
        assert_eq!(unlock(&plain, Some(b"any")).unwrap(), [5; 32]);
    }

    #[test]
    fn what_stands_in_the_file_gives_the_key_away_to_nobody() {
        let bytes = locked();
        assert!(!bytes.windows(8).any(|part| part == [5; 8]));
        let again = wrapped(KeyKind::Vault, &[5; 32], b"correct horse", &[8; 16], CHEAP);
        assert_ne!(again.unwrap()[36..68], bytes[36..68]);
    }

    #[test]
    fn every_flipped_bit_and_every_cut_of_a_locked_file_is_refused() {
        let whole = locked();
        for at in 0..whole.len() {
            let mut bytes = whole.to_vec();
            bytes[at] ^= 1 << (at % 8);
            assert!(unlock(&bytes, Some(b"correct horse")).is_err(), "byte {at}");
            assert!(unlock(&whole[..at], Some(b"correct horse")).is_err(), "cut at {at}");
        }
    }

    /// As someone would forge it who can write the file and not open it.
    #[test]
    fn a_file_cannot_ask_for_all_memory_or_all_time() {
        for (at, value) in [(8, u32::MAX), (8, 0), (12, 17), (12, 0), (16, 17), (16, 0)] {
            let mut bytes = locked()[..100].to_vec();
            bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
            seal(&mut bytes);
            let refused = unlock(&bytes, Some(b"correct horse"));
            assert!(matches!(refused, Err(KeyFileError::Damaged(_))), "{value} at {at}");
        }
    }

    /// Made by the reference implementation (argon2-cffi 25.1, libargon2) of the same inputs.
    #[test]
    fn known_answers_of_argon2id() {
        let bytes = locked();
        let hidden = "510565b33c8388f484d3453bb9cba7ff72b65d8f7b6f007c99eeeea265685950";
        assert_eq!(dfs_core::id::hex(&bytes[36..68]), hidden);
    }

    #[test]
    fn a_whole_file_gives_its_key() {
        assert_eq!(*check(|_| ()).unwrap(), [5; 32]);
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_refused() {
        for at in 0..72 {
            for bit in 0..8 {
                assert!(check(|bytes| bytes[at] ^= 1 << bit).is_err(), "byte {at} bit {bit}");
            }
            assert!(check(|bytes| bytes.truncate(at)).is_err(), "cut at {at}");
        }
        assert!(check(|bytes| bytes.push(0)).is_err());
    }

    #[test]
    fn another_kind_or_version_is_named() {
        let bytes = encode(KeyKind::Node, &[5; 32]);
        let wrong = decode(Path::new("k"), KeyKind::Vault, &bytes, None);
        assert!(matches!(wrong, Err(KeyFileError::OtherKind(_))));
        let newer = check(|bytes| bytes[4] = 2);
        assert!(matches!(newer, Err(KeyFileError::UnknownVersion(_, 2))));
    }
}
