//! The one door to the operating system: clock, randomness, tasks, files and sockets.
//!
//! Everything else in dfs asks an [`Env`] for these. [`Env::real`] is the machine;
//! [`Env::in_memory`] is a disk that forgets what was not synced, a network of channels and
//! seeded randomness, for tests. No type parameter leaks into the code that uses it.
//!
//! ```
//! use std::path::Path;
//! use dfs_env::{Env, MemoryNet, OpenMode};
//!
//! let env = Env::in_memory(7, MemoryNet::default());
//! let file = env.fs().open(Path::new("/a"), OpenMode::CreateNew)?;
//! file.write_all_at(b"kept", 0)?;
//! file.sync_data()?;
//! env.fs().sync_dir(Path::new("/"))?;
//! assert_eq!(env.fs().metadata(Path::new("/a"))?.len, 4);
//! # Ok::<(), std::io::Error>(())
//! ```

mod brief;
mod bug;
mod fs;
mod machine;
mod memory_fs;
mod memory_line;
mod memory_net;
mod net;
mod real;
mod task;
mod task_map;
mod time;

use std::fmt;
use std::future::Future;
use std::sync::Arc;

use parking_lot::Mutex;

pub use brief::Brief;
#[cfg(feature = "bug-bank")]
pub use bug::set_bug;
pub use bug::{Bug, bug};
pub use fs::{DirEntry, DiskSpace, FileLock, Metadata, OpenMode, Vfs, VfsFile, write_replacing};
pub use machine::Machine;
pub use memory_fs::MemoryFs;
pub use memory_net::MemoryNet;
pub use net::{BoxFuture, ByteStream, Listener, Net, Stream};
pub use task::Task;
pub use task_map::TaskMap;
pub use time::{Elapsed, Ticker};

/// A handle on the operating system; cheap to clone.
#[derive(Clone)]
pub struct Env(Arc<Inner>);

struct Inner {
    fs: Box<dyn Vfs>,
    net: Box<dyn Net>,
    /// Seeded randomness; `None` asks the operating system.
    seeded: Option<Mutex<seeded_rng::Rng>>,
    /// Whether blocking work runs where it is called rather than on the blocking pool.
    inline: bool,
    /// What a simulated machine decides; `None` on a real one.
    machine: Option<Arc<dyn Machine>>,
}

impl Env {
    /// The machine this runs on.
    pub fn real() -> Self {
        Self(Arc::new(Inner {
            fs: Box::new(real::RealFs),
            net: Box::new(real::RealNet),
            seeded: None,
            inline: false,
            machine: None,
        }))
    }

    /// An empty disk of its own, randomness from `seed`, and a network shared with every
    /// environment that was given a clone of `net`.
    pub fn in_memory(seed: u64, net: MemoryNet) -> Self {
        Self::with_disk(seed, net, MemoryFs::default())
    }

    /// As [`Env::in_memory`], on a disk that exists already and any network.
    pub fn with_disk(seed: u64, net: impl Net + 'static, disk: MemoryFs) -> Self {
        Self(Arc::new(Inner {
            fs: Box::new(disk),
            net: Box::new(net),
            seeded: Some(Mutex::new(seeded_rng::Rng::new(seed))),
            inline: true,
            machine: None,
        }))
    }

    /// A simulated machine: its disk, its place in a network, its clocks and its tasks.
    pub fn simulated(
        seed: u64,
        disk: impl Vfs + 'static,
        net: impl Net + 'static,
        machine: Arc<dyn Machine>,
    ) -> Self {
        Self(Arc::new(Inner {
            fs: Box::new(disk),
            net: Box::new(net),
            seeded: Some(Mutex::new(seeded_rng::Rng::new(seed))),
            inline: true,
            machine: Some(machine),
        }))
    }

    /// Random bytes fit for keys.
    ///
    /// # Panics
    /// When the operating system has no randomness: no key made then would be safe.
    pub fn random<const N: usize>(&self) -> [u8; N] {
        let mut bytes = [0; N];
        match &self.0.seeded {
            None => real::random(&mut bytes).expect("the operating system gives randomness"),
            Some(rng) => rng.lock().fill(&mut bytes),
        }
        bytes
    }

    /// A random number.
    pub fn random_u64(&self) -> u64 {
        u64::from_be_bytes(self.random())
    }

    /// Starts a task that ends when it is done or when its [`Task`] is dropped. The name is for
    /// those who read traces.
    pub fn spawn<F>(&self, name: &'static str, future: F) -> Task<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        let task = Task::new(name, real::spawn(future));
        if let Some(machine) = &self.0.machine {
            machine.spawned(task.abort_handle());
        }
        task
    }

    /// Runs blocking or heavy work off the async threads.
    ///
    /// # Cancel safety
    /// Work that began runs to its end even when this future is dropped.
    ///
    /// # Panics
    /// When the work panics.
    pub async fn offload<T, F>(&self, work: F) -> T
    where
        T: Send + 'static,
        F: FnOnce() -> T + Send + 'static,
    {
        if !self.0.inline {
            return real::offload(work).await;
        }
        let Some(machine) = &self.0.machine else { return work() };
        machine.resumed().await;
        let value = work();
        let busy = machine.work_time();
        if !busy.is_zero() {
            real::sleep(busy).await;
        }
        value
    }

    /// The same for work of a kind that is brief as a rule: while it is, it runs at once.
    ///
    /// # Cancel safety
    /// As [`Env::offload`].
    ///
    /// # Panics
    /// When the work panics.
    pub async fn offload_unless_brief<T, F>(&self, kind: &Arc<Brief>, work: F) -> T
    where
        T: Send + 'static,
        F: FnOnce() -> T + Send + 'static,
    {
        if self.0.inline {
            return self.offload(work).await;
        }
        let timed = {
            let kind = kind.clone();
            move || {
                let began = real::mono();
                let value = work();
                kind.note(began.elapsed());
                value
            }
        };
        // Much of it one after the other lets others have their turn.
        real::consume_budget().await;
        // Where there is but one thread, it must not wait for a disk.
        let place = if real::has_threads() { kind.at_once() } else { None };
        match place {
            Some(_place) => timed(),
            None => real::offload(timed).await,
        }
    }

    /// The files.
    pub fn fs(&self) -> &dyn Vfs {
        self.0.fs.as_ref()
    }

    /// The sockets.
    pub fn net(&self) -> &dyn Net {
        self.0.net.as_ref()
    }
}

impl fmt::Debug for Env {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = if self.0.seeded.is_some() { "in memory" } else { "real" };
        f.debug_tuple("Env").field(&kind).finish()
    }
}

mod seeded_rng {
    //! Seeded bytes for tests: SplitMix64 (Steele et al. 2014).

    pub(crate) struct Rng(u64);

    impl Rng {
        pub(crate) fn new(seed: u64) -> Self {
            Self(seed)
        }

        fn next(&mut self) -> u64 {
            self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
            let mut z = self.0;
            z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
            z ^ (z >> 31)
        }

        pub(crate) fn fill(&mut self, out: &mut [u8]) {
            for chunk in out.chunks_mut(8) {
                let bytes = self.next().to_le_bytes();
                chunk.copy_from_slice(&bytes[..chunk.len()]);
            }
        }
    }
}
