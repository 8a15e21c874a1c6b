//! What dfs itself keeps on a disk, which `put -r` leaves out: the sealed pieces of a node would be
//! sealed and stored again, each run doubling them, and a key is worth nothing behind its own lock.

use std::ffi::OsStr;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use dfs_store::vault::keys::{ClusterKey, VaultKey};
use rustix::fs::{Mode, OFlags};
use zeroize::Zeroizing;

use crate::cli::leftovers;

/// What of dfs a directory is, if it is any.
pub(super) fn of_dir(dir: &Path) -> Option<&'static str> {
    let path = dir.join("format");
    if !std::fs::symlink_metadata(&path).is_ok_and(|found| found.is_file()) {
        return None;
    }
    head(&path)?.starts_with(DATA_DIR).then_some("the data directory of a node")
}

/// The nearest data directory that a path is in, or is.
pub(super) fn data_dir_above(path: &Path) -> Option<std::path::PathBuf> {
    let whole = path.canonicalize().ok()?;
    whole.ancestors().find(|dir| of_dir(dir).is_some()).map(Path::to_owned)
}

/// What of dfs a regular file is, if it is any. Keys are known by what they hold, so that a copy
/// with another name is none the less one, and another program's `vault.key` is not.
pub(super) fn of_file(path: &Path, name: &OsStr, bytes: u64) -> Option<&'static str> {
    if leftovers::is_incomplete(name) {
        return Some("an incomplete file of 'dfs get'");
    }
    if bytes == 0 || bytes > SECRET_BYTES_MAX {
        return None;
    }
    let content = head(path)?;
    if content.starts_with(KEY_FILE) {
        return Some("a key of dfs");
    }
    let text = std::str::from_utf8(&content).ok()?.trim();
    let is_one_word = !text.contains(char::is_whitespace);
    if is_one_word && (VaultKey::from_text(text).is_ok() || ClusterKey::from_text(text).is_ok()) {
        return Some("a key of dfs");
    }
    let is_token = text.len() >= TOKEN_CHARS_MIN && text.bytes().all(|b| b.is_ascii_alphanumeric());
    if is_token && name == "api-token" {
        return Some("the API token of a node");
    }
    let words = text.split_whitespace().count() == WORDS;
    (words && VaultKey::from_words(text).is_ok()).then_some("the words of a vault key")
}

/// The beginning of a file, where it can be read.
fn head(path: &Path) -> Option<Zeroizing<Vec<u8>>> {
    let mut head = Zeroizing::new(Vec::new());
    // What was put in its place meanwhile is neither followed nor waited for.
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = rustix::fs::open(path, flags, Mode::empty()).ok()?;
    File::from(file).take(SECRET_BYTES_MAX).read_to_end(&mut head).ok()?;
    Some(head)
}

/// How the file `format` of a data directory begins, whatever the version.
const DATA_DIR: &[u8] = b"dfs-data ";
/// How a key file begins.
const KEY_FILE: &[u8] = b"DFSK";
/// Room for 24 words, well spaced; larger files are not looked into.
const SECRET_BYTES_MAX: u64 = 512;
/// Fewer would be no token.
const TOKEN_CHARS_MIN: usize = 32;
/// In the paper form of a vault key.
const WORDS: usize = 24;

#[cfg(test)]
mod tests {
    use dfs_store::keyfile::{KeyKind, encode};

    use super::*;

    #[test]
    fn keys_are_known_by_what_they_hold() {
        let dir = tempfile::tempdir().unwrap();
        let vault = VaultKey::from_bytes([7; 32]);
        let cluster = ClusterKey::from_bytes([7; 32]);
        let (words, text) = (vault.to_words(), format!("{}\n", *vault.to_text()));
        let lines = words.replace(' ', "\n");
        let other_words = words.replacen(' ', " zzz ", 1);
        let token = "0123456789abcdef".repeat(4);
        for (name, content, expected) in [
            ("vault.key", &encode(KeyKind::Vault, &[7; 32])[..], true),
            ("copy of it", &encode(KeyKind::Node, &[7; 32])[..], true),
            ("text", text.as_bytes(), true),
            ("cluster", cluster.to_text().as_bytes(), true),
            ("words.txt", words.as_bytes(), true),
            ("words by line", lines.as_bytes(), true),
            ("api-token", token.as_bytes(), true),
            (".out.dfs-17", b"partial", true),
            ("sum", token.as_bytes(), false),
            ("other words", other_words.as_bytes(), false),
            ("vault.key.pub", b"-----BEGIN KEY-----", false),
            ("api-token.md", b"how to make one", false),
            ("empty", b"", false),
        ] {
            let path = dir.path().join(name);
            std::fs::write(&path, content).unwrap();
            let found = of_file(&path, OsStr::new(name), content.len() as u64);
            assert_eq!(found.is_some(), expected, "{name} {found:?}");
        }
    }

    #[test]
    fn a_data_directory_is_known_by_its_mark_from_below_too() {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("renamed");
        std::fs::create_dir_all(data.join("blobs/ab")).unwrap();
        assert_eq!(of_dir(&data), None);
        std::fs::write(data.join("format"), "some other format\n").unwrap();
        assert_eq!(of_dir(&data), None);
        std::fs::write(data.join("format"), "dfs-data 3\n").unwrap();
        assert!(of_dir(&data).is_some() && of_dir(dir.path()).is_none());
        assert_eq!(data_dir_above(&data.join("blobs/ab")), data.canonicalize().ok());
        assert_eq!(data_dir_above(dir.path()), None);
    }
}
