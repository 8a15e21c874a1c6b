//! What the processes of the nodes take: CPU time, memory at its peak, and what goes to the disk.

use std::fs;

use anyhow::{Context, Result};

/// What all nodes took together, and the most that one had in memory.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Usage {
    pub(super) cpu_seconds: f64,
    pub(super) written: u64,
    pub(super) peak_memory: u64,
}

impl Usage {
    /// Begins anew with the peak.
    pub(super) fn begin(pids: &[u32]) -> Result<Self> {
        for pid in pids {
            // Where the system does not let us, the peak is that since the start.
            let _ = fs::write(format!("/proc/{pid}/clear_refs"), "5");
        }
        Self::now(pids)
    }

    /// What was taken since.
    pub(super) fn end(self, pids: &[u32]) -> Result<Self> {
        let now = Self::now(pids)?;
        Ok(Self {
            cpu_seconds: now.cpu_seconds - self.cpu_seconds,
            written: now.written.saturating_sub(self.written),
            peak_memory: now.peak_memory,
        })
    }

    fn now(pids: &[u32]) -> Result<Self> {
        let mut all = Self::default();
        for pid in pids {
            let read = |name: &str| fs::read_to_string(format!("/proc/{pid}/{name}"));
            let stat = read("stat")?;
            // The name of the program is in brackets and may hold anything.
            let fields: Vec<&str> =
                stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
            let ticks = |at: usize| fields.get(at).and_then(|text| text.parse::<u32>().ok());
            let ticks = ticks(11).zip(ticks(12)).context("no times in /proc/PID/stat")?;
            all.cpu_seconds += f64::from(ticks.0 + ticks.1) / TICKS_A_SECOND;
            all.written += value(&read("io")?, "write_bytes:").unwrap_or_default();
            let peak = value(&read("status")?, "VmHWM:").unwrap_or_default() * 1024;
            all.peak_memory = all.peak_memory.max(peak);
        }
        Ok(all)
    }
}

fn value(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

/// `USER_HZ`, which is 100 wherever Linux tells times in ticks.
const TICKS_A_SECOND: f64 = 100.0;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_tells_what_it_takes() {
        let own = [std::process::id()];
        let before = Usage::begin(&own).unwrap();
        let mut work = vec![0_u8; 8 << 20];
        for round in 0..200_u8 {
            work.iter_mut().for_each(|byte| *byte = byte.wrapping_add(round));
        }
        let after = before.end(&own).unwrap();
        assert!(after.cpu_seconds > 0.0 && after.peak_memory > 8 << 20, "{after:?}");
        assert_eq!(value("a: 1\nVmHWM:\t  77 kB\n", "VmHWM:"), Some(77));
        assert_eq!(value("a: 1", "b:"), None);
    }
}
