//! Files that are not complete: beside their target, under another name, removed when interrupted.

use std::collections::BTreeSet;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

static PENDING: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());

/// An incomplete file; it goes away unless it is kept.
pub(super) struct TempFile {
    pub(super) file: File,
    path: PathBuf,
    target: PathBuf,
}

impl TempFile {
    /// Begins a file beside its target.
    pub(super) fn beside(target: &Path) -> std::io::Result<Self> {
        let name = target.file_name().ok_or(std::io::ErrorKind::InvalidInput)?;
        let mut temp_name = std::ffi::OsString::from(".");
        temp_name.push(name);
        temp_name.push(format!(".dfs-{}", std::process::id()));
        // A long name leaves no room for more.
        if temp_name.len() > NAME_BYTES_MAX {
            let hash = blake3_name(name.as_encoded_bytes());
            temp_name = format!(".{hash}.dfs-{}", std::process::id()).into();
        }
        let path = target.with_file_name(temp_name);
        let file = File::create_new(&path)?;
        pending().insert(path.clone());
        Ok(Self { file, path, target: target.to_owned() })
    }

    /// Puts the complete file in place.
    pub(super) fn keep(self) -> std::io::Result<()> {
        self.file.sync_all()?;
        std::fs::rename(&self.path, &self.target)
    }
}

impl Drop for TempFile {
    fn drop(&mut self) {
        // After `keep` there is nothing under this name any more.
        let _ = std::fs::remove_file(&self.path);
        pending().remove(&self.path);
    }
}

fn pending() -> std::sync::MutexGuard<'static, BTreeSet<PathBuf>> {
    PENDING.lock().expect("no holder of this lock panics")
}

fn blake3_name(name: &[u8]) -> String {
    dfs_core::id::hex(&dfs_core::id::BlobId::of(name).as_bytes()[..8])
}

/// From now on an interrupt removes incomplete files and ends with the exit code of its signal.
pub(super) fn remove_on_signal() -> std::io::Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM])?;
    std::thread::spawn(move || {
        if let Some(signal) = signals.forever().next() {
            for path in pending().iter() {
                let _ = std::fs::remove_file(path);
            }
            std::process::exit(128 + signal);
        }
    });
    Ok(())
}

/// The longest file name of common file systems.
const NAME_BYTES_MAX: usize = 255;
