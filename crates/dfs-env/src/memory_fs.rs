//! A disk in memory that keeps only what was synced when it crashes.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard};

use crate::fs::{DirEntry, DiskSpace, FileLock, Metadata, OpenMode, Vfs, VfsFile};

/// A disk; clones share it. Every file is owned by this user; directories have mode 0700.
#[derive(Clone, Default)]
pub struct MemoryFs(Arc<Mutex<Disk>>);

#[derive(Default)]
struct Disk {
    names: BTreeMap<PathBuf, Node>,
    durable_names: BTreeMap<PathBuf, Node>,
    locked: BTreeSet<PathBuf>,
    /// Bytes that may still be written; `None` is no limit.
    room: Option<u64>,
    /// How many files there can be, and how many more; `None` is no limit.
    files: Option<(u64, u64)>,
}

#[derive(Clone)]
enum Node {
    Dir,
    File(Arc<Mutex<Content>>),
}

#[derive(Default)]
struct Content {
    bytes: Vec<u8>,
    durable: Vec<u8>,
}

impl MemoryFs {
    fn disk(&self) -> MutexGuard<'_, Disk> {
        self.0.lock()
    }

    /// The power fails: names and contents that were not synced are gone, locks are free.
    pub fn crash(&self) {
        let mut disk = self.disk();
        disk.names = disk.durable_names.clone();
        disk.locked.clear();
        for node in disk.names.values_mut() {
            if let Node::File(content) = node {
                let durable = lock(content).durable.clone();
                // Handles from before the crash keep the old content and reach nothing.
                *node =
                    Node::File(Arc::new(Mutex::new(Content { bytes: durable.clone(), durable })));
            }
        }
        disk.durable_names = disk.names.clone();
    }

    /// Another disk with what is durable on this one.
    pub fn copy(&self) -> Self {
        let copy = Self::default();
        copy.disk().durable_names = self.disk().durable_names.clone();
        // As after a power cut, each file gets a content of its own.
        copy.crash();
        copy
    }

    /// From now on at most `bytes` more can be written; then the disk is full.
    pub fn set_room(&self, bytes: Option<u64>) {
        self.disk().room = bytes;
    }

    /// From now on says that there can be so many files, and so many more.
    pub fn set_files(&self, total: u64, free: u64) {
        self.disk().files = Some((total, free));
    }

    /// Changes the content of a file behind everyone's back, as rot does.
    ///
    /// # Panics
    /// When there is no such file.
    pub fn damage(&self, path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
        let disk = self.disk();
        let Some(Node::File(content)) = disk.names.get(path) else {
            panic!("no file {} to damage", path.display());
        };
        let mut content = lock(content);
        change(&mut content.bytes);
        content.durable = content.bytes.clone();
    }

    /// Every file below a directory.
    pub fn files_below(&self, dir: &Path) -> Vec<PathBuf> {
        let disk = self.disk();
        let files = disk
            .names
            .iter()
            .filter(|(path, node)| path.starts_with(dir) && matches!(node, Node::File(_)));
        files.map(|(path, _)| path.clone()).collect()
    }
}

fn lock(content: &Arc<Mutex<Content>>) -> MutexGuard<'_, Content> {
    content.lock()
}

impl Disk {
    fn need_parent(&self, path: &Path) -> io::Result<()> {
        match path.parent() {
            None => Ok(()),
            Some(parent) if parent == Path::new("/") || parent == Path::new("") => Ok(()),
            Some(parent) => match self.names.get(parent) {
                Some(Node::Dir) => Ok(()),
                Some(Node::File(_)) => Err(io::ErrorKind::NotADirectory.into()),
                None => Err(io::ErrorKind::NotFound.into()),
            },
        }
    }
}

impl Vfs for MemoryFs {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Box<dyn VfsFile>> {
        let mut disk = self.disk();
        let content = match (disk.names.get(path), mode) {
            (Some(Node::Dir), _) => return Err(io::ErrorKind::IsADirectory.into()),
            (Some(Node::File(_)), OpenMode::CreateNew) => {
                return Err(io::ErrorKind::AlreadyExists.into());
            }
            (Some(Node::File(content)), _) => content.clone(),
            (None, OpenMode::Read | OpenMode::ReadWrite) => {
                return Err(io::ErrorKind::NotFound.into());
            }
            (None, OpenMode::Create | OpenMode::CreateNew) => {
                disk.need_parent(path)?;
                let content = Arc::new(Mutex::new(Content::default()));
                disk.names.insert(path.to_owned(), Node::File(content.clone()));
                content
            }
        };
        Ok(Box::new(MemoryFile { content, disk: self.clone() }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut disk = self.disk();
        disk.need_parent(to)?;
        let node = disk.names.remove(from).ok_or(io::ErrorKind::NotFound)?;
        disk.names.insert(to.to_owned(), node);
        Ok(())
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        let mut disk = self.disk();
        match disk.names.get(path) {
            Some(Node::File(_)) => {
                disk.names.remove(path);
                Ok(())
            }
            Some(Node::Dir) => Err(io::ErrorKind::IsADirectory.into()),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        let mut disk = self.disk();
        disk.need_parent(path)?;
        match disk.names.get(path) {
            Some(_) => Err(io::ErrorKind::AlreadyExists.into()),
            None => {
                disk.names.insert(path.to_owned(), Node::Dir);
                Ok(())
            }
        }
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<DirEntry>> {
        let disk = self.disk();
        let inside = disk.names.iter().filter(|(path, _)| path.parent() == Some(dir));
        let entries = inside.filter_map(|(path, node)| {
            let name = path.file_name()?.to_str()?.to_owned();
            Some(DirEntry { name, is_dir: matches!(node, Node::Dir) })
        });
        Ok(entries.collect())
    }

    fn metadata(&self, path: &Path) -> io::Result<Metadata> {
        match self.disk().names.get(path) {
            None => Err(io::ErrorKind::NotFound.into()),
            Some(Node::Dir) => Ok(Metadata::dir()),
            Some(Node::File(content)) => {
                let len = lock(content).bytes.len() as u64;
                Ok(Metadata::file(len))
            }
        }
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let mut disk = self.disk();
        let inside = |path: &Path| path.parent() == Some(dir);
        let current: Vec<_> = disk.names.iter().filter(|(path, _)| inside(path)).collect();
        let current: BTreeMap<_, _> =
            current.into_iter().map(|(p, n)| (p.clone(), n.clone())).collect();
        disk.durable_names.retain(|path, _| !inside(path));
        disk.durable_names.extend(current);
        Ok(())
    }

    fn space(&self, _path: &Path) -> io::Result<DiskSpace> {
        let free = self.disk().room.unwrap_or(UNLIMITED_BYTES);
        let files = self.disk().files;
        let (files_total, files_free) = files.unwrap_or_default();
        Ok(DiskSpace { total: UNLIMITED_BYTES, free, files_total, files_free })
    }

    fn lock(&self, path: &Path, _wait: bool) -> io::Result<Option<FileLock>> {
        drop(self.open(path, OpenMode::Create)?);
        let taken = self.disk().locked.insert(path.to_owned());
        Ok(taken.then(|| FileLock::new(Held { disk: self.clone(), path: path.to_owned() })))
    }
}

impl fmt::Debug for MemoryFs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("MemoryFs").finish()
    }
}

struct Held {
    disk: MemoryFs,
    path: PathBuf,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.disk.disk().locked.remove(&self.path);
    }
}

struct MemoryFile {
    content: Arc<Mutex<Content>>,
    disk: MemoryFs,
}

impl VfsFile for MemoryFile {
    fn read_exact_at(&self, out: &mut [u8], offset: u64) -> io::Result<()> {
        let content = lock(&self.content);
        let start = usize::try_from(offset).map_err(|_| io::ErrorKind::UnexpectedEof)?;
        let end = start.checked_add(out.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        let bytes = content.bytes.get(start..end).ok_or(io::ErrorKind::UnexpectedEof)?;
        out.copy_from_slice(bytes);
        Ok(())
    }

    fn write_all_at(&self, data: &[u8], offset: u64) -> io::Result<()> {
        let mut disk = self.disk.disk();
        if let Some(room) = &mut disk.room {
            *room = room.checked_sub(data.len() as u64).ok_or(io::ErrorKind::StorageFull)?;
        }
        let mut content = lock(&self.content);
        let start = usize::try_from(offset).map_err(|_| io::ErrorKind::FileTooLarge)?;
        let end = start.checked_add(data.len()).ok_or(io::ErrorKind::FileTooLarge)?;
        if content.bytes.len() < end {
            content.bytes.resize(end, 0);
        }
        content.bytes[start..end].copy_from_slice(data);
        Ok(())
    }

    fn size(&self) -> io::Result<u64> {
        Ok(lock(&self.content).bytes.len() as u64)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let len = usize::try_from(len).map_err(|_| io::ErrorKind::FileTooLarge)?;
        lock(&self.content).bytes.resize(len, 0);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut content = lock(&self.content);
        content.durable = content.bytes.clone();
        Ok(())
    }

    fn forget_cached(&self) -> io::Result<()> {
        Ok(())
    }
}

impl fmt::Debug for MemoryFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MemoryFile")
    }
}

/// What a disk without a limit reports: large enough that no watermark is near.
const UNLIMITED_BYTES: u64 = 1 << 50;
