//! Files: what the rest of dfs may ask of a disk.
//!
//! Calls block; callers wrap a batch of them in [`crate::Env::offload`].

use std::any::Any;
use std::fmt;
use std::io;
use std::path::Path;

/// How a file is opened. Links are never followed at the last component.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OpenMode {
    /// An existing file, to read.
    Read,
    /// An existing file, to read and write.
    ReadWrite,
    /// A file to read and write, created with mode 0600 when missing.
    Create,
    /// A new file with mode 0600; an existing one is an error.
    CreateNew,
}

/// What a path is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Metadata {
    /// Size in bytes.
    pub len: u64,
    /// Bytes of the disk that it takes: fewer than its length where it has holes.
    pub allocated: u64,
    /// A directory, rather than a file.
    pub is_dir: bool,
    /// Permission bits.
    pub mode: u32,
    /// Whether the user this process runs as owns it.
    pub owned: bool,
}

impl Metadata {
    /// A directory of a disk that is made up.
    pub const fn dir() -> Self {
        Self { len: 0, allocated: 0, is_dir: true, mode: 0o700, owned: true }
    }

    /// A file of one, without holes.
    pub const fn file(len: u64) -> Self {
        Self { len, allocated: len, is_dir: false, mode: 0o600, owned: true }
    }
}

/// One name in a directory.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct DirEntry {
    /// The name; names that are not UTF-8 are left out of listings.
    pub name: String,
    /// A directory, rather than a file.
    pub is_dir: bool,
}

/// Room on a file system, in bytes and in files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DiskSpace {
    /// In all.
    pub total: u64,
    /// Free to this user.
    pub free: u64,
    /// How many files and directories there can be (inodes); 0 where that has no limit.
    pub files_total: u64,
    /// How many more there can be.
    pub files_free: u64,
}

/// A lock held until it is dropped or the process ends.
pub struct FileLock(#[allow(dead_code, reason = "held for its drop")] Box<dyn Any + Send + Sync>);

impl FileLock {
    /// A lock that `held` releases when it is dropped.
    pub fn new(held: impl Any + Send + Sync) -> Self {
        Self(Box::new(held))
    }
}

impl fmt::Debug for FileLock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FileLock")
    }
}

/// An open file.
pub trait VfsFile: Send + Sync + fmt::Debug {
    /// Fills `out` from `offset`.
    ///
    /// # Errors
    /// `UnexpectedEof` when the file ends before `out` is full.
    fn read_exact_at(&self, out: &mut [u8], offset: u64) -> io::Result<()>;

    /// Writes all of `data` at `offset`.
    ///
    /// # Errors
    /// Whatever the disk says, a full one included.
    fn write_all_at(&self, data: &[u8], offset: u64) -> io::Result<()>;

    /// The size in bytes.
    ///
    /// # Errors
    /// Whatever the disk says.
    fn size(&self) -> io::Result<u64>;

    /// Cuts the file or extends it with zeros.
    ///
    /// # Errors
    /// Whatever the disk says.
    fn set_len(&self, len: u64) -> io::Result<()>;

    /// Makes content and size durable.
    ///
    /// # Errors
    /// After one, nothing written since the last success may be assumed durable.
    fn sync_data(&self) -> io::Result<()>;

    /// Reads from the disk itself from now on, not from what is remembered of it. After a sync
    /// failed, a kernel may go on showing bytes that never reached the disk, until it is asked.
    ///
    /// # Errors
    /// Whatever the disk says.
    fn forget_cached(&self) -> io::Result<()>;
}

/// A file system.
pub trait Vfs: Send + Sync {
    /// Opens a file.
    ///
    /// # Errors
    /// `NotFound`, `AlreadyExists`, or whatever the disk says.
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Box<dyn VfsFile>>;

    /// Moves a file over another name, atomically. Durable after [`Vfs::sync_dir`].
    ///
    /// # Errors
    /// Whatever the disk says.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a file. Durable after [`Vfs::sync_dir`].
    ///
    /// # Errors
    /// Whatever the disk says.
    fn remove_file(&self, path: &Path) -> io::Result<()>;

    /// Creates one directory with mode 0700. Durable after [`Vfs::sync_dir`] of its parent.
    ///
    /// # Errors
    /// `AlreadyExists`, or whatever the disk says.
    fn create_dir(&self, path: &Path) -> io::Result<()>;

    /// Creates a directory and its missing parents, durably, with mode 0700.
    ///
    /// # Errors
    /// Whatever the disk says.
    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        match self.create_dir(path) {
            Ok(()) => match path.parent() {
                Some(parent) if parent != Path::new("") => self.sync_dir(parent),
                _ => Ok(()),
            },
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let parent = path.parent().ok_or(error)?;
                self.create_dir_all(parent)?;
                match self.create_dir(path) {
                    // Another process was faster.
                    Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                    other => other?,
                }
                self.sync_dir(parent)
            }
            Err(error) => Err(error),
        }
    }

    /// The names in a directory, in no particular order.
    ///
    /// # Errors
    /// Whatever the disk says.
    fn list(&self, dir: &Path) -> io::Result<Vec<DirEntry>>;

    /// What a path is, without following a link.
    ///
    /// # Errors
    /// `NotFound`, or whatever the disk says.
    fn metadata(&self, path: &Path) -> io::Result<Metadata>;

    /// Makes the names in a directory durable.
    ///
    /// # Errors
    /// Whatever the disk says.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;

    /// The room where `path` lies.
    ///
    /// # Errors
    /// Whatever the disk says.
    fn space(&self, path: &Path) -> io::Result<DiskSpace>;

    /// Locks a file against other processes, creating it when missing. `None` when another holds
    /// it; `wait` blocks instead.
    ///
    /// # Errors
    /// Whatever the disk says.
    fn lock(&self, path: &Path, wait: bool) -> io::Result<Option<FileLock>>;

    /// Reads a whole file, refusing one above `max` bytes.
    ///
    /// # Errors
    /// `FileTooLarge`, or whatever the disk says.
    fn read(&self, path: &Path, max: u64) -> io::Result<Vec<u8>> {
        let file = self.open(path, OpenMode::Read)?;
        let len = file.size()?;
        let len = usize::try_from(len).ok().filter(|_| len <= max);
        let mut bytes = vec![0; len.ok_or(io::ErrorKind::FileTooLarge)?];
        file.read_exact_at(&mut bytes, 0)?;
        Ok(bytes)
    }
}

/// Puts `bytes` in place of a file, durably: after a crash the name holds the old or the new
/// content, whole.
///
/// # Errors
/// Whatever the disk says; the old content stays.
pub fn write_replacing(fs: &dyn Vfs, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let dir = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    let mut temp_name = name.to_os_string();
    temp_name.push(".tmp");
    let temp = dir.join(temp_name);
    // What a crash, or another user, left under this name has an owner and a mode of its own.
    match fs.remove_file(&temp) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let file = fs.open(&temp, OpenMode::CreateNew)?;
    file.write_all_at(bytes, 0)?;
    file.sync_data()?;
    fs.rename(&temp, path)?;
    fs.sync_dir(dir)
}
