//! Remote paths as they are typed, and local directories to write to.

use std::io::ErrorKind;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use dfs_core::name::FilePath;

use crate::exit::{Code, Failure};

/// Checks a remote path before anything is sent.
pub(super) fn remote(path: &str) -> Result<FilePath, Failure> {
    let message = |error| format!("{path:?} is not a valid name: {error}");
    FilePath::parse(path).map_err(|error| Failure::new(Code::Usage, message(error)))
}

/// Checks a remote directory; the root has no name.
pub(super) fn remote_dir(dir: &str) -> Result<Option<FilePath>, Failure> {
    match dir.trim_matches('/') {
        "" => Ok(None),
        dir => remote(dir).map(Some),
    }
}

/// A file below a directory that content is fetched into, with the directories above it made.
/// Refuses what would lead elsewhere: links in its way, and a pipe or device in its place.
pub(super) fn below(dst: &Path, name: &str) -> Result<PathBuf, Failure> {
    let path = place_below(dst, name)?;
    match std::fs::metadata(&path) {
        Ok(found) if found.is_dir() => Err(failed(&path, "it is a directory")),
        Ok(found) if !found.is_file() => Err(failed(&path, "it is no file")),
        _ => Ok(path),
    }
}

/// The same where a link is to be made, whatever is there now.
pub(super) fn place_below(dst: &Path, name: &str) -> Result<PathBuf, Failure> {
    match name.rsplit_once('/') {
        Some((above, base)) => Ok(dir_below(dst, above, false)?.0.join(base)),
        None => Ok(dst.join(name)),
    }
}

/// A directory below another, made with those above it; and whether it was not there. Nobody else
/// can look into one that is made `shut`.
pub(super) fn dir_below(dst: &Path, name: &str, shut: bool) -> Result<(PathBuf, bool), Failure> {
    let (mut path, mut is_new) = (dst.to_owned(), false);
    for part in name.split('/') {
        path.push(part);
        let found = std::fs::symlink_metadata(&path).ok();
        is_new = found.is_none();
        match found.map(|found| found.file_type()) {
            Some(found) if found.is_symlink() => {
                return Err(failed(&path, "it is a link, which may lead out of the target"));
            }
            Some(found) if !found.is_dir() => return Err(failed(&path, "it is no directory")),
            Some(_) => {}
            None if shut => create_shut(&path)?,
            None => create_dirs(&path)?,
        }
    }
    Ok((path, is_new))
}

fn failed(path: &Path, why: &str) -> Failure {
    Failure::new(Code::Failed, format!("cannot write {}: {why}", path.display()))
}

/// Why a local file or directory could not be read.
pub(super) fn failed_to_read(path: &Path, error: &std::io::Error) -> Failure {
    Failure::new(Code::Failed, format!("cannot read {}: {error}", path.display()))
}

/// Makes a directory that is its owner's alone until it is complete.
pub(super) fn create_shut(dir: &Path) -> Result<(), Failure> {
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir);
    made.map_err(|error| unwritable("create", dir, &error))
}

pub(super) fn create_dirs(dir: &Path) -> Result<(), Failure> {
    std::fs::create_dir_all(dir).map_err(|error| unwritable("create", dir, &error))
}

/// Why a local file or directory could not be made, with what to do when it is for its name.
pub(super) fn unwritable(what: &str, path: &Path, error: &std::io::Error) -> Failure {
    let failure = Failure::new(Code::Failed, format!("cannot {what} {}: {error}", path.display()));
    match error.kind() {
        ErrorKind::InvalidFilename => failure
            .hint("this file system does not take the name: 'dfs get SRC DST' fetches it as DST"),
        _ => failure,
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn what_is_fetched_stays_below_its_target() {
        let dir = tempfile::tempdir().unwrap();
        let (dst, elsewhere) = (dir.path().join("dst"), dir.path().join("elsewhere"));
        std::fs::create_dir(&dst).unwrap();
        std::fs::create_dir(&elsewhere).unwrap();
        symlink(&elsewhere, dst.join("link")).unwrap();
        symlink(elsewhere.join("file"), dst.join("file-link")).unwrap();
        std::fs::create_dir(dst.join("sub")).unwrap();
        for name in ["a", "new/a", "sub/a", "new/deeper/a"] {
            assert_eq!(below(&dst, name).unwrap(), dst.join(name));
            assert!(dst.join(name).parent().unwrap().is_dir());
        }
        // A link in its place is replaced, not followed.
        assert!(below(&dst, "file-link").is_ok());
        let _socket = std::os::unix::net::UnixListener::bind(elsewhere.join("socket")).unwrap();
        symlink(elsewhere.join("socket"), dst.join("socket-link")).unwrap();
        for name in ["link/a", "link/new/a", "link", "sub", "socket-link"] {
            assert_eq!(below(&dst, name).unwrap_err().code, Code::Failed, "{name}");
        }
        assert_eq!(std::fs::read_dir(&elsewhere).unwrap().count(), 1, "the socket");
    }
}
