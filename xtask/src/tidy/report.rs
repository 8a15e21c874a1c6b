//! `cargo xtask tidy --graph`: the import graph by folder, for reading.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Write};

use super::graph::Graph;
use super::rules::{file_circles, folder_circles, joined, scattered, unordered, upward};

/// The whole report.
///
/// # Errors
/// Never: a string takes everything.
pub(super) fn report(graph: &Graph) -> Result<String, fmt::Error> {
    let mut out = String::new();
    let arrows = graph.folders();
    folders(graph, &arrows, &mut out)?;
    let circles = folder_circles(graph);
    writeln!(out, "\nCircles between folders: {}", circles.len())?;
    for circle in &circles {
        writeln!(out, "  {}", joined(circle))?;
        let inside = arrows.iter().filter(|((a, b), _)| circle.contains(a) && circle.contains(b));
        for ((from, to), files) in inside {
            writeln!(out, "    {from} -> {to}: {}", pairs(graph, files))?;
        }
    }
    let inner = file_circles(graph);
    writeln!(out, "\nCircles of files inside a folder: {}", inner.len())?;
    for circle in &inner {
        let shown = circle.iter().map(|at| graph.files[*at].shown()).collect();
        writeln!(out, "  {} files: {}", circle.len(), joined(&shown))?;
    }
    let upward = upward(graph);
    writeln!(out, "\nUpward arrows: {}", upward.len())?;
    for arrow in &upward {
        writeln!(out, "  {} -> {}: {}", arrow.from, arrow.to, pairs(graph, &arrow.files))?;
    }
    let unordered = unordered(graph);
    if !unordered.is_empty() {
        writeln!(out, "\nFolders without a place in their crate's order: {}", joined(&unordered))?;
    }
    let scattered = scattered(graph);
    writeln!(out, "\nTypes with methods in more than five files: {}", scattered.len())?;
    for (krate, owner, files) in &scattered {
        writeln!(out, "  {krate} {owner}: {files} files")?;
    }
    let largest = graph.files.iter().max_by_key(|file| file.lines);
    let between: usize = arrows.values().map(Vec::len).sum();
    writeln!(out, "\nFigures")?;
    writeln!(out, "  folders {}", places(graph).len())?;
    writeln!(out, "  files {}", graph.files.len())?;
    writeln!(out, "  arrows between folders {} (of files {between})", arrows.len())?;
    writeln!(out, "  upward arrows {}", upward.len())?;
    writeln!(out, "  circles between folders {}", circles.len())?;
    writeln!(out, "  circles of files inside a folder {}", inner.len())?;
    writeln!(out, "  types in more than five files {}", scattered.len())?;
    if let Some(file) = largest {
        writeln!(out, "  largest file {}, {} lines", file.shown(), file.lines)?;
    }
    Ok(out)
}

type FolderArrows = BTreeMap<(String, String), Vec<(usize, usize)>>;

fn folders(graph: &Graph, arrows: &FolderArrows, out: &mut String) -> fmt::Result {
    writeln!(out, "Folders: files, lines, and the folders that they import from")?;
    for (place, (files, lines)) in places(graph) {
        let to: BTreeSet<_> =
            arrows.keys().filter(|(from, _)| *from == place).map(|(_, to)| to.clone()).collect();
        let to = if to.is_empty() { String::new() } else { format!(" -> {}", joined(&to)) };
        writeln!(out, "  {place}: {files}, {lines}{to}")?;
    }
    Ok(())
}

/// For each folder, how many files and lines it has.
fn places(graph: &Graph) -> BTreeMap<String, (usize, usize)> {
    let mut places = BTreeMap::new();
    for file in &graph.files {
        let (files, lines) = places.entry(file.place()).or_default();
        *files += 1;
        *lines += file.lines;
    }
    places
}

/// Which file imports which, below one crate.
fn pairs(graph: &Graph, files: &[(usize, usize)]) -> String {
    let shown = |(from, to): &(usize, usize)| {
        format!("{} > {}", graph.files[*from].path, graph.files[*to].path)
    };
    files.iter().map(shown).collect::<Vec<_>>().join(", ")
}
