//! Every file has a place in ARCHITECTURE.md: its name in backticks, in the section of its crate.

use std::collections::{BTreeMap, BTreeSet};

use super::graph::Graph;

/// Looks for every file but crate roots, `mod.rs` and tests.
pub(super) fn check(graph: &Graph, text: &str, faults: &mut Vec<String>) {
    let crates = graph.files.iter().map(|file| file.krate.as_str()).collect();
    let sections = sections(text, &crates);
    for file in &graph.files {
        let name = last(&file.path);
        let is_named = sections.get(file.krate.as_str()).is_some_and(|names| names.contains(name));
        if !is_named && !file.is_crate_root() && name != "mod.rs" {
            let (shown, krate) = (file.shown(), &file.krate);
            faults.push(format!("{shown} has no place in ARCHITECTURE.md under {krate}"));
        }
    }
}

/// The files that are named in backticks, by the crate in whose section they are.
///
/// A section begins with a heading or a bold line that has the crate in backticks, with or without
/// `crates/` before it, and ends where another begins, or with a heading of the second level.
fn sections<'a>(text: &'a str, crates: &BTreeSet<&'a str>) -> BTreeMap<&'a str, BTreeSet<&'a str>> {
    let mut sections: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
    let mut section = None;
    for line in text.lines() {
        let spans = line.split('`').skip(1).step_by(2);
        let is_bold = line.starts_with("**`");
        if is_bold || line.starts_with('#') {
            let of = spans.clone().map(last).find(|span| crates.contains(span));
            // A heading deeper down that has no crate, as of a folder, is inside a section.
            if of.is_some() || is_bold || line.starts_with("# ") || line.starts_with("## ") {
                section = of;
            }
        }
        if let Some(krate) = section {
            sections.entry(krate).or_default().extend(spans.map(last));
        }
    }
    sections
}

/// The last part of a path.
fn last(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

#[cfg(test)]
mod tests {
    use super::super::graph::tests::graph;
    use super::*;

    #[track_caller]
    fn check_text(text: &str, expected: &[&str]) {
        let tree = [
            ("dfs-core", "lib.rs", ""),
            ("dfs-core", "id.rs", ""),
            ("dfs-core", "layout/epoch.rs", ""),
            ("xtask", "demo.rs", ""),
        ];
        let mut faults = Vec::new();
        check(&graph(&tree), text, &mut faults);
        let files = faults.iter().map(|fault| fault.split(' ').next().unwrap_or_default());
        assert_eq!(files.collect::<Vec<_>>(), expected);
    }

    #[test]
    fn every_file_is_named_in_the_section_of_its_crate() {
        check_text(
            "**`crates/dfs-core`: x**\n| `id.rs`, `layout/epoch.rs` |\n**`xtask`** `demo.rs`",
            &[],
        );
        check_text(
            "### `dfs-core`\n`id.rs`\n#### `layout/`\n`epoch.rs`\n### `xtask`\n`demo.rs`",
            &[],
        );
        check_text(
            "**`crates/dfs-core`** `id.rs` `demo.rs` epoch.rs",
            &["dfs-core/layout/epoch.rs", "xtask/demo.rs"],
        );
        let after = "**`dfs-core`** `epoch.rs`\n## How\n`id.rs`\n**`xtask`** `demo.rs`";
        check_text(after, &["dfs-core/id.rs"]);
        check_text("", &["dfs-core/id.rs", "dfs-core/layout/epoch.rs", "xtask/demo.rs"]);
    }
}
