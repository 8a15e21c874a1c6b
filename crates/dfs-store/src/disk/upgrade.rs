//! Bringing a data directory of an earlier format to the one this program uses.

use std::path::Path;

use dfs_env::Env;

use crate::disk::data_dir::{DataDir, INDEX, INDEX_MADE};
use crate::disk::meta::Meta;
use crate::error::OpenStoreError;

/// What an upgrade did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Upgraded {
    /// The directory has the current format already.
    Already,
    /// It has now.
    Now {
        /// Reference rows that were moved.
        rows: u64,
    },
}

/// Brings a data directory to the current format while no node runs on it. What is cut off is
/// completed by the next attempt; until then no node starts there, of this program or an earlier
/// one. Blocks on the disk, for a time that follows the number of chunks.
///
/// # Errors
/// [`OpenStoreError`] when it is in use, foreign, of a format that has no way here, or damaged.
pub fn upgrade(env: &Env, root: &Path) -> Result<Upgraded, OpenStoreError> {
    let Some(old) = DataDir::lock_old(env, root)? else { return Ok(Upgraded::Already) };
    let broken = |error: redb::Error| OpenStoreError::Index(root.to_owned(), Box::new(error));
    let path = root.join(INDEX);
    let made = old.has(env, INDEX_MADE)?;
    // Rows that were moved an earlier program does not see: it would take their blobs for unused.
    old.set_between(env)?;
    let rows = match old.has(env, INDEX)? {
        true => Meta::open(env, &path, made)?.move_old_refs().map_err(broken)?,
        false => 0,
    };
    old.set_current(env)?;
    Ok(Upgraded::Now { rows })
}
