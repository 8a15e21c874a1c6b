//! Permissions and times of local files: read when they are stored, set when they are fetched.

use std::fs::{File, FileTimes, Metadata, Permissions as FsPermissions};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use dfs_server::{Mtime, Permissions, Said};
use rustix::fs::{AtFlags, CWD, Mode, OFlags, Timespec, Timestamps, UTIME_OMIT, utimensat};

use crate::cli::temp::umask;

/// What is said of a local file.
pub(super) fn of(found: &Metadata) -> Said {
    let nanos = u32::try_from(found.mtime_nsec()).unwrap_or(0);
    Said {
        permissions: Some(Permissions::of_mode(found.mode())),
        mtime: Mtime::new(found.mtime(), nanos),
        target: None,
    }
}

/// The mode that a fetched file or directory gets: what is kept is run with nobody else's rights.
pub(super) fn mode_of(said: &Said) -> Option<u32> {
    said.permissions.map(|permissions| permissions.mode() & RWX)
}

/// Sets the time of an open file.
pub(super) fn set_time(file: &File, said: &Said) -> io::Result<()> {
    match said.mtime.and_then(moment) {
        Some(moment) => file.set_times(FileTimes::new().set_modified(moment)),
        None => Ok(()),
    }
}

/// Sets what is said of a directory once all that it holds is there. One that was there before is
/// not opened to anybody, and may be somebody else's. What a directory means beside who may use it
/// (whose its files are, who may delete them) stays.
pub(super) fn set_dir(dir: &Path, said: &Said, is_new: bool) -> io::Result<()> {
    // Whatever was put in its place meanwhile is not followed.
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let open = File::from(rustix::fs::open(dir, flags, Mode::empty())?);
    let now = open.metadata()?.mode() & BITS;
    let mode = match (mode_of(said), is_new) {
        (Some(mode), true) => mode,
        (None, true) => RWX & !umask(),
        (Some(mode), false) => mode & now,
        (None, false) => now & RWX,
    };
    let mode = mode | now & !RWX;
    let set = || {
        if mode != now {
            open.set_permissions(FsPermissions::from_mode(mode))?;
        }
        set_time(&open, said)
    };
    match set() {
        Err(error) if !is_new && error.kind() == io::ErrorKind::PermissionDenied => Ok(()),
        set => set,
    }
}

/// Sets the time of a file or link by its name; a link is not followed.
pub(super) fn set_time_of(path: &Path, said: &Said) -> io::Result<()> {
    let Some(mtime) = said.mtime else { return Ok(()) };
    let at = |seconds, nanos| Timespec { tv_sec: seconds, tv_nsec: nanos };
    let times = Timestamps {
        last_access: at(0, UTIME_OMIT),
        last_modification: at(mtime.seconds(), mtime.nanos().into()),
    };
    Ok(utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW)?)
}

fn moment(mtime: Mtime) -> Option<SystemTime> {
    let seconds = Duration::from_secs(mtime.seconds().unsigned_abs());
    let whole = match mtime.seconds() {
        0.. => UNIX_EPOCH.checked_add(seconds),
        _ => UNIX_EPOCH.checked_sub(seconds),
    };
    whole?.checked_add(Duration::from_nanos(mtime.nanos().into()))
}

/// Who may use something.
const RWX: u32 = 0o777;
/// All that chmod(2) sets.
const BITS: u32 = 0o7777;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_of_a_file_comes_back() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        let file = File::create(&path).unwrap();
        for mtime in ["978307200.000000001", "-1.5", "0"] {
            let said = Said {
                permissions: Some("4750".parse().unwrap()),
                mtime: Some(mtime.parse().unwrap()),
                target: None,
            };
            set_time(&file, &said).unwrap();
            assert_eq!(of(&file.metadata().unwrap()).mtime, said.mtime);
            assert_eq!(mode_of(&said), Some(0o750));
            let link = dir.path().join("l");
            let _ = std::fs::remove_file(&link);
            std::os::unix::fs::symlink("nowhere", &link).unwrap();
            set_time_of(&link, &said).unwrap();
            assert_eq!(of(&std::fs::symlink_metadata(&link).unwrap()).mtime, said.mtime);
        }
    }

    #[test]
    fn a_directory_that_was_there_is_not_opened() {
        let dir = tempfile::tempdir().unwrap();
        let said =
            |text: &str| Said { permissions: Some(text.parse().unwrap()), ..Said::default() };
        let mode = || dir.path().metadata().unwrap().mode() & BITS;
        set_dir(dir.path(), &said("0750"), true).unwrap();
        assert_eq!(mode(), 0o750);
        set_dir(dir.path(), &said("2755"), false).unwrap();
        assert_eq!(mode(), 0o750);
        set_dir(dir.path(), &said("0700"), false).unwrap();
        assert_eq!(mode(), 0o700);
        // A directory where everybody may store and nobody deletes what is not his stays that.
        std::fs::set_permissions(dir.path(), FsPermissions::from_mode(0o1777)).unwrap();
        set_dir(dir.path(), &said("0773"), false).unwrap();
        assert_eq!(mode(), 0o1773);
        set_dir(dir.path(), &Said::default(), true).unwrap();
        assert_eq!(mode(), 0o1000 | RWX & !umask());
        // Neither a link nor a file counts as one.
        std::os::unix::fs::symlink(".", dir.path().join("l")).unwrap();
        std::fs::write(dir.path().join("f"), "").unwrap();
        for what in ["l", "f"] {
            assert!(set_dir(&dir.path().join(what), &said("0777"), true).is_err());
        }
    }
}
