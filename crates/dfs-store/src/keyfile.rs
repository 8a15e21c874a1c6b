//! Key files: `DFSK`, format version, kind, wrap method, the key, and a checksum.
//!
//! ```text
//! offset len
//!   0     4  magic "DFSK"
//!   4     1  format version, 1
//!   5     1  kind: 1 cluster key, 2 vault key, 3 node key, 4 writer key
//!   6     1  wrap: 0 none (the file is as secret as its mode 0600)
//!   7     1  reserved, 0
//!   8    32  key
//!  40    32  BLAKE3 of everything before
//! ```

use std::io;
use std::path::{Path, PathBuf};

use dfs_env::{Vfs, write_replacing};
use zeroize::Zeroizing;

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
    /// Protected in a way this program does not know.
    #[error("{0} is wrapped by unknown method {1}")]
    UnknownWrap(PathBuf, u8),
    /// The disk refused.
    #[error("could not use {0}")]
    Io(PathBuf, #[source] io::Error),
}

/// The content of a key file.
pub fn encode(kind: KeyKind, key: &[u8; 32]) -> Zeroizing<Vec<u8>> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(FILE_LEN));
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&[VERSION, kind as u8, WRAP_NONE, 0]);
    bytes.extend_from_slice(key);
    let checksum = blake3::hash(&bytes);
    bytes.extend_from_slice(checksum.as_bytes());
    bytes
}

/// Takes a key file apart; `path` is for the error.
///
/// # Errors
/// [`KeyFileError`] when the file is missing, exposed, damaged, or of another kind or version.
pub fn decode(
    path: &Path,
    kind: KeyKind,
    bytes: &[u8],
) -> Result<Zeroizing<[u8; 32]>, KeyFileError> {
    let path = || path.to_owned();
    if bytes.len() < 8 || &bytes[..4] != MAGIC {
        return Err(KeyFileError::Damaged(path()));
    }
    if bytes[4] != VERSION {
        return Err(KeyFileError::UnknownVersion(path(), bytes[4]));
    }
    let (body, checksum) = bytes.split_at_checked(FILE_LEN - 32).unwrap_or((bytes, &[]));
    if blake3::hash(body).as_bytes() != checksum {
        return Err(KeyFileError::Damaged(path()));
    }
    if bytes[6] != WRAP_NONE {
        return Err(KeyFileError::UnknownWrap(path(), bytes[6]));
    }
    if bytes[5] != kind as u8 {
        return Err(KeyFileError::OtherKind(path()));
    }
    let key = body[8..].try_into().map_err(|_| KeyFileError::Damaged(path()))?;
    Ok(Zeroizing::new(key))
}

/// Reads a key file, refusing one that others could have read or changed.
///
/// # Errors
/// [`KeyFileError`] when the file is missing, exposed, damaged, or of another kind or version.
pub fn read(fs: &dyn Vfs, path: &Path, kind: KeyKind) -> Result<Zeroizing<[u8; 32]>, KeyFileError> {
    let io = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound => KeyFileError::Missing(path.to_owned()),
        io::ErrorKind::FileTooLarge => KeyFileError::Damaged(path.to_owned()),
        _ => KeyFileError::Io(path.to_owned(), error),
    };
    let found = fs.metadata(path).map_err(io)?;
    if !found.owned || found.mode & 0o077 != 0 {
        return Err(KeyFileError::Exposed(path.to_owned()));
    }
    let bytes = Zeroizing::new(fs.read(path, FILE_LEN as u64).map_err(io)?);
    decode(path, kind, &bytes)
}

/// Writes a key file durably, in place of any other.
///
/// # Errors
/// [`KeyFileError::Io`] when the disk refuses.
pub fn write(fs: &dyn Vfs, path: &Path, kind: KeyKind, key: &[u8; 32]) -> Result<(), KeyFileError> {
    write_replacing(fs, path, &encode(kind, key))
        .map_err(|error| KeyFileError::Io(path.to_owned(), error))
}

const MAGIC: &[u8; 4] = b"DFSK";
const VERSION: u8 = 1;
const WRAP_NONE: u8 = 0;
const FILE_LEN: usize = 72;

#[cfg(test)]
mod tests {
    use super::*;

    fn check(change: impl FnOnce(&mut Vec<u8>)) -> Result<Zeroizing<[u8; 32]>, KeyFileError> {
        let mut bytes = encode(KeyKind::Vault, &[5; 32]).to_vec();
        change(&mut bytes);
        decode(Path::new("vault.key"), KeyKind::Vault, &bytes)
    }

    #[test]
    fn a_whole_file_gives_its_key() {
        assert_eq!(*check(|_| ()).unwrap(), [5; 32]);
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_refused() {
        for at in 0..FILE_LEN {
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
        let wrong = decode(Path::new("k"), KeyKind::Vault, &bytes);
        assert!(matches!(wrong, Err(KeyFileError::OtherKind(_))));
        let newer = check(|bytes| bytes[4] = 2);
        assert!(matches!(newer, Err(KeyFileError::UnknownVersion(_, 2))));
    }
}
