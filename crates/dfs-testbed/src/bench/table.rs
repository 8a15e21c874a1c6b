//! What came of it: medians with their ranges, what it took, and ratios.
#![allow(clippy::print_stdout, reason = "it tells what it measures")]

use anyhow::Result;
use serde_json::json;

use super::limits::Limits;
use super::usage::Usage;
use super::workloads::{Done, Unit, Workload};

/// One workload in one round.
#[derive(Debug, Clone)]
pub(super) struct Row {
    rate: f64,
    /// Milliseconds that half of the requests, and all but one in a hundred, were done in.
    p50: f64,
    p99: f64,
    /// CPU seconds of all nodes for a GiB, or for a thousand requests.
    cpu: f64,
    /// Bytes to all disks for a byte of content.
    written: f64,
    peak_memory: f64,
}

impl Row {
    pub(super) fn new(done: &Done, usage: Usage) -> Self {
        let (bytes, requests) = (done.bytes as f64, done.requests as f64);
        let at = |share: usize| {
            let at = (done.each.len() * share / 100).min(done.each.len().saturating_sub(1));
            done.each.get(at).map_or(0.0, |time| time.as_secs_f64() * 1000.0)
        };
        let is_large = bytes / requests.max(1.0) >= f64::from(1 << 20);
        let (amount, per) = if is_large { (bytes, 1 << 30) } else { (requests, 1_000) };
        let unit = if is_large { bytes } else { requests };
        Self {
            rate: unit / done.took.as_secs_f64().max(1e-9),
            p50: at(50),
            p99: at(99),
            cpu: usage.cpu_seconds * f64::from(per) / amount.max(1.0),
            written: usage.written as f64 / bytes.max(1.0),
            peak_memory: usage.peak_memory as f64,
        }
    }
}

/// The rounds of each workload.
#[derive(Debug, Clone, Default)]
pub(super) struct Table(Vec<(&'static Workload, Vec<Row>)>);

impl Table {
    pub(super) fn add(&mut self, workload: &'static Workload, row: Row) {
        match self.0.iter_mut().find(|(known, _)| known.name == workload.name) {
            Some((_, rows)) => rows.push(row),
            None => self.0.push((workload, vec![row])),
        }
    }
}

pub(super) fn median(mut all: Vec<f64>) -> f64 {
    all.sort_by(f64::total_cmp);
    all.get(all.len() / 2).copied().unwrap_or_default()
}

fn of(rows: &[Row], get: fn(&Row) -> f64) -> f64 {
    median(rows.iter().map(get).collect())
}

fn range(rows: &[Row]) -> (f64, f64) {
    let rates = rows.iter().map(|row| row.rate);
    (rates.clone().fold(f64::INFINITY, f64::min), rates.fold(0.0, f64::max))
}

fn rate(unit: Unit, rate: f64) -> String {
    match unit {
        Unit::Bytes => format!("{:.0} MB/s", rate / 1e6),
        Unit::Requests if rate < 100.0 => format!("{rate:.1}/s"),
        Unit::Requests => format!("{rate:.0}/s"),
    }
}

/// Prints the tables of one build, or of two side by side.
pub(super) fn print(tables: &[Table], limits: &Limits) -> Result<()> {
    let Limits { loopback, files, syncs } = limits;
    println!(
        "limits, one thread each: loopback {:.0} MB/s, durable files of 1 MiB {:.0} MB/s, durable \
         writes of 4 KiB {syncs:.0}/s",
        loopback / 1e6,
        files / 1e6
    );
    println!(
        "{:<24} {:>10} {:>19} {:>7} {:>8} {:>8} {:>8} {:>7} {:>8}",
        "", "median", "range", "limit", "p50 ms", "p99 ms", "CPU s", "disk x", "peak MiB"
    );
    let Some((first, others)) = tables.split_first() else { return Ok(()) };
    for (at, (workload, rows)) in first.0.iter().enumerate() {
        let (low, high) = range(rows);
        let median = of(rows, |row| row.rate);
        let unit = workload.unit;
        let limit = workload.limit.map(|limit| format!("{:.0} %", 100.0 * median / limit(limits)));
        println!(
            "{:<24} {:>10} {:>19} {:>7} {:>8.2} {:>8.2} {:>8.2} {:>7.1} {:>8.0}",
            workload.name,
            rate(unit, median),
            format!("{} - {}", rate(unit, low), rate(unit, high)),
            limit.unwrap_or_default(),
            of(rows, |row| row.p50),
            of(rows, |row| row.p99),
            of(rows, |row| row.cpu),
            of(rows, |row| row.written),
            of(rows, |row| row.peak_memory) / f64::from(1 << 20),
        );
        for (_, theirs) in others.iter().filter_map(|other| other.0.get(at)) {
            let other = of(theirs, |row| row.rate);
            let pairs = rows.iter().zip(theirs).map(|(our, their)| our.rate / their.rate);
            let memory = of(theirs, |row| row.peak_memory) / f64::from(1 << 20);
            println!(
                "{:<24} {:>10} {:>19} {:>42.2} {:>16.0}",
                "  the other build",
                rate(unit, other),
                format!("this / it {:.2}", self::median(pairs.collect())),
                of(theirs, |row| row.cpu),
                memory,
            );
        }
    }
    println!(
        "CPU s: of all nodes, for a GiB or for 1,000 requests. disk x: bytes to all disks for a \
         byte of content. peak: of the node that had most."
    );
    Ok(())
}

/// One object a workload and build.
pub(super) fn print_json(tables: &[Table], limits: &Limits) -> Result<()> {
    for (build, table) in tables.iter().enumerate() {
        for (workload, rows) in &table.0 {
            let (low, high) = range(rows);
            let median = of(rows, |row| row.rate);
            let line = json!({
                "build": build, "workload": workload.name,
                "unit": if workload.unit == Unit::Bytes { "bytes/s" } else { "requests/s" },
                "median": median, "min": low, "max": high,
                "limit": workload.limit.map(|limit| limit(limits)),
                "p50_ms": of(rows, |row| row.p50), "p99_ms": of(rows, |row| row.p99),
                "cpu_seconds": of(rows, |row| row.cpu), "written": of(rows, |row| row.written),
                "peak_memory": of(rows, |row| row.peak_memory),
                "rates": rows.iter().map(|row| row.rate).collect::<Vec<_>>(),
            });
            println!("{}", serde_json::to_string(&line)?);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_median_is_in_the_middle() {
        assert!((median(vec![3.0, 1.0, 2.0]) - 2.0).abs() < 1e-9);
        assert!(median(Vec::new()).abs() < 1e-9);
        assert_eq!(rate(Unit::Bytes, 121.4e6), "121 MB/s");
        assert_eq!(rate(Unit::Requests, 17.25), "17.2/s");
        assert_eq!(rate(Unit::Requests, 1467.2), "1467/s");
    }
}
