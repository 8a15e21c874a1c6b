//! `dfs-sim`: seeds, many or one.
#![allow(clippy::print_stdout, reason = "it tells what it found")]

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use clap::Parser;
use dfs_hostile::attack::Attack;
#[cfg(feature = "bug-bank")]
use dfs_sim::bug_bank::is_for_seeds;
use dfs_sim::crash_states::explore;
use dfs_sim::hostile::Noticed;
use dfs_sim::options::Options;
use dfs_sim::run::{Outcome, run};

/// Runs dfs clusters under one seed each, with faults, and checks what clients saw.
#[derive(Debug, Parser)]
struct Args {
    /// How many seeds to run
    #[arg(long, default_value_t = 100)]
    seeds: u64,
    /// Of all seeds only those with machines that come, leave and are lost
    #[arg(long)]
    churns: bool,
    /// Each seed with a member that only stores for the others, and does to them what it can
    #[arg(long)]
    hostile: bool,
    /// Of its attacks only the one with this name
    #[arg(long, value_name = "NAME", requires = "hostile", value_parser = attack)]
    attack: Option<Attack>,
    /// The first of them
    #[arg(long, default_value_t = 1)]
    first: u64,
    /// Others to run after them
    #[arg(long, value_name = "SEED", value_delimiter = ',')]
    also: Vec<u64>,
    /// Replays one seed and tells what happened
    #[arg(long)]
    seed: Option<u64>,
    /// How many seeds of the first run twice, to see that both runs are the same
    #[arg(long, default_value_t = 0)]
    twice: u64,
    /// Instead of seeds: fails the power, and each operation, at every N-th operation of a store
    #[arg(long, value_name = "N")]
    crash_states: Option<u64>,
    /// Instead of seeds: switches on one seeded bug after the other, to see which are found
    #[cfg(feature = "bug-bank")]
    #[arg(long)]
    bug_bank: bool,
    /// Of the seeded bugs, only the one with this name; a seed that is replayed has it as well
    #[cfg(feature = "bug-bank")]
    #[arg(long, value_name = "NAME")]
    bug: Option<String>,
    /// Seeds at once
    #[arg(long)]
    threads: Option<usize>,
}

fn main() -> ExitCode {
    let args = Args::parse();
    #[cfg(feature = "bug-bank")]
    if args.bug_bank {
        return bug_bank(args.seeds, args.bug.as_deref(), threads(&args));
    }
    #[cfg(feature = "bug-bank")]
    dfs_env::set_bug(args.bug.as_deref().and_then(|name| named(name).next()));
    match (args.crash_states, args.seed) {
        (Some(stride), _) => crash_states(stride.max(1), threads(&args)),
        (None, Some(seed)) => replay(args.of(seed)),
        (None, None) => many(&args),
    }
}

fn attack(name: &str) -> Result<Attack, String> {
    let names = || Attack::ALL.map(|attack| format!("{attack:?}")).join(", ");
    Attack::named(name).ok_or_else(|| format!("there are {}", names()))
}

impl Args {
    /// What a seed stands for.
    fn of(&self, seed: u64) -> Options {
        if self.hostile { Options::hostile(seed, self.attack) } else { Options::of(seed) }
    }
}

fn threads(args: &Args) -> usize {
    let cores = || std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    args.threads.unwrap_or_else(cores)
}

fn crash_states(stride: u64, threads: usize) -> ExitCode {
    let report = explore(stride, threads);
    report.violations.iter().take(50).for_each(|why| println!("red: {why}"));
    println!(
        "{} operations, {} states, {} acknowledged writes found again; {} red",
        report.operations,
        report.states,
        report.acknowledged,
        report.violations.len()
    );
    if report.violations.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Seeds after the first red one that tell how often a bug is noticed.
#[cfg(feature = "bug-bank")]
const MORE: u64 = 5;

/// One bug in the bank may go unnoticed for each twenty.
#[cfg(feature = "bug-bank")]
fn bug_bank(limit: u64, name: Option<&str>, threads: usize) -> ExitCode {
    // A bug's panics are findings, not news.
    std::panic::set_hook(Box::new(|_| ()));
    println!("| bug | first red seed | red of the next {MORE} | what it said |");
    println!("| --- | --- | --- | --- |");
    let bugs: Vec<_> = match name {
        Some(name) => named(name).collect(),
        None => dfs_env::Bug::ALL.into_iter().filter(|bug| is_for_seeds(*bug)).collect(),
    };
    let findings = dfs_sim::bug_bank::explore(&bugs, limit, MORE, threads, |finding| {
        let (seed, said) = match &finding.caught {
            Some((seed, said)) => (seed.to_string(), said.chars().take(60).collect()),
            None => ("none".to_owned(), String::new()),
        };
        println!("| {:?} | {seed} | {} | {said} |", finding.bug, finding.red.0);
    });
    let caught = findings.iter().filter(|finding| finding.caught.is_some()).count();
    println!("{caught} of {} bugs were found", findings.len());
    if caught * 20 >= findings.len() * 19 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

#[cfg(feature = "bug-bank")]
fn named(name: &str) -> impl Iterator<Item = dfs_env::Bug> {
    dfs_env::Bug::ALL.into_iter().filter(move |bug| format!("{bug:?}") == name)
}

fn replay(options: Options) -> ExitCode {
    println!("{options:#?}");
    let outcome = run(options, true);
    outcome.lines.iter().for_each(|line| println!("{line}"));
    println!("the nodes logged:\n{}", outcome.log);
    println!("events {}, hash {}", outcome.hash.1, short(&outcome.hash.0));
    for violation in &outcome.violations {
        println!("VIOLATION {violation}");
    }
    if outcome.violations.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn short(hash: &[u8; 32]) -> String {
    hash[..8].iter().map(|byte| format!("{byte:02x}")).collect()
}

#[derive(Default)]
struct Total {
    seeds: u64,
    red: BTreeMap<u64, Vec<String>>,
    different: Vec<u64>,
    coverage: BTreeMap<&'static str, u64>,
    errors: BTreeMap<String, u64>,
    simulated: Duration,
    node_time: Duration,
    acknowledged: u64,
    checked: u64,
    searched: u64,
    /// Seeds whose hostile member lied about what it holds.
    liars: u64,
    /// Those of them in which an honest node named it.
    caught: u64,
}

impl Total {
    /// Whether the hostile member was named as often as is asked: in 95 of a hundred seeds, or all
    /// but one of a few.
    fn is_named_enough(&self) -> bool {
        self.liars - self.caught <= (self.liars / 20).max(1)
    }

    fn note(&mut self, noticed: Noticed) {
        if noticed.lied {
            self.liars += 1;
            self.caught += u64::from(noticed.named);
        }
    }

    fn add(&mut self, outcome: Outcome) {
        self.seeds += 1;
        outcome.noticed.into_iter().for_each(|noticed| self.note(noticed));
        for (kind, count) in outcome.coverage {
            *self.coverage.entry(kind).or_default() += count;
        }
        for (kind, count) in outcome.errors {
            *self.errors.entry(kind).or_default() += count;
        }
        self.simulated += outcome.simulated;
        self.node_time += outcome.simulated * u32::try_from(outcome.machines).unwrap_or(1);
        self.acknowledged += outcome.acknowledged;
        self.checked += outcome.checked;
        self.searched += outcome.searched;
        if !outcome.violations.is_empty() {
            println!("seed {} is red: {}", outcome.seed, outcome.violations.join("; "));
            self.red.insert(outcome.seed, outcome.violations);
        }
    }
}

fn many(args: &Args) -> ExitCode {
    let started = tokio::time::Instant::now();
    let wanted = |seed: &u64| !args.churns || args.of(*seed).churns;
    let count = usize::try_from(args.seeds).unwrap_or(usize::MAX);
    let seeds: Vec<u64> =
        (args.first..).filter(wanted).take(count).chain(args.also.clone()).collect();
    let next = AtomicUsize::new(0);
    let total = Mutex::new(Total::default());
    std::thread::scope(|scope| {
        for _ in 0..threads(args) {
            scope.spawn(|| {
                loop {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    let Some(seed) = seeds.get(at) else { return };
                    one(&args.of(*seed), (at as u64) < args.twice, &total);
                }
            });
        }
    });
    let total = total.into_inner().unwrap_or_else(PoisonError::into_inner);
    report(&total, started.elapsed(), args)
}

/// Ends the program when a seed takes far too long by a real clock: it spins without its own time
/// going on, which nothing inside the run can notice.
fn guard(seed: u64) -> std::sync::mpsc::Sender<()> {
    let (sender, ended) = std::sync::mpsc::channel::<()>();
    std::thread::spawn(move || {
        if ended.recv_timeout(SEED_MAX) == Err(std::sync::mpsc::RecvTimeoutError::Timeout) {
            println!("seed {seed} is red: it does not end within {SEED_MAX:?}");
            println!("replay: cargo xtask sim --seed {seed}");
            std::process::exit(1);
        }
    });
    sender
}

fn one(options: &Options, twice: bool, total: &Mutex<Total>) {
    let seed = options.seed;
    let _guard = guard(seed);
    let outcome = std::panic::catch_unwind(|| run(options.clone(), false));
    let lock = || total.lock().unwrap_or_else(PoisonError::into_inner);
    let Ok(outcome) = outcome else {
        println!("seed {seed} is red: it panicked");
        lock().red.insert(seed, vec!["it panicked".to_owned()]);
        return;
    };
    if twice {
        let again = std::panic::catch_unwind(|| run(options.clone(), false));
        if again.is_ok_and(|again| again.hash != outcome.hash) {
            println!("seed {seed} is red: its second run was different");
            lock().different.push(seed);
        }
    }
    lock().add(outcome);
}

/// A seed takes about a second, a few twenty; on a machine that has other things to do, many times
/// as long.
const SEED_MAX: Duration = Duration::from_secs(1800);

fn report(total: &Total, took: Duration, args: &Args) -> ExitCode {
    let hours = |time: Duration| time.as_secs_f64() / 3600.0;
    println!("faults fired:");
    for (kind, count) in &total.coverage {
        println!("  {count:8}  {kind}");
    }
    println!("clients were told:");
    for (kind, count) in &total.errors {
        println!("  {count:8}  {kind}");
    }
    println!(
        "{} seeds, {} red: {:.1} cluster-hours ({:.1} node-hours) in {:.0} s, \
         {:.0} times real time",
        total.seeds,
        total.red.len() + total.different.len(),
        hours(total.simulated),
        hours(total.node_time),
        took.as_secs_f64(),
        total.simulated.as_secs_f64() / took.as_secs_f64().max(0.001),
    );
    println!(
        "{} kinds of faults fired; {} writes acknowledged; {} operations in order; {} MiB searched",
        total.coverage.len(),
        total.acknowledged,
        total.checked,
        total.searched >> 20,
    );
    if args.twice > 0 {
        println!("{} seeds ran twice; {} differed", args.twice, total.different.len());
    }
    if total.liars > 0 {
        let (liars, caught) = (total.liars, total.caught);
        println!("the hostile member lied about data in {liars} seeds, and is named in {caught}");
    }
    let hostile = if args.hostile { " --hostile" } else { "" };
    let attack = args.attack.map_or_else(String::new, |attack| format!(" --attack {attack:?}"));
    for seed in total.red.keys().chain(&total.different) {
        println!("replay: cargo xtask sim{hostile}{attack} --seed {seed}");
    }
    if total.red.is_empty() && total.different.is_empty() && total.is_named_enough() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
