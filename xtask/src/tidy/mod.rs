//! Repository rules that no other tool holds: who may import whom, who may not know of keys, the
//! operating-system seam, `biased` in every `select!`, bounded channels, one subject in a file, and
//! a place for every file in ARCHITECTURE.md.
#![allow(clippy::print_stdout, reason = "it tells what it found")]

mod architecture;
mod circles;
mod files;
mod graph;
mod layers;
mod names;
mod report;
mod rules;
mod source;
mod vault;

use std::fs;

use anyhow::{Result, bail};
use clap::Parser;
use dfs_testbed::root;

use self::files::check_file;
use self::graph::Graph;
use self::layers::{LAYERS, check_manifests};
use self::source::rust_files;

/// Arguments of `tidy`.
#[derive(Debug, Default, Parser)]
pub(crate) struct Args {
    /// Prints which folders import which, and checks nothing
    #[arg(long)]
    graph: bool,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let root = root().canonicalize()?;
    let graph = Graph::new(source::read_all(&root, LAYERS.iter().map(|(name, _)| *name))?)?;
    if args.graph {
        print!("{}", report::report(&graph)?);
        return Ok(());
    }
    let mut faults = Vec::new();
    check_manifests(&root, &mut faults)?;
    rules::check(&graph, &mut faults);
    vault::check(&graph, &mut faults);
    let places = fs::read_to_string(root.join("ARCHITECTURE.md"))?;
    architecture::check(&graph, &places, &mut faults);
    let mut files = Vec::new();
    rust_files(&root.join("crates"), &mut files)?;
    rust_files(&root.join("xtask/src"), &mut files)?;
    for file in &files {
        let text = fs::read_to_string(file)?;
        let shown = file.strip_prefix(&root)?.to_string_lossy().into_owned();
        check_file(&shown, &text, &mut faults);
    }
    if faults.is_empty() {
        return Ok(());
    }
    bail!("{} rules are broken:\n  {}", faults.len(), faults.join("\n  "))
}
