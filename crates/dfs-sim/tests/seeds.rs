//! What every seed must be: the same twice. Seeds that were red once are run by
//! `cargo xtask check`, which has an optimised simulator.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::Duration;

use dfs_sim::options::Options;
use dfs_sim::run::run;

#[test]
fn one_seed_is_one_run() {
    // A short one, for this is built to be built fast: `cargo xtask sim --twice` has whole ones.
    let options = || Options {
        machines: 3,
        keyless: 0,
        churns: false,
        grows: false,
        work: Duration::from_secs(8),
        ..Options::of(7)
    };
    let (one, other) = (run(options(), false), run(options(), false));
    assert_eq!(one.hash, other.hash);
    assert!(one.hash.1 > 1000);
}

#[test]
fn the_power_may_fail_at_any_operation_of_a_store() {
    // A part of them, for this is built to be built fast: `cargo xtask sim --crash-states` has
    // more.
    let report = dfs_sim::crash_states::explore(1999, 2);
    assert!(report.violations.is_empty(), "{:?}", report.violations);
    assert!(report.states > 10 && report.acknowledged > 600, "{report:?}");
}
