//! What is measured, in this order: what comes later reads what was stored before.

use std::io::{Read, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, ensure};

use super::http::Target;
use super::limits::Limits;

/// How much of each.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sizes {
    large: u64,
    medium: u64,
    /// Of files that just do not fit into a name's entry.
    beyond_entry: u64,
    small_alone: u64,
    small: u64,
    names: u64,
}

impl Sizes {
    pub(super) const FULL: Self = Self {
        large: 1 << 30,
        medium: 200,
        beyond_entry: 1_000,
        small_alone: 400,
        small: 3_000,
        names: 5_000,
    };
    pub(super) const SHORT: Self = Self {
        large: 100 << 20,
        medium: 20,
        beyond_entry: 100,
        small_alone: 60,
        small: 300,
        names: 500,
    };
}

/// One thing that is measured.
#[derive(Debug, Clone, Copy)]
pub(super) struct Workload {
    pub(super) name: &'static str,
    pub(super) unit: Unit,
    pub(super) run: fn(&Target, Sizes) -> Result<Done>,
    /// The limit it is held against, in its unit; what replicates writes all copies to one disk.
    pub(super) limit: Option<fn(&Limits) -> f64>,
}

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unit {
    /// Bytes of content.
    Bytes,
    /// Requests.
    Requests,
}

/// What was done, in how much time.
#[derive(Debug, Clone)]
pub(super) struct Done {
    pub(super) bytes: u64,
    pub(super) requests: u64,
    pub(super) took: Duration,
    /// How long each request took, sorted.
    pub(super) each: Vec<Duration>,
}

pub(super) const WORKLOADS: &[Workload] = &[
    Workload {
        name: "put one large file",
        unit: Unit::Bytes,
        run: |to, sizes| {
            let began = Instant::now();
            to.put("large", sizes.large, &mut Content::new("large"))?;
            Ok(one(sizes.large, began.elapsed()))
        },
        limit: Some(|limits| limits.files / COPIES),
    },
    Workload {
        name: "get one large file",
        unit: Unit::Bytes,
        run: |to, sizes| {
            let began = Instant::now();
            let mut check = Check { expected: Content::new("large"), buffer: Vec::new() };
            let bytes = to.get("files/large", &mut check)?;
            ensure!(bytes == sizes.large, "{bytes} bytes came");
            Ok(one(bytes, began.elapsed()))
        },
        limit: Some(|limits| limits.loopback),
    },
    Workload {
        name: "put 4 MiB, 8 at once",
        unit: Unit::Bytes,
        run: |to, sizes| each(8, sizes.medium, |at| put(to, "medium", at, 4 << 20)),
        limit: Some(|limits| limits.files / COPIES),
    },
    Workload {
        name: "get 4 MiB, 8 at once",
        unit: Unit::Bytes,
        run: |to, sizes| each(8, sizes.medium, |at| get(to, "medium", at)),
        limit: Some(|limits| limits.loopback),
    },
    Workload {
        name: "put 24 KiB, 8 at once",
        unit: Unit::Requests,
        run: |to, sizes| each(8, sizes.beyond_entry, |at| put(to, "24k", at, 24 << 10)),
        limit: Some(|limits| limits.syncs / COPIES),
    },
    Workload {
        name: "get 24 KiB, 8 at once",
        unit: Unit::Requests,
        run: |to, sizes| each(8, sizes.beyond_entry, |at| get(to, "24k", at)),
        limit: None,
    },
    Workload {
        name: "put 4 KiB, 1 at once",
        unit: Unit::Requests,
        run: |to, sizes| each(1, sizes.small_alone, |at| put(to, "alone", at, 4 << 10)),
        limit: Some(|limits| limits.syncs / COPIES),
    },
    Workload {
        name: "put 4 KiB, 32 at once",
        unit: Unit::Requests,
        run: |to, sizes| each(32, sizes.small, |at| put(to, "small", at, 4 << 10)),
        limit: Some(|limits| limits.syncs / COPIES),
    },
    Workload {
        name: "get 4 KiB, 1 at once",
        unit: Unit::Requests,
        run: |to, sizes| each(1, sizes.small_alone, |at| get(to, "small", at)),
        limit: None,
    },
    Workload {
        name: "get 4 KiB, 32 at once",
        unit: Unit::Requests,
        run: |to, sizes| each(32, sizes.small, |at| get(to, "small", at)),
        limit: None,
    },
    Workload {
        name: "put 100 B, 32 at once",
        unit: Unit::Requests,
        run: |to, sizes| each(32, sizes.names, |at| put(to, "names", at, 100)),
        limit: None,
    },
    Workload {
        name: "list those, first",
        unit: Unit::Requests,
        run: |to, sizes| each(1, 1, |_| list(to, sizes.names)),
        limit: None,
    },
    Workload {
        name: "list those, again",
        unit: Unit::Requests,
        run: |to, sizes| each(1, 20, |_| list(to, sizes.names)),
        limit: None,
    },
    Workload {
        name: "status",
        unit: Unit::Requests,
        run: |to, _| each(1, 20, |_| to.get("status", &mut std::io::sink())),
        limit: None,
    },
    Workload {
        name: "delete those names, as a directory",
        unit: Unit::Requests,
        run: |to, sizes| {
            let began = Instant::now();
            to.delete("files/names?recursive=true")?;
            let took = began.elapsed();
            Ok(Done { bytes: 0, requests: sizes.names, took, each: vec![took] })
        },
        limit: None,
    },
];

fn one(bytes: u64, took: Duration) -> Done {
    Done { bytes, requests: 1, took, each: vec![took] }
}

/// Does it so often, on so many threads at once; it says how many bytes that was.
fn each(lanes: u64, count: u64, work: impl Fn(u64) -> Result<u64> + Sync) -> Result<Done> {
    let (next, began) = (AtomicU64::new(0), Instant::now());
    let lane = || -> Result<(u64, Vec<Duration>)> {
        let (mut bytes, mut each) = (0, Vec::new());
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            if at >= count {
                return Ok((bytes, each));
            }
            let began = Instant::now();
            bytes += work(at)?;
            each.push(began.elapsed());
        }
    };
    let lanes: Result<Vec<_>> = std::thread::scope(|scope| {
        let lanes: Vec<_> = (0..lanes).map(|_| scope.spawn(lane)).collect();
        let joined = lanes.into_iter().map(|lane| lane.join());
        joined.map(|lane| lane.map_err(|_| anyhow!("a client panicked"))?).collect()
    });
    let took = began.elapsed();
    let (mut bytes, mut each) = (0, Vec::new());
    for (of_lane, times) in lanes? {
        bytes += of_lane;
        each.extend(times);
    }
    each.sort_unstable();
    Ok(Done { bytes, requests: count, took, each })
}

fn put(to: &Target, dir: &str, at: u64, bytes: u64) -> Result<u64> {
    let path = format!("{dir}/{at}");
    to.put(&path, bytes, &mut Content::new(&path))?;
    Ok(bytes)
}

fn get(from: &Target, dir: &str, at: u64) -> Result<u64> {
    let path = format!("{dir}/{at}");
    let mut check = Check { expected: Content::new(&path), buffer: Vec::new() };
    from.get(&format!("files/{path}"), &mut check)
}

fn list(from: &Target, names: u64) -> Result<u64> {
    let mut text = Vec::new();
    let query = format!("list?prefix=names/&delimiter=/&limit={names}");
    let bytes = from.get(&query, &mut text)?;
    let page: serde_json::Value = serde_json::from_slice(&text)?;
    let listed = page["entries"].as_array().map_or(0, Vec::len) as u64;
    ensure!(listed == names, "{listed} of {names} names were listed");
    Ok(bytes)
}

/// Bytes that follow from a seed, no two chunks alike, made about as fast as memory is copied.
struct Content {
    block: Vec<u64>,
    at: usize,
    round: u64,
}

impl Content {
    fn new(seed: &str) -> Self {
        let mut state = seed.bytes().fold(0x9e37_79b9_7f4a_7c15, |hash: u64, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        let mut next = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state
        };
        Self { block: (0..BLOCK_WORDS).map(|_| next()).collect(), at: 0, round: 0 }
    }
}

impl Read for Content {
    fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
        let mut filled = 0;
        for bytes in out.chunks_exact_mut(8) {
            let word = self.block[self.at] ^ self.round;
            bytes.copy_from_slice(&word.to_le_bytes());
            self.at += 1;
            if self.at == BLOCK_WORDS {
                (self.at, self.round) = (0, self.round + 1);
            }
            filled += 8;
        }
        if filled == 0 && !out.is_empty() {
            // The last few bytes of a file: no more follow.
            let word = (self.block[self.at] ^ self.round).to_le_bytes();
            filled = out.len();
            out.copy_from_slice(&word[..filled]);
        }
        Ok(filled)
    }
}

/// Holds what comes against what was stored.
struct Check {
    expected: Content,
    buffer: Vec<u8>,
}

impl Write for Check {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        // Whole words only, so that the next part begins with one.
        let held = std::mem::take(&mut self.buffer);
        let all = if held.is_empty() { bytes.to_vec() } else { [&held, bytes].concat() };
        let whole = all.len() / 8 * 8;
        let mut expected = vec![0; whole];
        self.expected.read_exact(&mut expected)?;
        if expected != all[..whole] {
            return Err(std::io::Error::other("it is not what was stored"));
        }
        self.buffer = all[whole..].to_vec();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

const BLOCK_WORDS: usize = 8_192;
/// Copies of everything, on the one disk of the machine.
const COPIES: f64 = 3.0;
