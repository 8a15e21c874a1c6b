//! What this machine can do at most, measured by itself.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};

/// Limits, each for one thread.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// Bytes a second that one loopback connection carries.
    pub(super) loopback: f64,
    /// Bytes a second that become durable in files of 1 MiB, each made, synced and renamed.
    pub(super) files: f64,
    /// Writes of 4 KiB a second that each become durable, at the end of one file.
    pub(super) syncs: f64,
}

impl Limits {
    pub(super) fn measure(dir: &Path) -> Result<Self> {
        Ok(Self { loopback: loopback()?, files: files(dir)?, syncs: syncs(dir)? })
    }

    pub(super) fn median(all: &[Self]) -> Self {
        let of = |get: fn(&Self) -> f64| super::table::median(all.iter().map(get).collect());
        Self { loopback: of(|l| l.loopback), files: of(|l| l.files), syncs: of(|l| l.syncs) }
    }
}

fn loopback() -> Result<f64> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let addr = listener.local_addr()?;
    let reading = std::thread::spawn(move || -> std::io::Result<u64> {
        let (mut stream, _) = listener.accept()?;
        let (mut buffer, mut all) = (vec![0; MIB], 0);
        loop {
            match stream.read(&mut buffer)? {
                0 => return Ok(all),
                read => all += read as u64,
            }
        }
    });
    let mut stream = TcpStream::connect(addr)?;
    let (began, chunk) = (Instant::now(), vec![7; MIB]);
    while began.elapsed() < EACH {
        stream.write_all(&chunk)?;
    }
    drop(stream);
    let all = reading.join().map_err(|_| anyhow!("the reader panicked"))??;
    Ok(all as f64 / began.elapsed().as_secs_f64())
}

fn files(dir: &Path) -> Result<f64> {
    let dir = dir.join("limit");
    fs::create_dir_all(&dir)?;
    let (began, chunk, mut count) = (Instant::now(), vec![7; MIB], 0_u32);
    while began.elapsed() < EACH {
        let (temp, name) = (dir.join("temp"), dir.join(count.to_string()));
        let mut file = File::create(&temp)?;
        file.write_all(&chunk)?;
        file.sync_data()?;
        fs::rename(&temp, &name)?;
        File::open(&dir)?.sync_all()?;
        count += 1;
    }
    let took = began.elapsed();
    fs::remove_dir_all(&dir)?;
    Ok(f64::from(count) * MIB as f64 / took.as_secs_f64())
}

fn syncs(dir: &Path) -> Result<f64> {
    let path = dir.join("limit.log");
    let mut file = File::create(&path)?;
    let (began, chunk, mut count) = (Instant::now(), [7; 4096], 0_u32);
    while began.elapsed() < EACH {
        file.write_all(&chunk)?;
        file.sync_data()?;
        count += 1;
    }
    let took = began.elapsed();
    fs::remove_file(&path)?;
    Ok(f64::from(count) / took.as_secs_f64())
}

const MIB: usize = 1 << 20;
const EACH: Duration = Duration::from_millis(700);
