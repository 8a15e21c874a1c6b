//! Incomplete files of `get` that have a name, and what becomes of them when their maker is gone.
//!
//! Whoever writes to such a file holds a lock on it, which ends with the process however it ends,
//! in another container too. So a file that can be locked is nobody's, and whoever fetches into the
//! same directory removes it.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use dfs_env::Env;
use parking_lot::Mutex;
use rustix::fs::{FlockOperation, Mode, OFlags, flock};
use rustix::process::{Pid, test_kill_process};

static SWEPT: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());

/// A name that no other process chooses, process ids repeat.
pub(super) fn new_name() -> String {
    format!("{PREFIX}{}", dfs_core::id::hex(&Env::real().random::<RANDOM_BYTES>()))
}

/// Whether a file with this name is an incomplete one of `get`.
pub(super) fn is_incomplete(name: &OsStr) -> bool {
    let Some(name) = name.to_str() else { return false };
    is_new_form(name) || maker_of_old_form(name).is_some()
}

fn is_new_form(name: &str) -> bool {
    let random = name.strip_prefix(PREFIX).unwrap_or_default();
    random.len() == 2 * RANDOM_BYTES && random.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// The process that an earlier version noted in `.NAME.dfs-PID`.
fn maker_of_old_form(name: &str) -> Option<i32> {
    let (base, pid) = name.strip_prefix('.')?.rsplit_once(OLD_SUFFIX)?;
    let is_number = !pid.is_empty() && pid.bytes().all(|byte| byte.is_ascii_digit());
    if base.is_empty() || !is_number { None } else { pid.parse().ok() }
}

/// Creates an incomplete file that only its owner can read, and locks it.
pub(super) fn create(dir: &Path) -> io::Result<(File, PathBuf)> {
    loop {
        let path = dir.join(new_name());
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(super::temp::PRIVATE)
            .open(&path)?;
        // Where there are no locks nobody can take it for abandoned either.
        if flock(&file, FlockOperation::LockExclusive).is_err() || file.metadata()?.nlink() > 0 {
            return Ok((file, path));
        }
        // It was swept before it was locked.
    }
}

/// Removes what ended processes left in a directory, once for each directory. Whatever goes wrong:
/// it is not what the user asked for, and the next one tries again.
pub(super) fn sweep(dir: &Path) {
    let mut swept = SWEPT.lock();
    if swept.len() >= SWEPT_MAX {
        swept.clear();
    }
    if !swept.insert(dir.to_owned()) {
        return;
    }
    drop(swept);
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let is_file = entry.file_type().is_ok_and(|kind| kind.is_file());
        if is_file && is_incomplete(&entry.file_name()) {
            let _ = remove_abandoned(&entry.path());
        }
    }
}

fn remove_abandoned(path: &Path) -> io::Result<()> {
    let name = path.file_name().and_then(OsStr::to_str).unwrap_or_default();
    // Nothing that took the file's place is followed or waited for.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = File::from(rustix::fs::open(path, flags, Mode::empty())?);
    let found = file.metadata()?;
    let is_ours = found.uid() == rustix::process::geteuid().as_raw() && found.nlink() == 1;
    if !is_ours || maker_of_old_form(name).is_some_and(runs) {
        return Ok(());
    }
    flock(&file, FlockOperation::NonBlockingLockExclusive)?;
    // While it is locked nobody puts it in place, so the name is still of this file.
    let now = std::fs::symlink_metadata(path)?;
    if (now.dev(), now.ino()) == (found.dev(), found.ino()) {
        std::fs::remove_file(path)?;
    }
    Ok(())
}

/// Whether a process has this id, ours or not.
fn runs(pid: i32) -> bool {
    let gone = |pid| test_kill_process(pid) == Err(rustix::io::Errno::SRCH);
    Pid::from_raw(pid).is_some_and(|pid| !gone(pid))
}

const PREFIX: &str = ".dfs-get-";
const OLD_SUFFIX: &str = ".dfs-";
/// As many as an id has that is never drawn twice.
const RANDOM_BYTES: usize = 16;
/// Directories that are remembered; looking into one again costs one listing.
const SWEPT_MAX: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn incomplete_files_are_known_by_their_names() {
        for (name, expected) in [
            (new_name().as_str(), true),
            (".out.dfs-4194000", true),
            (".a.dfs-1.dfs-2", true),
            (".dfs-get-0123", false),
            (".dfs-get-0123456789abcdef0123456789abcdeg", false),
            (".out.dfs-", false),
            (".out.dfs-1x", false),
            (".out.dfs-+1", false),
            ("out.dfs-1", false),
            (".dfs-1", false),
            ("notes", false),
        ] {
            assert_eq!(is_incomplete(OsStr::new(name)), expected, "{name}");
        }
    }

    #[test]
    fn what_nobody_writes_to_is_swept_and_the_rest_stays() {
        let dir = tempfile::tempdir().unwrap();
        let (held, held_path) = create(dir.path()).unwrap();
        let (left, left_path) = create(dir.path()).unwrap();
        drop(left);
        let own = format!(".out.dfs-{}", std::process::id());
        for name in [own.as_str(), ".gone.dfs-2147483647", "notes", ".profile"] {
            std::fs::write(dir.path().join(name), "x").unwrap();
        }
        sweep(dir.path());
        let there = |name: &str| dir.path().join(name).exists();
        assert!(held_path.exists() && !left_path.exists());
        assert!(there(&own) && !there(".gone.dfs-2147483647"));
        assert!(there("notes") && there(".profile"));
        drop(held);
    }
}
