//! `cargo xtask bug-bank`: seeded bugs that one test each must notice, run with the bug switched
//! on. `cargo xtask sim --bug-bank` looks for the others in seeds.

#![allow(clippy::print_stdout, reason = "it tells what it found")]

use std::process::{Command, ExitCode};

use anyhow::{Result, ensure};
use clap::Parser;
use dfs_testbed::{root, target_dir};

/// Arguments of `bug-bank`.
#[derive(Debug, Parser)]
pub(crate) struct Args {
    /// Only the bug with this name
    #[arg(long, value_name = "NAME")]
    bug: Option<String>,
}

/// A bug, the crate that has the test which notices it, and that test.
const CAUGHT_BY: [(&str, &str, &str); 23] = [
    ("RetiredByHearsay", "dfs-p2p", "a_peers_bare_word_retires_no_node"),
    (
        "AnyoneTellsOfStrangers",
        "dfs-p2p",
        "what_a_stranger_tells_of_strangers_is_neither_kept_nor_dialled",
    ),
    (
        "StrangersDialledAtOnce",
        "dfs-p2p",
        "strangers_that_a_member_tells_of_are_dialled_four_at_a_time",
    ),
    ("SignaturesUnbounded", "dfs-p2p", "a_peer_that_has_used_up_its_checks_is_not_heard"),
    ("SourceIsWholeAddress", "dfs-p2p", "a_source_is_an_ipv4_address_or_64_bits_of_ipv6"),
    (
        "SilenceKeepsItsPlace",
        "dfs-p2p",
        "a_node_gets_in_while_others_open_connections_and_say_nothing",
    ),
    ("ReadsUnbounded", "dfs-store", "a_page_ends_at_its_rows_or_bytes_and_has_one_row_at_least"),
    (
        "HandoverForgetsUncompared",
        "dfs-store",
        "records_that_were_compared_go_page_by_page_until_another_comes_in",
    ),
    (
        "MergedAcceptanceCounts",
        "dfs-server",
        "what_an_acceptor_took_over_and_refused_counts_for_nobody",
    ),
    ("StaleLayoutAccepted", "dfs-server", "what_a_layout_of_before_asks_for_is_refused"),
    ("AnsweredUnfenced", "dfs-server", "what_the_disk_said_is_held_against_the_layout_once_more"),
    ("AnyoneLetIn", "dfs-server", "who_has_the_cluster_key_alone_waits_outside"),
    (
        "AnyVaultKept",
        "dfs-server",
        "what_a_storage_member_brings_of_a_vault_that_it_made_up_is_not_kept",
    ),
    ("MadeUpUsesCount", "dfs-server", "uses_that_no_record_has_are_taken_up_to_a_bound"),
    ("MarksClearedUnchecked", "dfs-server", "bytes_of_another_blob_keep_nothing_here"),
    ("AnyonesCallsCount", "dfs-server", "nobody_gives_way_to_what_a_storage_member_asks_for"),
    ("PurgedComesBack", "dfs-server", "what_was_deleted_and_purged_is_taken_from_nobody"),
    ("UsesEndTogether", "dfs-store", "a_row_that_names_another_record_ends_no_genuine_use"),
    (
        "AnyProcessIsTheNode",
        "dfs-node",
        "a_process_that_was_given_the_id_of_a_dead_node_is_not_taken_for_it",
    ),
    (
        "ActorNeverRenewed",
        "dfs-server",
        "a_write_that_one_replica_took_survives_the_writers_next_one",
    ),
    ("StaleWordEndsAll", "dfs-server", "one_replicas_word_ends_no_operation"),
    ("AnyClusterJoined", "dfs-server", "a_gateway_joins_no_cluster_that_another_vault_governs"),
    ("HearsayKeepsAlive", "dfs-server", "nobody_keeps_a_dead_member_alive_by_saying_so"),
];

/// Runs each test twice: without its bug it has to succeed, with it to fail.
pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let wanted = |(bug, ..): &&(&str, &str, &str)| args.bug.as_deref().is_none_or(|it| it == *bug);
    let wanted: Vec<_> = CAUGHT_BY.iter().filter(wanted).collect();
    ensure!(!wanted.is_empty(), "there is a test for none such bug");
    let mut caught = 0;
    println!("| bug | test | caught |");
    println!("| --- | --- | --- |");
    for (bug, krate, test) in &wanted {
        ensure!(passes(krate, test, None)?, "{test} fails without any bug");
        let is_caught = !passes(krate, test, Some(bug))?;
        caught += usize::from(is_caught);
        println!("| {bug} | `{test}` of {krate} | {} |", if is_caught { "yes" } else { "no" });
    }
    println!("{caught} of {} bugs were found", wanted.len());
    Ok(if caught == wanted.len() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Whether a test succeeds. It runs alone, in a build that no other shares.
fn passes(krate: &str, test: &str, bug: Option<&str>) -> Result<bool> {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(root()).args(["test", "--quiet", "--package", krate, "--tests", "--lib"]);
    cargo.args(["--features", "dfs-env/bug-bank", "--target-dir"]);
    cargo.arg(target_dir().join("bug-bank")).args(["--", test]);
    cargo.env_remove("DFS_BUG").envs(bug.map(|bug| ("DFS_BUG", bug)));
    let output = cargo.output()?;
    let told = [output.stdout, output.stderr].concat();
    let told = String::from_utf8_lossy(&told);
    match (told.contains("1 passed"), told.contains("1 failed")) {
        // A process that does not know the bug it was given fails as well.
        (true, false) => Ok(true),
        (false, true) if !told.contains("names a bug of the bank") => Ok(false),
        _ => anyhow::bail!("{test} of {krate} did not run once:\n{told}"),
    }
}
