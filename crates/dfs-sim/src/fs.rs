//! A disk as a process sees it, with everything that can go wrong between the two.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use dfs_env::{DirEntry, DiskSpace, FileLock, Metadata, OpenMode, Vfs, VfsFile};

use crate::disk::{CrashPolicy, Disk, Inode, Name};
use crate::rng::Rng;
use crate::trace::Trace;

/// What a sync does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SyncPolicy {
    /// What it should.
    #[default]
    Honest,
    /// Fails and drops what was to be synced, but goes on showing it.
    FailClean,
    /// Fails and keeps it for the next sync.
    FailDirty,
    /// Says yes and does nothing.
    Lie,
}

/// What goes wrong from now on. Chances are in a thousand operations.
#[derive(Debug, Clone, Default)]
pub struct DiskFaults {
    /// Reads that fail with this error number.
    pub read: Option<(u64, i32)>,
    /// Writes that fail.
    pub write: Option<(u64, i32)>,
    /// Opens that fail.
    pub open: Option<(u64, i32)>,
    /// Every change fails.
    pub read_only: bool,
    /// Bytes that still fit; `None` is no limit.
    pub room: Option<u64>,
    /// How many syncs do something else than they should.
    pub sync: Option<(u64, SyncPolicy)>,
    /// Writes of blobs that are lost without a word.
    pub phantom: u64,
    /// How many times slower everything is.
    pub slow: u32,
    /// The operation with this number fails, and no other.
    pub fail_at: Option<(u64, i32)>,
    /// When that operation is a sync, what it should have kept is dropped.
    pub fail_drops: bool,
    /// The power fails at the operation with this number.
    pub cut_at: Option<u64>,
}

#[derive(Debug)]
struct State {
    disk: Disk,
    faults: DiskFaults,
    rng: Rng,
    /// Operations ever asked for.
    ops: u64,
    locked: Option<(PathBuf, u64)>,
    boots: u64,
    /// Whether the power has failed at `cut_at`.
    cut: bool,
}

/// One machine's disk; it outlives the processes that use it. Clones share it.
#[derive(Clone)]
pub struct SimDisk {
    state: Arc<Mutex<State>>,
    trace: Trace,
    id: u64,
}

/// A disk as one process has it: dead once the process is.
#[derive(Clone)]
pub struct SimFs {
    disk: SimDisk,
    boot: u64,
    alive: Arc<AtomicBool>,
    /// Microseconds of waiting that the process still owes.
    owed: Arc<AtomicU64>,
}

impl fmt::Debug for SimDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SimDisk").field(&self.id).finish()
    }
}

impl fmt::Debug for SimFs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SimFs").field(&self.disk.id).finish()
    }
}

impl SimDisk {
    /// An empty disk.
    pub fn new(id: u64, rng: Rng, trace: Trace) -> Self {
        let state = State {
            disk: Disk::default(),
            faults: DiskFaults::default(),
            rng,
            ops: 0,
            locked: None,
            boots: 0,
            cut: false,
        };
        Self { state: Arc::new(Mutex::new(state)), trace, id }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no holder of this lock panics")
    }

    /// The disk for a new process.
    pub fn boot(&self) -> SimFs {
        let mut state = self.state();
        state.boots += 1;
        state.cut = false;
        SimFs {
            disk: self.clone(),
            boot: state.boots,
            alive: Arc::new(AtomicBool::new(true)),
            owed: Arc::default(),
        }
    }

    /// Sets what goes wrong from now on.
    pub fn set_faults(&self, change: impl FnOnce(&mut DiskFaults)) {
        change(&mut self.state().faults);
    }

    /// Operations ever asked for.
    pub fn ops(&self) -> u64 {
        self.state().ops
    }

    /// Whether the power failed as [`DiskFaults::cut_at`] asked.
    pub fn was_cut(&self) -> bool {
        self.state().cut
    }

    /// The power fails; whoever used the disk must be dead.
    pub fn crash(&self, policy: CrashPolicy) {
        let mut state = self.state();
        let mut rng = state.rng.clone();
        state.disk.crash(policy, &mut rng);
        state.rng = rng;
        state.locked = None;
    }

    /// Throws everything away: a new disk.
    pub fn wipe(&self) {
        self.state().disk = Disk::default();
    }

    /// The blob files, in order.
    pub fn blob_files(&self) -> Vec<(PathBuf, Inode)> {
        let names = self.state().disk.names_below(Path::new("/data/blobs"));
        let files = names.into_iter().filter_map(|(path, name)| match name {
            Name::File(inode) => Some((path, inode)),
            Name::Dir => None,
        });
        files.collect()
    }

    /// Changes a file on the platter.
    pub fn damage(&self, inode: Inode, change: impl FnOnce(&mut Vec<u8>)) {
        self.state().disk.damage(inode, change);
    }

    /// The bytes of a file.
    pub fn content(&self, inode: Inode) -> Vec<u8> {
        self.state().disk.content(inode).to_vec()
    }

    /// Whether any durable byte sequence is `needle`, and how many bytes were looked at.
    pub fn search(&self, needle: &[u8]) -> (bool, u64) {
        let state = self.state();
        let mut looked = 0;
        let found = state.disk.durable_contents().any(|content| {
            looked += content.len() as u64;
            contains(content, needle)
        });
        (found, looked)
    }
}

/// Whether `needle` is in `haystack`.
pub fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    let Some(first) = needle.first() else { return true };
    let mut rest = haystack;
    while let Some(at) = rest.iter().position(|byte| byte == first) {
        if rest[at..].starts_with(needle) {
            return true;
        }
        rest = &rest[at + 1..];
    }
    false
}

/// What an operation is, for faults and the trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Read,
    Write,
    Name,
    Open,
    Sync,
    Look,
}

impl SimFs {
    /// The process is gone: nothing it still tries has an effect.
    pub fn kill(&self) {
        self.alive.store(false, Ordering::Relaxed);
        let mut state = self.disk.state();
        if state.locked.as_ref().is_some_and(|(_, boot)| *boot == self.boot) {
            state.locked = None;
        }
    }

    /// How long the work since the last call had to wait for the disk.
    pub fn take_owed(&self) -> Duration {
        Duration::from_micros(self.owed.swap(0, Ordering::Relaxed))
    }

    /// Begins an operation: it may fail here, before it has any effect.
    fn begin(&self, kind: Kind, bytes: usize) -> io::Result<MutexGuard<'_, State>> {
        let mut state = self.disk.state();
        if !self.alive.load(Ordering::Relaxed) || state.cut {
            return Err(io::Error::other("the machine is off"));
        }
        state.ops += 1;
        let ops = state.ops;
        self.disk.trace.event("disk", &[self.disk.id, ops, kind as u64, bytes as u64]);
        let micros = match kind {
            Kind::Sync => SYNC_MICROS,
            _ => OP_MICROS + bytes as u64 / BYTES_PER_MICRO,
        };
        let slow = u64::from(state.faults.slow.max(1));
        self.owed.fetch_add(micros * slow, Ordering::Relaxed);
        if state.faults.cut_at.is_some_and(|at| ops >= at) {
            state.cut = true;
            state.faults.cut_at = None;
            return Err(io::Error::other("the power failed"));
        }
        if let Some((at, errno)) = state.faults.fail_at
            && at == ops
        {
            return Err(io::Error::from_raw_os_error(errno));
        }
        self.fail_by_chance(&mut state, kind, bytes)?;
        Ok(state)
    }

    fn fail_by_chance(&self, state: &mut State, kind: Kind, bytes: usize) -> io::Result<()> {
        let changes = matches!(kind, Kind::Write | Kind::Name);
        if changes && state.faults.read_only {
            self.disk.trace.fired("disk: read-only");
            return Err(io::Error::from_raw_os_error(EROFS));
        }
        if kind == Kind::Write
            && let Some(room) = state.faults.room
        {
            let left = room.checked_sub(bytes as u64);
            let Some(left) = left else {
                self.disk.trace.fired("disk: full");
                return Err(io::Error::from_raw_os_error(ENOSPC));
            };
            state.faults.room = Some(left);
        }
        let chance = match kind {
            Kind::Read => state.faults.read,
            Kind::Write | Kind::Name => state.faults.write,
            Kind::Open => state.faults.open,
            Kind::Sync | Kind::Look => None,
        };
        match chance {
            Some((chance, errno)) if state.rng.per_mille(chance) => {
                self.disk.trace.fired(match kind {
                    Kind::Read => "disk: read error",
                    Kind::Open => "disk: too many open files",
                    _ => "disk: write error",
                });
                Err(io::Error::from_raw_os_error(errno))
            }
            _ => Ok(()),
        }
    }

    fn need_parent(state: &State, path: &Path) -> io::Result<()> {
        match path.parent() {
            None => Ok(()),
            Some(parent) if parent == Path::new("/") || parent == Path::new("") => Ok(()),
            Some(parent) => match state.disk.name(parent) {
                Some(Name::Dir) => Ok(()),
                Some(Name::File(_)) => Err(io::ErrorKind::NotADirectory.into()),
                None => Err(io::ErrorKind::NotFound.into()),
            },
        }
    }
}

impl Vfs for SimFs {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Box<dyn VfsFile>> {
        let mut state = self.begin(Kind::Open, 0)?;
        let makes = matches!(mode, OpenMode::Create | OpenMode::CreateNew);
        let inode = match state.disk.name(path) {
            Some(Name::Dir) => return Err(io::ErrorKind::IsADirectory.into()),
            Some(Name::File(_)) if mode == OpenMode::CreateNew => {
                return Err(io::ErrorKind::AlreadyExists.into());
            }
            Some(Name::File(inode)) => inode,
            None if !makes => return Err(io::ErrorKind::NotFound.into()),
            None if state.faults.read_only => return Err(io::Error::from_raw_os_error(EROFS)),
            None => {
                Self::need_parent(&state, path)?;
                match state.disk.link(path, false) {
                    Name::File(inode) => inode,
                    Name::Dir => return Err(io::ErrorKind::IsADirectory.into()),
                }
            }
        };
        drop(state);
        let is_blob = path.starts_with("/data/tmp");
        Ok(Box::new(SimFile { fs: self.clone(), inode, is_blob }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.begin(Kind::Name, 0)?;
        Self::need_parent(&state, to)?;
        match state.disk.rename(from, to) {
            true => Ok(()),
            false => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        let mut state = self.begin(Kind::Name, 0)?;
        match state.disk.name(path) {
            Some(Name::File(_)) => {
                state.disk.unlink(path);
                Ok(())
            }
            Some(Name::Dir) => Err(io::ErrorKind::IsADirectory.into()),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        let mut state = self.begin(Kind::Name, 0)?;
        if path == Path::new("/") || state.disk.name(path).is_some() {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        Self::need_parent(&state, path)?;
        state.disk.link(path, true);
        Ok(())
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<DirEntry>> {
        let state = self.begin(Kind::Look, 0)?;
        let names = state.disk.names_below(dir);
        let inside = names.into_iter().filter(|(path, _)| path.parent() == Some(dir));
        let entries = inside.filter_map(|(path, name)| {
            let text = path.file_name()?.to_str()?.to_owned();
            Some(DirEntry { name: text, is_dir: name == Name::Dir })
        });
        Ok(entries.collect())
    }

    fn metadata(&self, path: &Path) -> io::Result<Metadata> {
        let state = self.begin(Kind::Look, 0)?;
        match state.disk.name(path) {
            None if path == Path::new("/") => Ok(Metadata::dir()),
            None => Err(io::ErrorKind::NotFound.into()),
            Some(Name::Dir) => Ok(Metadata::dir()),
            Some(Name::File(inode)) => {
                let len = state.disk.content(inode).len() as u64;
                Ok(Metadata::file(len))
            }
        }
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let mut state = self.begin(Kind::Sync, 0)?;
        state.disk.sync_dir(dir);
        Ok(())
    }

    fn space(&self, _path: &Path) -> io::Result<DiskSpace> {
        let state = self.begin(Kind::Look, 0)?;
        let free = state.faults.room.unwrap_or(TOTAL_BYTES / 2);
        Ok(DiskSpace { total: TOTAL_BYTES, free, ..DiskSpace::default() })
    }

    fn lock(&self, path: &Path, _wait: bool) -> io::Result<Option<FileLock>> {
        drop(self.open(path, OpenMode::Create)?);
        let mut state = self.disk.state();
        if state.locked.is_some() {
            return Ok(None);
        }
        state.locked = Some((path.to_owned(), self.boot));
        Ok(Some(FileLock::new(Held(self.clone()))))
    }
}

struct Held(SimFs);

impl Drop for Held {
    fn drop(&mut self) {
        let mut state = self.0.disk.state();
        if state.locked.as_ref().is_some_and(|(_, boot)| *boot == self.0.boot) {
            state.locked = None;
        }
    }
}

struct SimFile {
    fs: SimFs,
    inode: Inode,
    /// Whether it holds a blob, the only thing whose loss behind its back a node survives.
    is_blob: bool,
}

impl fmt::Debug for SimFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SimFile").field(&self.inode).finish()
    }
}

fn place(offset: u64, len: usize) -> io::Result<(usize, usize)> {
    let start = usize::try_from(offset).map_err(|_| io::ErrorKind::FileTooLarge)?;
    let end = start.checked_add(len).ok_or(io::ErrorKind::FileTooLarge)?;
    Ok((start, end))
}

impl VfsFile for SimFile {
    fn read_exact_at(&self, out: &mut [u8], offset: u64) -> io::Result<()> {
        let state = self.fs.begin(Kind::Read, out.len())?;
        let (start, end) = place(offset, out.len())?;
        let content = state.disk.content(self.inode);
        out.copy_from_slice(content.get(start..end).ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn write_all_at(&self, data: &[u8], offset: u64) -> io::Result<()> {
        let mut state = self.fs.begin(Kind::Write, data.len())?;
        let (start, _) = place(offset, data.len())?;
        let chance = state.faults.phantom;
        if chance > 0 && self.is_blob && state.rng.per_mille(chance) {
            self.fs.disk.trace.fired("disk: phantom write");
            return Ok(());
        }
        state.disk.write(self.inode, start, data);
        Ok(())
    }

    fn size(&self) -> io::Result<u64> {
        let state = self.fs.begin(Kind::Look, 0)?;
        Ok(state.disk.content(self.inode).len() as u64)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut state = self.fs.begin(Kind::Write, 0)?;
        let (len, _) = place(len, 0)?;
        state.disk.set_len(self.inode, len);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let begun = self.fs.begin(Kind::Sync, 0);
        let mut state = match begun {
            Ok(state) => state,
            Err(error) => {
                let mut state = self.fs.disk.state();
                if state.faults.fail_drops && error.raw_os_error() == Some(EIO) {
                    state.disk.lose_unsynced(self.inode);
                }
                return Err(error);
            }
        };
        let drawn = state.faults.sync;
        let drawn = drawn.filter(|(chance, _)| state.rng.per_mille(*chance));
        let policy = match drawn {
            Some((_, SyncPolicy::Lie)) if !self.is_blob => SyncPolicy::Honest,
            Some((_, policy)) => policy,
            None => SyncPolicy::Honest,
        };
        match policy {
            SyncPolicy::Honest => state.disk.sync_file(self.inode),
            SyncPolicy::FailClean => {
                self.fs.disk.trace.fired("disk: sync fails, pages dropped");
                state.disk.lose_unsynced(self.inode);
                return Err(io::Error::from_raw_os_error(EIO));
            }
            SyncPolicy::FailDirty => {
                self.fs.disk.trace.fired("disk: sync fails, pages kept");
                return Err(io::Error::from_raw_os_error(EIO));
            }
            SyncPolicy::Lie => self.fs.disk.trace.fired("disk: sync lies"),
        }
        Ok(())
    }

    fn forget_cached(&self) -> io::Result<()> {
        let mut state = self.fs.begin(Kind::Look, 0)?;
        state.disk.forget_cached(self.inode);
        Ok(())
    }
}

/// Error numbers of Linux.
pub const EIO: i32 = 5;
/// Too many open files.
pub const EMFILE: i32 = 24;
/// No space left.
pub const ENOSPC: i32 = 28;
/// A read-only file system.
pub const EROFS: i32 = 30;
/// A sync of a fast disk.
const SYNC_MICROS: u64 = 150;
/// An operation that the page cache answers.
const OP_MICROS: u64 = 2;
/// 1 GB/s.
const BYTES_PER_MICRO: u64 = 1000;
/// 1 TiB: no watermark is near unless a test sets the room.
const TOTAL_BYTES: u64 = 1 << 40;
