//! Incomplete files: beside their target, under another name, removed when interrupted.

use std::collections::BTreeSet;
use std::fs::{File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use parking_lot::Mutex;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

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
            _ => Ok(Self::Temp(TempFile::beside(path)?)),
        }
    }

    /// Call it when all of the content was written.
    pub(super) fn finish(self) -> io::Result<()> {
        match self {
            Self::Temp(temp) => temp.keep(),
            Self::Through(_) => Ok(()),
        }
    }
}

impl Write for Target {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Temp(temp) => temp.file.write(bytes),
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
    path: PathBuf,
    target: PathBuf,
}

impl TempFile {
    /// Begins a file beside its target.
    fn beside(target: &Path) -> io::Result<Self> {
        let name = target.file_name().ok_or(io::ErrorKind::InvalidInput)?;
        let mut temp_name = std::ffi::OsString::from(".");
        temp_name.push(name);
        temp_name.push(format!(".dfs-{}", std::process::id()));
        // After a long name there is no room for the suffix.
        if temp_name.len() > NAME_BYTES_MAX {
            let hash = blake3_name(name.as_encoded_bytes());
            temp_name = format!(".{hash}.dfs-{}", std::process::id()).into();
        }
        let path = target.with_file_name(temp_name);
        // Under the lock, so that an interrupt finds the file or comes before it.
        let mut pending = PENDING.lock();
        let file = OpenOptions::new().write(true).create_new(true).mode(PRIVATE).open(&path)?;
        pending.insert(path.clone());
        Ok(Self { file, path, target: target.to_owned() })
    }

    /// Puts the complete file in place. Until then only its owner can read it; then whoever could
    /// read the file that it replaces, or may read new files.
    fn keep(self) -> io::Result<()> {
        let replaced = std::fs::symlink_metadata(&self.target).ok();
        let mode = match replaced.filter(std::fs::Metadata::is_file) {
            Some(replaced) => replaced.permissions().mode() & MODE_BITS,
            None => NEW & !umask(),
        };
        self.file.set_permissions(Permissions::from_mode(mode))?;
        self.file.sync_all()?;
        std::fs::rename(&self.path, &self.target)
    }
}

impl Drop for TempFile {
    fn drop(&mut self) {
        // After `keep` there is nothing under this name any more.
        let _ = std::fs::remove_file(&self.path);
        PENDING.lock().remove(&self.path);
    }
}

/// What new files are not allowed to be. Asked of the kernel, for to read it otherwise is to change
/// it, for all threads; where that is unknown nobody else may read them.
fn umask() -> u32 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("Umask:"));
    mask.and_then(|mask| u32::from_str_radix(mask.trim(), 8).ok()).unwrap_or(0o077)
}

fn blake3_name(name: &[u8]) -> String {
    dfs_core::id::hex(&dfs_core::id::BlobId::of(name).as_bytes()[..8])
}

/// Removes what is incomplete and ends the program at once.
pub(super) fn end(exit: i32) -> ! {
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
const PRIVATE: u32 = 0o600;
/// A new one, before the mask.
const NEW: u32 = 0o666;
/// All of a mode that `chmod` takes.
const MODE_BITS: u32 = 0o7777;
/// The longest file name of common file systems.
const NAME_BYTES_MAX: usize = 255;

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
        target.finish().unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"new");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_file_is_never_more_open_than_the_one_it_replaces() {
        let dir = tempfile::tempdir().unwrap();
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & MODE_BITS;
        for replaced in [None, Some(0o600), Some(0o640), Some(0o755)] {
            let path = dir.path().join("file");
            if let Some(replaced) = replaced {
                std::fs::write(&path, "old").unwrap();
                std::fs::set_permissions(&path, Permissions::from_mode(replaced)).unwrap();
            }
            let Ok(Target::Temp(temp)) = Target::open(&path) else { panic!("a file") };
            assert_eq!(mode(&temp.path), PRIVATE);
            Target::Temp(temp).finish().unwrap();
            assert_eq!(mode(&path), replaced.unwrap_or_else(|| NEW & !umask()));
            std::fs::remove_file(&path).unwrap();
        }
    }

    #[test]
    fn a_device_is_written_to_and_not_replaced() {
        let mut target = Target::open(Path::new("/dev/null")).unwrap();
        assert!(matches!(target, Target::Through(_)));
        target.write_all(b"gone").unwrap();
        target.finish().unwrap();
        assert!(!std::fs::metadata("/dev/null").unwrap().is_file());
    }
}
