//! `dfs`: the client.

use std::process::ExitCode;

use clap::Parser;
use dfs_node::cli::{self, Args};

fn main() -> ExitCode {
    match cli::run(Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            failure.report();
            ExitCode::from(failure.code as u8)
        }
    }
}
