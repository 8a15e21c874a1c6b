//! Durable blob files: written aside, synced, renamed into place, and the directory synced.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use dfs_core::id::{BlobId, from_hex};
use dfs_env::{Bug, Env, OpenMode, bug};
use parking_lot::Mutex;

use crate::blob::{BLOB_BYTES_MAX, FormatError, Header};
use crate::disk::path::PathTransform;

/// The files below one data directory. Every method blocks on the disk.
#[derive(Debug)]
pub(crate) struct Chunks {
    root: PathBuf,
    transform: PathTransform,
    next_temp: AtomicU64,
    /// Directories known to exist durably.
    durable_dirs: Mutex<BTreeSet<PathBuf>>,
}

/// What a file turned out to be.
pub(crate) enum FileFound {
    Good(Vec<u8>),
    /// Cut, flipped, too long, or missing though the index names it.
    Bad,
}

impl FileFound {
    pub(crate) fn is_good(&self) -> bool {
        matches!(self, Self::Good(_))
    }
}

/// What became of a file that the index does not know.
pub(crate) enum Vouched {
    /// A blob of so many bytes, verified on the disk and durable.
    Good(u32),
    /// Something else, now in quarantine.
    SetAside,
    /// A whole blob of a format this program does not know.
    Newer,
    /// There is no such file.
    Gone,
}

/// The files below one top directory.
#[derive(Default)]
pub(crate) struct Listed {
    /// Blobs, by the names of their files.
    pub(crate) ids: Vec<BlobId>,
    /// Files that had the name of a blob of another place, or of none; they were set aside.
    pub(crate) strays: u64,
    /// Directories that could not be listed, and strays that could not be set aside.
    pub(crate) failed: u64,
}

impl Chunks {
    /// Opens the directories of `root` and throws away what an earlier process left unfinished.
    pub(crate) fn open(env: &Env, root: &Path) -> io::Result<Self> {
        let fs = env.fs();
        for entry in fs.list(&root.join("tmp"))? {
            fs.remove_file(&root.join("tmp").join(entry.name))?;
        }
        Ok(Self {
            root: root.to_owned(),
            transform: PathTransform::default(),
            next_temp: AtomicU64::new(0),
            durable_dirs: Mutex::new(BTreeSet::new()),
        })
    }

    pub(crate) fn path(&self, id: &BlobId) -> PathBuf {
        self.root.join("blobs").join(self.transform.blob_path(id))
    }

    /// Stores verified bytes; on return they survive a power loss. The memory that the disk's cache
    /// took for them is given back at once unless they are likely to be `read_soon`.
    pub(crate) fn write(
        &self,
        env: &Env,
        id: &BlobId,
        bytes: &[u8],
        read_soon: bool,
    ) -> io::Result<()> {
        let fs = env.fs();
        let number = self.next_temp.fetch_add(1, Ordering::Relaxed);
        let temp = self.root.join("tmp").join(format!("{number}.tmp"));
        let result = self.write_and_rename(env, id, bytes, read_soon, &temp);
        if result.is_err() {
            // Best effort: the next start clears the directory anyway.
            let _ = fs.remove_file(&temp);
        }
        result
    }

    /// Writes a file and takes it away again: whether the disk takes any.
    pub(crate) fn try_disk(&self, env: &Env) -> io::Result<()> {
        let number = self.next_temp.fetch_add(1, Ordering::Relaxed);
        let temp = self.root.join("tmp").join(format!("{number}.tmp"));
        let file = env.fs().open(&temp, OpenMode::CreateNew)?;
        let written = file.write_all_at(&[0], 0).and_then(|()| file.sync_data());
        env.fs().remove_file(&temp)?;
        written
    }

    fn write_and_rename(
        &self,
        env: &Env,
        id: &BlobId,
        bytes: &[u8],
        read_soon: bool,
        temp: &Path,
    ) -> io::Result<()> {
        let fs = env.fs();
        let file = fs.open(temp, OpenMode::CreateNew)?;
        file.write_all_at(bytes, 0)?;
        if !bug(Bug::SkipFileSync) {
            file.sync_data()?;
        }
        if !read_soon {
            // What stays remembered does no harm.
            let _ = file.forget_cached();
        }
        let path = self.path(id);
        let dir = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
        self.make_dir(env, dir)?;
        fs.rename(temp, &path)?;
        if bug(Bug::SkipDirSync) { Ok(()) } else { fs.sync_dir(dir) }
    }

    /// Makes a directory and those above it durable, once in the life of this process.
    fn make_dir(&self, env: &Env, dir: &Path) -> io::Result<()> {
        let known = || self.durable_dirs.lock();
        if dir == self.root || known().contains(dir) {
            return Ok(());
        }
        let parent = dir.parent().ok_or(io::ErrorKind::InvalidInput)?;
        self.make_dir(env, parent)?;
        match env.fs().create_dir(dir) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => env.fs().sync_dir(parent)?,
        }
        known().insert(dir.to_owned());
        Ok(())
    }

    /// Reads a file and checks it against its id.
    pub(crate) fn read(&self, env: &Env, id: &BlobId) -> io::Result<FileFound> {
        judge(id, env.fs().read(&self.path(id), BLOB_BYTES_MAX as u64))
    }

    /// The same, of what is on the disk itself and not of what is remembered of it; nothing is
    /// remembered of it after. A pass over all files would push out what others read often.
    pub(crate) fn read_back(&self, env: &Env, id: &BlobId) -> io::Result<FileFound> {
        let file = match env.fs().open(&self.path(id), OpenMode::Read) {
            Ok(file) => file,
            Err(error) => return judge(id, Err(error)),
        };
        file.forget_cached()?;
        let found = self.read(env, id);
        // What stays remembered does no harm.
        let _ = file.forget_cached();
        found
    }

    /// The top directory that a blob lies in, of 256.
    pub(crate) fn top(&self, id: &BlobId) -> u8 {
        let dirs = self.transform.blob_dirs(id);
        dirs.first().and_then(|dir| u8::from_str_radix(dir, 16).ok()).unwrap_or_default()
    }

    /// The top directories there are.
    pub(crate) fn tops(&self, env: &Env) -> io::Result<Vec<u8>> {
        let names = env.fs().list(&self.root.join("blobs"))?.into_iter().map(|entry| entry.name);
        let tops = names.filter_map(|name| from_hex(&name).map(|[top]| top));
        Ok(tops.collect())
    }

    /// Lists the files below a top directory.
    pub(crate) fn list_below(&self, env: &Env, top: u8) -> Listed {
        let mut listed = Listed::default();
        let top = self.root.join("blobs").join(format!("{top:02x}"));
        for dir in names(env, &top, true, &mut listed.failed) {
            let dir = top.join(dir);
            for name in names(env, &dir, false, &mut listed.failed) {
                // Whatever else lies here was not put there by us.
                let Some(stem) = name.strip_suffix(".blob") else { continue };
                let path = dir.join(&name);
                match from_hex(stem).map(BlobId::new) {
                    Some(id) if self.path(&id) == path => listed.ids.push(id),
                    _ => match self.set_aside(env, &path, stem) {
                        Ok(()) => listed.strays += 1,
                        Err(_) => listed.failed += 1,
                    },
                }
            }
        }
        listed
    }

    /// Whether a blob has no file.
    pub(crate) fn is_gone(&self, env: &Env, id: &BlobId) -> bool {
        let found = env.fs().metadata(&self.path(id));
        found.is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
    }

    /// Checks a file that the index does not know, and makes it durable: the process that wrote it
    /// may have died before it did so.
    pub(crate) fn vouch(&self, env: &Env, id: &BlobId) -> io::Result<Vouched> {
        let path = self.path(id);
        let file = match env.fs().open(&path, OpenMode::Read) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vouched::Gone),
            other => other?,
        };
        file.sync_data()?;
        // What a failed sync left in memory must not pass for what is on the disk.
        file.forget_cached()?;
        let FileFound::Good(bytes) = self.read(env, id)? else {
            self.quarantine(env, id)?;
            return Ok(Vouched::SetAside);
        };
        match Header::parse(&bytes) {
            Ok(_) => {}
            Err(FormatError::UnknownVersion(_)) => return Ok(Vouched::Newer),
            Err(_) => {
                self.quarantine(env, id)?;
                return Ok(Vouched::SetAside);
            }
        }
        let dir = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
        self.make_dir(env, dir)?;
        env.fs().sync_dir(dir)?;
        Ok(Vouched::Good(u32::try_from(bytes.len()).map_err(|_| io::ErrorKind::FileTooLarge)?))
    }

    /// Throws a file away. It may come back after a power loss.
    pub(crate) fn remove(&self, env: &Env, id: &BlobId) -> io::Result<()> {
        match env.fs().remove_file(&self.path(id)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        }
    }

    /// Sets a bad file aside. It is kept: it may be evidence, and never served.
    pub(crate) fn quarantine(&self, env: &Env, id: &BlobId) -> io::Result<()> {
        self.set_aside(env, &self.path(id), &id.to_string())
    }

    fn set_aside(&self, env: &Env, path: &Path, name: &str) -> io::Result<()> {
        // The number keeps two files of one name and one moment apart.
        let number = self.next_temp.fetch_add(1, Ordering::Relaxed);
        let aside = format!("{name}.{}-{number}", env.wall_ms());
        let aside = self.root.join("quarantine").join(aside);
        match env.fs().rename(path, &aside) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        }
    }
}

/// The directories in a directory, or its files; none where there is no such directory.
fn names(env: &Env, dir: &Path, dirs: bool, failed: &mut u64) -> Vec<String> {
    match env.fs().list(dir) {
        Ok(entries) => {
            let wanted = entries.into_iter().filter(|entry| entry.is_dir == dirs);
            wanted.map(|entry| entry.name).collect()
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        Err(_) => {
            *failed += 1;
            Vec::new()
        }
    }
}

/// What these bytes are, where this blob should be.
pub(crate) fn judged(id: &BlobId, bytes: Vec<u8>) -> FileFound {
    if BlobId::of(&bytes) == *id || bug(Bug::ReadUnchecked) {
        FileFound::Good(bytes)
    } else {
        FileFound::Bad
    }
}

/// What was read of the file of a blob.
fn judge(id: &BlobId, read: io::Result<Vec<u8>>) -> io::Result<FileFound> {
    match read {
        Ok(bytes) => Ok(judged(id, bytes)),
        Err(error) => match error.kind() {
            io::ErrorKind::NotFound
            | io::ErrorKind::FileTooLarge
            | io::ErrorKind::UnexpectedEof => Ok(FileFound::Bad),
            _ if is_rot(&error) => Ok(FileFound::Bad),
            _ => Err(error),
        },
    }
}

/// Whether the error means that these bytes are gone, rather than that the disk cannot answer now:
/// EIO, EBADMSG, EUCLEAN.
fn is_rot(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(5 | 74 | 117))
}
