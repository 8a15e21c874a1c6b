//! `dfs`: the client.

use std::process::ExitCode;

use clap::Parser;
use dfs_node::cli::{self, Args};
use dfs_node::exit::exit_code;

fn main() -> ExitCode {
    exit_code(cli::run(Args::parse()))
}
