//! Repository rules that no other tool holds: who may import whom, the operating-system seam,
//! `biased` in every `select!`, bounded channels, and files with one subject.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::root;

/// The layers: each crate, and the crates of ours it may depend on.
const LAYERS: [(&str, &[&str]); 8] = [
    ("dfs-core", &[]),
    ("dfs-env", &[]),
    ("dfs-p2p", &["dfs-core", "dfs-env"]),
    ("dfs-store", &["dfs-core", "dfs-env"]),
    ("dfs-server", &["dfs-core", "dfs-env", "dfs-p2p", "dfs-store"]),
    ("dfs-node", &["dfs-core", "dfs-env", "dfs-p2p", "dfs-store", "dfs-server"]),
    ("dfs-sim", &["dfs-core", "dfs-env", "dfs-p2p", "dfs-store", "dfs-server"]),
    ("xtask", &[]),
];

/// What only the seam, and the programs at the edge, may touch.
const SEAM: [&str; 8] = [
    "std::fs::",
    "tokio::fs::",
    "tokio::net::",
    "SystemTime::now",
    "tokio::spawn",
    "spawn_blocking",
    "thread::sleep",
    "thread::spawn",
];
const OUTSIDE_THE_SEAM: [&str; 3] = ["crates/dfs-env/", "crates/dfs-node/", "crates/dfs-sim/"];
/// A longer file has two subjects.
const LINES_MAX: usize = 600;

pub(crate) fn run() -> Result<()> {
    let root = root().canonicalize()?;
    let mut faults = Vec::new();
    check_layers(&root, &mut faults)?;
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

fn check_layers(root: &Path, faults: &mut Vec<String>) -> Result<()> {
    for (name, allowed) in LAYERS {
        let dir = if name == "xtask" { root.join(name) } else { root.join("crates").join(name) };
        let manifest = fs::read_to_string(dir.join("Cargo.toml"))
            .with_context(|| format!("{name} has no manifest"))?;
        let dependencies = manifest.split("[dependencies]").nth(1).unwrap_or_default();
        let dependencies = dependencies.split("\n[").next().unwrap_or_default();
        for line in dependencies.lines().filter(|line| line.starts_with("dfs-")) {
            let dependency = line.split(['.', ' ', '=']).next().unwrap_or_default();
            if !allowed.contains(&dependency) {
                faults.push(format!("{name} may not depend on {dependency}"));
            }
        }
    }
    Ok(())
}

fn rust_files(dir: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            rust_files(&path, files)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    Ok(())
}

fn check_file(shown: &str, text: &str, faults: &mut Vec<String>) {
    let lines = text.lines().count();
    if lines > LINES_MAX {
        faults.push(format!("{shown} has {lines} lines: it has two subjects"));
    }
    let is_tool = shown.starts_with("xtask/");
    let is_source = shown.contains("/src/") && !shown.contains("test");
    let in_seam = is_tool || OUTSIDE_THE_SEAM.iter().any(|outside| shown.starts_with(outside));
    for (number, line) in (1..).zip(text.lines()) {
        let code = line.split("//").next().unwrap_or_default();
        if is_source && !in_seam {
            for word in SEAM.iter().filter(|word| code.contains(**word)) {
                faults.push(format!("{shown}:{number} uses {word}: ask dfs-env"));
            }
        }
        if !is_tool && code.contains("unbounded") {
            faults.push(format!("{shown}:{number} has a channel without a bound"));
        }
    }
    check_selects(shown, text, faults);
}

fn check_selects(shown: &str, text: &str, faults: &mut Vec<String>) {
    if shown.starts_with("xtask/") {
        return;
    }
    for (at, _) in text.match_indices("select! {") {
        let body = text[at + "select! {".len()..].trim_start();
        if !body.starts_with("biased;") {
            let number = text[..at].lines().count();
            faults.push(format!("{shown}:{number} has a select! without biased"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(shown: &str, text: &str, expected: usize) {
        let mut faults = Vec::new();
        check_file(shown, text, &mut faults);
        assert_eq!(faults.len(), expected, "{faults:?}");
    }

    #[test]
    fn the_seam_is_held_outside_its_crate() {
        check("crates/dfs-store/src/a.rs", "let x = std::fs::read(p);", 1);
        check("crates/dfs-env/src/real.rs", "let x = std::fs::read(p);", 0);
        check("crates/dfs-store/src/a.rs", "// std::fs::read would block", 0);
    }

    #[test]
    fn every_select_is_biased_and_every_channel_bounded() {
        check("crates/a/src/a.rs", "tokio::select! {\n    biased;\n    x => {}\n}", 0);
        check("crates/a/src/a.rs", "tokio::select! {\n    x => {}\n}", 1);
        check("crates/a/src/a.rs", "let (a, b) = mpsc::unbounded_channel();", 1);
    }
}
