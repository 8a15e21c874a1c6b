//! `cargo xtask check`: everything CI checks, in the order of what fails fastest.
#![allow(clippy::print_stdout, reason = "it tells what it does")]

use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use dfs_testbed::{PROGRAMS, release_build, root, target_dir};

pub(crate) fn run() -> Result<()> {
    cargo("formatting", &["fmt", "--all", "--check"], &[])?;
    step("tidy", || crate::tidy::run(&crate::tidy::Args::default()))?;
    let deny = &["--", "-D", "warnings"];
    let clippy = [&["clippy", "--workspace", "--all-targets"][..], deny].concat();
    cargo("clippy", &clippy, &[])?;
    let doc = ["doc", "--workspace", "--no-deps"];
    cargo("documentation", &doc, &[("RUSTDOCFLAGS", "-D warnings")])?;
    // As on a bare machine: what cargo-deny checks is checked where it is installed.
    if has("cargo-deny") {
        cargo("licences and sources", &["deny", "check", "bans", "licenses", "sources"], &[])?;
    }
    cargo("building the tests", &["test", "--workspace", "--no-run"], &[])?;
    tests_beside_release_build()?;
    let built = target_dir().join("release");
    let built = &[(PROGRAMS, built.to_str().context("a path in UTF-8")?)];
    // A bounded part of what `sim` can do: some minutes on two cores.
    let also = RED_ONCE.map(|(seed, _)| seed).join(",");
    RED_ONCE.iter().for_each(|(seed, what)| println!("seed {seed}: {what}"));
    let seeds = ["xtask", "sim", "--seeds", "20", "--twice", "2", "--also", &also];
    cargo("simulation", &seeds, built)?;
    let hostile = &["xtask", "sim", "--hostile", "--seeds", "10", "--twice", "1"];
    cargo("simulation with a hostile member", hostile, built)?;
    cargo("crash states", &["xtask", "sim", "--crash-states", "8"], built)?;
    cargo("smoke test on real processes", &["xtask", "demo", "--mib", "64"], built)
}

/// Seeds above those that are run anyway that were red once, and what they showed.
const RED_ONCE: [(&str, &str); 4] = [
    ("93", "a node that started on a full disk takes data once there is room"),
    ("300165", "a disk that took nothing once is well again on a quiet cluster"),
    ("530242", "what fewer than a majority acknowledged may go with a disk, and nothing else"),
    ("560124", "a node whose index could not be read says that its disk failed"),
];

/// Runs the tests while the programs of the steps after them are built: many tests wait for each
/// other's timers, and leave most of the machine idle.
fn tests_beside_release_build() -> Result<()> {
    let programs = ["dfs-sim", "dfs", "dfs-node"];
    let mut build = giving_way(release_build(&programs).arg("--quiet")).spawn()?;
    let threads = std::thread::available_parallelism()?.get() * 2;
    let tests =
        cargo("tests", &["test", "--workspace"], &[("RUST_TEST_THREADS", &threads.to_string())]);
    let built = step("the rest of the release build", || {
        ensure!(build.wait()?.success(), "the release build failed");
        Ok(())
    });
    tests.and(built)
}

/// The same command behind everything else: with compilers on every core a disk that takes a
/// millisecond was seen to take ten seconds, for the kernel's own threads had no turn.
fn giving_way(command: &Command) -> Command {
    let mut nice = Command::new("nice");
    nice.args(["-n", "19"]).arg(command.get_program()).args(command.get_args());
    if let Some(dir) = command.get_current_dir() {
        nice.current_dir(dir);
    }
    nice
}

fn has(tool: &str) -> bool {
    Command::new(tool).arg("--version").output().is_ok_and(|output| output.status.success())
}

fn cargo(what: &str, args: &[&str], env: &[(&str, &str)]) -> Result<()> {
    step(what, || {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut command = Command::new(cargo);
        command.args(args).current_dir(root()).envs(env.iter().copied());
        ensure!(command.status()?.success(), "{what} failed: cargo {}", args.join(" "));
        Ok(())
    })
}

fn step(what: &str, work: impl FnOnce() -> Result<()>) -> Result<()> {
    println!("== {what}");
    let started = Instant::now();
    work()?;
    println!("== {what}: done in {:.0} s", started.elapsed().as_secs_f64());
    Ok(())
}
