//! Remote paths as they are typed, and local directories to write to.

use std::path::Path;

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

pub(super) fn create_dirs(dir: &Path) -> Result<(), Failure> {
    std::fs::create_dir_all(dir).map_err(|error| {
        Failure::new(Code::Failed, format!("cannot create {}: {error}", dir.display()))
    })
}
