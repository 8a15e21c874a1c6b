//! Incomplete files: without a name, or under another one and removed when interrupted.

use std::collections::BTreeSet;
use std::fs::{File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

use dfs_server::Said;
use parking_lot::Mutex;
use rustix::fs::{AtFlags, CWD, Mode, OFlags};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::cli::sparse::HoleMaker;
use crate::cli::{command, leftovers, stamp};
use crate::unlock;

static PENDING: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());

/// Where fetched content goes.
pub(super) enum Target {
    /// A file that appears under its name when it is complete.
    Temp(TempFile),
    /// A device or a pipe, which content can only be written to.
    Through(File),
}

impl Target {
    /// Begins to write to a path. Renaming a file over a device would take the device away.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        match std::fs::metadata(path) {
            Ok(found) if !found.is_file() && !found.is_dir() => {
                Ok(Self::Through(OpenOptions::new().write(true).open(path)?))
            }
            // Told before anything is fetched.
            Err(error) if error.kind() == io::ErrorKind::InvalidFilename => Err(error),
            _ => Ok(Self::Temp(TempFile::beside(path)?)),
        }
    }

    /// Call it when all of the content was written; `said` is what the file then is, beside it.
    pub(super) fn finish(self, said: &Said) -> io::Result<()> {
        match self {
            Self::Temp(temp) => temp.keep(said),
            Self::Through(_) => Ok(()),
        }
    }
}

impl Write for Target {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Temp(temp) => temp.holes.write(&temp.file, bytes).map(|()| bytes.len()),
            Self::Through(file) => file.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// An incomplete file; it goes away unless it is kept.
pub(super) struct TempFile {
    file: File,
    holes: HoleMaker,
    /// Where it is meanwhile, on a file system where every file needs a name.
    path: Option<PathBuf>,
    target: PathBuf,
}

impl TempFile {
    /// Begins a file where its target will be. Until it is complete only its owner can read it, and
    /// where that is possible it has no name, so that nothing is left of it however we end.
    fn beside(target: &Path) -> io::Result<Self> {
        target.file_name().ok_or(io::ErrorKind::InvalidInput)?;
        let dir = dir_of(target);
        leftovers::sweep(dir);
        if let Some(file) = unnamed(dir) {
            return Ok(Self::new(file, None, target));
        }
        // Under the lock, so that an interrupt finds the file or comes before it.
        let mut pending = PENDING.lock();
        let (file, path) = leftovers::create(dir)?;
        pending.insert(path.clone());
        Ok(Self::new(file, Some(path), target))
    }

    fn new(file: File, path: Option<PathBuf>, target: &Path) -> Self {
        Self { file, holes: HoleMaker::default(), path, target: target.to_owned() }
    }

    /// Puts the complete file in place. It is no more open than what it replaces, nor than it was
    /// where it came from.
    fn keep(mut self, said: &Said) -> io::Result<()> {
        self.holes.finish(&self.file)?;
        let replaced = std::fs::metadata(&self.target).ok();
        let replaced = replaced.filter(std::fs::Metadata::is_file);
        let mode = match (&replaced, stamp::mode_of(said)) {
            (Some(replaced), Some(mode)) => self.mode_in_place_of(replaced) & mode,
            (Some(replaced), None) => self.mode_in_place_of(replaced),
            (None, Some(mode)) => mode,
            (None, None) => NEW & !umask(),
        };
        self.file.set_permissions(Permissions::from_mode(mode))?;
        stamp::set_time(&self.file, said)?;
        self.file.sync_all()?;
        if self.path.is_none() {
            if link(&self.file, &self.target).is_ok() {
                return Ok(());
            }
            // Something is there: only a rename replaces it.
            let mut pending = PENDING.lock();
            let path = dir_of(&self.target).join(leftovers::new_name());
            link(&self.file, &path)?;
            pending.insert(path.clone());
            self.path = Some(path);
        }
        match &self.path {
            Some(path) => std::fs::rename(path, &self.target),
            None => Ok(()),
        }
    }

    /// What the new file may be: never more than the one it replaces was for anybody. Its owner and
    /// group are kept where we may set them.
    fn mode_in_place_of(&self, replaced: &std::fs::Metadata) -> u32 {
        let mode = replaced.permissions().mode() & PERMISSIONS;
        let Ok(ours) = self.file.metadata() else { return mode & PRIVATE };
        let (uid, gid) = (replaced.uid(), replaced.gid());
        if (ours.uid(), ours.gid()) == (uid, gid)
            || fchown(&self.file, Some(uid), Some(gid)).is_ok()
        {
            return mode;
        }
        if ours.gid() == gid || fchown(&self.file, None, Some(gid)).is_ok() {
            return mode;
        }
        // The group is another: it may what everybody may.
        mode & (!GROUP | (mode & OTHERS) << 3)
    }
}

impl Drop for TempFile {
    fn drop(&mut self) {
        if let Some(path) = &self.path {
            // After `keep` there is nothing under this name any more.
            let _ = std::fs::remove_file(path);
            PENDING.lock().remove(path);
        }
    }
}

fn dir_of(target: &Path) -> &Path {
    let parent = target.parent().filter(|parent| !parent.as_os_str().is_empty());
    parent.unwrap_or_else(|| Path::new("."))
}

/// A file without a name in a directory, where the system, the file system and `/proc` let us name
/// it later.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn unnamed(_: &Path) -> Option<File> {
    None
}

#[cfg(any(target_os = "linux", target_os = "android"))]
fn unnamed(dir: &Path) -> Option<File> {
    let flags = OFlags::TMPFILE | OFlags::WRONLY | OFlags::CLOEXEC;
    let file = File::from(rustix::fs::open(dir, flags, Mode::from_raw_mode(PRIVATE)).ok()?);
    std::fs::metadata(in_proc(&file)).is_ok().then_some(file)
}

fn link(file: &File, path: &Path) -> io::Result<()> {
    Ok(rustix::fs::linkat(CWD, in_proc(file), CWD, path, AtFlags::SYMLINK_FOLLOW)?)
}

fn in_proc(file: &File) -> String {
    format!("/proc/self/fd/{}", file.as_raw_fd())
}

/// What new files are not allowed to be. Asked of the kernel, for to read it otherwise is to change
/// it, for all threads; where that is unknown nobody else may read them.
pub(super) fn umask() -> u32 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("Umask:"));
    mask.and_then(|mask| u32::from_str_radix(mask.trim(), 8).ok()).unwrap_or(0o077)
}

/// Removes what is incomplete and ends the program at once.
pub(super) fn end(exit: i32) -> ! {
    command::end_running();
    unlock::restore_terminal();
    // Held to the end, so that no other thread begins a file.
    let pending = PENDING.lock();
    for path in pending.iter() {
        let _ = std::fs::remove_file(path);
    }
    std::process::exit(exit);
}

/// From now on an interrupt removes incomplete files and ends with the exit code of its signal.
pub(super) fn remove_on_signal() -> io::Result<()> {
    let mut ends = vec![SIGINT, SIGTERM];
    if !hangup_is_ignored() {
        ends.push(SIGHUP);
    }
    let mut signals = Signals::new(ends)?;
    std::thread::spawn(move || {
        if let Some(signal) = signals.forever().next() {
            end(128 + signal);
        }
    });
    Ok(())
}

/// Whether SIGHUP is ignored, as under `nohup`: then a closed terminal must not end us. Where that
/// is unknown it counts as ignored: a file left over is better than a transfer cut off.
fn hangup_is_ignored() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    // Bit 0 is signal 1, see proc(5).
    mask.is_none_or(|mask| mask & (1 << (SIGHUP - 1)) != 0)
}

/// An incomplete file.
pub(super) const PRIVATE: u32 = 0o600;
/// A new one, before the mask.
const NEW: u32 = 0o666;
/// What is kept of the mode of a file that is replaced: new content runs with nobody's rights.
const PERMISSIONS: u32 = 0o777;
const GROUP: u32 = 0o070;
const OTHERS: u32 = 0o007;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_appears_when_it_is_complete_and_an_incomplete_one_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        std::fs::write(&path, "old").unwrap();
        let mut target = Target::open(&path).unwrap();
        target.write_all(b"new").unwrap();
        drop(target);
        assert_eq!(std::fs::read(&path).unwrap(), b"old");
        let mut target = Target::open(&path).unwrap();
        target.write_all(b"new").unwrap();
        target.finish(&Said::default()).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"new");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_file_is_never_more_open_than_the_one_it_replaces() {
        let dir = tempfile::tempdir().unwrap();
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o7777;
        for replaced in [None, Some(0o600), Some(0o640), Some(0o755), Some(0o4711)] {
            let path = dir.path().join("file");
            if let Some(replaced) = replaced {
                std::fs::write(&path, "old").unwrap();
                std::fs::set_permissions(&path, Permissions::from_mode(replaced)).unwrap();
            }
            let Ok(Target::Temp(temp)) = Target::open(&path) else { panic!("a file") };
            assert_eq!(temp.file.metadata().unwrap().permissions().mode() & 0o7777, PRIVATE);
            Target::Temp(temp).finish(&Said::default()).unwrap();
            assert_eq!(mode(&path), replaced.unwrap_or_else(|| NEW & !umask()) & PERMISSIONS);
            // Nor is one that is fetched in place of a link to it.
            let (link, target) = (dir.path().join("link"), dir.path().join("target"));
            std::fs::rename(&path, &target).unwrap();
            std::os::unix::fs::symlink(&target, &link).unwrap();
            Target::open(&link).unwrap().finish(&Said::default()).unwrap();
            assert!(std::fs::symlink_metadata(&link).unwrap().is_file());
            assert_eq!(mode(&link), mode(&target));
            std::fs::rename(&link, &path).unwrap();
            std::fs::remove_file(&path).unwrap();
        }
    }

    #[test]
    fn a_file_that_must_have_a_name_meanwhile_is_put_in_place_too() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("file");
        let named = || {
            let (file, path) = leftovers::create(dir.path()).unwrap();
            TempFile::new(file, Some(path), &target)
        };
        drop(named());
        for content in ["first", "second"] {
            let mut temp = named();
            temp.holes.write(&temp.file, content.as_bytes()).unwrap();
            assert_eq!(temp.file.metadata().unwrap().permissions().mode() & 0o7777, PRIVATE);
            temp.keep(&Said::default()).unwrap();
            assert_eq!(std::fs::read_to_string(&target).unwrap(), content);
            assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
        }
    }

    #[test]
    fn a_file_is_what_it_was_where_it_came_from_and_no_more_open_than_what_it_replaces() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        let mode = || path.metadata().unwrap().mode() & 0o7777;
        let said =
            |mode: &str| Said { permissions: Some(mode.parse().unwrap()), ..Said::default() };
        for (replaced, stored, expected) in [
            (None, "0664", 0o664),
            (None, "4755", 0o755),
            (Some(0o600), "0755", 0o600),
            (Some(0o755), "0640", 0o640),
        ] {
            if let Some(replaced) = replaced {
                std::fs::write(&path, "old").unwrap();
                std::fs::set_permissions(&path, Permissions::from_mode(replaced)).unwrap();
            }
            Target::open(&path).unwrap().finish(&said(stored)).unwrap();
            assert_eq!(mode(), expected, "{stored} over {replaced:?}");
            std::fs::remove_file(&path).unwrap();
        }
    }

    #[test]
    fn a_device_is_written_to_and_not_replaced() {
        let mut target = Target::open(Path::new("/dev/null")).unwrap();
        assert!(matches!(target, Target::Through(_)));
        target.write_all(b"gone").unwrap();
        target.finish(&Said::default()).unwrap();
        assert!(!std::fs::metadata("/dev/null").unwrap().is_file());
    }
}
