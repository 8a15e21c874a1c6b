//! The machine: std files, tokio sockets and tasks.
#![allow(clippy::disallowed_methods, reason = "this is the door the others must use")]

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::future::Future;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::{Instant, Sleep, Timeout};

use crate::fs::{DirEntry, DiskSpace, FileLock, Metadata, OpenMode, Vfs, VfsFile};
use crate::net::{BoxFuture, Listener, Net, Stream};

pub(crate) fn wall_ms() -> u64 {
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since_1970.as_millis()).unwrap_or(u64::MAX)
}

/// Gives way once the task has done its share.
pub(crate) async fn consume_budget() {
    tokio::task::coop::consume_budget().await;
}

/// Whether the runtime has several threads.
pub(crate) fn has_threads() -> bool {
    tokio::runtime::Handle::current().metrics().num_workers() > 1
}

pub(crate) fn mono() -> Instant {
    Instant::now()
}

pub(crate) fn sleep(duration: Duration) -> Sleep {
    tokio::time::sleep(duration)
}

pub(crate) fn sleep_until(at: Instant) -> Sleep {
    tokio::time::sleep_until(at)
}

pub(crate) fn timeout<F: Future>(limit: Duration, future: F) -> Timeout<F> {
    tokio::time::timeout(limit, future)
}

pub(crate) fn random(out: &mut [u8]) -> Result<(), getrandom::Error> {
    getrandom::fill(out)
}

pub(crate) fn spawn<F>(future: F) -> JoinHandle<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    tokio::spawn(future)
}

pub(crate) async fn offload<T, F>(work: F) -> T
where
    T: Send + 'static,
    F: FnOnce() -> T + Send + 'static,
{
    match tokio::task::spawn_blocking(work).await {
        Ok(value) => value,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // The runtime is shutting down; whoever waits here is being dropped too.
            Err(_) => std::future::pending().await,
        },
    }
}

pub(crate) struct RealFs;

impl VfsFile for File {
    fn read_exact_at(&self, out: &mut [u8], offset: u64) -> io::Result<()> {
        FileExt::read_exact_at(self, out, offset)
    }

    fn write_all_at(&self, data: &[u8], offset: u64) -> io::Result<()> {
        FileExt::write_all_at(self, data, offset)
    }

    fn size(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        File::set_len(self, len)
    }

    fn sync_data(&self) -> io::Result<()> {
        File::sync_data(self)
    }

    fn forget_cached(&self) -> io::Result<()> {
        Ok(rustix::fs::fadvise(self, 0, None, rustix::fs::Advice::DontNeed)?)
    }
}

fn open(path: &Path, mode: OpenMode) -> io::Result<File> {
    let no_follow = i32::try_from(rustix::fs::OFlags::NOFOLLOW.bits()).unwrap_or(0);
    let mut options = OpenOptions::new();
    options.read(true).mode(0o600).custom_flags(no_follow);
    match mode {
        OpenMode::Read => {}
        OpenMode::ReadWrite => {
            options.write(true);
        }
        OpenMode::Create => {
            options.write(true).create(true);
        }
        OpenMode::CreateNew => {
            options.write(true).create_new(true);
        }
    }
    options.open(path)
}

impl Vfs for RealFs {
    fn read(&self, path: &Path, max: u64) -> io::Result<Vec<u8>> {
        let file = open(path, OpenMode::Read)?;
        let len = file.metadata()?.len();
        let len = usize::try_from(len).ok().filter(|_| len <= max);
        let len = len.ok_or(io::ErrorKind::FileTooLarge)?;
        // Not filled with zeros first, as the default does.
        let mut bytes = Vec::with_capacity(len);
        while bytes.len() < len {
            match rustix::io::read(&file, rustix::buffer::spare_capacity(&mut bytes)) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        // Room may be more than was asked for.
        bytes.truncate(len);
        Ok(bytes)
    }

    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Box<dyn VfsFile>> {
        Ok(Box::new(open(path, mode)?))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        DirBuilder::new().mode(0o700).create(path)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<DirEntry>> {
        let mut entries = Vec::new();
        for entry in fs::read_dir(dir)? {
            let entry = entry?;
            if let Ok(name) = entry.file_name().into_string() {
                entries.push(DirEntry { name, is_dir: entry.file_type()?.is_dir() });
            }
        }
        Ok(entries)
    }

    fn metadata(&self, path: &Path) -> io::Result<Metadata> {
        let found = fs::symlink_metadata(path)?;
        Ok(Metadata {
            len: found.len(),
            allocated: found.blocks() * BLOCK_BYTES,
            is_dir: found.is_dir(),
            mode: found.mode() & 0o7777,
            owned: found.uid() == rustix::process::geteuid().as_raw(),
        })
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        File::open(dir)?.sync_all()
    }

    fn space(&self, path: &Path) -> io::Result<DiskSpace> {
        let stat = rustix::fs::statvfs(path)?;
        Ok(DiskSpace {
            total: stat.f_blocks * stat.f_frsize,
            free: stat.f_bavail * stat.f_frsize,
            files_total: stat.f_files,
            files_free: stat.f_favail,
        })
    }

    fn lock(&self, path: &Path, wait: bool) -> io::Result<Option<FileLock>> {
        let file = open(path, OpenMode::Create)?;
        if wait {
            file.lock()?;
            return Ok(Some(FileLock::new(file)));
        }
        match file.try_lock() {
            Ok(()) => Ok(Some(FileLock::new(file))),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }
}

pub(crate) struct RealNet;

impl Net for RealNet {
    fn connect(&self, to: SocketAddr) -> BoxFuture<'_, io::Result<Stream>> {
        Box::pin(async move {
            let stream = TcpStream::connect(to).await?;
            prepare(&stream)?;
            Ok(Box::new(stream) as Stream)
        })
    }

    fn listen(&self, on: SocketAddr) -> BoxFuture<'_, io::Result<Box<dyn Listener>>> {
        Box::pin(async move {
            let bound = match TcpListener::bind(on).await {
                // A machine without IPv6.
                Err(error)
                    if error.raw_os_error().is_some_and(is_no_ipv6)
                        && on.is_ipv6()
                        && on.ip().is_unspecified() =>
                {
                    TcpListener::bind((Ipv4Addr::UNSPECIFIED, on.port())).await
                }
                other => other,
            }?;
            let addr = bound.local_addr()?;
            Ok(Box::new(RealListener { bound, addr }) as Box<dyn Listener>)
        })
    }

    fn resolve<'a>(
        &'a self,
        host: &'a str,
        port: u16,
    ) -> BoxFuture<'a, io::Result<Vec<SocketAddr>>> {
        Box::pin(async move { Ok(tokio::net::lookup_host((host, port)).await?.collect()) })
    }
}

/// Small writes leave at once, and little waits in the kernel: what was written there can neither
/// be overtaken by what is more urgent nor be taken back.
fn prepare(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    #[cfg(any(target_os = "linux", target_os = "android"))]
    socket2::SockRef::from(stream).set_tcp_notsent_lowat(UNSENT_BYTES)?;
    Ok(())
}

fn is_no_ipv6(code: i32) -> bool {
    let errno = rustix::io::Errno::from_raw_os_error(code);
    errno == rustix::io::Errno::AFNOSUPPORT || errno == rustix::io::Errno::ADDRNOTAVAIL
}

#[derive(Debug)]
struct RealListener {
    bound: TcpListener,
    addr: SocketAddr,
}

impl Listener for RealListener {
    fn accept(&self) -> BoxFuture<'_, io::Result<(Stream, SocketAddr)>> {
        Box::pin(async move {
            let (stream, from) = self.bound.accept().await?;
            prepare(&stream)?;
            Ok((Box::new(stream) as Stream, from))
        })
    }

    fn local_addr(&self) -> SocketAddr {
        self.addr
    }
}

/// What `stat` counts the space of a file in.
const BLOCK_BYTES: u64 = 512;
/// Bytes that the kernel takes and has not sent yet: half a second of a line of 1 Mbit/s, and far
/// more than a fast one sends before this process runs again.
#[cfg(any(target_os = "linux", target_os = "android"))]
const UNSENT_BYTES: u32 = 64 * 1024;
