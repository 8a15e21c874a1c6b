//! Seeds that were red once, and what every seed must be: the same twice.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use dfs_sim::options::Options;
use dfs_sim::run::run;

#[track_caller]
fn check(seed: u64) {
    let outcome = run(Options::of(seed), false);
    assert!(outcome.violations.is_empty(), "seed {seed}: {:?}", outcome.violations);
    assert!(outcome.acknowledged > 0, "seed {seed} did nothing");
}

#[test]
fn a_disk_that_fails_while_references_are_looked_through_does_not_spin() {
    check(3);
}

#[test]
fn a_node_that_started_on_a_full_disk_takes_data_once_there_is_room() {
    check(93);
}

#[test]
fn one_seed_is_one_run() {
    let (one, other) = (run(Options::of(7), false), run(Options::of(7), false));
    assert_eq!(one.hash, other.hash);
    assert!(one.hash.1 > 1000);
}

#[test]
fn the_power_may_fail_at_any_operation_of_a_store() {
    // A part of them, for this is built to be built fast: `cargo xtask sim --crash-states` has
    // more.
    let report = dfs_sim::crash_states::explore(499, 2);
    assert!(report.violations.is_empty(), "{:?}", report.violations);
    assert!(report.states > 40 && report.acknowledged > 4_000, "{report:?}");
}
